// daemon/watch/scrape.h - the HTTP endpoint for monitors: GET /metrics and GET /healthz, nothing else.
//
// Served by libmicrohttpd on a thread of its own, so that a monitor that reads slowly holds up nobody. Connections,
// their memory and their idle time are bounded. No request's bytes are kept, and none reaches the rest of the daemon.
// Threads: opened and closed by one; the source is called on the endpoint's own.
#ifndef SIGHT_DAEMON_SCRAPE_H
#define SIGHT_DAEMON_SCRAPE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

#define SCRAPE_CONNECTIONS 16
#define SCRAPE_IDLE_S      10

typedef struct scrape scrape;

typedef struct scrape_source {
    void (*metrics)(void *arg, buf *out);
    bool (*health)(void *arg, buf *out); // a line of text; false: not well
    void *arg;
} scrape_source;

// address: "127.0.0.1:9464", "[::1]:9464", or a port alone, of 127.0.0.1. An address of a network is taken when it is written
// out, 0.0.0.0 too. SIGHT_E_ARGUMENT names the setting and the value.
sight_err scrape_check(const char *address);
// Whether both name the same one: "9464" and "127.0.0.1:9464" do. NULL: none.
bool scrape_same(const char *a, const char *b);
// Whether only this machine reaches it.
bool scrape_is_local(const char *address);

// SIGHT_E_ARGUMENT, SIGHT_E_BUSY (in use), SIGHT_E_PERMISSION, SIGHT_E_IO, SIGHT_E_MEMORY.
sight_err scrape_open(scrape **out, const char *address, const scrape_source *source);
void scrape_close(scrape **s); // accepts NULL; leaves NULL
// "127.0.0.1:9464": where it is, also when port 0 or a port alone was asked for.
const char *scrape_address(const scrape *s);

#endif
