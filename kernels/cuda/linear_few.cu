// kernels/cuda/linear_few.cu - products of 1 to 8 rows in float32 arithmetic: exact results, float32 weights, low-rank additions.
//
// Must move the weights once, M K bytes times their size; x is small and stays in the first-level
// cache (read again by each group of R outputs), y smaller. 2 N M K operations in float32. Bound by
// memory for N up to 4, near the float32 units' limit at 8.
//
// A warp takes R outputs (with a gated product R / 2 of gate and the same of up), lane l the 16
// bytes l of every 512 of their rows; 2 R such loads are under way. Warps split K between them
// where it is long.
//
// The order of sums: within a lane by rising k; over the lanes by halves (16, 8, 4, 2, 1); then the
// warps that share K, in order. How many do depends on K alone. So the result of an output depends
// neither on N nor on what else is in the launch, bit for bit.
//
// Rows may be normed on the way: x meets the norm's weights as it is read, its squares are summed beside the products, by
// the same lanes in the same order, and the row's scale meets the finished sums. K floats more of the caches, and no
// launch and no trip through memory of its own.
#include "kernels/cuda/linear_dev.h"

#define FEW_OUTPUTS 4 // of a warp
#define FEW_WARPS   8 // of a block at most
#define FEW_AHEAD   2 // chunks loaded at once

// Sums of v[count] over the lanes: the lane gets that of index *at (lanes that share an index all
// have it).
template <int count, int d> struct few_sums {
    static __device__ __forceinline__ float run(float *v, int *at)
    {
        const bool high = (int)threadIdx.x & d;
#pragma unroll
        for (int i = 0; i < count / 2; i++) {
            const float keep = high ? v[i + count / 2] : v[i],
                        give = high ? v[i] : v[i + count / 2];
            v[i] = keep + __shfl_xor_sync(GPU_ALL_LANES, give, d);
        }
        if (high) *at += count / 2;
        return few_sums<count / 2, d / 2>::run(v, at);
    }
};

template <int d> struct few_sums<1, d> {
    static __device__ __forceinline__ float run(float *v, int *at)
    {
        v[0] += __shfl_xor_sync(GPU_ALL_LANES, v[0], d);
        return few_sums<1, d / 2>::run(v, at);
    }
};

template <> struct few_sums<1, 0> {
    static __device__ __forceinline__ float run(float *v, int *)
    {
        return v[0];
    }
};

// squares: of the rows before the norm's weights meet them.
template <int type, int rows, bool normed>
static __device__ __forceinline__ void few_add(float (&sum)[rows][FEW_OUTPUTS], float (&squares)[rows],
                                               const linear_args &a, const uint4 *v, int64_t k)
{
    const int E = linear_pack<type>::count;
    float w[FEW_OUTPUTS][E], norm[E];
    if (normed) linear_row<E>(norm, a.norm, k, a.K, a.wide);
#pragma unroll
    for (int r = 0; r < FEW_OUTPUTS; r++)
        linear_widen<type>(w[r], v[r]);
#pragma unroll
    for (int n = 0; n < rows; n++) {
        float x[E];
        if (n < a.N) linear_row<E>(x, (const float *)a.x + n * a.K, k, a.K, a.wide);
#pragma unroll
        for (int e = 0; e < E && normed && n < a.N; e++) {
            squares[n] += x[e] * x[e];
            x[e] *= norm[e];
        }
#pragma unroll
        for (int r = 0; r < FEW_OUTPUTS && n < a.N; r++) {
#pragma unroll
            for (int e = 0; e < E; e++)
                sum[n][r] += x[e] * w[r][e];
        }
    }
}

// Grid: groups of FEW_OUTPUTS outputs, blockDim.x / 32 / split of them in a block. rows: N at most.
template <int type, int rows, bool normed>
static __global__ void __launch_bounds__(FEW_WARPS *GPU_WARP)
    linear_few_kernel(linear_args a, int split)
{
    __shared__ float parts[FEW_WARPS][rows * FEW_OUTPUTS], all_squares[FEW_WARPS][rows];
    const int E = linear_pack<type>::count;
    const int warp = (int)threadIdx.x / GPU_WARP, lane = (int)threadIdx.x % GPU_WARP;
    const int groups = (int)blockDim.x / GPU_WARP / split, part = warp % split;
    const bool gated = a.mode == LINEAR_MODE_SILU_MUL;
    const int wanted = gated ? FEW_OUTPUTS / 2 : FEW_OUTPUTS; // outputs of a group
    int64_t b = blockIdx.x;
    const linear_job &job = a.jobs[linear_find(a, &b, (int64_t)groups * wanted)];
    const int64_t first = (b * groups + warp / split) * wanted, bytes = 16 / E * a.stride;
    const char *w[FEW_OUTPUTS];
#pragma unroll
    for (int r = 0; r < FEW_OUTPUTS; r++) { // outputs past M read the last one's row
        const int64_t m = first + (gated ? r % (FEW_OUTPUTS / 2) : r);
        const void *base = gated && r >= FEW_OUTPUTS / 2 ? a.jobs[1].w : job.w;
        w[r] = (const char *)base + (m < job.M ? m : job.M - 1) * bytes;
    }
    float sum[rows][FEW_OUTPUTS] = {}, squares[rows] = {};
    const int64_t chunk = (int64_t)GPU_WARP * E, step = chunk * split;
    for (int64_t k = part * chunk + lane * E; k < a.stride; k += FEW_AHEAD * step) {
        uint4 v[FEW_AHEAD][FEW_OUTPUTS];
#pragma unroll
        for (int i = 0; i < FEW_AHEAD; i++) {
#pragma unroll
            for (int r = 0; r < FEW_OUTPUTS; r++) {
                v[i][r] = make_uint4(0, 0, 0, 0);
                if (k + i * step < a.stride)
                    v[i][r] = load_stream16(w[r] + 16 / E * (k + i * step));
            }
        }
#pragma unroll
        for (int i = 0; i < FEW_AHEAD; i++)
            if (k + i * step < a.stride) few_add<type, rows, normed>(sum, squares, a, v[i], k + i * step);
    }
    int at = 0;
    const float total = few_sums<rows * FEW_OUTPUTS, GPU_WARP / 2>::run(&sum[0][0], &at);
    parts[warp][at] = total;
#pragma unroll
    for (int n = 0; n < rows && normed; n++) {
        squares[n] = gpu_warp_sum(squares[n]);
        if (lane == 0) all_squares[warp][n] = squares[n];
    }
    __syncthreads();
    if (part != 0) return;
    const int n = lane / wanted, r = lane % wanted;
    if (n >= a.N || first + r >= job.M) return;
    float s = 0, up = 0, square = 0;
    for (int i = 0; i < split; i++) {
        s += parts[warp + i][n * FEW_OUTPUTS + r];
        if (gated) up += parts[warp + i][n * FEW_OUTPUTS + r + FEW_OUTPUTS / 2];
        if (normed) square += all_squares[warp + i][n];
    }
    if (normed) {
        const float scale = linear_norm_scale(square, a.K, a.eps);
        s *= scale;
        up *= scale;
    }
    linear_end(a, job, n, first + r, s, up);
}

// Warps that share K: so many that each has at least a few loads.
static int few_split(const linear_args *a)
{
    const int64_t chunks = a->stride / (GPU_WARP * (a->type == LINEAR_F32 ? 4 : 8));
    int split = 1;
    while (split < FEW_WARPS && chunks >= 4 * split)
        split *= 2;
    return split;
}

template <int type, bool normed> static void few_launch(cudaStream_t stream, const linear_args *a)
{
    const int split = few_split(a), warps = split > FEW_WARPS / 2 ? split : FEW_WARPS / 2;
    const int wanted = a->mode == LINEAR_MODE_SILU_MUL ? FEW_OUTPUTS / 2 : FEW_OUTPUTS;
    const dim3 grid((unsigned)linear_blocks(a, (int64_t)(warps / split) * wanted)),
        block((unsigned)(warps * GPU_WARP));
    if (a->N == 1)
        GPU_LAUNCH((linear_few_kernel<type, 1, normed>), grid, block, 0, stream, *a, split);
    else if (a->N == 2)
        GPU_LAUNCH((linear_few_kernel<type, 2, normed>), grid, block, 0, stream, *a, split);
    else if (a->N <= 4)
        GPU_LAUNCH((linear_few_kernel<type, 4, normed>), grid, block, 0, stream, *a, split);
    else
        GPU_LAUNCH((linear_few_kernel<type, 8, normed>), grid, block, 0, stream, *a, split);
}

template <bool normed> static void few_launch_type(cudaStream_t stream, const linear_args *a)
{
    if (a->type == LINEAR_F32)
        few_launch<LINEAR_F32, normed>(stream, a);
    else if (a->type == LINEAR_BF16)
        few_launch<LINEAR_BF16, normed>(stream, a);
    else
        few_launch<LINEAR_F16, normed>(stream, a);
}

extern "C" void launch_linear_few(cudaStream_t stream, const void *args)
{
    const linear_args *a = (const linear_args *)args;
    if (a->norm)
        few_launch_type<true>(stream, a);
    else
        few_launch_type<false>(stream, a);
}
