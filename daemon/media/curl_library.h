// daemon/media/curl_library.h - libcurl, loaded when URLs are turned on.
//
// Not linked: it brings some thirty libraries, which a daemon that fetches nothing, and every `sight`, start faster and safer
// without. Its header is needed to build. Threads: opened and closed by one; the functions are libcurl's own, a handle by one
// thread at a time.
#ifndef SIGHT_DAEMON_CURL_LIBRARY_H
#define SIGHT_DAEMON_CURL_LIBRARY_H

#include <curl/curl.h>

#include "base/err.h"

typedef struct curl_library {
    void *handle;
    CURLcode (*global_init)(long flags);
    void (*global_cleanup)(void);
    CURL *(*init)(void);
    CURLcode (*setopt)(CURL *curl, CURLoption option, ...);
    CURLcode (*perform)(CURL *curl);
    CURLcode (*getinfo)(CURL *curl, CURLINFO info, ...);
    void (*cleanup)(CURL *curl);
    const char *(*strerror)(CURLcode code);
} curl_library;

// SIGHT_E_UNSUPPORTED: it is not there, or lacks something.
sight_err curl_library_open(curl_library *out);
void curl_library_close(curl_library *c); // accepts a zeroed one

#endif
