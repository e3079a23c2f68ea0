// kernels/cuda/linear_big.cu - products of many rows on the tensor cores: bf16 rows and weights,
// float32 sums.
//
// Must do 2 N M K operations; moves per block of 128 x 128 outputs 2 x 128 x K x 2 bytes from the
// caches, 64 operations a byte, so arithmetic bounds it where the grid fills the chip. Eight warps
// have 64 x 32 outputs each (64 sums a lane), and read their operands with ldmatrix from shared
// memory, into which cp.async brings the next stages of 32 inputs. In shared memory a row of 32
// numbers is 64 bytes, its four 16-byte parts moved about by bits 1 and 2 of the row's number:
// eight rows of one part, as ldmatrix reads them, lie in all banks once.
//
// A gated product's tile has 64 outputs: 16 rows of gate and 16 of up alternate, so that a lane has
// both sums.
#include "kernels/cuda/linear_dev.h"

#define BIG_TILE         128 // rows, and weight rows, of a block
#define BIG_K            32  // inputs of a stage
#define BIG_STAGES       4
#define BIG_THREADS      256
#define BIG_PARTS        (BIG_K / 8) // of 16 bytes, in a row of a stage
#define BIG_STAGE_PARTS  (BIG_TILE * BIG_PARTS)
#define BIG_SHARED_BYTES (2 * BIG_STAGES * BIG_STAGE_PARTS * 16)

// Where part p of row r stands, in parts.
static __device__ __forceinline__ int big_at(int r, int p)
{
    return r * BIG_PARTS + (p ^ (r >> 1 & 3));
}

typedef struct big_tile {
    const uint16_t *from[2]; // first numbers of the two parts that this thread brings
    bool good[2];            // rows that are there
} big_tile;

static __device__ __forceinline__ void big_bring(uint4 *to, const big_tile *t, int64_t k,
                                                 int64_t stride)
{
    for (int i = 0; i < 2; i++) {
        const int part = (int)threadIdx.x + i * BIG_THREADS, r = part / BIG_PARTS,
                  p = part % BIG_PARTS;
        const bool good = t->good[i] && k + p * 8 < stride;
        copy_async16(to + big_at(r, p), good ? t->from[i] + k : t->from[i] - p * 8, good);
    }
}

// Sums += the 64 x 32 outputs of a warp over one stage. x, w: the stage's rows; at: the warp's
// first ones.
static __device__ __forceinline__ void big_multiply(float (*sum)[4][4], const uint4 *x,
                                                    const uint4 *w, int x_at, int w_at)
{
    const int lane = (int)threadIdx.x % GPU_WARP, row = lane % 8, tile = lane / 8;
#pragma unroll
    for (int s = 0; s < BIG_K / 16; s++) {
        uint32_t a[4][4], b[2][4];
#pragma unroll
        for (int i = 0; i < 4; i++) { // tiles: rows, rows + 8, then the same of the next 8 inputs
            mma_load(a[i], x + big_at(x_at + 16 * i + row + 8 * (tile & 1), 2 * s + (tile >> 1)));
        }
#pragma unroll
        for (int j = 0; j < 2; j++) { // tiles: inputs, the next 8, the same of weight rows + 8
            mma_load(b[j], w + big_at(w_at + 16 * j + row + 8 * (tile >> 1), 2 * s + (tile & 1)));
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++)
                mma_bf16(sum[i][j], a[i], &b[j / 2][j % 2 * 2]);
        }
    }
}

// Weight row r of a block's tile: of which matrix, and which row of it. first: the tile's first
// output.
template <bool gated>
static __device__ __forceinline__ int64_t big_row(int64_t first, int r, int *which)
{
    *which = gated ? r / 16 % 2 : 0;
    return first + (gated ? r / 32 * 16 + r % 16 : r);
}

template <bool gated>
static __device__ __forceinline__ void big_end(const linear_args &a, const linear_job &job,
                                               float (*sum)[4][4], int64_t n0, int64_t m0)
{
    const int lane = (int)threadIdx.x % GPU_WARP, group = lane / 4, t = lane % 4;
    const int width = gated ? 2 : 4;
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < width; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int64_t n = n0 + 16 * i + group + e / 2 * 8, m = m0 + 8 * j + 2 * t + e % 2;
                if (n < a.N && m < job.M)
                    linear_end(a, job, n, m, sum[i][j][e], gated ? sum[i][j + 2][e] : 0.0f);
            }
        }
    }
}

// Blocks x are tiles of rows, blocks y of outputs: blocks that run together share weights.
template <bool gated>
static __global__ void __launch_bounds__(BIG_THREADS, 2) linear_big_kernel(linear_args a)
{
    GPU_DYNAMIC_SHARED(uint4, shared);
    uint4 *xs = shared, *ws = shared + BIG_STAGES * BIG_STAGE_PARTS;
    const int warp = (int)threadIdx.x / GPU_WARP, x_at = warp / 4 * 64, w_at = warp % 4 * 32;
    const int outputs = gated ? BIG_TILE / 2 : BIG_TILE;
    int64_t b = blockIdx.y;
    const linear_job &job = a.jobs[linear_find(a, &b, outputs)];
    const int64_t n0 = (int64_t)blockIdx.x * BIG_TILE, m0 = b * outputs;
    big_tile x, w;
    for (int i = 0; i < 2; i++) {
        const int part = (int)threadIdx.x + i * BIG_THREADS, r = part / BIG_PARTS,
                  p = part % BIG_PARTS;
        int which;
        const int64_t m = big_row<gated>(m0, r, &which), n = n0 + r;
        x.good[i] = n < a.N;
        w.good[i] = m < job.M;
        x.from[i] = (const uint16_t *)a.x + (x.good[i] ? n : 0) * a.stride + p * 8;
        w.from[i] = (const uint16_t *)(which ? a.jobs[1].w : job.w) +
                    (w.good[i] ? m : 0) * a.stride + p * 8;
    }
    const int64_t stages = (a.stride + BIG_K - 1) / BIG_K;
    for (int s = 0; s < BIG_STAGES - 1; s++) {
        if (s < stages) {
            big_bring(xs + s * BIG_STAGE_PARTS, &x, (int64_t)s * BIG_K, a.stride);
            big_bring(ws + s * BIG_STAGE_PARTS, &w, (int64_t)s * BIG_K, a.stride);
        }
        copy_async_commit();
    }
    float sum[4][4][4] = {};
    for (int64_t s = 0; s < stages; s++) {
        copy_async_wait<BIG_STAGES - 2>();
        // Stage s is there, and everybody is done with s - 1, whose room is filled next.
        __syncthreads();
        const int64_t next = s + BIG_STAGES - 1;
        if (next < stages) {
            big_bring(xs + next % BIG_STAGES * BIG_STAGE_PARTS, &x, next * BIG_K, a.stride);
            big_bring(ws + next % BIG_STAGES * BIG_STAGE_PARTS, &w, next * BIG_K, a.stride);
        }
        copy_async_commit();
        big_multiply(sum, xs + s % BIG_STAGES * BIG_STAGE_PARTS,
                     ws + s % BIG_STAGES * BIG_STAGE_PARTS, x_at, w_at);
    }
    copy_async_wait<0>();
    big_end<gated>(a, job, sum, n0 + x_at, m0 + (gated ? w_at / 2 : w_at));
}

extern "C" void launch_linear_big(cudaStream_t stream, const void *args)
{
    const linear_args *a = (const linear_args *)args;
    const bool gated = a->mode == LINEAR_MODE_SILU_MUL;
    const dim3 block(BIG_THREADS);
    const dim3 grid((unsigned)((a->N + BIG_TILE - 1) / BIG_TILE),
                    (unsigned)linear_blocks(a, gated ? BIG_TILE / 2 : BIG_TILE));
    if (gated) {
        GPU_ALLOW_SHARED((linear_big_kernel<true>), BIG_SHARED_BYTES);
        GPU_LAUNCH((linear_big_kernel<true>), grid, block, BIG_SHARED_BYTES, stream, *a);
    } else {
        GPU_ALLOW_SHARED((linear_big_kernel<false>), BIG_SHARED_BYTES);
        GPU_LAUNCH((linear_big_kernel<false>), grid, block, BIG_SHARED_BYTES, stream, *a);
    }
}
