// kernels/cuda/linear_f8.cu - products of many rows in E4M3 on the tensor cores: codes of rows and of weights,
// float32 sums of groups.
//
// Must do 2 N M K operations at twice the rate of bf16; a block of 128 x 128 outputs moves 2 x 128 x K bytes from the
// caches, 128 operations a byte. Eight warps have 64 x 32 outputs each. A stage is a group of 128 inputs: a group's
// sums leave the tensor cores after four instructions (linear_f8.h says why) and are added, times both scales, in
// float32. For that the weights' codes of a stage are held in registers (32) while the warp's four tiles of
// rows pass by one after another, so that only one tile's sums of the group are under way.
//
// Weights stay as they lie (kernels/packed.h): a line of 64 bytes holds four inputs of 16 rows, and a lane's operand
// is four inputs of one row, a word of a line. Shared memory has lines as they are, but for their 16-byte parts, of
// which those of every other pair of lines change halves: the words of 8 rows in 4 lines, as a warp reads them, then
// lie in all banks once. Rows of x are 128 bytes, whose parts are moved about by the row's last three bits for ldmatrix.
//
// A gated product's tile has 64 outputs: panels of gate and of up alternate, so that a lane has both sums.
#include "kernels/cuda/linear_f8.h"
#include "kernels/cuda/packed_dev.h"

#define F8_TILE        128 // rows, and weight rows, of a block
#define F8_PANELS      (F8_TILE / PANEL)
#define F8_STAGES      3
#define F8_THREADS     256
#define F8_ROW_PARTS   (LINEAR_F8_GROUP / 16) // of 16 bytes, in a row of a stage
#define F8_PANEL_PARTS (LINEAR_F8_GROUP * PANEL / 16)
#define F8_CODE_PARTS  (F8_TILE * F8_ROW_PARTS) // of x, and of weights, in a stage
#define F8_SCALE_PARTS (F8_TILE * 4 / 16)
#define F8_STAGE_PARTS (2 * F8_CODE_PARTS + 2 * F8_SCALE_PARTS)
// 99 KiB: what a block may have on sm_89 and sm_120, and twice on a multiprocessor of sm_90.
#define F8_SHARED_BYTES (F8_STAGES * F8_STAGE_PARTS * 16)
#define F8_EACH         (F8_CODE_PARTS / F8_THREADS)

static_assert(F8_EACH * F8_THREADS == F8_CODE_PARTS && 2 * F8_SCALE_PARTS <= F8_THREADS, "everyone brings as many");
static_assert(F8_CODE_PARTS == F8_PANELS * F8_PANEL_PARTS, "weights are as many as rows");

// One stage: x's codes, the weights', x's scales [128], the weights' [panels][16], a panel's in 64 bytes.
typedef struct f8_stage {
    uint4 *x, *w, *x_scales, *w_scales;
} f8_stage;

static __device__ __forceinline__ f8_stage f8_stage_of(uint4 *shared, int s)
{
    uint4 *at = shared + s % F8_STAGES * F8_STAGE_PARTS;
    f8_stage stage = {at, at + F8_CODE_PARTS, at + 2 * F8_CODE_PARTS, at + 2 * F8_CODE_PARTS + F8_SCALE_PARTS};
    return stage;
}

// Where part p of x's row r stands, in parts.
static __device__ __forceinline__ int f8_row_at(int r, int p)
{
    return r * F8_ROW_PARTS + (p ^ (r & 7));
}

// What one thread brings of a stage: F8_EACH parts of x, as many of the weights, and some one of scales. They move on
// with the groups.
typedef struct f8_bringer {
    const uint8_t *x, *w, *scale;
    int64_t x_step, w_step, scale_next; // bytes from one part to the next; from group to group
    int x_good, w_good;                 // so many of the parts are there
    bool scale_good;
} f8_bringer;

// Panel q of a tile: of which matrix, and the which one after the tile's first.
template <bool gated> static __device__ __forceinline__ int f8_panel(int q, int *after)
{
    *after = gated ? q / 2 : q;
    return gated ? q % 2 : 0;
}

static __device__ __forceinline__ int f8_count(int64_t first, int64_t step, int64_t end)
{
    const int64_t n = first < end ? (end - first + step - 1) / step : 0;
    return n < F8_EACH ? (int)n : F8_EACH;
}

// j: the tile's job; rows from n0, panels from `panel` on.
template <bool gated>
static __device__ __forceinline__ f8_bringer f8_bringer_of(const f8_args &a, int j, int64_t n0, int64_t panel)
{
    const int i = (int)threadIdx.x, s = i - F8_SCALE_PARTS, r = i / F8_ROW_PARTS;
    f8_bringer b;
    b.x_step = F8_THREADS / F8_ROW_PARTS * a.stride;
    b.x_good = f8_count(n0 + r, F8_THREADS / F8_ROW_PARTS, a.p.N);
    b.x = reinterpret_cast<const uint8_t *>(a.p.x) + (b.x_good ? n0 + r : 0) * a.stride + i % F8_ROW_PARTS * 16;
    // Panels of one matrix only, a fixed number apart: a thread's are two apart in the tile.
    int after;
    const packed_matrix &w = a.p.jobs[j + f8_panel<gated>(i / F8_PANEL_PARTS, &after)].w;
    const int64_t panels = (w.M + PANEL - 1) / PANEL, bytes = (int64_t)w.groups * (F8_PANEL_PARTS * 16);
    b.w_step = bytes * (gated ? 1 : 2);
    b.w_good = f8_count(panel + after, gated ? 1 : 2, panels);
    b.w = w.codes + (b.w_good ? panel + after : 0) * bytes + i % F8_PANEL_PARTS * 16;
    if (s < 0) {
        b.scale_good = n0 + 4 * i < a.places;
        b.scale_next = a.places * 4;
        b.scale = reinterpret_cast<const uint8_t *>(a.scales + (b.scale_good ? n0 + 4 * i : 0));
    } else {
        const packed_matrix &v = a.p.jobs[j + f8_panel<gated>(s / 4 % F8_PANELS, &after)].w;
        const int each = v.scales == PACKED_SCALES_F16 ? 2 : 4;
        b.scale_good = s < F8_SCALE_PARTS && s % 4 < each && (panel + after) * PANEL < v.M;
        b.scale_next = PANEL * each;
        b.scale = v.codes + (int64_t)v.scales_at * 64;
        if (b.scale_good) b.scale += (panel + after) * v.groups * (PANEL * each) + s % 4 * 16;
    }
    return b;
}

// The next group's parts.
static __device__ __forceinline__ void f8_bring(const f8_stage &to, f8_bringer *b)
{
    const int i = (int)threadIdx.x;
#pragma unroll
    for (int e = 0; e < F8_EACH; e++) {
        const int r = (i + e * F8_THREADS) / F8_ROW_PARTS;
        const bool good = e < b->x_good;
        copy_async16(to.x + f8_row_at(r, i % F8_ROW_PARTS), good ? b->x + e * b->x_step : b->x, good);
    }
#pragma unroll
    for (int e = 0; e < F8_EACH; e++) {
        const bool good = e < b->w_good;
        copy_async16(to.w + ((i ^ (i >> 3 & 1) << 1) + e * F8_THREADS), good ? b->w + e * b->w_step : b->w, good);
    }
    if (i < 2 * F8_SCALE_PARTS) copy_async16(to.x_scales + i, b->scale, b->scale_good);
    b->x += LINEAR_F8_GROUP;
    b->w += F8_PANEL_PARTS * 16;
    b->scale += b->scale_next;
}

// The lane's operands of 32 weight rows from panel q of the tile on.
static __device__ __forceinline__ void f8_weights(uint32_t b[4][4][2], const uint4 *w, int q)
{
    const int lane = (int)threadIdx.x % GPU_WARP, group = lane / 4, t = lane % 4;
    const uint32_t *words = reinterpret_cast<const uint32_t *>(w + q * F8_PANEL_PARTS) + group % 4;
#pragma unroll
    for (int s = 0; s < 4; s++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int part = (j % 2 * 2 + group / 4) ^ (t >> 1) << 1;
#pragma unroll
            for (int h = 0; h < 2; h++)
                b[s][j][h] = words[((j / 2 * F8_PANEL_PARTS) + (8 * s + 4 * h + t) * 4 + part) * 4];
        }
    }
}

// Scales of two neighbouring weight rows, of which the tile's panels hold 16 in 64 bytes.
static __device__ __forceinline__ float2 f8_scales(const uint4 *panel, int r, bool half)
{
    if (!half) return reinterpret_cast<const float2 *>(panel)[r / 2];
    const uint32_t pair = reinterpret_cast<const uint32_t *>(panel)[r / 2];
    return make_float2(linear_half(pair & 0xffffu), linear_half(pair >> 16));
}

// Sums += the 64 x 32 outputs of a warp over one group. half: which of the warp's two panels have scales in f16.
static __device__ __forceinline__ void f8_multiply(float (*sum)[4][4], const f8_stage &stage, int x_at, int q,
                                                   const bool half[2])
{
    const int lane = (int)threadIdx.x % GPU_WARP, group = lane / 4, row = lane % 8, tile = lane / 8;
    const float *x_scales = reinterpret_cast<const float *>(stage.x_scales) + x_at + group;
    uint32_t b[4][4][2];
    f8_weights(b, stage.w, q);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float part[4][4] = {};
#pragma unroll
        for (int s = 0; s < 4; s++) {
            uint32_t a[4]; // tiles: rows, rows + 8, then the same of the next 16 inputs
            mma_load(a, stage.x + f8_row_at(x_at + 16 * i + row + 8 * (tile & 1), 2 * s + (tile >> 1)));
#pragma unroll
            for (int j = 0; j < 4; j++)
                mma_f8(part[j], a, b[s][j]);
        }
        const float rows[2] = {x_scales[16 * i], x_scales[16 * i + 8]};
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float2 by = f8_scales(stage.w_scales + (q + j / 2) * 4, j % 2 * 8 + lane % 4 * 2, half[j / 2]);
#pragma unroll
            for (int e = 0; e < 4; e++)
                sum[i][j][e] += part[j][e] * (rows[e / 2] * (e % 2 ? by.y : by.x));
        }
    }
}

template <bool gated>
static __device__ __forceinline__ void f8_end(const packed_args &a, const packed_job &job, float (*sum)[4][4],
                                              int64_t n0, int64_t m0)
{
    const int lane = (int)threadIdx.x % GPU_WARP, group = lane / 4, twice = lane % 4 * 2;
    const float factor = job.w.factor, up = gated ? a.jobs[1].w.factor : 0.0f;
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < (gated ? 2 : 4); j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int64_t n = n0 + 16 * i + group + e / 2 * 8, m = m0 + 8 * j + twice + e % 2;
                if (n < a.N && m < job.w.M)
                    packed_end(a, job, n, m, factor * sum[i][j][e], gated ? up * sum[i][j + 2][e] : 0.0f);
            }
        }
    }
}

// Blocks x are tiles of rows, blocks y of outputs: blocks that run together share weights.
template <bool gated> static __global__ void __launch_bounds__(F8_THREADS, 1) linear_f8_kernel(f8_args a)
{
    if (!MMA_HAS_F8) return;
    GPU_DYNAMIC_SHARED(uint4, shared);
    const int warp = (int)threadIdx.x / GPU_WARP, x_at = warp / 4 * 64, q = warp % 4 * 2;
    int64_t b = blockIdx.y;
    const int j = packed_find(a.p, &b, gated ? F8_TILE / 2 : F8_TILE);
    const packed_job &job = a.p.jobs[j];
    const int64_t n0 = (int64_t)blockIdx.x * F8_TILE, panel = b * (gated ? F8_PANELS / 2 : F8_PANELS);
    const bool half[2] = {job.w.scales == PACKED_SCALES_F16, a.p.jobs[gated ? 1 : j].w.scales == PACKED_SCALES_F16};
    const int groups = job.w.groups;
    f8_bringer bringer = f8_bringer_of<gated>(a, j, n0, panel);
    for (int s = 0; s < F8_STAGES - 1; s++) {
        if (s < groups) f8_bring(f8_stage_of(shared, s), &bringer);
        copy_async_commit();
    }
    float sum[4][4][4] = {};
    for (int g = 0; g < groups; g++) {
        copy_async_wait<F8_STAGES - 2>();
        // Group g is there, and everybody is done with g - 1, whose room is filled next.
        __syncthreads();
        if (g + F8_STAGES - 1 < groups) f8_bring(f8_stage_of(shared, g + F8_STAGES - 1), &bringer);
        copy_async_commit();
        f8_multiply(sum, f8_stage_of(shared, g), x_at, q, half);
    }
    copy_async_wait<0>();
    f8_end<gated>(a.p, job, sum, n0 + x_at, (panel + (gated ? q / 2 : q)) * PANEL);
}

extern "C" void launch_linear_f8(cudaStream_t stream, const void *args)
{
    const f8_args *a = (const f8_args *)args;
    const bool gated = a->p.mode == LINEAR_MODE_SILU_MUL;
    const dim3 block(F8_THREADS);
    const dim3 grid((unsigned)((a->p.N + F8_TILE - 1) / F8_TILE),
                    (unsigned)packed_blocks(&a->p, gated ? F8_TILE / 2 : F8_TILE));
    if (gated) {
        GPU_ALLOW_SHARED((linear_f8_kernel<true>), F8_SHARED_BYTES);
        GPU_LAUNCH((linear_f8_kernel<true>), grid, block, F8_SHARED_BYTES, stream, *a);
    } else {
        GPU_ALLOW_SHARED((linear_f8_kernel<false>), F8_SHARED_BYTES);
        GPU_LAUNCH((linear_f8_kernel<false>), grid, block, F8_SHARED_BYTES, stream, *a);
    }
}
