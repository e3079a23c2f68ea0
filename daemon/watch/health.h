// daemon/watch/health.h - whether the daemon works: all of its loops turn, and it is not ending.
//
// Told by the server loop, asked by the watchdog and by `GET /healthz`. Threads: any.
#ifndef SIGHT_DAEMON_HEALTH_H
#define SIGHT_DAEMON_HEALTH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/watch/heartbeat.h"

// A server loop that did not turn for so long is stuck: it never waits longer than a second.
#define HEALTH_SERVER_S 10.0

typedef struct health {
    const heartbeat *engines;  // [n_engines], set before others look
    int n_engines;
    _Atomic int64_t server_us; // when the server loop last turned
    _Atomic int64_t stuck_us;  // a turn of an engine loop over this is stuck
    atomic_bool ending;
} health;

void health_init(health *h, const heartbeat *engines, int n_engines, double stuck_s, double now_s);
// The server loop turns.
void health_turn(health *h, double now_s);
void health_set_stuck(health *h, double stuck_s);
// How long the turn of an engine loop has lasted, of several the longest; 0: they rest.
double health_turn_s(const health *h, double now_s);
// The engine loops rest, or their turns are not too long yet.
bool health_engine(const health *h, double now_s);
// All of it; *line (size bytes) says what is wrong, else "ok".
bool health_good(const health *h, double now_s, char *line, size_t size);

#endif
