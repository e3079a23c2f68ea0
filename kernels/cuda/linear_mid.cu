// kernels/cuda/linear_mid.cu - products of 9 to 64 rows on the tensor cores: steps of many sequences, short pieces of
// prompts.
//
// Must move the weights once, 2 M K bytes, and is bound by that: the rows, 2 N K bytes in bf16, come from the caches, once
// for every 16 (32) outputs. The weights are the operand of 16 rows and go from memory to registers by 16-byte loads:
// the order of inputs in a product is free as long as both operands keep it, so lane t of a row takes inputs
// 8t .. 8t + 7 of every 32 (a row's four lanes read 64 bytes), the first four for one instruction and the last four for the
// next; rows of x are read alike. Eight warps share K, and their sums meet in shared memory, in order.
#include "kernels/cuda/linear_dev.h"

#define MID_WARPS 8
#define MID_AHEAD 4 // steps of 32 inputs loaded at once
#define MID_ROW 33  // floats of shared memory for one sum of all lanes

// tiles: of 8 rows of x. high: of 16 outputs; a gated product has 16 of gate and 16 of up.
template <int tiles, int high>
static __device__ __forceinline__ void mid_step(float (*sum)[tiles][4], const uint4 (*v)[2], const linear_args &a, int64_t k,
                                                int64_t x_row)
{
#pragma unroll
    for (int i = 0; i < tiles; i++) {
        const int64_t n = x_row + 8 * i;
        uint4 x = make_uint4(0, 0, 0, 0);
        if (n < a.N && k < a.stride) x = *reinterpret_cast<const uint4 *>((const uint16_t *)a.x + n * a.stride + k);
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

template <int tiles, int high>
static __global__ void __launch_bounds__(MID_WARPS * GPU_WARP) linear_mid_kernel(linear_args a)
{
    __shared__ float room[MID_WARPS][tiles * 4 * MID_ROW];
    const int warp = (int)threadIdx.x / GPU_WARP, lane = (int)threadIdx.x % GPU_WARP, group = lane / 4, t = lane % 4;
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
    float sum[high][tiles][4] = {};
    // Every lane goes through the same steps: instructions are warp-wide. Lanes past the row's end bring zeros.
    for (int64_t s = (int64_t)warp * 32; s < a.stride; s += (int64_t)MID_AHEAD * MID_WARPS * 32) {
        uint4 v[MID_AHEAD][high][2];
#pragma unroll
        for (int i = 0; i < MID_AHEAD; i++) {
            const int64_t k = s + (int64_t)i * MID_WARPS * 32 + 8 * t;
#pragma unroll
            for (int h = 0; h < high; h++) {
                for (int r = 0; r < 2; r++) {
                    v[i][h][r] = make_uint4(0, 0, 0, 0);
                    if (k < a.stride) v[i][h][r] = load_stream16(w[h][r] + k);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < MID_AHEAD; i++) {
            const int64_t first = s + (int64_t)i * MID_WARPS * 32, k = first + 8 * t;
            if (first < a.stride) mid_step<tiles, high>(sum, v[i], a, k, group);
        }
    }
    const int threads = MID_WARPS * GPU_WARP, each = (tiles * 128 + threads - 1) / threads;
    float s[2][each];
#pragma unroll
    for (int h = 0; h < high; h++) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < tiles * 4; i++) room[warp][i * MID_ROW + lane] = sum[h][i / 4][i % 4];
        __syncthreads();
#pragma unroll
        for (int e = 0; e < each; e++) { // output r of this tile, row n
            const int at = (int)threadIdx.x + e * threads, r = at % 16, n = at / 16;
            const int place = (n / 8 * 4 + n % 2 + r / 8 * 2) * MID_ROW + r % 8 * 4 + n % 8 / 2;
            float total = 0;
            for (int i = 0; i < MID_WARPS && n < 8 * tiles; i++) total += room[i][place];
            s[gated ? h : 0][e] = total;
            const int64_t m = m0 + (gated ? 0 : 16 * h) + r;
            if (n >= a.N || m >= job.M || (gated && h == 0)) continue;
            linear_end(a, job, n, m, s[0][e], gated ? s[1][e] : 0.0f);
        }
    }
}

template <int tiles> static void mid_launch(cudaStream_t stream, const linear_args *a)
{
    // 32 outputs a block halve what the rows cost, where there are enough blocks then.
    const bool high = a->mode == LINEAR_MODE_SILU_MUL || (tiles == 8 && linear_blocks(a, 32) >= 128);
    const dim3 block(MID_WARPS * GPU_WARP);
    const dim3 grid((unsigned)linear_blocks(a, high && a->mode != LINEAR_MODE_SILU_MUL ? 32 : 16));
    if (high) GPU_LAUNCH((linear_mid_kernel<tiles, 2>), grid, block, 0, stream, *a);
    else GPU_LAUNCH((linear_mid_kernel<tiles, 1>), grid, block, 0, stream, *a);
}

extern "C" void launch_linear_mid(cudaStream_t stream, const void *args)
{
    const linear_args *a = (const linear_args *)args;
    if (a->N <= 16) mid_launch<2>(stream, a);
    else if (a->N <= 32) mid_launch<4>(stream, a);
    else mid_launch<8>(stream, a);
}
