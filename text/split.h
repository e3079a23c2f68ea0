// text/split.h - one text model over several devices: who has which part of each weight.
//
// Tensor parallel (Megatron-LM, arXiv 1909.08053): every rank runs all layers with its share of the heads and of
// the MLP's inner width. Products into heads and inner width are split by rows, those out of them by
// columns, and the sums of the latter are added up over the ranks: two sums of [N, D] per layer. Norms,
// embedding and the residual stream are whole everywhere.
//
// Pure arithmetic. Threads: any.
#ifndef SIGHT_TEXT_SPLIT_H
#define SIGHT_TEXT_SPLIT_H

#include "base/err.h"
#include "checkpoint/config.h"
#include "kernels/packed.h"
#include "kernels/tensor.h"

#define SPLIT_MAX_RANKS 16

typedef struct split {
    int32_t rank, ranks; // rank 0 .. ranks - 1; ranks 0 or 1: not split
} split;

// What a weight holds along the side that is split: rows of a matrix, or its columns for the last three.
typedef enum split_role {
    SPLIT_WHOLE,  // every rank has all of it
    SPLIT_Q,      // query heads, with their gates
    SPLIT_KV,     // key or value heads
    SPLIT_QKV,    // linear attention's q, k and v: products, convolution
    SPLIT_VALUES, // its value heads, component by component
    SPLIT_GATES,  // its value heads, a number each
    SPLIT_INNER,  // the MLP's inner width
    SPLIT_VOCAB,  // ids
    SPLIT_FROM_Q,      // columns: what attention gives
    SPLIT_FROM_VALUES, // columns: what linear attention gives
    SPLIT_FROM_INNER   // columns
} split_role;

static inline bool split_by_columns(split_role role)
{
    return role >= SPLIT_FROM_Q;
}

// Rising, apart from each other. Several: q, k and v one after another, or tiled value heads.
#define SPLIT_MAX_RANGES 66
typedef struct split_ranges {
    int32_t n;
    int64_t total; // of all counts
    struct {
        int64_t first, count;
    } at[SPLIT_MAX_RANGES];
} split_ranges;

// SIGHT_E_UNSUPPORTED names the number that does not divide among the ranks.
sight_err split_check(const text_config *c, int32_t ranks);

// What a rank's model looks like to itself. The rest is for configurations that were checked.
text_config split_config(const text_config *whole, const split *s);
void split_find(split_ranges *out, const text_config *whole, split_role role, const split *s);

// The rank's part of a matrix [M, K]. *owned: malloced, where the part is not in one piece; else NULL, and out is a
// part of the matrix's own memory. SIGHT_E_MEMORY.
sight_err split_matrix(tensor_view *out, void **owned, const tensor_view *whole, split_role role,
                       const split_ranges *ranges);
// The same of a matrix in few bits, always a copy: *out lies in *owned. Also SIGHT_E_UNSUPPORTED: columns that begin or end
// within a group. With SPLIT_WHOLE *out is whole.
sight_err split_packed(const packed **out, void **owned, const packed *whole, split_role role,
                       const split_ranges *ranges);
// Moves the rows of x [.., width] that are the rank's to its beginning.
void split_floats(float *x, int64_t width, const split_ranges *ranges);

#endif
