// text/model.h - the language model: one call runs a step over rows of several sequences.
//
// Prefill is a long segment, decode a segment of one row, draft verification one of a few; one step
// may hold all three for different sequences. Products run over all rows at once, attention and the
// delta rule per sequence.
//
// Features, deepstack and hidden rows are backend memory (kernels/memory.h), which with the CPU is
// the process's. All else is host memory: ids, positions, logits, outputs.
//
// Threads: the engine's only.
#ifndef SIGHT_TEXT_MODEL_H
#define SIGHT_TEXT_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "checkpoint/checkpoint.h"
#include "kernels/collective.h"
#include "kernels/ops.h"
#include "text/cache.h"
#include "text/draft_plan.h"
#include "text/output.h"
#include "text/split.h"

typedef struct text_model text_model;

// Borrows c and k, which must outlive it. max_rows: rows in one step at most (workspace is
// allocated once; longer prompts are given in pieces). SIGHT_E_MODEL, SIGHT_E_MEMORY.
sight_err text_model_create(text_model **out, const checkpoint *c, kernels *k, int64_t max_rows);
// One rank of a model over several devices: its part of the weights, on k, which is the group's of that rank.
// Every rank has a model, pools and sequences of its own and a thread for them, and all of them make the same
// calls with the same contents of host memory; each gets all results. Features and hidden rows that are read are
// the first rank's. text_model_config is then what the rank itself looks like. text/group.h makes one of them all.
// Also SIGHT_E_UNSUPPORTED: what does not divide (split_check, split_packed), adapters.
sight_err text_model_create_split(text_model **out, const checkpoint *c, kernels *k, int64_t max_rows,
                                  collective *group, int32_t rank);
void text_model_destroy(text_model **m); // accepts NULL; leaves NULL
int64_t text_model_max_rows(const text_model *m);
int64_t text_model_workspace_bytes(const text_model *m);
const text_config *text_model_config(const text_model *m);
bool text_model_has_mtp(const text_model *m);
// What guessing ahead has brought on this model (text/draft.h); the model itself does not use it.
draft_plan *text_model_plan(text_model *m);

kernels *text_model_kernels(const text_model *m); // what it runs on; of a group the first rank's
sight_err text_model_status(text_model *m); // kernels_status, of all devices that it runs on

// Rows of one sequence in a step. All arrays are borrowed for the call. Results are there after it,
// but for hidden, which is for ops that follow and kernels_read.
typedef struct segment {
    sequence *seq;            // advanced by n
    int32_t n;                // rows, at least 1
    const int32_t *ids;       // [n]; at visual rows any id
    const int32_t *positions; // t, h, w: row i at [0], [stride], [2 * stride]
    int64_t position_stride;  // of the whole prompt when the rows are a piece of it
    const uint8_t *visual;    // [n], 1 at visual rows; NULL: none
    const float *features;    // [visual rows, D], in order; backend memory
    const float *const *deepstack; // [levels] of [visual rows, D] in backend memory; NULL: none
    int32_t n_logits;              // logits for the last so many rows; 0: none
    float *logits;                 // out [n_logits, vocab]; not used with outputs
    output_row *outputs;           // [n_logits], for those that can win alone; NULL: logits
    float *hidden; // out [n, D] after the final norm, backend memory; NULL: not wanted
    // The rows can be taken back afterwards, and each gets what it would get alone, bit for bit.
    // n is at most sequence_rewind_rows.
    bool rewindable;
} segment;

// The sum of n is at most max_rows. SIGHT_E_MEMORY when a sequence cannot grow (nothing has
// changed then), SIGHT_E_LIMIT past the context length, and what kernels_status says: no sequence
// is longer then.
sight_err text_model_step(text_model *m, const segment *segments, int32_t n_segments);

// Takes back all but the first n rows of the last step of seq, whose segment was rewindable: seq is
// then, bit for bit, as after these alone. Costs no reading of weights. Once per step.
// SIGHT_E_ARGUMENT (n, or nothing can be taken back), and what kernels_status says.
sight_err text_model_rewind(text_model *m, sequence *seq, int32_t n);

// The MTP block over rows of one sequence, whose MTP cache it advances: row i pairs hidden[i] (after
// the final norm) with the embedding of next_ids[i], or with next_features rows where next_visual
// is 1. Positions are those of hidden's rows. logits out [n_logits, vocab] of the last rows;
// hidden_out [n, D] (NULL: not wanted) feeds a deeper draft. SIGHT_E_UNSUPPORTED without a block.
typedef struct mtp_segment {
    sequence *seq;
    int32_t n;
    const float *hidden; // backend memory, as are next_features and hidden_out
    const int32_t *next_ids;
    const uint8_t *next_visual;
    const float *next_features;
    const int32_t *positions;
    int64_t position_stride;
    int32_t n_logits;
    float *logits;
    output_row *outputs; // as in segment
    float *hidden_out;
} mtp_segment;

sight_err text_model_mtp(text_model *m, const mtp_segment *segment);

#endif
