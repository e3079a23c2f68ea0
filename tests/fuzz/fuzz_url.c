// A URL on the first line, a list of hosts on the second. What is read is written anew so that it is read again as the same, and a
// list with that very host allows it.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/media/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(const url_parts *u)
{
    url_parts again = {0};
    if (url_parse(&again, u->text)) abort();
    if (strcmp(again.text, u->text) || strcmp(again.host, u->host) || again.port != u->port || again.tls != u->tls) abort();
    url_done(&again);
}

static void check_own_host(const url_parts *u)
{
    char item[URL_HOST_SIZE + 16];
    const char *items[] = {item};
    url_hosts *h = NULL;
    snprintf(item, sizeof item, strchr(u->host, ':') ? "[%s]:%d" : "%s:%d", u->host, u->port);
    if (url_hosts_create(&h, items, 1, "fuzz") || !url_hosts_allow(h, u)) abort();
    url_hosts_destroy(&h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text) return 0;
    memcpy(text, data, size);
    text[size] = 0;
    char *list = strchr(text, '\n');
    if (list) *list++ = 0;
    url_parts u = {0};
    url_hosts *h = NULL;
    const char *items[] = {list ? list : "*"};
    const bool good = !url_parse(&u, text);
    if (good) check_again(&u);
    if (good) check_own_host(&u);
    if (!url_hosts_create(&h, items, 1, "fuzz") && good) (void)url_hosts_allow(h, &u);
    url_hosts_destroy(&h);
    url_done(&u);
    free(text);
    return 0;
}
