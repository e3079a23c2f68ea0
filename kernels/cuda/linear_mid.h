// kernels/cuda/linear_mid.h - how products of 1 to 64 rows use the tensor cores, with one rounding for all of them. For
// linear_mid.cu and packed_mid.cu, and for what cuts rows beforehand (linear_rows.cu).
//
// The weights are the operand of 16 rows, so that 8 rows of x cost one instruction's width and a lone row no more time
// than its weights take to arrive. A number of x is cut in two bf16 numbers, what it rounds to and what that left over (16
// bits; off by 2^-17 of it at most), and meets a weight in two instructions that add to the same sum.
//
// The order of inputs in a product is free as long as both operands keep it: lane t of a row takes neighbours, four of them
// for an instruction. Eight warps share K, 32 inputs in turn, and their sums meet in shared memory, in order.
//
// A row's result, bit for bit, depends on K, the weight and itself alone: instructions, their operands' places along K,
// and all sums behind them are the same for any N. How an instruction adds up its 16 products is the chip's
// own affair, but each output has its row and its column there to itself, and whatever stands in other columns has no part in it.
// Multiply-adds outside of instructions are written as such, so that no form of a kernel contracts what another does not.
#ifndef SIGHT_KERNELS_CUDA_LINEAR_MID_H
#define SIGHT_KERNELS_CUDA_LINEAR_MID_H

#include "kernels/cuda/linear_dev.h"

#define MID_WARPS   8
#define MID_THREADS (MID_WARPS * GPU_WARP)
#define MID_STEP    32                     // inputs of a warp's step
#define MID_ALL     (MID_WARPS * MID_STEP) // of all warps'
#define MID_ROW     33                     // floats of shared memory for one sum of all lanes
#define MID_FOURS   (MID_STEP / 4)         // of a step's inputs

// Rows of x as a lane sees them: as they are (up to 8), normed on the way or not, or cut beforehand.
typedef struct mid_rows {
    const float *x, *norm; // [N, K]; [K] or NULL
    const uint4 *cut;      // [N, fours], fours a multiple of MID_FOURS
    int64_t N, K, fours;
    bool wide;
} mid_rows;

// ---- cutting ----

// x, y: high parts of the first two of four numbers, and of the others; z, w: low parts alike.
static __device__ __forceinline__ uint4 mid_cut(const float v[4])
{
    uint4 u;
    u.x = linear_pair(v[0], v[1]);
    u.y = linear_pair(v[2], v[3]);
    u.z = linear_pair(v[0] - __uint_as_float(u.x << 16), v[1] - __uint_as_float(u.x & 0xffff0000u));
    u.w = linear_pair(v[2] - __uint_as_float(u.y << 16), v[3] - __uint_as_float(u.y & 0xffff0000u));
    return u;
}

// Four numbers of a row times the norm's weights; their squares from before are added up.
static __device__ __forceinline__ float mid_norm(float v[4], const float *norm, int64_t k, int64_t K, bool wide)
{
    float w[4], squares = __fmul_rn(v[0], v[0]);
    linear_row<4>(w, norm, k, K, wide);
#pragma unroll
    for (int i = 1; i < 4; i++)
        squares = fmaf(v[i], v[i], squares);
#pragma unroll
    for (int i = 0; i < 4; i++)
        v[i] = __fmul_rn(v[i], w[i]);
    return squares;
}

// Inputs k .. k + 3 of row n, cut. raw: *squares gets what they add to the norm, where there is one.
template <bool raw>
static __device__ __forceinline__ uint4 mid_x(float *squares, const mid_rows &rows, int64_t n, int64_t k)
{
    if (!raw) return rows.cut[n * rows.fours + k / 4];
    float v[4];
    linear_row<4>(v, rows.x + n * rows.K, k, rows.K, rows.wide);
    if (rows.norm) *squares = __fadd_rn(*squares, mid_norm(v, rows.norm, k, rows.K, rows.wide));
    return mid_cut(v);
}

// The row of x that a lane reads of a tile; those past the last read that one, and what comes of them is not kept.
static __device__ __forceinline__ int64_t mid_row(const mid_rows &rows, int tile)
{
    const int64_t n = (int)threadIdx.x % GPU_WARP / 4 + 8 * tile;
    return n < rows.N ? n : rows.N - 1;
}

// A row's squares of all four lanes of a warp.
static __device__ __forceinline__ float mid_four_lanes(float squares)
{
    squares = __fadd_rn(squares, __shfl_xor_sync(GPU_ALL_LANES, squares, 1));
    return __fadd_rn(squares, __shfl_xor_sync(GPU_ALL_LANES, squares, 2));
}

// ---- the end ----

// What rows are multiplied with at last. raw: from this lane's squares; else as it was found when rows were cut.
typedef struct mid_scale {
    const float *cut; // [N] or NULL
    float squares;
    bool normed;
    double eps;
} mid_scale;

// Puts the warps' sums together; end(n, m, sum, up) gets each once, m counted from the block's first output. gated: h 0 is
// gate, h 1 up, of the same outputs; else outputs of h 1 follow those of h 0. pairs: a lane's two outputs are neighbours; else
// 8 apart.
template <int tiles, int high, bool raw, bool pairs, class ending>
static __device__ __forceinline__ void mid_finish(float (*sum)[tiles][4], const mid_rows &rows, const mid_scale &scale,
                                                  bool gated, ending end)
{
    __shared__ float room[MID_WARPS][tiles * 4 * MID_ROW], squares[MID_WARPS][8];
    const int each = (tiles * 128 + MID_THREADS - 1) / MID_THREADS;
    const int warp = (int)threadIdx.x / GPU_WARP, lane = (int)threadIdx.x % GPU_WARP;
    float gate[each];
    if (raw && scale.normed) {
        const float all = mid_four_lanes(scale.squares);
        if (lane % 4 == 0) squares[warp][lane / 4] = all;
    }
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
            if (n >= 8 * tiles || n >= rows.N) continue;
            const int group = pairs ? r / 2 : r % 8, half = pairs ? r % 2 : r / 8;
            const int place = (n / 8 * 4 + n % 2 + half * 2) * MID_ROW + group * 4 + n % 8 / 2;
            float total = 0, all = 0;
            for (int i = 0; i < MID_WARPS; i++)
                total += room[i][place];
            if (raw && scale.normed) {
                for (int i = 0; i < MID_WARPS; i++)
                    all += squares[i][n];
                total = __fmul_rn(total, linear_norm_scale(all, rows.K, scale.eps));
            } else if (!raw && scale.cut) {
                total = __fmul_rn(total, scale.cut[n]);
            }
            if (gated && h == 0)
                gate[e] = total;
            else
                end(n, gated ? r : 16 * h + r, gated ? gate[e] : total, total);
        }
    }
}

#endif
