// daemon/media/fetch.h - one medium from the web, read into memory that does not change any more.
//
// http and https alone, over libcurl. What the server says decides: which hosts, whether addresses that are not public, how many
// bytes, seconds and redirects. The address is looked at when the socket is made, so that a name that resolves to another one by
// then does not help; a redirect is a URL like the first. No proxies, cookies, passwords or encodings; certificates are checked.
// Threads: any, one for each fetch.
#ifndef SIGHT_DAEMON_FETCH_H
#define SIGHT_DAEMON_FETCH_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/media/url.h"

struct curl_library; // daemon/media/curl_library.h

typedef struct fetch_rules {
    const url_hosts *hosts;
    const char *ca_file; // PEM certificates that are trusted instead of the system's; borrowed; NULL: those
    bool not_public; // addresses that are not may be connected to as well
    int64_t max_bytes;
    double timeout_s;  // of one URL with its redirects
    int32_t redirects;
    int32_t slow_bytes_per_s, slow_s; // slower than that for so long ends it
} fetch_rules;

// Who wants it, meanwhile.
typedef struct fetch_watch {
    bool (*stop)(void *arg); // asked at least every second whether to end it; NULL: never
    // So many bytes more were read, of total (-1: nobody knows); a code ends the fetch with it and its sentence. NULL: none.
    sight_err (*more)(void *arg, int64_t bytes, int64_t total);
    void *arg;
} fetch_watch;

// Whether the rules let it be fetched, as far as its text tells. SIGHT_E_PERMISSION.
sight_err fetch_check(const fetch_rules *r, const url_parts *u);

// *fd: a sealed memfd, its offset anywhere. SIGHT_E_ARGUMENT, SIGHT_E_UNSUPPORTED (of a redirect, or an encoding),
// SIGHT_E_PERMISSION (host or address are not allowed; the web server refuses), SIGHT_E_NOT_FOUND (no such host or page),
// SIGHT_E_LIMIT (bytes, redirects), SIGHT_E_TIMEOUT, SIGHT_E_CANCELLED, SIGHT_E_IO, SIGHT_E_MEMORY, those of `more`.
sight_err fetch_url(const struct curl_library *c, const fetch_rules *r, int *fd, const url_parts *u, const fetch_watch *w);

#endif
