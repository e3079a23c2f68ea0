// text/draft_batch.h - one step of the model for the answers of several sequences.
//
// The weights are read once for all of them, and each sequence gets, bit for bit, what it would get alone: what it has
// drawn, guesses that are checked included, are rows of one text_model_step. What fails for one of them alone (memory for
// its next page) ends that one alone.
//
// Threads: the engine's only.
#ifndef SIGHT_TEXT_DRAFT_BATCH_H
#define SIGHT_TEXT_DRAFT_BATCH_H

#include "text/draft.h"

// How it went for drafts[i]: the logits after its id, as draft_advance gives them, or a code of text_model_step, whose
// sentence is this thread's last.
typedef void draft_batch_heard(void *arg, int32_t i, sight_err err, output_row *next);

// Runs what draft_take asked for, of n drafts of one model, in as few steps as text_model_max_rows allows. Every draft
// that wants rows is heard of once; those that want none are not.
void draft_batch_run(draft *const *drafts, int32_t n, draft_batch_heard *heard, void *arg);

#endif
