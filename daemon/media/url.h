// daemon/media/url.h - the address of a medium on the web, read strictly, and the hosts that a server fetches from.
//
// What is read is written anew, and only that is used: nobody reads the client's text a second time in another way. So whatever
// programs disagree about is refused: user names, backslashes, hosts in percent signs or odd numbers, control characters.
// Threads: any; plain data afterwards.
#ifndef SIGHT_DAEMON_URL_H
#define SIGHT_DAEMON_URL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define URL_HOST_SIZE 256
#define URL_MAX_BYTES 8192

typedef struct url_parts {
    char *text;  // scheme://host[:port]/path[?query], in ASCII; malloc
    char *shown; // without the query, which may hold secrets; malloc; for sentences
    char host[URL_HOST_SIZE]; // lower case, without a dot at the end; an IPv6 address without brackets
    int port;
    bool tls;
} url_parts;

// http:// and https:// alone; "%.." and what is not ASCII in the host must be in punycode. out is untouched on failure.
// SIGHT_E_ARGUMENT (what is wrong, in words), SIGHT_E_UNSUPPORTED (another scheme), SIGHT_E_MEMORY.
sight_err url_parse(url_parts *out, const char *text);
void url_done(url_parts *u); // accepts a zeroed one

// Hosts that may be fetched from.
typedef struct url_hosts url_hosts;

// Items hold names with commas or spaces between them: "example.org", "*.example.org" (all below it, itself not), "192.0.2.1",
// "[2001:db8::1]", "*" (any), each perhaps with ":port"; without one it is the scheme's own, 80 or 443.
// SIGHT_E_ARGUMENT, SIGHT_E_MEMORY.
sight_err url_hosts_create(url_hosts **out, const char *const *items, size_t n, const char *setting);
void url_hosts_destroy(url_hosts **h); // accepts NULL; leaves NULL
bool url_hosts_allow(const url_hosts *h, const url_parts *u);

#endif
