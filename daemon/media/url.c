#include "daemon/media/url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"

#define MAX_HOSTS 1024

// ---- hosts and ports ----

static bool is_host_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

// Labels of 1 to 63 letters, digits, '-' and '_'. One that ends in a number is no name (WHATWG, "ends in a number").
static bool is_name(const char *host)
{
    const char *last = host;
    for (const char *at = host;; at++) {
        const size_t n = strcspn(at, ".");
        if (n == 0 || n > 63) return false;
        for (size_t i = 0; i < n; i++) {
            if (!is_host_char(at[i])) return false;
        }
        last = at;
        at += n;
        if (!*at) break;
    }
    if (!strncmp(last, "0x", 2) && strspn(last + 2, "0123456789abcdef") == strlen(last + 2)) return false;
    return strspn(last, "0123456789") != strlen(last);
}

// An address in four decimal numbers, without zeros in front.
static bool is_ipv4(const char *host)
{
    struct in_addr a;
    return inet_pton(AF_INET, host, &a) == 1;
}

// Writes the one form of an address without brackets.
static bool read_ipv6(char out[URL_HOST_SIZE], const char *text, size_t n)
{
    char copy[INET6_ADDRSTRLEN];
    struct in6_addr a;
    if (n >= sizeof copy) return false;
    memcpy(copy, text, n);
    copy[n] = 0;
    return inet_pton(AF_INET6, copy, &a) == 1 && inet_ntop(AF_INET6, &a, out, URL_HOST_SIZE);
}

// Lower case, one dot at the end dropped.
static bool copy_host(char out[URL_HOST_SIZE], const char *text, size_t n)
{
    if (n && text[n - 1] == '.') n--;
    if (n == 0 || n > 253) return false;
    for (size_t i = 0; i < n; i++) out[i] = (char)tolower((unsigned char)text[i]);
    out[n] = 0;
    return true;
}

// text[0..n) is "host", "host:port", "[address]" or "[address]:port"; *port is left where there is none.
// What is wrong with it; NULL: nothing.
static const char *read_authority(char host[URL_HOST_SIZE], int *port, const char *text, size_t n)
{
    size_t end = 0;
    if (n && text[0] == '[') {
        const char *close = memchr(text, ']', n);
        if (!close || !read_ipv6(host, text + 1, (size_t)(close - text - 1))) return "its host is no IPv6 address";
        end = (size_t)(close - text) + 1;
    } else {
        const char *colon = memchr(text, ':', n);
        end = colon ? (size_t)(colon - text) : n;
        for (size_t i = 0; i < end; i++) {
            if ((unsigned char)text[i] >= 0x80) return "its host is not ASCII; write it in punycode (xn--...)";
        }
        if (!copy_host(host, text, end)) return "its host is empty or too long";
        if (!is_name(host) && !is_ipv4(host)) return "its host is no name and no address";
    }
    if (end == n) return NULL;
    const char *digits = text + end + 1;
    const size_t n_digits = n - end - 1;
    int value = 0;
    for (size_t i = 0; i < n_digits && n_digits <= 5; i++) {
        if (digits[i] < '0' || digits[i] > '9') return "its port is no number";
        value = value * 10 + (digits[i] - '0');
    }
    if (text[end] != ':' || value < 1 || value > 65535) return "its port is not 1 to 65535";
    *port = value;
    return NULL;
}

// ---- a URL ----

static int default_port(bool tls)
{
    return tls ? 443 : 80;
}

// Percent signs for what stands in no URL. False: a character that programs take differently, or none.
static bool put_path(buf *b, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)text[i];
        char hex[4];
        if (c < 0x20 || c == 0x7f || c == '\\') return false;
        if (c > 0x20 && c < 0x7f && !strchr("\"<>^`{|}", c)) {
            buf_add(b, &text[i], 1);
        } else {
            snprintf(hex, sizeof hex, "%%%02X", c);
            buf_add(b, hex, 3);
        }
    }
    return true;
}

static const char *after_scheme(bool *tls, const char *text)
{
    *tls = !strncasecmp(text, "https://", 8);
    if (*tls) return text + 8;
    return !strncasecmp(text, "http://", 7) ? text + 7 : NULL;
}

// text + rest is what follows host and port. What is wrong; NULL: nothing (also where there was no memory: b tells).
static const char *write_anew(buf *b, size_t *query_at, const url_parts *u, const char *rest)
{
    char head[URL_HOST_SIZE + 32], port[8] = "";
    if (u->port != default_port(u->tls)) snprintf(port, sizeof port, ":%d", u->port);
    const bool six = strchr(u->host, ':');
    snprintf(head, sizeof head, "%s://%s%s%s%s", u->tls ? "https" : "http", six ? "[" : "", u->host, six ? "]" : "", port);
    buf_add(b, head, strlen(head));
    const size_t path = strcspn(rest, "?#"), query = strcspn(rest + path, "#");
    if (rest[0] != '/') buf_add(b, "/", 1);
    if (!put_path(b, rest, path)) return "its path has a backslash or a control character";
    *query_at = b->size;
    return put_path(b, rest + path, query) ? NULL : "its query has a backslash or a control character";
}

// So much of a text as a sentence shows: without the query.
static int shown_bytes(const char *text)
{
    const size_t n = strcspn(text, "?#");
    return n < 300 ? (int)n : 300;
}

// text NULL: it is not shown.
static sight_err wrong(const char *text, const char *what)
{
    if (!text) return sight_fail(SIGHT_E_ARGUMENT, "the URL is not fetched: %s", what);
    return sight_fail(SIGHT_E_ARGUMENT, "'%.*s' is not fetched: %s", shown_bytes(text), text, what);
}

sight_err url_parse(url_parts *out, const char *text)
{
    static const char too_long[] = "it is over 8192 bytes long";
    url_parts u = {0};
    const char *at = after_scheme(&u.tls, text);
    if (!at) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "'%.*s' is not fetched: only http:// and https:// are",
                          shown_bytes(text), text);
    }
    if (strlen(text) > URL_MAX_BYTES) return wrong(NULL, too_long);
    u.port = default_port(u.tls);
    const size_t n = strcspn(at, "/?#\\");
    if (memchr(at, '@', n)) return wrong(NULL, "it names a user, and none may stand in it");
    const char *why = read_authority(u.host, &u.port, at, n);
    if (why) return wrong(text, why);
    buf b;
    size_t query_at = 0;
    buf_init(&b);
    why = write_anew(&b, &query_at, &u, at + n);
    const bool full = buf_failed(&b);
    if (!why && b.size > URL_MAX_BYTES) why = too_long;
    if (!why && !full) {
        u.shown = strndup(b.data, query_at);
        u.text = strndup(b.data, b.size);
    }
    buf_done(&b);
    if (why) return wrong(text, why);
    if (!u.shown || !u.text) {
        url_done(&u);
        return sight_fail(SIGHT_E_MEMORY, "no memory for a URL");
    }
    *out = u;
    return SIGHT_OK;
}

void url_done(url_parts *u)
{
    free(u->text);
    free(u->shown);
    *u = (url_parts){0};
}

// ---- the list ----

typedef struct host_rule {
    char host[URL_HOST_SIZE]; // "" with below: any
    bool below;               // what ends in ".host"
    int port;                 // 0: the scheme's own
} host_rule;

struct url_hosts {
    host_rule *rules; // [n]
    size_t n;
};

static sight_err add_rule(url_hosts *h, const char *text, size_t n, const char *setting)
{
    host_rule rule = {0};
    const char *why = NULL;
    if (h->n == MAX_HOSTS) return sight_fail(SIGHT_E_ARGUMENT, "%s has more than %d names", setting, MAX_HOSTS);
    if (text[0] == '*' && (n == 1 || text[1] == ':')) {
        char any[URL_HOST_SIZE];
        char copy[16];
        snprintf(copy, sizeof copy, "any%.*s", (int)(n - 1 < 12 ? n - 1 : 12), text + 1);
        rule.below = true;
        why = read_authority(any, &rule.port, copy, strlen(copy));
    } else {
        rule.below = n > 2 && !memcmp(text, "*.", 2);
        const size_t skip = rule.below ? 2 : 0;
        why = read_authority(rule.host, &rule.port, text + skip, n - skip);
        if (!why && rule.below && !is_name(rule.host)) why = "what follows *. is no name";
    }
    if (why) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s has '%.*s', must be a host, *.suffix or *, perhaps with :port (%s)", setting,
                          (int)(n < 200 ? n : 200), text, why);
    }
    host_rule *more = realloc(h->rules, (h->n + 1) * sizeof *more);
    if (!more) return sight_fail(SIGHT_E_MEMORY, "no memory for %s", setting);
    h->rules = more;
    h->rules[h->n++] = rule;
    return SIGHT_OK;
}

sight_err url_hosts_create(url_hosts **out, const char *const *items, size_t n, const char *setting)
{
    static const char between[] = ", \t";
    url_hosts *h = calloc(1, sizeof *h);
    sight_err err = h ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for %s", setting);
    for (size_t i = 0; i < n && !err; i++) {
        const char *at = items[i] + strspn(items[i], between);
        while (*at && !err) {
            const size_t length = strcspn(at, between);
            err = add_rule(h, at, length, setting);
            at += length;
            at += strspn(at, between);
        }
    }
    if (err) url_hosts_destroy(&h);
    else *out = h;
    return err;
}

void url_hosts_destroy(url_hosts **p)
{
    url_hosts *h = *p;
    if (!h) return;
    free(h->rules);
    free(h);
    *p = NULL;
}

static bool matches(const host_rule *r, const url_parts *u)
{
    if (u->port != (r->port ? r->port : default_port(u->tls))) return false;
    if (!r->below) return !strcmp(u->host, r->host);
    if (!r->host[0]) return true;
    const size_t n = strlen(u->host), m = strlen(r->host);
    return n > m + 1 && u->host[n - m - 1] == '.' && !strcmp(u->host + n - m, r->host);
}

bool url_hosts_allow(const url_hosts *h, const url_parts *u)
{
    for (size_t i = 0; i < h->n; i++) {
        if (matches(&h->rules[i], u)) return true;
    }
    return false;
}
