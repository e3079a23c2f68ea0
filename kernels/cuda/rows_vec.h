// kernels/cuda/rows_vec.h - four neighbouring floats of a row at once, aligned or not; for .cu files.
#ifndef SIGHT_KERNELS_CUDA_ROWS_VEC_H
#define SIGHT_KERNELS_CUDA_ROWS_VEC_H

#include "kernels/cuda/gpu.h"

static __host__ __device__ __forceinline__ bool rows_aligned(const void *p)
{
    return ((uintptr_t)p & 15) == 0;
}

// x[0..3]; of those from `left` on 0. wide: x is 16-byte aligned, and where one is left four are.
static __device__ __forceinline__ void rows_load(float v[4], const float *x, int64_t left, bool wide)
{
    if (wide) {
        const float4 f = *(const float4 *)x;
        v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
        return;
    }
    for (int i = 0; i < 4; i++) v[i] = i < left ? x[i] : 0.0f;
}

static __device__ __forceinline__ void rows_store(float *y, const float v[4], int64_t left, bool wide)
{
    if (wide) {
        *(float4 *)y = make_float4(v[0], v[1], v[2], v[3]);
        return;
    }
    for (int i = 0; i < 4; i++)
        if (i < left) y[i] = v[i];
}

#endif
