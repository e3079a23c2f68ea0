// daemon/worker.h - a thread that does one thing at a time.
#ifndef SIGHT_DAEMON_WORKER_H
#define SIGHT_DAEMON_WORKER_H

#include "base/err.h"

typedef struct worker worker;
typedef void worker_fn(void *arg);

// SIGHT_E_MEMORY.
sight_err worker_create(worker **out);
// Waits for what is running. Accepts NULL; leaves NULL.
void worker_destroy(worker **w);
// Runs fn(arg) on the thread; the one before must have ended (its fn has told so by its own means).
void worker_run(worker *w, worker_fn *fn, void *arg);

#endif
