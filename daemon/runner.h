// daemon/runner.h - the engine thread: several requests under way, in turns.
//
// Each turn, one step of the model reads for all requests that are answering (daemon/batch.h); then those that still look or
// read do slices of that, for as long as answers may wait: whose claim comes first (daemon/fair.h), then, where two
// claims are alike, who has used less of the engine. So a running answer goes on while another request's
// picture is encoded or its long prompt read.
#ifndef SIGHT_DAEMON_RUNNER_H
#define SIGHT_DAEMON_RUNNER_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/err.h"
#include "daemon/fair.h"
#include "daemon/watch/heartbeat.h"
#include "daemon/watch/metrics.h"
#include "daemon/pipeline.h"

typedef struct runner runner;

// What who asks has used of all engine threads that share it, so that time counts over all replicas (daemon/runners.h).
typedef struct runner_book {
    pthread_mutex_t lock; // held for the calls of daemon/fair.h
    fair *fair;
} runner_book;

sight_err runner_book_init(runner_book *b); // SIGHT_E_MEMORY
void runner_book_done(runner_book *b);

// What to do, on the engine thread. After PIPELINE_OVER of a request it is not called for that again, and arg is no longer
// the runner's.
typedef struct runner_work {
    // A slice of looking or reading; waits up to wait_ms at most.
    pipeline_state (*step)(void *arg, int wait_ms);
    // A step of n requests that answer, RUNNER_TOGETHER at most: states [n] is what became of each, took_s [n] its part of
    // the engine's time.
    void (*answer)(void *const *args, pipeline_state *states, double *took_s, int n);
    // Slices between two steps of answers last about so long, or as long as a step; one is done in any case.
    double slices_s;
    double (*now_s)(void); // NULL: clock_now_s
    runner_book *book;     // borrowed; NULL: one of its own
    heartbeat *beat;       // alike
    int replica;           // in metrics
} runner_work;

#define RUNNER_TOGETHER 64

// Who wants a turn.
typedef struct runner_claim {
    fair_class class;
    double since_s, deadline_s; // as in fair_claim, by the clock of runner_work
    const void *who;
    const void *client; // [client_size], a connection's name; borrowed as long as arg
    size_t client_size;
    _Atomic int64_t *used_us; // the engine's time so far is noted here; NULL: not
} runner_claim;

// SIGHT_E_MEMORY.
sight_err runner_create(runner **out, const runner_work *work);
// Turns are timed into it; before the first runner_add. NULL: not.
void runner_measure(runner *r, metrics *m);
// Whether the thread makes progress; any thread may look.
const heartbeat *runner_heartbeat(const runner *r);
// Waits for what is under way. Accepts NULL; leaves NULL.
void runner_destroy(runner **r);
// Takes a request in. Any thread, but not after runner_destroy has begun. SIGHT_E_MEMORY.
sight_err runner_add(runner *r, void *arg, const runner_claim *claim);

#endif
