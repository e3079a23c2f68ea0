// kernels/fused.h - several ops in one, where a backend has that for the shapes at hand: fewer launches on a GPU, where
// a decoding step is many small ones.
//
// Each says false where there is none (the CPU, many rows, kernels whose ops are timed one by one), and nothing was
// done: the caller takes the ops that it stands for. Contracts are theirs, and so are the results but for
// what each says. A row's result does not depend on the rows beside it. Threads: the kernels object's.
#ifndef SIGHT_KERNELS_FUSED_H
#define SIGHT_KERNELS_FUSED_H

#include "kernels/ops.h"

// The norm of a product's rows.
typedef struct norm_of {
    const float *w; // [K]
    float eps;
} norm_of;

// op_rms_norm, then op_linear_many: the row's scale is taken to the end of its sums, so results differ in their
// rounding.
bool op_linear_normed(kernels *k, float *const *y, const float *x, const norm_of *norm, const weight *const *w,
                      int n_w, int64_t N);
// op_rms_norm, then op_linear_silu_mul; alike.
bool op_linear_silu_mul_normed(kernels *k, float *y, const float *x, const norm_of *norm, const weight *gate,
                               const weight *up, int64_t N);

// Rows of heads on their way from products to attention.
typedef struct heads_rows {
    float *q_out;         // [N, H, C]; may be q where that is contiguous
    const float *q;       // head h of row n at q + n q_row_stride + h q_head_stride
    const float *k, *v;   // [N, G, C]
    const float *q_norm, *k_norm; // [C]
    const float *cos, *sin;       // [N, R/2]
    int64_t q_row_stride, q_head_stride;
    int64_t H, G, C, R;
    float eps;
} heads_rows;

// op_norm_rope of queries and of keys, then op_kv_write_many, with their bits. seqs hold all N rows; k stays as it is.
bool op_heads_write(kernels *kk, const heads_rows *rows, const kv_rows *seqs, int64_t S);

// The gate of a sequence's rows: head h of row i starts at gate + i row_stride + h head_stride.
typedef struct gated_attention {
    const float *const *gates; // [S], host memory
    int64_t row_stride, head_stride;
} gated_attention;

// op_attention, then op_sigmoid_mul of its rows, with their bits.
bool op_attention_gated(kernels *k, const attention_seq *seqs, int64_t S, int64_t H, int64_t G, int64_t C, float scale,
                        const gated_attention *gated);

#endif
