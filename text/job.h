// text/job.h - a step of one long segment, run a slice at a time so that steps of other sequences can go between.
//
// A piece of a prompt takes a second or more, while those who read an answer wait. A job holds what goes from layer
// to layer ([N, D]) in memory of its own; the rest of the workspace is anybody's between two slices. What comes of it are
// the bits of text_model_step, however the work is cut.
//
// Of a split model every rank makes the same calls with the same numbers. Threads: the engine's only.
#ifndef SIGHT_TEXT_JOB_H
#define SIGHT_TEXT_JOB_H

#include <stdbool.h>

#include "text/model.h"

typedef struct text_job text_job;

// For segments of up to max_rows rows, one after another. Borrows m. SIGHT_E_MEMORY.
sight_err text_job_create(text_job **out, text_model *m, int64_t max_rows);
void text_job_destroy(text_job **j); // accepts NULL; leaves NULL; as text_job_stop before
int64_t text_job_bytes(const text_model *m, int64_t max_rows); // of backend memory, that one takes

// Takes a segment that is not rewindable in; what it points to is borrowed until the job is done. No other step may be
// of its sequence until then. Codes of text_model_step, SIGHT_E_ARGUMENT (too many rows).
sight_err text_job_begin(text_job *j, const segment *s);
// Runs at least half a layer, and more until about most_ops arithmetic operations are done; *done: the sequence is longer,
// and results are there. After a failure, and after text_job_stop, the sequence is as long as before, but only good
// for sequence_drop: some of its states have gone ahead.
sight_err text_job_run(text_job *j, double most_ops, bool *done);
void text_job_stop(text_job *j); // gives up what is under way, if anything
bool text_job_under_way(const text_job *j);

#endif
