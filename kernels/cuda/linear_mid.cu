// kernels/cuda/linear_mid.cu - products of 1 to 64 rows with plain weights on the tensor cores: decoding, drafts being
// checked, steps of many sequences, short pieces of prompts. linear_mid.h says why a row's result is its own.
//
// Must move the weights once, 2 M K bytes, and is bound by that up to some 32 rows: 8 rows take 4 instructions (8 with f16
// weights) for 16 outputs and 32 inputs, 32 operations a weight. Rows come from the caches, 4 N K bytes (as they are,
// or cut) for every 16 or 32 outputs. Weights go from memory to registers by 16-byte loads, 64 bytes of a row side by side
// and 512 in a block; up to 16 such loads a lane are under way.
//
// f16 weights have more digits than bf16: they are cut in two as well, exactly.
#include "kernels/cuda/linear_mid.h"

// Steps loaded at once.
template <int type, int tiles, int high> struct mid_ahead {
    static const int count = tiles == 1 && high == 1 ? 8 : high == 2 && (tiles == 8 || type == LINEAR_F16) ? 2 : 4;
};

// A lane's 8 weights of two outputs as operands: [0] of the first four inputs, [1] of the last. low: f16's.
typedef struct mid_weights {
    uint32_t high[2][4], low[2][4];
} mid_weights;

// Two f16 numbers as two pairs of bf16 ones.
static __device__ __forceinline__ void mid_cut_half(uint32_t *high, uint32_t *low, uint32_t two)
{
    const float x = linear_half(two & 0xffffu), y = linear_half(two >> 16);
    *high = linear_pair(x, y);
    *low = linear_pair(x - __uint_as_float(*high << 16), y - __uint_as_float(*high & 0xffff0000u));
}

template <int type> static __device__ __forceinline__ void mid_take(mid_weights *to, const uint4 v[2])
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const uint32_t u[4] = {v[r].x, v[r].y, v[r].z, v[r].w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t *high = &to->high[i / 2][i % 2 * 2 + r];
            if (type == LINEAR_F16) mid_cut_half(high, &to->low[i / 2][i % 2 * 2 + r], u[i]);
            else *high = u[i];
        }
    }
}

// Sums += 16 outputs, of `high` matrices or parts of one, times 8 * tiles rows. v[h]: the lane's 8 inputs from k on of the
// outputs group and group + 8. Warp-wide; lanes past the row's end bring zeros.
template <int type, int tiles, int high, bool raw>
static __device__ __forceinline__ void mid_step(float (*sum)[tiles][4], float *squares, const uint4 (*v)[2],
                                                const mid_rows &rows, int64_t k)
{
    mid_weights w[high];
#pragma unroll
    for (int h = 0; h < high; h++)
        mid_take<type>(&w[h], v[h]);
#pragma unroll
    for (int i = 0; i < tiles; i++) {
        const int64_t n = mid_row(rows, i);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const uint4 x = mid_x<raw>(squares, rows, n, k + 4 * half);
            const uint32_t x_high[2] = {x.x, x.y}, x_low[2] = {x.z, x.w};
#pragma unroll
            for (int h = 0; h < high; h++) {
                mma_bf16(sum[h][i], w[h].high[half], x_high);
                mma_bf16(sum[h][i], w[h].high[half], x_low);
                if (type != LINEAR_F16) continue;
                mma_bf16(sum[h][i], w[h].low[half], x_high);
                mma_bf16(sum[h][i], w[h].low[half], x_low);
            }
        }
    }
}

// tiles: of 8 rows of x. high: of 16 outputs; a gated product has 16 of gate and 16 of up.
template <int type, int tiles, int high, bool raw>
static __global__ void __launch_bounds__(MID_THREADS, tiles == 1 ? 2 : 1) linear_mid_kernel(linear_args a)
{
    const int ahead = mid_ahead<type, tiles, high>::count;
    const int warp = (int)threadIdx.x / GPU_WARP, group = (int)threadIdx.x % GPU_WARP / 4,
              t = (int)threadIdx.x % 4;
    const bool gated = a.mode == LINEAR_MODE_SILU_MUL;
    const int outputs = gated ? 16 : 16 * high;
    int64_t b = blockIdx.x;
    const linear_job &job = a.jobs[linear_find(a, &b, outputs)];
    const int64_t m0 = b * outputs;
    const uint16_t *w[high][2];
#pragma unroll
    for (int h = 0; h < high; h++) {
#pragma unroll
        for (int i = 0; i < 2; i++) { // outputs past M read the last one's row
            const int64_t m = m0 + (gated ? 0 : 16 * h) + 8 * i + group;
            const void *base = gated && h ? a.jobs[1].w : job.w;
            w[h][i] = (const uint16_t *)base + (m < job.M ? m : job.M - 1) * a.stride;
        }
    }
    const mid_rows rows = {(const float *)a.x, a.norm, (const uint4 *)a.x, a.N, a.K,
                           (a.K + MID_STEP - 1) / MID_STEP * MID_FOURS, (bool)a.wide};
    float sum[high][tiles][4] = {}, squares = 0;
    for (int64_t s = (int64_t)warp * MID_STEP; s < a.stride; s += ahead * MID_ALL) {
        uint4 v[ahead][high][2];
#pragma unroll
        for (int i = 0; i < ahead; i++) {
            const int64_t k = s + (int64_t)i * MID_ALL + 8 * t;
#pragma unroll
            for (int h = 0; h < high; h++) {
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    v[i][h][r] = make_uint4(0, 0, 0, 0);
                    if (k < a.stride) v[i][h][r] = load_stream16(w[h][r] + k);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < ahead; i++) {
            const int64_t first = s + (int64_t)i * MID_ALL;
            if (first < a.stride) mid_step<type, tiles, high, raw>(sum, &squares, v[i], rows, first + 8 * t);
        }
    }
    const mid_scale scale = {a.scales, squares, a.norm != NULL, a.eps};
    mid_finish<tiles, high, raw, false>(sum, rows, scale, gated, [&](int n, int m, float total, float up) {
        if (m0 + m < job.M) linear_end(a, job, n, m0 + m, total, up);
    });
}

template <int type, int tiles, bool raw> static void mid_launch(cudaStream_t stream, const linear_args *a)
{
    // 32 outputs a block halve what the rows cost, where there are enough blocks then.
    const bool gated = a->mode == LINEAR_MODE_SILU_MUL,
               high = gated || (tiles > 1 && linear_blocks(a, 32) >= 128);
    const dim3 block(MID_THREADS), grid((unsigned)linear_blocks(a, high && !gated ? 32 : 16));
    if (high)
        GPU_LAUNCH((linear_mid_kernel<type, tiles, 2, raw>), grid, block, 0, stream, *a);
    else
        GPU_LAUNCH((linear_mid_kernel<type, tiles, 1, raw>), grid, block, 0, stream, *a);
}

template <int type> static void mid_launch_rows(cudaStream_t stream, const linear_args *a)
{
    if (a->N <= LINEAR_RAW_ROWS)
        mid_launch<type, 1, true>(stream, a);
    else if (a->N <= 16)
        mid_launch<type, 2, false>(stream, a);
    else if (a->N <= 32)
        mid_launch<type, 4, false>(stream, a);
    else
        mid_launch<type, 8, false>(stream, a);
}

extern "C" void launch_linear_mid(cudaStream_t stream, const void *args)
{
    const linear_args *a = (const linear_args *)args;
    if (a->type == LINEAR_BF16)
        mid_launch_rows<LINEAR_BF16>(stream, a);
    else
        mid_launch_rows<LINEAR_F16>(stream, a);
}
