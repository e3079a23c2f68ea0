// daemon/watch/overview.h - the daemon's numbers as JSON, for `status`: rates, times, tokens, memory, stores.
//
// Threads: the server's.
#ifndef SIGHT_DAEMON_OVERVIEW_H
#define SIGHT_DAEMON_OVERVIEW_H

#include <jansson.h>

#include "daemon/watch/monitor.h"

// Adds "rates", "first_token_s", "token_gap_s", "engine", "ended", "refused", "tokens", "memory" and "stores" (docs/PROTOCOL.md) to an object.
// m and seen may be NULL: nothing is added.
void overview_add(json_t *body, const metrics *m, const monitor *seen, double now_s);

#endif
