// daemon/batch.h - a step of several answers at once: tokens are drawn for each, then one step of the model reads all
// of them.
//
// Answers may be of several engines: those of one share a step. Each gets what it would get alone, bit for bit, and what
// goes wrong for one ends that one.
// Threads: the engine's.
#ifndef SIGHT_DAEMON_BATCH_H
#define SIGHT_DAEMON_BATCH_H

#include "daemon/pipeline.h"

#define BATCH_MAX 64

// A step of n pipelines that answer, at most BATCH_MAX; pipeline_state_of says what became of each. took_s [n], its part of
// the engine's time; NULL: not wanted.
void batch_answer(pipeline *const *p, double *took_s, int n);

#endif
