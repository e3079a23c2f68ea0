// kernels/cuda/linear_mid.h - how products of 9 to 64 rows use the tensor cores. For linear_mid.cu
// and packed_mid.cu.
//
// The weights are the operand of 16 rows. The order of inputs in a product is free as long as both
// operands keep it, so lane t of a row takes inputs 8t .. 8t + 7 of every 32: the first four for
// one instruction, the last four for the next. Rows of x, in bf16, are read alike, 16 bytes at a
// time. Eight warps share K, 32 inputs in turn, and their sums meet in shared memory, in order: an
// output's result depends neither on N nor on what else is in the launch.
#ifndef SIGHT_KERNELS_CUDA_LINEAR_MID_H
#define SIGHT_KERNELS_CUDA_LINEAR_MID_H

#include "kernels/cuda/linear_dev.h"

#define MID_WARPS   8
#define MID_THREADS (MID_WARPS * GPU_WARP)
#define MID_STEP    32                     // inputs of a warp's step
#define MID_ALL     (MID_WARPS * MID_STEP) // of all warps'
#define MID_ROW     33                     // floats of shared memory for one sum of all lanes

// Rows of x as a lane sees them.
typedef struct mid_rows {
    const uint16_t *x; // [N, stride]
    int64_t N, stride;
} mid_rows;

// Sums += 16 outputs, of `high` matrices or parts of one, times 8 * tiles rows. v[h]: the lane's 8
// inputs from k on of the outputs group and group + 8. Warp-wide; lanes past the row's end bring
// zeros.
template <int tiles, int high>
static __device__ __forceinline__ void mid_step(float (*sum)[tiles][4], const uint4 (*v)[2],
                                                const mid_rows &rows, int64_t k)
{
    const int group = (int)threadIdx.x % GPU_WARP / 4;
#pragma unroll
    for (int i = 0; i < tiles; i++) {
        const int64_t n = group + 8 * i;
        uint4 x = make_uint4(0, 0, 0, 0);
        if (n < rows.N && k < rows.stride)
            x = *reinterpret_cast<const uint4 *>(rows.x + n * rows.stride + k);
        const uint32_t low[2] = {x.x, x.y}, up[2] = {x.z, x.w};
#pragma unroll
        for (int h = 0; h < high; h++) {
            const uint32_t first[4] = {v[h][0].x, v[h][1].x, v[h][0].y, v[h][1].y};
            const uint32_t second[4] = {v[h][0].z, v[h][1].z, v[h][0].w, v[h][1].w};
            mma_bf16(sum[h][i], first, low);
            mma_bf16(sum[h][i], second, up);
        }
    }
}

// Puts the warps' sums together; end(n, m, sum, up) gets each once, m counted from the block's
// first output. gated: h 0 is gate, h 1 up, of the same outputs; else outputs of h 1 follow those
// of h 0.
template <int tiles, int high, class ending>
static __device__ __forceinline__ void mid_finish(float (*sum)[tiles][4], bool gated, ending end)
{
    __shared__ float room[MID_WARPS][tiles * 4 * MID_ROW];
    const int each = (tiles * 128 + MID_THREADS - 1) / MID_THREADS;
    const int warp = (int)threadIdx.x / GPU_WARP, lane = (int)threadIdx.x % GPU_WARP;
    float gate[each];
#pragma unroll
    for (int h = 0; h < high; h++) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < tiles * 4; i++)
            room[warp][i * MID_ROW + lane] = sum[h][i / 4][i % 4];
        __syncthreads();
#pragma unroll
        for (int e = 0; e < each; e++) {
            const int at = (int)threadIdx.x + e * MID_THREADS, r = at % 16, n = at / 16;
            const int place = (n / 8 * 4 + n % 2 + r / 8 * 2) * MID_ROW + r % 8 * 4 + n % 8 / 2;
            float total = 0;
            for (int i = 0; i < MID_WARPS && n < 8 * tiles; i++)
                total += room[i][place];
            if (gated && h == 0)
                gate[e] = total;
            else if (n < 8 * tiles)
                end(n, gated ? r : 16 * h + r, gated ? gate[e] : total, total);
        }
    }
}

#endif
