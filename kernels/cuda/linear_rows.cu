// kernels/cuda/linear_rows.cu - what stands beside products: rows rounded to bf16, the gate of two
// products, rows of a table. All are bound by memory; a number takes 6 bytes (round), 12
// (silu_mul), 6 to 8 (embed).
#include "kernels/cuda/linear_dev.h"

#define ROWS_THREADS 256

// A thread takes 8 neighbouring numbers: 32 bytes in, 16 out.
static __global__ void round_kernel(round_args a, bool wide)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, eighths = a.stride / 8;
    if (i >= a.N * eighths) return;
    const int64_t n = i / eighths, k = i % eighths * 8;
    float x[8];
    linear_row<8>(x, a.x + n * a.K, k, a.K, wide);
    *reinterpret_cast<uint4 *>(a.y + n * a.stride + k) = linear_round8(x);
}

static unsigned rows_blocks(int64_t n)
{
    return (unsigned)((n + ROWS_THREADS - 1) / ROWS_THREADS);
}

extern "C" void launch_round(cudaStream_t stream, const void *args)
{
    const round_args *a = (const round_args *)args;
    const bool wide = a->K % 4 == 0 && (uintptr_t)a->x % 16 == 0;
    GPU_LAUNCH(round_kernel, dim3(rows_blocks(a->N * (a->stride / 8))), dim3(ROWS_THREADS), 0,
               stream, *a, wide);
}

static __global__ void silu_mul_kernel(silu_mul_args a)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.N * a.M) return;
    float *y = a.y + i / a.M * a.y_stride + i % a.M;
    *y = linear_silu(*y) * a.up[i];
}

extern "C" void launch_silu_mul(cudaStream_t stream, const void *args)
{
    const silu_mul_args *a = (const silu_mul_args *)args;
    GPU_LAUNCH(silu_mul_kernel, dim3(rows_blocks(a->N * a->M)), dim3(ROWS_THREADS), 0, stream, *a);
}

// Threads x go along a row, blocks y are rows.
static __global__ void embed_kernel(embed_args a)
{
    const int64_t k = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= a.D) return;
    for (int64_t n = blockIdx.y; n < a.N; n += gridDim.y) {
        const int64_t at = (int64_t)a.ids[n] * a.stride + k;
        float v;
        if (a.type == LINEAR_F32)
            v = ((const float *)a.table)[at];
        else if (a.type == LINEAR_BF16)
            v = gpu_bf16_to_f32(((const uint16_t *)a.table)[at]);
        else
            v = linear_half(((const uint16_t *)a.table)[at]);
        a.y[n * a.D + k] = v;
    }
}

extern "C" void launch_embed(cudaStream_t stream, const void *args)
{
    const embed_args *a = (const embed_args *)args;
    const unsigned rows = (unsigned)(a->N < 4096 ? a->N : 4096);
    GPU_LAUNCH(embed_kernel, dim3(rows_blocks(a->D), rows), dim3(ROWS_THREADS), 0, stream, *a);
}
