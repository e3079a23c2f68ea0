// kernels/cuda/linear_tile.cu - products in float32 arithmetic, any number of rows: exact ones,
// those of float32 weights, low-rank additions.
//
// Must do 2 N M K operations at the float32 rate; a block moves (64 + 64) x 16 numbers through
// shared memory for 64 x 64 x 16 multiply-adds, so the float32 units bound it from about 64 rows
// on. It is there to be right, and not what anything fast waits for. A sum runs by rising k in one
// thread: the same for a row whatever stands beside it.
#include "kernels/cuda/linear_dev.h"

#define TILE         64
#define TILE_K       16
#define TILE_EACH    4 // rows and outputs of a thread
#define TILE_THREADS ((TILE / TILE_EACH) * (TILE / TILE_EACH))
#define TILE_ROW     (TILE + 4)

template <int type> static __device__ __forceinline__ float tile_weight(const void *w, int64_t i)
{
    if (type == LINEAR_F32) return ((const float *)w)[i];
    const uint16_t u = ((const uint16_t *)w)[i];
    return type == LINEAR_BF16 ? gpu_bf16_to_f32(u) : linear_half(u);
}

// TILE rows of weights (rows of x: type LINEAR_F32) from `first`, inputs k .. k + TILE_K - 1,
// turned: to[k][row].
template <int type>
static __device__ __forceinline__ void tile_fill(float (*to)[TILE_ROW], const void *from,
                                                 int64_t first, int64_t rows, int64_t stride,
                                                 int64_t k, int64_t K)
{
    for (int i = (int)threadIdx.x; i < TILE * TILE_K; i += TILE_THREADS) {
        const int r = i / TILE_K, c = i % TILE_K;
        const bool there = first + r < rows && k + c < K;
        to[c][r] = there ? tile_weight<type>(from, (first + r) * stride + k + c) : 0.0f;
    }
}

// Blocks x are tiles of outputs, blocks y of rows. A thread has rows and outputs tx, tx + 16, ...:
// those of a warp lie side by side, in shared memory and in y.
template <int type, bool gated>
static __global__ void __launch_bounds__(TILE_THREADS) linear_tile_kernel(linear_args a)
{
    __shared__ float xs[TILE_K][TILE_ROW], ws[1 + gated][TILE_K][TILE_ROW];
    const int step = TILE / TILE_EACH, tx = (int)threadIdx.x % step, ty = (int)threadIdx.x / step;
    int64_t b = blockIdx.x;
    const linear_job &job = a.jobs[linear_find(a, &b, TILE)];
    const int64_t m0 = b * TILE, n0 = (int64_t)blockIdx.y * TILE;
    float sum[1 + gated][TILE_EACH][TILE_EACH] = {};
    for (int64_t k = 0; k < a.K; k += TILE_K) {
        tile_fill<LINEAR_F32>(xs, a.x, n0, a.N, a.K, k, a.K);
        tile_fill<type>(ws[0], job.w, m0, job.M, a.stride, k, a.K);
        if (gated) tile_fill<type>(ws[gated], a.jobs[1].w, m0, job.M, a.stride, k, a.K);
        __syncthreads();
        for (int c = 0; c < TILE_K; c++) {
            float x[TILE_EACH];
            for (int i = 0; i < TILE_EACH; i++)
                x[i] = xs[c][ty + i * step];
#pragma unroll
            for (int g = 0; g < 1 + gated; g++) {
                for (int j = 0; j < TILE_EACH; j++) {
                    const float w = ws[g][c][tx + j * step];
                    for (int i = 0; i < TILE_EACH; i++)
                        sum[g][i][j] += x[i] * w;
                }
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < TILE_EACH; i++) {
#pragma unroll
        for (int j = 0; j < TILE_EACH; j++) {
            const int64_t n = n0 + ty + i * step, m = m0 + tx + j * step;
            if (n < a.N && m < job.M) linear_end(a, job, n, m, sum[0][i][j], sum[gated][i][j]);
        }
    }
}

template <int type> static void tile_launch(cudaStream_t stream, const linear_args *a)
{
    const dim3 grid((unsigned)linear_blocks(a, TILE), (unsigned)((a->N + TILE - 1) / TILE)),
        block(TILE_THREADS);
    if (a->mode == LINEAR_MODE_SILU_MUL)
        GPU_LAUNCH((linear_tile_kernel<type, true>), grid, block, 0, stream, *a);
    else
        GPU_LAUNCH((linear_tile_kernel<type, false>), grid, block, 0, stream, *a);
}

extern "C" void launch_linear_tile(cudaStream_t stream, const void *args)
{
    const linear_args *a = (const linear_args *)args;
    if (a->type == LINEAR_F32)
        tile_launch<LINEAR_F32>(stream, a);
    else if (a->type == LINEAR_BF16)
        tile_launch<LINEAR_BF16>(stream, a);
    else
        tile_launch<LINEAR_F16>(stream, a);
}
