// text/output.h - logits of the output layer: all of them, or only those that can win.
//
// Greedy and top-k sampling need a few logits of a quarter million. The layer keeps its matrix a second time in
// planes (kernels/output.h): a scan over half a byte per weight bounds every logit, a second look at few
// rows narrows the bounds, and the rows that may still be among the k greatest get the product
// as stored. Candidates' logits are op_linear's, bit for bit, and none of the k greatest is
// missing: the planes decide how much is read, never what comes out.
//
// Threads: the engine's only.
#ifndef SIGHT_TEXT_OUTPUT_H
#define SIGHT_TEXT_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/ops.h"

typedef struct output_layer output_layer;

typedef struct output_options {
    bool planes;       // else every row gets all its logits
    const void *block; // planes made before (output_make_block), borrowed; NULL: they are made here
} output_options;

// Planes as one block that can be kept: 64-byte aligned, about a byte per weight; a second of work
// for 250 million.
size_t output_block_bytes(const weight *head);
void output_make_block(kernels *k, void *to, const weight *head);

// Borrows head and k. SIGHT_E_MEMORY.
sight_err output_create(output_layer **out, kernels *k, const weight *head,
                        const output_options *options);
void output_destroy(output_layer **o); // accepts NULL; leaves NULL

// Fills rows[n] for x [n, K] (after the final norm).
void output_run(output_layer *o, const float *x, output_row *const *rows, int32_t n);

// Bytes of scratch, and of planes that were made here.
int64_t output_bytes(const output_layer *o);

// What was read since creation, in rows of the head, for tests and measurements.
typedef struct output_counts {
    int64_t scans;   // rows of x that were scanned
    int64_t full;    // rows of x that got all logits
    int64_t refined; // rows of the head that got the second look
    int64_t exact;   // and that got the product, for scanned rows of x
} output_counts;

output_counts output_get_counts(const output_layer *o);

#endif
