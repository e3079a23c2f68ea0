// kernels/cuda/rows.h - row-wise ops: what rows.c hands to the launchers of rows.cu and rows_rope.cu.
//
// Pointers are device memory. Numbers are as wide as pointers, so that no struct has padding.
#ifndef SIGHT_KERNELS_CUDA_ROWS_H
#define SIGHT_KERNELS_CUDA_ROWS_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct norm_args {
    float *y;
    const float *x, *w, *b; // b: layer norm only
    int64_t N, D;
    double eps; // a float's value
} norm_args;

typedef enum each_op { EACH_ADD, EACH_GELU_TANH, EACH_GELU_ERF } each_op;

typedef struct each_args {
    float *y;
    const float *x;
    int64_t n, op; // each_op
} each_args;

typedef struct sigmoid_mul_args {
    float *y;
    const float *gate;
    int64_t N, H, C, row_stride, head_stride;
} sigmoid_mul_args;

typedef struct add_taps_args {
    float *x;
    const float *table;
    const int32_t *rows;
    const float *weights;
    int64_t N, D;
} add_taps_args;

typedef struct copy_rows_args {
    float *to;
    const float *from;
    int64_t to_stride, from_stride, n, width;
} copy_rows_args;

typedef struct rope_angles_args {
    float *cos, *sin;
    const int32_t *positions[3]; // [N] each
    const float *inv;
    const int32_t *axis;
    int64_t N, half;
    double amplitude; // a float's value
} rope_angles_args;

typedef struct norm_rope_args {
    float *y;
    const float *x, *w, *cos, *sin; // w NULL: no norm
    int64_t N, H, C, R, row_stride, head_stride;
    double eps; // a float's value
} norm_rope_args;

void launch_rms_norm(cudaStream_t stream, const void *norm_args);
void launch_layer_norm(cudaStream_t stream, const void *norm_args);
void launch_each(cudaStream_t stream, const void *each_args);
void launch_sigmoid_mul(cudaStream_t stream, const void *sigmoid_mul_args);
void launch_add_taps(cudaStream_t stream, const void *add_taps_args);
void launch_copy_rows(cudaStream_t stream, const void *copy_rows_args);
void launch_rope_angles(cudaStream_t stream, const void *rope_angles_args); // rows_rope.cu
void launch_norm_rope(cudaStream_t stream, const void *norm_rope_args);     // rows_rope.cu

#ifdef __cplusplus
}
#endif

#endif
