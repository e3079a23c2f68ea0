// daemon/runner.h - the engine thread: several requests under way, in turns.
//
// Each turn, every request that is answering draws a token; then one of those that still look or
// read does a slice of that. So a running answer goes on while another request's picture is
// encoded or its long prompt read.
#ifndef SIGHT_DAEMON_RUNNER_H
#define SIGHT_DAEMON_RUNNER_H

#include "base/err.h"
#include "daemon/heartbeat.h"
#include "daemon/metrics.h"
#include "daemon/pipeline.h"

typedef struct runner runner;

// A piece of a request's work, on the engine thread; waits up to wait_ms at most. After
// PIPELINE_OVER it is not called again, and arg is no longer the runner's.
typedef pipeline_state runner_step(void *arg, int wait_ms);

// SIGHT_E_MEMORY.
sight_err runner_create(runner **out, runner_step *step);
// Turns are timed into it; before the first runner_add. NULL: not.
void runner_measure(runner *r, metrics *m);
// Whether the thread makes progress; any thread may look.
const heartbeat *runner_heartbeat(const runner *r);
// Waits for what is under way. Accepts NULL; leaves NULL.
void runner_destroy(runner **r);
// Takes a request in. Any thread, but not after runner_destroy has begun. SIGHT_E_MEMORY.
sight_err runner_add(runner *r, void *arg);

#endif
