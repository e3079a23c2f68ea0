// kernels/cuda/attention_few.cu - attention of few rows (decoding, drafts being checked) over pages
// of bf16 or bytes: the cache streams by once.
//
// A block has one chunk of the keys (attention.h) of one key head, and all rows and query heads of
// that head: up to 16 or 32 at a time. Its four warps have a quarter of the components each, of
// keys and of values: they ask for their own part by asynchronous copies, three slots of 32 keys
// ahead, and meet only at the scores, whose quarters are added in a fixed order. Products run on
// tensor cores, which costs nothing here: queries and weights are cut in two bf16 numbers (16
// bits), and bytes are whole numbers, so what is rounded is 2^-17 of a factor. A second kernel adds
// the chunks' sums, in an order that the row alone decides.
//
// few      bytes: 2 C a key and key head, times what a component has (all there is), and for each
//          chunk, row and head 4 C written. Operations: 4 C a (row, head, key); with padding to 16
//          rows and two halves of queries and weights 128 C a key and head, 32 a byte of bf16: of
//          the tensor cores' 150 and more. Bound by memory. In flight a block: 3 slots of 64 C
//          bytes (bf16) are 48 KiB at C 256; two blocks a processor are enough
// combine  bytes: 4 C a chunk, row and head read (3 to 12 % of the above, mostly from the
//          second-level cache)
#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_combine.h"
#include "kernels/cuda/attention_mma.h"

#define THREADS    128
#define WARPS      4
#define KEYS       ATTENTION_CHUNK_KEYS // of a slot; a page holds a multiple
#define SLOTS      3
#define SCORE_ROW  40                   // floats: rows of eight lanes meet different banks
#define ROW_LANES  8                    // threads that have a row's scores

// What a warp has of C components, and the block's shared memory, in bytes.
template <int C, bool bytes> struct few_shape {
    static constexpr int columns = C / WARPS;
    static constexpr int size = bytes ? 1 : 2;          // of a component
    // of a key in a slot: rows meet different banks
    static constexpr int row = columns * size + 16;
    static constexpr int groups = (C + ATTENTION_KV_GROUP - 1) / ATTENTION_KV_GROUP;
    static constexpr int scales = bytes ? KEYS * groups * 4 : 0;
    static constexpr int slot = KEYS * row + scales;    // of one warp
    static constexpr int slots = WARPS * SLOTS * slot;
};

template <int C, bool bytes, int tiles> static constexpr size_t few_bytes(void)
{
    // scores of each warp, then shares, then each row's shrinking
    return few_shape<C, bytes>::slots +
           sizeof(float) * (tiles * 16 * SCORE_ROW * (WARPS + 1) + tiles * 16);
}

// The part of a sequence that a block works on.
typedef struct few_part {
    int32_t first, end; // keys
    int32_t g;          // key head
    int32_t row;        // of the unit's n H / G in this head, to begin with
    int32_t rows;       // in all
    int32_t heads;      // H / G
} few_part;

// ---- keys and values into slots ----

// Asks for the warp's columns of keys (part 0) or values (1) first .. first + 31, those from p->end
// on zeros.
template <int C, bool bytes>
static __device__ void slot_ask(char *slot, const attention_args *a, const attention_unit *u,
                                const few_part *p, int part, int first, uint32_t warp,
                                uint32_t lane)
{
    typedef few_shape<C, bytes> shape;
    if (first >= p->end) return; // the whole warp
    const char *page = (const char *)u->blocks[first / (int)a->page_rows] + u->offset;
    const int64_t row = (part * a->G + p->g) * a->page_rows + first % (int)a->page_rows;
    const char *from = page + (row * C + warp * shape::columns) * shape::size;
    const int pieces = shape::columns * shape::size / 16; // of 16 bytes, of a key
#pragma unroll
    for (int i = 0; i < KEYS * pieces / GPU_WARP; i++) {
        const int at = i * GPU_WARP + (int)lane, key = at / pieces, piece = at % pieces;
        copy_async16(slot + key * shape::row + piece * 16,
                     from + (int64_t)key * C * shape::size + piece * 16, first + key < p->end);
    }
    if constexpr (bytes) {
        const char *scales =
            page + (2 * a->G * a->page_rows * C + 63) / 64 * 64 + row * shape::groups * 4;
        if (lane < shape::scales / 16) {
            copy_async16(slot + KEYS * shape::row + lane * 16, scales + lane * 16, true);
        }
    }
}

template <int C, bool bytes>
static __device__ __forceinline__ float slot_scale(const char *slot, int key, uint32_t warp)
{
    typedef few_shape<C, bytes> shape;
    const int group = (int)warp * shape::columns / ATTENTION_KV_GROUP;
    return ((const float *)(slot + KEYS * shape::row))[key * shape::groups + group];
}

// ---- queries ----

// The warp's columns of 16 rows from p->row + 16 tile on as A fragments, cut in two. Bytes come to
// the products in another order: lane t's four neighbours are columns 2t, 2t + 1, 2t + 8, 2t + 9 of
// the tile.
template <int C, bool bytes>
static __device__ void queries_load(uint32_t high[C / 64][4], uint32_t low[C / 64][4],
                                    const attention_args *a, const attention_unit *u,
                                    const few_part *p, int tile, uint32_t warp, uint32_t lane)
{
    const int group = (int)lane / 4, t = (int)lane % 4;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = p->row + tile * 16 + group + half * 8;
        const bool there = row < p->rows;
        const int64_t i = there ? row / p->heads : 0;
        const int64_t h = p->g * p->heads + (there ? row % p->heads : 0);
        const float *q = u->q + (i * a->H + h) * C + warp * (C / WARPS);
#pragma unroll
        for (int s = 0; s < C / 64; s++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const int c = s * 16 + (bytes ? 4 * t + 2 * j : 2 * t + 8 * j);
                const float x = there ? q[c] : 0.0f, y = there ? q[c + 1] : 0.0f;
                bf16_cut(&high[s][2 * j + half], &low[s][2 * j + half], x, y);
            }
        }
    }
}

// ---- products ----

// Scores of the warp's columns: rows of all tiles times 32 keys, into scores [16 tiles][SCORE_ROW].
template <int C, bool bytes, int tiles>
static __device__ void keys_times(float *scores, const char *slot,
                                  const uint32_t high[tiles][C / 64][4],
                                  const uint32_t low[tiles][C / 64][4], uint32_t warp,
                                  uint32_t lane)
{
    typedef few_shape<C, bytes> shape;
    const int group = (int)lane / 4, t = (int)lane % 4;
    float sum[tiles][KEYS / 8][4] = {};
#pragma unroll
    for (int s = 0; s < C / 64; s++) {
        uint32_t b[KEYS / 8][2];
#pragma unroll
        for (int n = 0; n < KEYS / 8; n += 2) {
            if (bytes) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const char *key = slot + ((n + i) * 8 + group) * shape::row;
                    const uint32_t four = *(const uint32_t *)(key + s * 16 + 4 * t);
                    b[n + i][0] = bytes_bf16(four, 0, 1);
                    b[n + i][1] = bytes_bf16(four, 2, 3);
                }
            } else {
                const int key = n * 8 + (int)lane % 8 + (int)lane / 16 * 8;
                const int at = (int)lane / 8 % 2 * 16;
                uint32_t r[4];
                mma_load(r, slot + key * shape::row + s * 32 + at);
                b[n][0] = r[0], b[n][1] = r[1], b[n + 1][0] = r[2], b[n + 1][1] = r[3];
            }
        }
#pragma unroll
        for (int tile = 0; tile < tiles; tile++) {
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
                mma_bf16(sum[tile][n], high[tile][s], b[n]);
                mma_bf16(sum[tile][n], low[tile][s], b[n]);
            }
        }
    }
#pragma unroll
    for (int tile = 0; tile < tiles; tile++) {
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
            const int key = n * 8 + 2 * t;
            float *d = sum[tile][n], *to = scores + (tile * 16 + group) * SCORE_ROW + key;
            if (bytes) {
                const float x = slot_scale<C, bytes>(slot, key, warp);
                const float y = slot_scale<C, bytes>(slot, key + 1, warp);
                d[0] *= x, d[1] *= y, d[2] *= x, d[3] *= y;
            }
            *(float2 *)to = make_float2(d[0], d[1]);
            *(float2 *)(to + 8 * SCORE_ROW) = make_float2(d[2], d[3]);
        }
    }
}

// The A fragment of the shares of 16 rows and 16 keys, each times its value's scale, cut in two.
template <int C, bool bytes>
static __device__ __forceinline__ void shares_load(uint32_t high[4], uint32_t low[4],
                                                   const float *shares, const char *slot,
                                                   int key, uint32_t warp, uint32_t lane)
{
    const int group = (int)lane / 4, t = (int)lane % 4;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const int k = key + 2 * t + j / 2 * 8;
        float2 p = *(const float2 *)(shares + (group + j % 2 * 8) * SCORE_ROW + k);
        if (bytes) { // no scale where nothing was written
            p.x = p.x != 0.0f ? p.x * slot_scale<C, bytes>(slot, k, warp) : 0.0f;
            p.y = p.y != 0.0f ? p.y * slot_scale<C, bytes>(slot, k + 1, warp) : 0.0f;
        }
        bf16_cut(&high[j], &low[j], p.x, p.y);
    }
}

// B fragments of 16 keys from `key` and the warp's columns n * 8 .. n * 8 + 15. Of bytes, columns
// of the first 8 are the even ones, of the second the odd ones.
template <int C, bool bytes>
static __device__ __forceinline__ void values_load(uint32_t b[2][2], const char *slot, int key,
                                                   int n, uint32_t lane)
{
    typedef few_shape<C, bytes> shape;
    uint32_t r[4];
    const int row = key + (int)lane % 8 + (int)lane / 8 % 2 * 8;
    // tiles of 16-bit numbers: pairs of columns; the upper two tiles are the lower again
    if (bytes) {
        mma_load_trans(r, slot + row * shape::row + n * 8);
        b[0][0] = bytes_bf16(r[0], 0, 2), b[0][1] = bytes_bf16(r[1], 0, 2);
        b[1][0] = bytes_bf16(r[0], 1, 3), b[1][1] = bytes_bf16(r[1], 1, 3);
    } else {
        mma_load_trans(r, slot + row * shape::row + n * 16 + (int)lane / 16 * 16);
        b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
    }
}

// out of the warp's columns shrinks and takes in the slot's values.
template <int C, bool bytes, int tiles>
static __device__ void values_add(float out[tiles][C / 32][4], const float *shares,
                                  const float *shrink, const char *slot, uint32_t warp,
                                  uint32_t lane)
{
    const int group = (int)lane / 4;
#pragma unroll
    for (int tile = 0; tile < tiles; tile++) {
        const float x = shrink[tile * 16 + group], y = shrink[tile * 16 + group + 8];
#pragma unroll
        for (int n = 0; n < C / 32; n++) {
            float *o = out[tile][n];
            o[0] *= x, o[1] *= x, o[2] *= y, o[3] *= y;
        }
    }
#pragma unroll
    for (int key = 0; key < KEYS; key += 16) {
        uint32_t high[tiles][4], low[tiles][4];
#pragma unroll
        for (int tile = 0; tile < tiles; tile++) {
            shares_load<C, bytes>(high[tile], low[tile], shares + tile * 16 * SCORE_ROW, slot, key,
                                  warp, lane);
        }
#pragma unroll
        for (int n = 0; n < C / 32; n += 2) {
            uint32_t b[2][2];
            values_load<C, bytes>(b, slot, key, n, lane);
#pragma unroll
            for (int tile = 0; tile < tiles; tile++) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    mma_bf16(out[tile][n + i], high[tile], b[i]);
                    mma_bf16(out[tile][n + i], low[tile], b[i]);
                }
            }
        }
    }
}

// ---- softmax ----

// What the thread knows of its row of a tile.
typedef struct few_row {
    float largest, sum; // of all its keys; of the thread's four in each slot
    int32_t last;       // key that the row sees
} few_row;

// Scores of the four warps [WARPS][16 tiles][SCORE_ROW] of keys first .. first + 31 become shares.
template <int tiles>
static __device__ void scores_share(few_row row[tiles], float *shares, float *shrink,
                                    const float *scores, float scale, int first)
{
    const int i = (int)threadIdx.x / ROW_LANES, key = (int)threadIdx.x % ROW_LANES * 4;
#pragma unroll
    for (int tile = 0; tile < tiles; tile++) {
        const int at = (tile * 16 + i) * SCORE_ROW + key;
        float s[4] = {}, most = -INFINITY;
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            const float4 x = *(const float4 *)(scores + w * tiles * 16 * SCORE_ROW + at);
            s[0] += x.x, s[1] += x.y, s[2] += x.z, s[3] += x.w;
        }
#pragma unroll
        for (int j = 0; j < 4; j++) {
            s[j] = first + key + j <= row[tile].last ? s[j] * scale : -INFINITY;
            most = fmaxf(most, s[j]);
        }
#pragma unroll
        for (int d = ROW_LANES / 2; d > 0; d /= 2) {
            most = fmaxf(most, __shfl_xor_sync(GPU_ALL_LANES, most, d));
        }
        const float now = fmaxf(row[tile].largest, most), base = now == -INFINITY ? 0.0f : now;
        const float less = fast_exp2(row[tile].largest - base);
#pragma unroll
        for (int j = 0; j < 4; j++) s[j] = fast_exp2(s[j] - base);
        row[tile].sum = fmaf(row[tile].sum, less, (s[0] + s[1]) + (s[2] + s[3]));
        row[tile].largest = now;
        *(float4 *)(shares + at) = make_float4(s[0], s[1], s[2], s[3]);
        if (key == 0) shrink[tile * 16 + i] = less;
    }
}

// ---- the chunk ----

// Sums and outputs of the block's rows.
template <int C, bool bytes, int tiles>
static __device__ void few_store(const attention_args *a, const few_part *p, int64_t chunk,
                                 const few_row row[tiles], const float out[tiles][C / 32][4],
                                 uint32_t warp, uint32_t lane)
{
    const int64_t unit = blockIdx.z;
#pragma unroll
    for (int tile = 0; tile < tiles; tile++) {
        float sum = row[tile].sum;
#pragma unroll
        for (int d = ROW_LANES / 2; d > 0; d /= 2) sum += __shfl_xor_sync(GPU_ALL_LANES, sum, d);
        const int mine = p->row + tile * 16 + (int)threadIdx.x / ROW_LANES;
        if (threadIdx.x % ROW_LANES == 0 && mine < p->rows) {
            float *to = a->sums + 2 * part_slot(a, unit, chunk, p->g, mine);
            *(float2 *)to = make_float2(row[tile].largest, sum);
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int r = p->row + tile * 16 + (int)lane / 4 + half * 8;
            if (r >= p->rows) continue;
            float *to = a->parts + part_slot(a, unit, chunk, p->g, r) * C + warp * (C / WARPS);
#pragma unroll
            for (int n = 0; n < C / 32; n++) {
                const float x = out[tile][n][2 * half], y = out[tile][n][2 * half + 1];
                const int t = (int)lane % 4;
                if (bytes) { // columns 2 t and 2 t + 1 of the even or odd ones
                    to[n / 2 * 16 + 4 * t + n % 2] = x;
                    to[n / 2 * 16 + 4 * t + 2 + n % 2] = y;
                } else {
                    *(float2 *)(to + n * 8 + 2 * t) = make_float2(x, y);
                }
            }
        }
    }
}

// Runs over the keys p->first .. p->end - 1: slots take keys and values of 32 by turns.
template <int C, bool bytes, int tiles>
static __device__ void few_run(char *shared, const attention_args *a, const attention_unit *u,
                               const few_part *p, few_row row[tiles], float out[tiles][C / 32][4])
{
    typedef few_shape<C, bytes> shape;
    const uint32_t warp = threadIdx.x / GPU_WARP, lane = threadIdx.x % GPU_WARP;
    char *slots = shared + warp * SLOTS * shape::slot;
    float *scores = (float *)(shared + shape::slots);
    float *shares = scores + WARPS * tiles * 16 * SCORE_ROW;
    float *shrink = shares + tiles * 16 * SCORE_ROW;
    const float scale = (float)a->scale * 1.44269504f; // log2 e
    uint32_t high[tiles][C / 64][4], low[tiles][C / 64][4];
#pragma unroll
    for (int i = 0; i < SLOTS; i++) {
        slot_ask<C, bytes>(slots + i * shape::slot, a, u, p, i % 2, p->first + i / 2 * KEYS, warp,
                           lane);
        copy_async_commit();
    }
#pragma unroll
    for (int tile = 0; tile < tiles; tile++) {
        queries_load<C, bytes>(high[tile], low[tile], a, u, p, tile, warp, lane);
    }
    int turn = 0; // of the slots
    for (int first = p->first; first < p->end; first += KEYS) {
        char *slot = slots + turn * shape::slot;
        copy_async_wait<SLOTS - 1>();
        __syncwarp();
        keys_times<C, bytes, tiles>(scores + warp * tiles * 16 * SCORE_ROW, slot, high, low, warp,
                                    lane);
        __syncwarp();
        slot_ask<C, bytes>(slot, a, u, p, 1, first + KEYS, warp, lane);
        copy_async_commit();
        turn = turn + 1 < SLOTS ? turn + 1 : 0;
        slot = slots + turn * shape::slot;
        __syncthreads();
        scores_share<tiles>(row, shares, shrink, scores, scale, first);
        copy_async_wait<SLOTS - 1>();
        __syncthreads();
        values_add<C, bytes, tiles>(out, shares, shrink, slot, warp, lane);
        __syncwarp();
        slot_ask<C, bytes>(slot, a, u, p, 0, first + 2 * KEYS, warp, lane);
        copy_async_commit();
        turn = turn + 1 < SLOTS ? turn + 1 : 0;
    }
    copy_async_wait<0>();
}

// Blocks: x chunks, the last (widest) first; y key heads, and tiles of 16 or 32 rows; z units.
template <int C, bool bytes, int tiles>
static __global__ void __launch_bounds__(THREADS) few_kernel(attention_args a)
{
    GPU_DYNAMIC_SHARED(char, shared);
    const uint32_t warp = threadIdx.x / GPU_WARP, lane = threadIdx.x % GPU_WARP;
    const attention_unit u = a.units[blockIdx.z];
    const int64_t chunk = a.chunks - 1 - blockIdx.x;
    const int seen = (int)(u.past + u.n), G = (int)a.G;
    few_part p;
    p.first = (int32_t)attention_chunk_first(chunk);
    p.end = (int32_t)attention_chunk_first(chunk + 1);
    if (p.end > seen) p.end = seen;
    p.g = (int32_t)blockIdx.y % G;
    p.row = (int32_t)blockIdx.y / G * (tiles * 16);
    p.heads = (int32_t)(a.H / G);
    p.rows = (int32_t)u.n * p.heads;
    if (p.first >= p.end || p.row >= p.rows) return; // the whole block
    few_row row[tiles];
    float out[tiles][C / 32][4] = {};
#pragma unroll
    for (int tile = 0; tile < tiles; tile++) {
        const int r = p.row + tile * 16 + (int)threadIdx.x / ROW_LANES;
        row[tile].largest = -INFINITY;
        row[tile].sum = 0;
        row[tile].last = r < p.rows ? (int)u.past + r / p.heads : seen - 1;
    }
    few_run<C, bytes, tiles>(shared, &a, &u, &p, row, out);
    few_store<C, bytes, tiles>(&a, &p, chunk, row, out, warp, lane);
}

// ---- launching ----

template <int C, bool bytes, int tiles>
static void launch_few(cudaStream_t stream, const attention_args *a)
{
    const int64_t rows = a->most_n * (a->H / a->G), blocks = (rows + tiles * 16 - 1) / (tiles * 16);
    const dim3 grid((unsigned)a->chunks, (unsigned)(a->G * blocks), (unsigned)a->U);
    const size_t shared = few_bytes<C, bytes, tiles>();
    GPU_ALLOW_SHARED((few_kernel<C, bytes, tiles>), shared);
    GPU_LAUNCH((few_kernel<C, bytes, tiles>), grid, dim3(THREADS), shared, stream, *a);
}

template <int C, bool bytes>
static void launch_few_tiles(cudaStream_t stream, const attention_args *a)
{
    if (a->most_n * (a->H / a->G) <= 16) launch_few<C, bytes, 1>(stream, a);
    else launch_few<C, bytes, 2>(stream, a);
}

template <int C> static void launch_few_type(cudaStream_t stream, const attention_args *a)
{
    if (a->type == TENSOR_I8) launch_few_tiles<C, true>(stream, a);
    else launch_few_tiles<C, false>(stream, a);
}

void launch_attention_few(cudaStream_t stream, const void *args)
{
    const attention_args *a = (const attention_args *)args;
    if (a->C == 256) launch_few_type<256>(stream, a);
    else if (a->C == 128) launch_few_type<128>(stream, a);
    else launch_few_type<64>(stream, a);
    launch_combine<true>(stream, a);
}
