// kernels/cuda/attention_combine.h - what chunks of keys gave, added up: the second kernel of
// attention_few.cu, and of attention_tile.cu where it cuts keys.
//
// 256 threads have 64 columns of a row and head: 16 groups of 16 threads, each with every sixteenth
// chunk, then the groups one after another. So the order depends on the chunks' numbers alone.
#ifndef SIGHT_KERNELS_CUDA_ATTENTION_COMBINE_H
#define SIGHT_KERNELS_CUDA_ATTENTION_COMBINE_H

#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_mma.h"

#define COMBINE_THREADS 256
#define COMBINE_COLUMNS 64 // of a block; C is a multiple
#define COMBINE_GROUPS  16

// Where a row of parts and sums is: row of all n H / G of a key head.
static __device__ __forceinline__ int64_t part_slot(const attention_args *a, int64_t unit,
                                                    int64_t chunk, int64_t g, int64_t row)
{
    return ((unit * a->chunks + chunk) * a->G + g) * (a->most_n * (a->H / a->G)) + row;
}

static __device__ float combine_largest(const float *sums, int64_t count, int64_t step, float *room)
{
    float most = -INFINITY;
    for (int64_t i = threadIdx.x; i < count; i += COMBINE_THREADS) {
        most = fmaxf(most, sums[i * step]);
    }
    most = gpu_warp_max(most);
    if (threadIdx.x % GPU_WARP == 0) room[threadIdx.x / GPU_WARP] = most;
    __syncthreads();
    for (int i = 0; i < COMBINE_THREADS / GPU_WARP; i++) most = fmaxf(most, room[i]);
    return most;
}

// Blocks: x rows and heads of a unit; y columns; z units. fixed: chunks are those of attention.h,
// of which the row counts the ones that it sees; else all a.chunks are there.
template <bool fixed>
static __global__ void __launch_bounds__(COMBINE_THREADS) combine_kernel(attention_args a)
{
    __shared__ float room[COMBINE_THREADS / GPU_WARP], sum[COMBINE_GROUPS];
    __shared__ float4 out[COMBINE_GROUPS][COMBINE_COLUMNS / 4];
    const attention_unit u = a.units[blockIdx.z];
    const int64_t i = blockIdx.x / a.H, h = blockIdx.x % a.H, heads = a.H / a.G;
    if (i >= u.n) return; // the whole block
    const int64_t count = fixed ? attention_chunk_of(u.past + i) + 1 : a.chunks;
    const int64_t first = part_slot(&a, blockIdx.z, 0, h / heads, i * heads + h % heads);
    const int64_t step = part_slot(&a, 0, 1, 0, 0); // from chunk to chunk
    const float *sums = a.sums + 2 * first;
    const float most = combine_largest(sums, count, 2 * step, room);
    const int group = (int)threadIdx.x / (COMBINE_COLUMNS / 4);
    const int lane = (int)threadIdx.x % (COMBINE_COLUMNS / 4);
    const int64_t column = (int64_t)blockIdx.y * COMBINE_COLUMNS + lane * 4;
    const float *parts = a.parts + first * a.C + column;
    float4 o = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    float total = 0;
#pragma unroll 4
    for (int64_t c = group; c < count; c += COMBINE_GROUPS) {
        const float2 s = *(const float2 *)(sums + c * 2 * step);
        const float4 x = *(const float4 *)(parts + c * step * a.C);
        const float share = fast_exp2(s.x - most);
        total += s.y * share;
        o.x += x.x * share, o.y += x.y * share, o.z += x.z * share, o.w += x.w * share;
    }
    out[group][lane] = o;
    if (lane == 0) sum[group] = total;
    __syncthreads();
    if (group) return;
    for (int j = 1; j < COMBINE_GROUPS; j++) {
        const float4 x = out[j][lane];
        o.x += x.x, o.y += x.y, o.z += x.z, o.w += x.w;
        total += sum[j];
    }
    const float inverse = 1.0f / total;
    o = make_float4(o.x * inverse, o.y * inverse, o.z * inverse, o.w * inverse);
    if (u.gate) { // op_sigmoid_mul's bits
        const float4 x = *(const float4 *)(u.gate + i * a.gate_row + h * a.gate_head + column);
        o.x *= gpu_sigmoid(x.x), o.y *= gpu_sigmoid(x.y), o.z *= gpu_sigmoid(x.z), o.w *= gpu_sigmoid(x.w);
    }
    *(float4 *)(u.out + (i * a.H + h) * a.C + column) = o;
}

template <bool fixed> static void launch_combine(cudaStream_t stream, const attention_args *a)
{
    const dim3 grid((unsigned)(a->most_n * a->H), (unsigned)(a->C / COMBINE_COLUMNS),
                    (unsigned)a->U);
    GPU_LAUNCH(combine_kernel<fixed>, grid, dim3(COMBINE_THREADS), 0, stream, *a);
}

#endif
