// kernels/cuda/linear_rows.cu - what stands beside products: rows rounded to bf16, or cut and normed for 9 to 64 of them, the
// gate of two products, rows of a table. All are bound by memory; a number takes 6 bytes (round), 8 (cut; with its norm's
// weight 12), 12 (silu_mul), 6 to 8 (embed).
#include "kernels/cuda/linear_mid.h"

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

// What lane `lane % 4` of warp `lane / 4` of a product would find of a row's squares, from those of each four inputs.
static __device__ float cut_lane_squares(const cut_args &a, const float *squares, int lane)
{
    const int t = lane % 4;
    float sum = 0;
    for (int64_t at = (int64_t)(lane / 4) * MID_FOURS; at < a.fours; at += MID_WARPS * MID_FOURS) {
        sum = __fadd_rn(sum, squares[at + (a.packed ? t : 2 * t)]);
        sum = __fadd_rn(sum, squares[at + (a.packed ? t + 4 : 2 * t + 1)]);
    }
    return sum;
}

// A block is a row. Sums are those of mid_finish.
static __global__ void __launch_bounds__(ROWS_THREADS) cut_kernel(cut_args a, bool wide)
{
    GPU_DYNAMIC_SHARED(float, squares); // [fours], with a norm
    const int64_t n = blockIdx.x;
    for (int64_t i = threadIdx.x; i < a.fours; i += blockDim.x) {
        float v[4];
        linear_row<4>(v, a.x + n * a.K, 4 * i, a.K, wide);
        if (a.norm) squares[i] = mid_norm(v, a.norm, 4 * i, a.K, wide);
        reinterpret_cast<uint4 *>(a.y)[n * a.fours + i] = mid_cut(v);
    }
    __syncthreads();
    if (!a.norm || threadIdx.x >= GPU_WARP) return;
    const float part = mid_four_lanes(cut_lane_squares(a, squares, (int)threadIdx.x));
    float all = 0;
    for (int i = 0; i < MID_WARPS; i++)
        all += __shfl_sync(GPU_ALL_LANES, part, 4 * i);
    if (threadIdx.x == 0) a.scales[n] = linear_norm_scale(all, a.K, a.eps);
}

extern "C" void launch_cut(cudaStream_t stream, const void *args)
{
    const cut_args *a = (const cut_args *)args;
    const bool wide = a->K % 4 == 0 && (uintptr_t)a->x % 16 == 0 && (uintptr_t)a->norm % 16 == 0;
    const size_t bytes = a->norm ? (size_t)a->fours * sizeof(float) : 0;
    GPU_LAUNCH(cut_kernel, dim3((unsigned)a->N), dim3(ROWS_THREADS), bytes, stream, *a, wide);
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
