// kernels/cuda/heads.h - op_heads_write: what attention.c hands to heads.cu. Pointers are device memory, aligned to 16
// bytes, and strides are multiples of four; no padding.
#ifndef SIGHT_KERNELS_CUDA_HEADS_H
#define SIGHT_KERNELS_CUDA_HEADS_H

#include "kernels/cuda/attention.h"

#define HEADS_MOST_C 512 // components of a head

#ifdef __cplusplus
extern "C" {
#endif

typedef struct heads_args {
    float *q_out;                 // [N, H, C]
    const float *q, *k, *v;       // as in heads_rows
    const float *q_norm, *k_norm; // [C]
    const float *cos, *sin;       // [N, R/2]
    const kv_write_place *places; // [S]
    int64_t S, most;              // most: the largest n
    int64_t q_row_stride, q_head_stride;
    int64_t H, G, C, R, type, page_rows;
    double eps; // a float's value
} heads_args;

void launch_heads(cudaStream_t stream, const void *heads_args);

#ifdef __cplusplus
}
#endif

#endif
