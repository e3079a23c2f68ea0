// kernels/cuda/linear_mid.cu - products of 9 to 64 rows on the tensor cores: steps of many
// sequences, short pieces of prompts.
//
// Must move the weights once, 2 M K bytes, and is bound by that: the rows, 2 N K bytes in bf16,
// come from the caches, once for every 16 (32) outputs. Weights go from memory to registers by
// 16-byte loads, 64 bytes of a row side by side and 512 in a block; 8 (16) such loads a lane are
// under way.
#include "kernels/cuda/linear_mid.h"

#define MID_AHEAD 4 // steps loaded at once

// tiles: of 8 rows of x. high: of 16 outputs; a gated product has 16 of gate and 16 of up.
template <int tiles, int high>
static __global__ void __launch_bounds__(MID_THREADS) linear_mid_kernel(linear_args a)
{
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
    const mid_rows rows = {(const uint16_t *)a.x, a.N, a.stride};
    float sum[high][tiles][4] = {};
    for (int64_t s = (int64_t)warp * MID_STEP; s < a.stride; s += MID_AHEAD * MID_ALL) {
        uint4 v[MID_AHEAD][high][2];
#pragma unroll
        for (int i = 0; i < MID_AHEAD; i++) {
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
        for (int i = 0; i < MID_AHEAD; i++) {
            const int64_t first = s + (int64_t)i * MID_ALL;
            if (first < a.stride) mid_step<tiles, high>(sum, v[i], rows, first + 8 * t);
        }
    }
    mid_finish<tiles, high>(sum, gated, [&](int n, int m, float total, float up) {
        if (n < a.N && m0 + m < job.M) linear_end(a, job, n, m0 + m, total, up);
    });
}

template <int tiles> static void mid_launch(cudaStream_t stream, const linear_args *a)
{
    // 32 outputs a block halve what the rows cost, where there are enough blocks then.
    const bool gated = a->mode == LINEAR_MODE_SILU_MUL,
               high = gated || (tiles == 8 && linear_blocks(a, 32) >= 128);
    const dim3 block(MID_THREADS), grid((unsigned)linear_blocks(a, high && !gated ? 32 : 16));
    if (high)
        GPU_LAUNCH((linear_mid_kernel<tiles, 2>), grid, block, 0, stream, *a);
    else
        GPU_LAUNCH((linear_mid_kernel<tiles, 1>), grid, block, 0, stream, *a);
}

extern "C" void launch_linear_mid(cudaStream_t stream, const void *args)
{
    const linear_args *a = (const linear_args *)args;
    if (a->N <= 16)
        mid_launch<2>(stream, a);
    else if (a->N <= 32)
        mid_launch<4>(stream, a);
    else
        mid_launch<8>(stream, a);
}
