// kernels/cuda/attention_tile.cu - attention of many rows on tensor cores: prefill over pages, and
// spans (vision).
//
// Flash attention (Dao, 2022 and 2023): a block has 64 or 128 rows, a warp 16 or 32 of them, and
// runs over tiles of 64 keys; scores, weights and sums stay in registers. Rows are a key head's: of
// 32 tokens with four query heads each, say, so that keys are shared. Queries, keys, values and
// weights are bf16, sums float32. Values are copied while scores are computed, the next keys while
// values are added up.
//
// tile     operations: 4 C a visible (row, head, key): 2 n^2 H C without a past. Bytes: 4 C (bf16)
//          a key, for every block, of which device memory sees each but once. Bound by the tensor
//          cores and shared memory. At C 256 and 128 rows, of 64 keys: 64 KiB through the
//          second-level cache, 2,048 products (mma.sync) of 4,096 operations that take some 3,200
//          clocks, 20 bytes a clock, half of what that cache gives; blocks of 64 rows want twice
//          that, and are for chips with less shared memory and for few rows. Keys and values meet
//          every warp: 576 KiB of shared memory, 4,600 clocks; up to C 128, where a warp has 32
//          rows, 640 clocks for products of 800
// spans    the same, keys and values of a head as bf16 [span][C], C a multiple of 16
// pack     writes those, once rather than for every 128 rows: 12 bytes a component
// Too few blocks (a short prompt after a long past): keys are cut into a.chunks parts, added up by
// a second kernel.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_combine.h"
#include "kernels/cuda/attention_mma.h"

#define CUT_KEYS 64 // keys are cut at multiples, and a page holds a multiple
#define SPANS   (-1)
#define PACK_THREADS 256

// Heads of width C; a block's warps; a warp's tiles of 16 rows.
template <int width, int n_warps, int n_tiles> struct tile_shape {
    static constexpr int C = width, tiles = n_tiles;
    static constexpr int threads = n_warps * GPU_WARP, rows = n_warps * n_tiles * 16;
    static constexpr int keys = C > 96 && tiles > 1 ? 32 : 64; // of a tile: registers are few
    static constexpr int row = C + 8; // of shared memory: eight of them meet different banks
    static constexpr size_t bytes = (rows + 2 * keys) * row * sizeof(uint16_t);
};

// What a block works on: some rows, from first on, of `rows`, of which `heads` neighbours are one
// token's, and keys from .. end - 1. type SPANS: [2, plane apart][keys][C] from packed on.
typedef struct tile_job {
    const float *q; // of row 0
    float *out;
    int32_t first, rows, heads;
    int32_t from, end;            // keys
    // row r sees keys up to past + r / heads, all rows see those up to least
    int32_t past, least;
    int32_t width;                // components that there are, of C
    float scale;
    int64_t q_stride, out_stride; // of tokens, floats
    const uint16_t *packed;
    int64_t plane;
    void *const *blocks;
    int64_t offset;
    int32_t page_rows, G, g;
} tile_job;

// ---- keys and values into shared memory ----

// Rows of bf16 that lie one after another; those from n on become zeros.
template <typename shape>
static __device__ void rows_copy(uint16_t *to, const uint16_t *from, int n)
{
    constexpr int C = shape::C;
#pragma unroll 8
    for (int i = (int)threadIdx.x; i < shape::keys * (C / 8); i += shape::threads) {
        const int row = i / (C / 8), piece = i % (C / 8);
        copy_async16(to + row * shape::row + piece * 8, from + i * 8, row < n);
    }
}

template <typename shape>
static __device__ void rows_from_floats(uint16_t *to, const float *from, int n)
{
    constexpr int C = shape::C;
#pragma unroll 4
    for (int i = (int)threadIdx.x; i < shape::keys * (C / 8); i += shape::threads) {
        const int row = i / (C / 8), piece = i % (C / 8);
        uint4 x = make_uint4(0, 0, 0, 0);
        if (row < n) {
            const float4 a = *(const float4 *)(from + i * 8);
            const float4 b = *(const float4 *)(from + i * 8 + 4);
            x = make_uint4(bf16_pair(a.x, a.y), bf16_pair(a.z, a.w), bf16_pair(b.x, b.y),
                           bf16_pair(b.z, b.w));
        }
        *(uint4 *)(to + row * shape::row + piece * 8) = x;
    }
}

static __device__ __forceinline__ uint2 scaled_bytes(uint32_t four, float scale)
{
    const uint32_t moved = four ^ 0x80808080u;
    return make_uint2(bf16_pair(byte_float(moved, 0) * scale, byte_float(moved, 1) * scale),
                      bf16_pair(byte_float(moved, 2) * scale, byte_float(moved, 3) * scale));
}

template <typename shape>
static __device__ void rows_from_bytes(uint16_t *to, const char *from, const float *scales, int n)
{
    constexpr int C = shape::C;
    const int groups = (C + ATTENTION_KV_GROUP - 1) / ATTENTION_KV_GROUP;
#pragma unroll 4
    for (int i = (int)threadIdx.x; i < shape::keys * (C / 16); i += shape::threads) {
        const int row = i / (C / 16), piece = i % (C / 16);
        uint16_t *at = to + row * shape::row + piece * 16;
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
template <typename shape, int type>
static __device__ void tile_ask(uint16_t *to, const tile_job *j, int part, int t)
{
    constexpr int C = shape::C;
    const int n = j->end - t;
    if (type == SPANS) {
        rows_copy<shape>(to, j->packed + part * j->plane + (int64_t)t * C, n);
    } else {
        const char *page = (const char *)j->blocks[t / j->page_rows] + j->offset;
        const int64_t row = (int64_t)(part * j->G + j->g) * j->page_rows + t % j->page_rows;
        if (type == TENSOR_BF16) {
            rows_copy<shape>(to, (const uint16_t *)page + row * C, n);
        } else if (type == TENSOR_F32) {
            rows_from_floats<shape>(to, (const float *)page + row * C, n);
        } else {
            const int64_t groups = (C + ATTENTION_KV_GROUP - 1) / ATTENTION_KV_GROUP;
            const char *scales = page + ((int64_t)2 * j->G * j->page_rows * C + 63) / 64 * 64;
            rows_from_bytes<shape>(to, page + row * C, (const float *)scales + row * groups, n);
        }
    }
    copy_async_commit();
}

// ---- rows ----

template <typename shape> static __device__ void queries_load(uint16_t *to, const tile_job *j)
{
    constexpr int C = shape::C;
#pragma unroll 4
    for (int i = (int)threadIdx.x; i < shape::rows * (C / 4); i += shape::threads) {
        const int r = i / (C / 4), c = i % (C / 4) * 4;
        const int row = j->first + r;
        float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (row < j->rows && c < j->width) {
            const float *q = j->q + row / j->heads * j->q_stride + row % j->heads * j->width;
            x = *(const float4 *)(q + c);
        }
        *(uint2 *)(to + r * shape::row + c) = make_uint2(bf16_pair(x.x, x.y), bf16_pair(x.z, x.w));
    }
}

// A lane's two rows of a tile of 16: lane / 4 and that + 8.
typedef struct tile_rows {
    float largest[2], sum[2]; // of all keys; of the lane's
    int32_t last[2];          // key that the row sees
} tile_rows;

template <typename shape>
static __device__ __forceinline__ int32_t lane_row(const tile_job *j, int tile, int half)
{
    const int warp = (int)threadIdx.x / GPU_WARP, lane = (int)threadIdx.x % GPU_WARP;
    return j->first + (warp * shape::tiles + tile) * 16 + lane / 4 + half * 8;
}

// ---- products ----

// s = the warp's rows times the tile's keys.
template <typename shape>
static __device__ __forceinline__ void keys_times(float s[shape::tiles][shape::keys / 8][4],
                                                  const uint16_t *q, const uint16_t *keys)
{
    const int lane = (int)threadIdx.x % GPU_WARP, warp = (int)threadIdx.x / GPU_WARP;
    q += (warp * shape::tiles * 16 + lane % 16) * shape::row + lane / 16 * 8;
    keys += (lane % 8 + lane / 16 * 8) * shape::row + lane / 8 % 2 * 8;
#pragma unroll
    for (int tile = 0; tile < shape::tiles; tile++) {
#pragma unroll
        for (int n = 0; n < shape::keys / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) s[tile][n][i] = 0;
        }
    }
#pragma unroll
    for (int c = 0; c < shape::C; c += 16) {
        uint32_t a[shape::tiles][4];
#pragma unroll
        for (int tile = 0; tile < shape::tiles; tile++) {
            mma_load(a[tile], q + tile * 16 * shape::row + c);
        }
#pragma unroll
        for (int n = 0; n < shape::keys / 8; n += 2) {
            uint32_t b[4];
            mma_load(b, keys + n * 8 * shape::row + c);
#pragma unroll
            for (int tile = 0; tile < shape::tiles; tile++) {
                mma_bf16(s[tile][n], a[tile], b);
                mma_bf16(s[tile][n + 1], a[tile], b + 2);
            }
        }
    }
}

// out += shares (A fragments of 16 keys each) times the tile's values.
template <typename shape>
static __device__ __forceinline__ void
values_add(float out[shape::tiles][shape::C / 8][4],
           const uint32_t shares[shape::tiles][shape::keys / 16][4], const uint16_t *values)
{
    const int lane = (int)threadIdx.x % GPU_WARP;
    values += lane % 16 * shape::row + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < shape::keys / 16; k++) {
#pragma unroll
        for (int n = 0; n < shape::C / 8; n += 2) {
            uint32_t b[4];
            mma_load_trans(b, values + k * 16 * shape::row + n * 8);
#pragma unroll
            for (int tile = 0; tile < shape::tiles; tile++) {
                mma_bf16(out[tile][n], shares[tile][k], b);
                mma_bf16(out[tile][n + 1], shares[tile][k], b + 2);
            }
        }
    }
}

// ---- softmax ----

template <int keys>
static __device__ __forceinline__ void scores_hide(float s[keys / 8][4], const tile_rows *r, int t)
{
#pragma unroll
    for (int n = 0; n < keys / 8; n++) {
        const int key = t + n * 8 + (int)threadIdx.x % 4 * 2;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (key + i % 2 > r->last[i / 2]) s[n][i] = -INFINITY;
        }
    }
}

// Scores become shares, as A fragments; shrink is what earlier sums are to be multiplied with.
template <int keys>
static __device__ __forceinline__ void scores_share(uint32_t shares[keys / 16][4], float shrink[2],
                                                    float s[keys / 8][4], tile_rows *r, float scale)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float most = s[0][2 * half];
#pragma unroll
        for (int n = 0; n < keys / 8; n++) {
            most = fmaxf(most, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
        }
        most = fmaxf(most, __shfl_xor_sync(GPU_ALL_LANES, most, 1));
        most = fmaxf(most, __shfl_xor_sync(GPU_ALL_LANES, most, 2));
        const float now = fmaxf(r->largest[half], most * scale);
        const float base = now == -INFINITY ? 0.0f : now;
        shrink[half] = fast_exp2(r->largest[half] - base);
        r->largest[half] = now;
        float sum = 0;
#pragma unroll
        for (int n = 0; n < keys / 8; n++) {
            s[n][2 * half] = fast_exp2(fmaf(s[n][2 * half], scale, -base));
            s[n][2 * half + 1] = fast_exp2(fmaf(s[n][2 * half + 1], scale, -base));
            sum += s[n][2 * half] + s[n][2 * half + 1];
        }
        r->sum[half] = fmaf(r->sum[half], shrink[half], sum);
    }
#pragma unroll
    for (int k = 0; k < keys / 16; k++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float *p = s[2 * k + i / 2] + i % 2 * 2;
            shares[k][i] = bf16_pair(p[0], p[1]);
        }
    }
}

// ---- a block's keys ----

template <typename shape>
static __device__ __forceinline__ void tile_start(tile_rows r[shape::tiles], const tile_job *j)
{
#pragma unroll
    for (int i = 0; i < 2 * shape::tiles; i++) {
        const int32_t row = lane_row<shape>(j, i / 2, i % 2);
        r[i / 2].largest[i % 2] = -INFINITY;
        r[i / 2].sum[i % 2] = 0;
        r[i / 2].last[i % 2] = j->end - 1;
        if (row < j->rows && j->past + row / j->heads < j->end) {
            r[i / 2].last[i % 2] = j->past + row / j->heads;
        }
    }
}

// out of zeros takes in all keys; r as by tile_start.
template <typename shape, int type>
static __device__ __forceinline__ void tile_run(uint16_t *shared, const tile_job *j,
                                                tile_rows r[shape::tiles],
                                                float out[shape::tiles][shape::C / 8][4])
{
    uint16_t *q = shared, *keys = q + shape::rows * shape::row;
    uint16_t *values = keys + shape::keys * shape::row;
    if (j->from < j->end) tile_ask<shape, type>(keys, j, 0, j->from);
    queries_load<shape>(q, j);
    for (int t = j->from; t < j->end; t += shape::keys) {
        float s[shape::tiles][shape::keys / 8][4];
        uint32_t shares[shape::tiles][shape::keys / 16][4];
        copy_async_wait<0>();
        __syncthreads(); // keys are there, the last values were used
        tile_ask<shape, type>(values, j, 1, t);
        keys_times<shape>(s, q, keys);
#pragma unroll
        for (int tile = 0; tile < shape::tiles; tile++) {
            float shrink[2];
            if (t + shape::keys - 1 > j->least) scores_hide<shape::keys>(s[tile], &r[tile], t);
            scores_share<shape::keys>(shares[tile], shrink, s[tile], &r[tile], j->scale);
#pragma unroll
            for (int n = 0; n < shape::C / 8; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) out[tile][n][i] *= shrink[i / 2];
            }
        }
        copy_async_wait<0>();
        __syncthreads(); // values are there, the keys were used
        if (t + shape::keys < j->end) tile_ask<shape, type>(keys, j, 0, t + shape::keys);
        values_add<shape>(out, shares, values);
    }
    copy_async_wait<0>();
#pragma unroll
    for (int i = 0; i < 2 * shape::tiles; i++) {
        float *sum = &r[i / 2].sum[i % 2];
        *sum += __shfl_xor_sync(GPU_ALL_LANES, *sum, 1);
        *sum += __shfl_xor_sync(GPU_ALL_LANES, *sum, 2);
    }
}

// The lane's columns of a row that begins at `to`, times `share`.
template <int columns>
static __device__ __forceinline__ void row_store(float *to, const float out[columns / 8][4],
                                                 int half, float share, int64_t width)
{
    const int c = (int)threadIdx.x % 4 * 2;
#pragma unroll
    for (int n = 0; n < columns / 8; n++) {
        if (n * 8 + c >= width) continue;
        *(float2 *)(to + n * 8 + c) =
            make_float2(out[n][2 * half] * share, out[n][2 * half + 1] * share);
    }
}

// ---- causal, over pages ----

template <typename shape>
static __device__ __forceinline__ tile_job pages_job(const attention_args *a,
                                                     const attention_unit *u, int tile, int g,
                                                     int chunk)
{
    tile_job j = {};
    j.heads = (int32_t)(a->H / a->G);
    j.rows = (int32_t)u->n * j.heads;
    j.first = tile * shape::rows;
    j.q = u->q + g * j.heads * shape::C;
    j.out = u->out + g * j.heads * shape::C;
    j.q_stride = j.out_stride = a->H * shape::C;
    j.width = shape::C;
    j.scale = (float)a->scale * 1.44269504f; // log2 e
    j.past = (int32_t)u->past;
    j.least = j.past + j.first / j.heads;
    j.blocks = u->blocks, j.offset = u->offset;
    j.page_rows = (int32_t)a->page_rows, j.G = (int32_t)a->G, j.g = g;
    const int last = j.first + shape::rows < j.rows ? j.first + shape::rows - 1 : j.rows - 1;
    const int seen = (int)(u->past + u->n), chunks = (int)a->chunks;
    const int each = ((seen + chunks - 1) / chunks + CUT_KEYS - 1) / CUT_KEYS * CUT_KEYS;
    j.end = j.past + last / j.heads + 1;
    j.from = chunk * each;
    if (j.end > j.from + each) j.end = j.from + each;
    return j;
}

// Blocks: x tiles of rows, the last (longest) first; y key heads; z units and chunks of keys.
template <typename shape, int type>
static __global__ void __launch_bounds__(shape::threads) tile_kernel(attention_args a)
{
    GPU_DYNAMIC_SHARED(uint16_t, shared);
    constexpr int C = shape::C;
    const int unit = (int)blockIdx.z / (int)a.chunks, chunk = (int)blockIdx.z % (int)a.chunks;
    const attention_unit u = a.units[unit];
    const tile_job j = pages_job<shape>(&a, &u, (int)(gridDim.x - 1 - blockIdx.x), (int)blockIdx.y,
                                        chunk);
    if (j.first >= j.rows) return; // the whole block
    tile_rows r[shape::tiles];
    float out[shape::tiles][C / 8][4] = {};
    tile_start<shape>(r, &j);
    tile_run<shape, type>(shared, &j, r, out);
#pragma unroll
    for (int i = 0; i < 2 * shape::tiles; i++) {
        const int tile = i / 2, half = i % 2;
        const int32_t row = lane_row<shape>(&j, tile, half);
        if (row >= j.rows) continue;
        if (a.chunks == 1) {
            row_store<C>(j.out + row / j.heads * j.out_stride + row % j.heads * C, out[tile], half,
                         1.0f / r[tile].sum[half], C);
        } else {
            const int64_t slot = part_slot(&a, unit, chunk, j.g, row);
            row_store<C>(a.parts + slot * C, out[tile], half, 1.0f, C);
            if (threadIdx.x % 4 == 0) {
                *(float2 *)(a.sums + 2 * slot) = make_float2(r[tile].largest[half],
                                                             r[tile].sum[half]);
            }
        }
    }
}

template <typename shape, int type>
static void launch_tile(cudaStream_t stream, const attention_args *a)
{
    const int64_t rows = a->most_n * (a->H / a->G);
    const dim3 grid((unsigned)((rows + shape::rows - 1) / shape::rows), (unsigned)a->G,
                    (unsigned)(a->U * a->chunks));
    GPU_ALLOW_SHARED((tile_kernel<shape, type>), shape::bytes);
    GPU_LAUNCH((tile_kernel<shape, type>), grid, dim3(shape::threads), shape::bytes, stream, *a);
    if (a->chunks > 1) launch_combine<false>(stream, a);
}

template <typename shape> static void launch_tile_type(cudaStream_t stream, const attention_args *a)
{
    if (a->type == TENSOR_I8) launch_tile<shape, TENSOR_I8>(stream, a);
    else if (a->type == TENSOR_BF16) launch_tile<shape, TENSOR_BF16>(stream, a);
    else launch_tile<shape, TENSOR_F32>(stream, a);
}

void launch_attention_tile(cudaStream_t stream, const void *args)
{
    const attention_args *a = (const attention_args *)args;
    if (a->C == 64) launch_tile_type<tile_shape<64, 4, 2>>(stream, a);
    else if (a->C == 128) launch_tile_type<tile_shape<128, 4, 2>>(stream, a);
    else if (a->tile_rows == 128) launch_tile_type<tile_shape<256, 8, 1>>(stream, a);
    else launch_tile_type<tile_shape<256, 4, 1>>(stream, a);
}

// ---- inside spans ----

// Keys and values of the pairs of spans and heads, four components a thread.
static __global__ void __launch_bounds__(PACK_THREADS) pack_kernel(spans_args a, int64_t padded)
{
    const int64_t each = a.span * (padded / 4);
    const int64_t i = (int64_t)blockIdx.x * PACK_THREADS + threadIdx.x;
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
template <typename shape>
static __global__ void __launch_bounds__(shape::threads) spans_kernel(spans_args a)
{
    GPU_DYNAMIC_SHARED(uint16_t, shared);
    constexpr int C = shape::C;
    const int64_t pair = a.first + blockIdx.y, head = pair % a.H, start = pair / a.H * a.span;
    tile_job j = {};
    j.heads = 1;
    j.rows = (int32_t)a.span;
    j.first = (int32_t)blockIdx.x * shape::rows;
    j.q = a.qkv + (start * 3 * a.H + head) * a.C;
    j.out = a.out + (start * a.H + head) * a.C;
    j.q_stride = 3 * a.H * a.C;
    j.out_stride = a.H * a.C;
    j.width = (int32_t)a.C;
    j.scale = (float)a.scale * 1.44269504f; // log2 e
    j.past = j.least = (int32_t)a.span - 1; // all rows see all keys
    j.end = (int32_t)a.span;
    j.packed = a.packed + (int64_t)blockIdx.y * a.span * C;
    j.plane = a.pairs * a.span * C;
    tile_rows r[shape::tiles];
    float out[shape::tiles][C / 8][4] = {};
    tile_start<shape>(r, &j);
    tile_run<shape, SPANS>(shared, &j, r, out);
#pragma unroll
    for (int i = 0; i < 2 * shape::tiles; i++) {
        const int32_t row = lane_row<shape>(&j, i / 2, i % 2);
        if (row >= j.rows) continue;
        row_store<C>(j.out + row * j.out_stride, out[i / 2], i % 2, 1.0f / r[i / 2].sum[i % 2],
                     a.C);
    }
}

template <int C> static void launch_spans(cudaStream_t stream, const spans_args *a)
{
    typedef tile_shape<C, 4, 2> shape;
    const int64_t pieces = (a->span * (C / 4) + PACK_THREADS - 1) / PACK_THREADS;
    const int64_t blocks = (a->span + shape::rows - 1) / shape::rows;
    GPU_LAUNCH(pack_kernel, dim3((unsigned)pieces, (unsigned)a->pairs, 2), dim3(PACK_THREADS), 0,
               stream, *a, C);
    GPU_ALLOW_SHARED((spans_kernel<shape>), shape::bytes);
    GPU_LAUNCH((spans_kernel<shape>), dim3((unsigned)blocks, (unsigned)a->pairs),
               dim3(shape::threads), shape::bytes, stream, *a);
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
