// kernels/cuda/attention_tile.cu - attention of many rows on tensor cores: prefill over pages, and spans (vision).
//
// Flash attention (Dao, 2022 and 2023): a block of four warps has 64 rows, a warp 16 of them, and runs over tiles of
// 64 keys; scores, weights and sums stay in registers. Rows are a key head's: of 16 tokens with four query heads
// each, say, so that keys are shared. Queries, keys, values and weights are bf16, sums float32. Values are copied while
// scores are computed, the next keys while values are added up.
//
// tile     operations: 4 C a visible (row, head, key), half of n^2 without a past. Bytes: C (past + n) 4 a key head, 64
//          rows and head (bf16; from the second-level cache but once). Bound by the tensor cores, and nearly as much by
//          shared memory: of each tile 64 C 2 bytes of keys and as many of values meet every warp: at C 256 72 KiB
//          for 256 products of 4,096 operations, 1.1 of the 1.0 clocks that mma.sync takes at 128 bytes a clock
// pack     keys and values of spans as bf16, once rather than for every 64 rows: 12 bytes a component
// Too few blocks (a short prompt after a long past): keys are cut into a.chunks parts, added up by a second kernel.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_combine.h"
#include "kernels/cuda/attention_mma.h"

#define THREADS 128
#define ROWS    64 // of a block
#define KEYS    64 // of a tile; a page holds a multiple
#define SPANS   (-1)
#define PACK_THREADS 256

// Rows of shared memory are 16 bytes longer than they need: eight of them meet different banks.
template <int C> struct tile_shape {
    static constexpr int row = C + 8;
    static constexpr size_t bytes = (ROWS + 2 * KEYS) * row * sizeof(uint16_t);
};

// What a block works on: rows first .. first + 63 of `rows`, of which `heads` neighbours are one token's, and keys from
// .. end - 1. type SPANS: [2, plane apart][keys][C] from packed on.
typedef struct tile_job {
    const float *q; // of row 0
    float *out;
    int64_t first, rows, heads;
    int64_t q_stride, out_stride; // of tokens, floats
    int64_t from, end;            // keys
    int64_t past, least;          // row r sees keys up to past + r / heads, all rows see those up to least
    int64_t width;           // components that there are, of C
    float scale;
    const uint16_t *packed;
    int64_t plane;
    void *const *blocks;
    int64_t offset, page_rows, G, g;
} tile_job;

// ---- keys and values into shared memory ----

// Rows of bf16 that lie one after another; those from n on become zeros.
template <int C> static __device__ void rows_copy(uint16_t *to, const uint16_t *from, int64_t n)
{
#pragma unroll 8
    for (int i = (int)threadIdx.x; i < KEYS * (C / 8); i += THREADS) {
        const int row = i / (C / 8), piece = i % (C / 8);
        copy_async16(to + row * tile_shape<C>::row + piece * 8, from + i * 8, row < n);
    }
}

template <int C> static __device__ void rows_from_floats(uint16_t *to, const float *from, int64_t n)
{
#pragma unroll 4
    for (int i = (int)threadIdx.x; i < KEYS * (C / 8); i += THREADS) {
        const int row = i / (C / 8), piece = i % (C / 8);
        uint4 x = make_uint4(0, 0, 0, 0);
        if (row < n) {
            const float4 a = *(const float4 *)(from + i * 8), b = *(const float4 *)(from + i * 8 + 4);
            x = make_uint4(bf16_pair(a.x, a.y), bf16_pair(a.z, a.w), bf16_pair(b.x, b.y),
                           bf16_pair(b.z, b.w));
        }
        *(uint4 *)(to + row * tile_shape<C>::row + piece * 8) = x;
    }
}

static __device__ __forceinline__ uint2 scaled_bytes(uint32_t four, float scale)
{
    const uint32_t moved = four ^ 0x80808080u;
    return make_uint2(bf16_pair(byte_float(moved, 0) * scale, byte_float(moved, 1) * scale),
                      bf16_pair(byte_float(moved, 2) * scale, byte_float(moved, 3) * scale));
}

template <int C>
static __device__ void rows_from_bytes(uint16_t *to, const char *from, const float *scales, int64_t n)
{
    const int groups = (C + ATTENTION_KV_GROUP - 1) / ATTENTION_KV_GROUP;
#pragma unroll 4
    for (int i = (int)threadIdx.x; i < KEYS * (C / 16); i += THREADS) {
        const int row = i / (C / 16), piece = i % (C / 16);
        uint16_t *at = to + row * tile_shape<C>::row + piece * 16;
        uint4 x = make_uint4(0, 0, 0, 0);
        float scale = 0;
        if (row < n) {
            x = *(const uint4 *)(from + i * 16);
            scale = scales[row * groups + piece * 16 / ATTENTION_KV_GROUP];
        }
        const uint2 a = scaled_bytes(x.x, scale), b = scaled_bytes(x.y, scale);
        const uint2 c = scaled_bytes(x.z, scale), d = scaled_bytes(x.w, scale);
        *(uint4 *)at = make_uint4(a.x, a.y, b.x, b.y);
        *(uint4 *)(at + 8) = make_uint4(c.x, c.y, d.x, d.y);
    }
}

// Keys (part 0) or values (1) t .. t + 63, of which those from j->end on become zeros.
template <int C, int type>
static __device__ void tile_ask(uint16_t *to, const tile_job *j, int64_t part, int64_t t)
{
    const int64_t n = j->end - t;
    if (type == SPANS) {
        rows_copy<C>(to, j->packed + part * j->plane + t * C, n);
    } else {
        const char *page = (const char *)j->blocks[t / j->page_rows] + j->offset;
        const int64_t row = (part * j->G + j->g) * j->page_rows + t % j->page_rows;
        if (type == TENSOR_BF16) {
            rows_copy<C>(to, (const uint16_t *)page + row * C, n);
        } else if (type == TENSOR_F32) {
            rows_from_floats<C>(to, (const float *)page + row * C, n);
        } else {
            const int64_t groups = (C + ATTENTION_KV_GROUP - 1) / ATTENTION_KV_GROUP;
            const char *scales = page + (2 * j->G * j->page_rows * C + 63) / 64 * 64;
            rows_from_bytes<C>(to, page + row * C, (const float *)scales + row * groups, n);
        }
    }
    copy_async_commit();
}

// ---- rows ----

template <int C> static __device__ void queries_load(uint16_t *to, const tile_job *j)
{
#pragma unroll 4
    for (int i = (int)threadIdx.x; i < ROWS * (C / 4); i += THREADS) {
        const int r = i / (C / 4), c = i % (C / 4) * 4;
        const int64_t row = j->first + r;
        float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (row < j->rows && c < j->width) {
            x = *(const float4 *)(j->q + row / j->heads * j->q_stride + row % j->heads * j->width + c);
        }
        *(uint2 *)(to + r * tile_shape<C>::row + c) = make_uint2(bf16_pair(x.x, x.y), bf16_pair(x.z, x.w));
    }
}

// A lane's two rows of its warp's 16: lane / 4 and that + 8.
typedef struct tile_rows {
    float largest[2], sum[2]; // of all keys; of the lane's
    int64_t last[2];          // key that the row sees
} tile_rows;

static __device__ __forceinline__ int64_t lane_row(const tile_job *j, int half)
{
    return j->first + threadIdx.x / GPU_WARP * 16 + threadIdx.x % GPU_WARP / 4 + half * 8;
}

// ---- products ----

// s = the warp's rows times the tile's keys.
template <int C>
static __device__ __forceinline__ void keys_times(float s[KEYS / 8][4], const uint16_t *q,
                                                  const uint16_t *keys)
{
    const int lane = (int)threadIdx.x % GPU_WARP, warp = (int)threadIdx.x / GPU_WARP;
    q += (warp * 16 + lane % 16) * tile_shape<C>::row + lane / 16 * 8;
    keys += (lane % 8 + lane / 16 * 8) * tile_shape<C>::row + lane / 8 % 2 * 8;
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) s[n][i] = 0;
    }
#pragma unroll
    for (int c = 0; c < C; c += 16) {
        uint32_t a[4];
        mma_load(a, q + c);
#pragma unroll
        for (int n = 0; n < KEYS / 8; n += 2) {
            uint32_t b[4];
            mma_load(b, keys + n * 8 * tile_shape<C>::row + c);
            mma_bf16(s[n], a, b);
            mma_bf16(s[n + 1], a, b + 2);
        }
    }
}

// out += shares (A fragments of 16 keys each) times the tile's values.
template <int C>
static __device__ __forceinline__ void values_add(float out[C / 8][4], const uint32_t shares[KEYS / 16][4],
                                                  const uint16_t *values)
{
    const int lane = (int)threadIdx.x % GPU_WARP;
    values += lane % 16 * tile_shape<C>::row + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < KEYS / 16; k++) {
#pragma unroll
        for (int n = 0; n < C / 8; n += 2) {
            uint32_t b[4];
            mma_load_trans(b, values + k * 16 * tile_shape<C>::row + n * 8);
            mma_bf16(out[n], shares[k], b);
            mma_bf16(out[n + 1], shares[k], b + 2);
        }
    }
}

// ---- softmax ----

static __device__ __forceinline__ void scores_hide(float s[KEYS / 8][4], const tile_rows *r, int64_t t)
{
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++) {
        const int64_t key = t + n * 8 + threadIdx.x % 4 * 2;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (key + i % 2 > r->last[i / 2]) s[n][i] = -INFINITY;
        }
    }
}

// Scores become shares, as A fragments; shrink is what earlier sums are to be multiplied with.
static __device__ __forceinline__ void scores_share(uint32_t shares[KEYS / 16][4], float shrink[2],
                                                    float s[KEYS / 8][4], tile_rows *r, float scale)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float most = s[0][2 * half];
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
            most = fmaxf(most, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
        }
        most = fmaxf(most, __shfl_xor_sync(GPU_ALL_LANES, most, 1));
        most = fmaxf(most, __shfl_xor_sync(GPU_ALL_LANES, most, 2));
        const float now = fmaxf(r->largest[half], most * scale), base = now == -INFINITY ? 0.0f : now;
        shrink[half] = exp2f(r->largest[half] - base);
        r->largest[half] = now;
        float sum = 0;
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
            s[n][2 * half] = exp2f(fmaf(s[n][2 * half], scale, -base));
            s[n][2 * half + 1] = exp2f(fmaf(s[n][2 * half + 1], scale, -base));
            sum += s[n][2 * half] + s[n][2 * half + 1];
        }
        r->sum[half] = fmaf(r->sum[half], shrink[half], sum);
    }
#pragma unroll
    for (int k = 0; k < KEYS / 16; k++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float *p = s[2 * k + i / 2] + i % 2 * 2;
            shares[k][i] = bf16_pair(p[0], p[1]);
        }
    }
}

// ---- a block's keys ----

template <int C, int type>
static __device__ __forceinline__ void tile_run(uint16_t *shared, const tile_job *j, tile_rows *r,
                                                float out[C / 8][4])
{
    uint16_t *q = shared, *keys = q + ROWS * tile_shape<C>::row, *values = keys + KEYS * tile_shape<C>::row;
    if (j->from < j->end) tile_ask<C, type>(keys, j, 0, j->from);
    queries_load<C>(q, j);
    for (int64_t t = j->from; t < j->end; t += KEYS) {
        float s[KEYS / 8][4], shrink[2];
        uint32_t shares[KEYS / 16][4];
        copy_async_wait<0>();
        __syncthreads(); // keys are there, the last values were used
        tile_ask<C, type>(values, j, 1, t);
        keys_times<C>(s, q, keys);
        if (t + KEYS - 1 > j->least) scores_hide(s, r, t);
        scores_share(shares, shrink, s, r, j->scale);
#pragma unroll
        for (int n = 0; n < C / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) out[n][i] *= shrink[i / 2];
        }
        copy_async_wait<0>();
        __syncthreads(); // values are there, the keys were used
        if (t + KEYS < j->end) tile_ask<C, type>(keys, j, 0, t + KEYS);
        values_add<C>(out, shares, values);
    }
    copy_async_wait<0>();
#pragma unroll
    for (int half = 0; half < 2; half++) {
        r->sum[half] += __shfl_xor_sync(GPU_ALL_LANES, r->sum[half], 1);
        r->sum[half] += __shfl_xor_sync(GPU_ALL_LANES, r->sum[half], 2);
    }
}

static __device__ __forceinline__ void tile_start(tile_rows *r, const tile_job *j)
{
    for (int half = 0; half < 2; half++) {
        const int64_t row = lane_row(j, half);
        r->largest[half] = -INFINITY;
        r->sum[half] = 0;
        r->last[half] = j->end - 1;
        if (row < j->rows && j->past + row / j->heads < j->end) r->last[half] = j->past + row / j->heads;
    }
}

// The lane's columns of a row that begins at `to`, times `share`.
template <int C>
static __device__ __forceinline__ void row_store(float *to, const float out[C / 8][4], int half,
                                                 float share, int64_t width)
{
    const int c = (int)threadIdx.x % 4 * 2;
#pragma unroll
    for (int n = 0; n < C / 8; n++) {
        if (n * 8 + c >= width) continue;
        *(float2 *)(to + n * 8 + c) = make_float2(out[n][2 * half] * share, out[n][2 * half + 1] * share);
    }
}

// ---- causal, over pages ----

// Blocks: x tiles of rows, the last (longest) first; y key heads; z units and chunks of keys.
template <int C, int type> static __global__ void __launch_bounds__(THREADS) tile_kernel(attention_args a)
{
    GPU_DYNAMIC_SHARED(uint16_t, shared);
    const int64_t unit = blockIdx.z / a.chunks, chunk = blockIdx.z % a.chunks, g = blockIdx.y;
    const attention_unit u = a.units[unit];
    const int64_t heads = a.H / a.G, tile = gridDim.x - 1 - blockIdx.x;
    if (tile * ROWS >= u.n * heads) return; // the whole block
    tile_job j = {};
    j.heads = heads;
    j.rows = u.n * heads;
    j.first = tile * ROWS;
    j.q = u.q + g * heads * C;
    j.out = u.out + g * heads * C;
    j.q_stride = j.out_stride = a.H * C;
    j.width = C;
    j.scale = (float)a.scale * 1.44269504f; // log2 e
    j.past = u.past;
    j.least = u.past + j.first / heads;
    j.blocks = u.blocks, j.offset = u.offset, j.page_rows = a.page_rows, j.G = a.G, j.g = g;
    const int64_t last = j.first + ROWS < j.rows ? j.first + ROWS - 1 : j.rows - 1;
    const int64_t each = ((u.past + u.n + a.chunks - 1) / a.chunks + KEYS - 1) / KEYS * KEYS;
    j.end = u.past + last / heads + 1;
    j.from = chunk * each;
    if (j.end > j.from + each) j.end = j.from + each;
    tile_rows r;
    float out[C / 8][4] = {};
    tile_start(&r, &j);
    tile_run<C, type>(shared, &j, &r, out);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int64_t row = lane_row(&j, half);
        if (row >= j.rows) continue;
        if (a.chunks == 1) {
            row_store<C>(j.out + row / heads * j.out_stride + row % heads * C, out, half,
                         1.0f / r.sum[half], C);
        } else {
            const int64_t slot = part_slot(&a, unit, chunk, g, row);
            row_store<C>(a.parts + slot * C, out, half, 1.0f, C);
            if (threadIdx.x % 4 == 0) {
                *(float2 *)(a.sums + 2 * slot) = make_float2(r.largest[half], r.sum[half]);
            }
        }
    }
}

template <int C, int type> static void launch_tile(cudaStream_t stream, const attention_args *a)
{
    const int64_t rows = a->most_n * (a->H / a->G);
    const dim3 grid((unsigned)((rows + ROWS - 1) / ROWS), (unsigned)a->G, (unsigned)(a->U * a->chunks));
    GPU_ALLOW_SHARED((tile_kernel<C, type>), tile_shape<C>::bytes);
    GPU_LAUNCH((tile_kernel<C, type>), grid, dim3(THREADS), tile_shape<C>::bytes, stream, *a);
    if (a->chunks > 1) launch_combine<false>(stream, a);
}

template <int C> static void launch_tile_type(cudaStream_t stream, const attention_args *a)
{
    if (a->type == TENSOR_I8) launch_tile<C, TENSOR_I8>(stream, a);
    else if (a->type == TENSOR_BF16) launch_tile<C, TENSOR_BF16>(stream, a);
    else launch_tile<C, TENSOR_F32>(stream, a);
}

void launch_attention_tile(cudaStream_t stream, const void *args)
{
    const attention_args *a = (const attention_args *)args;
    if (a->C == 256) launch_tile_type<256>(stream, a);
    else if (a->C == 128) launch_tile_type<128>(stream, a);
    else launch_tile_type<64>(stream, a);
}

// ---- inside spans ----

// Keys and values of the pairs of spans and heads, four components a thread.
static __global__ void __launch_bounds__(PACK_THREADS) pack_kernel(spans_args a, int64_t padded)
{
    const int64_t each = a.span * (padded / 4), i = (int64_t)blockIdx.x * PACK_THREADS + threadIdx.x;
    if (i >= each) return; // no barrier follows
    const int64_t row = i / (padded / 4), c = i % (padded / 4) * 4;
    const int64_t pair = a.first + blockIdx.y, part = blockIdx.z;
    float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (c < a.C) {
        const int64_t token = pair / a.H * a.span + row, head = pair % a.H;
        x = *(const float4 *)(a.qkv + ((token * 3 + 1 + part) * a.H + head) * a.C + c);
    }
    uint16_t *to = a.packed + ((part * a.pairs + blockIdx.y) * a.span + row) * padded + c;
    *(uint2 *)to = make_uint2(bf16_pair(x.x, x.y), bf16_pair(x.z, x.w));
}

// Blocks: x tiles of rows; y pairs of spans and heads.
template <int C> static __global__ void __launch_bounds__(THREADS) spans_kernel(spans_args a)
{
    GPU_DYNAMIC_SHARED(uint16_t, shared);
    const int64_t pair = a.first + blockIdx.y, head = pair % a.H, start = pair / a.H * a.span;
    tile_job j = {};
    j.heads = 1;
    j.rows = a.span;
    j.first = (int64_t)blockIdx.x * ROWS;
    j.q = a.qkv + (start * 3 * a.H + head) * a.C;
    j.out = a.out + (start * a.H + head) * a.C;
    j.q_stride = 3 * a.H * a.C;
    j.out_stride = a.H * a.C;
    j.width = a.C;
    j.scale = (float)a.scale * 1.44269504f; // log2 e
    j.past = j.least = a.span - 1; // all rows see all keys
    j.end = a.span;
    j.packed = a.packed + (int64_t)blockIdx.y * a.span * C;
    j.plane = a.pairs * a.span * C;
    tile_rows r;
    float out[C / 8][4] = {};
    tile_start(&r, &j);
    tile_run<C, SPANS>(shared, &j, &r, out);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int64_t row = lane_row(&j, half);
        if (row >= j.rows) continue;
        row_store<C>(j.out + row * j.out_stride, out, half, 1.0f / r.sum[half], a.C);
    }
}

template <int C> static void launch_spans(cudaStream_t stream, const spans_args *a)
{
    const int64_t pieces = (a->span * (C / 4) + PACK_THREADS - 1) / PACK_THREADS;
    GPU_LAUNCH(pack_kernel, dim3((unsigned)pieces, (unsigned)a->pairs, 2), dim3(PACK_THREADS), 0, stream,
               *a, C);
    GPU_ALLOW_SHARED((spans_kernel<C>), tile_shape<C>::bytes);
    GPU_LAUNCH((spans_kernel<C>), dim3((unsigned)((a->span + ROWS - 1) / ROWS), (unsigned)a->pairs),
               dim3(THREADS), tile_shape<C>::bytes, stream, *a);
}

void launch_spans_tile(cudaStream_t stream, const void *args)
{
    const spans_args *a = (const spans_args *)args;
    switch (spans_padded(a->C)) {
    case 64: launch_spans<64>(stream, a); break;
    case 80: launch_spans<80>(stream, a); break;
    case 96: launch_spans<96>(stream, a); break;
    case 112: launch_spans<112>(stream, a); break;
    default: launch_spans<128>(stream, a); break;
    }
}
