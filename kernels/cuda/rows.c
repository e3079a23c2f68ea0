// kernels/cuda/rows.c - row-wise ops on a GPU: their entries of the table.
#include "kernels/cuda/rows.h"

#include "kernels/cuda/device.h"

#define POSITIONS_AT_ONCE 65536 // rows whose positions go to the device together

static void cuda_rms_norm(kernels *k, float *y, const float *x, const float *w, int64_t N,
                          int64_t D, float eps)
{
    const norm_args a = {y, x, w, NULL, N, D, (double)eps};
    cuda_launch(k, launch_rms_norm, &a, sizeof a);
}

static void cuda_layer_norm(kernels *k, float *y, const float *x, const float *w, const float *b,
                            int64_t N, int64_t D, float eps)
{
    const norm_args a = {y, x, w, b, N, D, (double)eps};
    cuda_launch(k, launch_layer_norm, &a, sizeof a);
}

static void each(kernels *k, float *y, const float *x, int64_t n, each_op op)
{
    const each_args a = {y, x, n, op};
    cuda_launch(k, launch_each, &a, sizeof a);
}

static void cuda_add(kernels *k, float *y, const float *x, int64_t n)
{
    each(k, y, x, n, EACH_ADD);
}

static void cuda_gelu_tanh(kernels *k, float *y, const float *x, int64_t n)
{
    each(k, y, x, n, EACH_GELU_TANH);
}

static void cuda_gelu_erf(kernels *k, float *y, const float *x, int64_t n)
{
    each(k, y, x, n, EACH_GELU_ERF);
}

static void cuda_sigmoid_mul(kernels *k, float *y, const float *gate, int64_t N, int64_t H,
                             int64_t C, int64_t row_stride, int64_t head_stride)
{
    const sigmoid_mul_args a = {y, gate, N, H, C, row_stride, head_stride};
    cuda_launch(k, launch_sigmoid_mul, &a, sizeof a);
}

static void cuda_add_taps(kernels *k, float *x, const float *table, const int32_t *rows,
                          const float *weights, int64_t N, int64_t D)
{
    const add_taps_args a = {x, table, rows, weights, N, D};
    cuda_launch(k, launch_add_taps, &a, sizeof a);
}

static void cuda_copy_rows(kernels *k, float *to, int64_t to_stride, const float *from,
                           int64_t from_stride, int64_t n, int64_t width)
{
    const copy_rows_args a = {to, from, to_stride, from_stride, n, width};
    cuda_launch(k, launch_copy_rows, &a, sizeof a);
}

static void cuda_rope_angles(kernels *k, float *cos, float *sin, const int32_t *positions,
                             int64_t stride, int64_t N, const rope_table *table)
{
    for (int64_t i = 0; i < N; i += POSITIONS_AT_ONCE) {
        const int64_t n = N - i < POSITIONS_AT_ONCE ? N - i : POSITIONS_AT_ONCE;
        rope_angles_args a = {.cos = cos + i * table->half, .sin = sin + i * table->half,
                              .inv = table->inv, .axis = table->axis, .N = n, .half = table->half,
                              .amplitude = (double)table->amplitude};
        for (int axis = 0; axis < 3; axis++) {
            a.positions[axis] = cuda_args(k, positions + axis * stride + i,
                                          (size_t)n * sizeof *positions);
            if (!a.positions[axis]) return;
        }
        cuda_launch(k, launch_rope_angles, &a, sizeof a);
    }
}

static void cuda_norm_rope(kernels *k, float *y, const float *x, const float *w, const float *cos,
                           const float *sin, int64_t N, int64_t H, int64_t C, int64_t R,
                           int64_t row_stride, int64_t head_stride, float eps)
{
    const norm_rope_args a = {y, x, w, cos, sin, N, H, C, R, row_stride, head_stride, (double)eps};
    cuda_launch(k, launch_norm_rope, &a, sizeof a);
}

void rows_cuda_fill(backend_ops *ops)
{
    ops->rms_norm = cuda_rms_norm;
    ops->layer_norm = cuda_layer_norm;
    ops->add = cuda_add;
    ops->gelu_tanh = cuda_gelu_tanh;
    ops->gelu_erf = cuda_gelu_erf;
    ops->sigmoid_mul = cuda_sigmoid_mul;
    ops->add_taps = cuda_add_taps;
    ops->copy_rows = cuda_copy_rows;
    ops->rope_angles = cuda_rope_angles;
    ops->norm_rope = cuda_norm_rope;
}
