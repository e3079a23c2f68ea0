// daemon/watch/heartbeat.h - whether the engine loop makes progress, for the watchdog and for `healthz`.
//
// The loop says when a turn begins and when it rests, waiting for work; anybody may ask how long the present turn
// has lasted. A loop that rests is alive. Zeroed: resting.
// Threads: beat and rest the engine's, the rest any.
#ifndef SIGHT_DAEMON_HEARTBEAT_H
#define SIGHT_DAEMON_HEARTBEAT_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/clock.h"

typedef struct heartbeat {
    _Atomic int64_t since_us; // when the present turn began; 0: it rests
    _Atomic int64_t turns;
} heartbeat;

// A turn begins. Gives how long the one before lasted; 0: there was none, it rested.
static inline double heartbeat_beat(heartbeat *h)
{
    const int64_t now = (int64_t)(clock_now_s() * 1e6);
    const int64_t before = atomic_exchange(&h->since_us, now ? now : 1);
    atomic_fetch_add(&h->turns, 1);
    return before ? 1e-6 * (double)(now - before) : 0;
}

// The last turn has ended and nothing is to do. Gives how long it lasted.
static inline double heartbeat_rest(heartbeat *h)
{
    const int64_t before = atomic_exchange(&h->since_us, 0);
    return before ? clock_now_s() - 1e-6 * (double)before : 0;
}

// Seconds that the present turn has lasted; 0: it rests.
static inline double heartbeat_turn_s(const heartbeat *h, double now_s)
{
    const int64_t since = atomic_load(&h->since_us);
    const double s = since ? now_s - 1e-6 * (double)since : 0;
    return s > 0 ? s : 0;
}

#endif
