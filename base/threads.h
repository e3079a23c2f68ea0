// base/threads.h - a fixed pool that splits index ranges over its threads.
//
// One pool belongs to one caller at a time (the engine thread): threads_for is not re-entrant.
// Workers spin briefly between calls and then sleep, so that a chain of short ops stays fast and
// an idle daemon uses no processor.
#ifndef SIGHT_BASE_THREADS_H
#define SIGHT_BASE_THREADS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

typedef struct threads threads;

// n counts the caller, 1..256; 0 = the processors this process may run on.
// SIGHT_E_ARGUMENT, SIGHT_E_MEMORY.
sight_err threads_create(threads **out, int n);
void threads_destroy(threads **t); // accepts NULL; leaves NULL
int threads_count(const threads *t);

// From now on threads_for leaves out pieces once *flag is true (NULL: never). What it was computing
// is then unfinished: the caller looks at the flag before it uses a result. Not during threads_for.
void threads_set_stop(threads *t, const atomic_bool *flag);

// Work on [begin, end); worker is 0..threads_count-1, for per-thread scratch.
typedef void threads_fn(void *arg, int64_t begin, int64_t end, int worker);

// Runs fn over [0, n) in pieces of `grain` (the last may be shorter), handed out as threads become
// free, and returns when all are done. The pieces do not depend on the number of threads, so a
// result that depends only on its piece is the same for any pool. t = NULL runs in the caller.
void threads_for(threads *t, int64_t n, int64_t grain, threads_fn *fn, void *arg);

#endif
