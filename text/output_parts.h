// text/output_parts.h - what output.c, output_select.c and output_exact.c share.
#ifndef SIGHT_TEXT_OUTPUT_PARTS_H
#define SIGHT_TEXT_OUTPUT_PARTS_H

#include "kernels/output.h"
#include "text/output.h"

struct output_layer {
    kernels *k;
    const weight *head;
    int64_t M, K;
    size_t row_bytes; // of the head as stored
    void *block;      // of planes made here; NULL: none, or somebody else's
    output_planes planes;
    bool has_planes;
    float *numbers;                     // behind the looks
    output_look looks[OUTPUT_MAX_ROWS]; // of the rows of x in one scan
    void *x_block;
    uint8_t *marks;  // [rows]: output_mark, all 0 between calls
    int32_t *ids;    // [rows]
    void *gathered;  // rows of the head, side by side
    float *products; // of those
    int32_t rest;    // steps that shall not scan
    int32_t backoff; // how many after the next scan that does not pay
    output_counts counts;
    int64_t bytes;
};

typedef enum output_mark {
    MARK_NONE,
    MARK_SEEN,      // has had its second look
    MARK_CANDIDATE, // gets the product
} output_mark;

// ---- output_select.c ----

// Fills the row from its scan. false: so many rows may win that all logits are the cheaper (the
// row is untouched).
bool output_narrow(output_layer *o, const float *x, const output_x *in, const output_look *look,
                   output_row *row);

// ---- output_exact.c ----

bool output_exact_create(output_layer *o); // false: no memory
// logits[n] of x at rows ids of the head, rising: as op_linear gives them for the whole.
void output_exact(output_layer *o, float *logits, const float *x, const int32_t *ids, int32_t n);

#endif
