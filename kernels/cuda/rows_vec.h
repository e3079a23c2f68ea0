// kernels/cuda/rows_vec.h - four neighbouring floats of a row at once, aligned or not, and sums over a row; for .cu files.
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

// The sum over all threads of the block (or of the warp, where blocks hold several rows), in an order that
// depends on their number alone. room [32], not in use by an earlier sum.
static __device__ __forceinline__ float rows_sum(float v, float *room)
{
    v = gpu_warp_sum(v);
    if (blockDim.y > 1 || blockDim.x == GPU_WARP) return v;
    if (threadIdx.x % GPU_WARP == 0) room[threadIdx.x / GPU_WARP] = v;
    __syncthreads();
    const uint32_t warps = blockDim.x / GPU_WARP, lane = threadIdx.x % GPU_WARP;
    return gpu_warp_sum(lane < warps ? room[lane] : 0.0f);
}

static __device__ __forceinline__ float rows_squares(const float v[4], float mean, int64_t left)
{
    float sum = 0;
    for (int i = 0; i < 4; i++)
        if (i < left) sum += (v[i] - mean) * (v[i] - mean);
    return sum;
}

#define ROWS_SMALL 512 // numbers: a row of so many is a warp's

// Threads that share a row of D numbers, four at a time.
static inline int64_t rows_threads(int64_t D)
{
    const int64_t most = 1024, warps = (D + 4 * GPU_WARP - 1) / (4 * GPU_WARP);
    if (D <= ROWS_SMALL) return GPU_WARP;
    return warps * GPU_WARP < most ? warps * GPU_WARP : most;
}

#endif
