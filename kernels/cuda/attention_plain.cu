// kernels/cuda/attention_plain.cu - keys and values into their pages, and attention in float32
// throughout: for exact results, and for shapes that the other kernels do not take.
//
// kv_write  bytes: 8 n G C read, 2 n G C of the pages' type written; nothing to compute. A warp has
//           64 components of a row; at 1 row it is the launch that counts
// plain     4 C operations a visible (row, head, key) in float32. A block has one row and head and
//           runs over its keys in tiles of 128, a thread each; values a column each. Every head of
//           a group reads the keys anew (from the caches): the plain form, not the fast one
#include "kernels/cuda/attention.h"

#include "kernels/cuda/kv_page.h"

#define WRITE_WARPS 4
#define TILE_KEYS 128 // threads of a block

// ---- keys and values into their pages ----

static __global__ void kv_write_kernel(kv_write_args a)
{
    const int64_t groups = (a.C + ATTENTION_KV_GROUP - 1) / ATTENTION_KV_GROUP;
    const int64_t task = (int64_t)blockIdx.x * WRITE_WARPS + threadIdx.x / GPU_WARP;
    const int64_t group = task % groups, g = task / groups % a.G, part = task / groups / a.G % 2;
    const int64_t i = task / groups / a.G / 2;
    const kv_write_place p = a.places[blockIdx.y];
    if (i >= p.n) return; // a whole warp, and no barrier follows
    const float *from = (part ? a.v : a.k) + ((p.first + i) * a.G + g) * a.C + group * ATTENTION_KV_GROUP;
    kv_put(p, from, p.past + i, part, g, group, a.G, a.C, a.type, a.page_rows);
}

void launch_kv_write(cudaStream_t stream, const void *args)
{
    const kv_write_args *a = (const kv_write_args *)args;
    const int64_t groups = (a->C + ATTENTION_KV_GROUP - 1) / ATTENTION_KV_GROUP;
    const int64_t tasks = a->most * 2 * a->G * groups;
    const unsigned blocks = (unsigned)((tasks + WRITE_WARPS - 1) / WRITE_WARPS);
    GPU_LAUNCH(kv_write_kernel, dim3(blocks, (unsigned)a->S),
               dim3(WRITE_WARPS * GPU_WARP), 0, stream, *a);
}

// ---- rows of keys and values, as stored ----

typedef struct stored_row {
    const char *at;
    const float *scales; // of bytes
} stored_row;

template <int type> static __device__ __forceinline__ float stored_get(stored_row r, int64_t c)
{
    if (type == TENSOR_BF16) return gpu_bf16_to_f32(((const uint16_t *)r.at)[c]);
    if (type == TENSOR_I8) return (float)((const int8_t *)r.at)[c]
        * r.scales[c / ATTENTION_KV_GROUP];
    return ((const float *)r.at)[c];
}

// Row `row` of a page: over both parts and all heads.
template <int type>
static __device__ __forceinline__ stored_row page_row(const char *page, int64_t row,
                                                      int64_t page_rows, int64_t G, int64_t C)
{
    const int bytes = type == TENSOR_BF16 ? 2 : type == TENSOR_I8 ? 1 : 4;
    stored_row r = {page + row * C * bytes, NULL};
    if (type == TENSOR_I8) {
        r.scales = (const float *)(page + (2 * G * page_rows * C + 63) / 64 * 64) +
                   row * ((C + ATTENTION_KV_GROUP - 1) / ATTENTION_KV_GROUP);
    }
    return r;
}

// ---- one row and head ----

// The block's shared memory.
typedef struct plain_room {
    float *q, *out;     // [C]
    float *share;       // [TILE_KEYS]
    float *warps;       // [2][TILE_KEYS / GPU_WARP]
    stored_row *values; // [TILE_KEYS]
} plain_room;

static __device__ plain_room plain_split(unsigned char *bytes, int64_t C)
{
    plain_room m;
    m.values = (stored_row *)bytes;
    m.q = (float *)(m.values + TILE_KEYS);
    m.out = m.q + C;
    m.share = m.out + C;
    m.warps = m.share + TILE_KEYS;
    return m;
}

static size_t plain_bytes(int64_t C)
{
    return TILE_KEYS * sizeof(stored_row) +
           (size_t)(2 * C + TILE_KEYS + 2 * TILE_KEYS / GPU_WARP) * sizeof(float);
}

static __device__ void plain_start(plain_room m, const float *q, int64_t C)
{
    for (int64_t c = threadIdx.x; c < C; c += TILE_KEYS) {
        m.q[c] = q[c];
        m.out[c] = 0;
    }
    __syncthreads();
}

template <int type> static __device__ float plain_score(plain_room m, stored_row key, int64_t C)
{
    float score = 0;
    for (int64_t c = 0; c < C; c++) score += m.q[c] * stored_get<type>(key, c);
    return score;
}

// A tile's n keys, the thread's with this score; their values lie in m.values. largest and sum, the
// same in all threads, move on.
template <int type>
static __device__ void plain_add(plain_room m, float score, int64_t n, int64_t C, float *largest,
                                 float *sum)
{
    const uint32_t warp = threadIdx.x / GPU_WARP, lane = threadIdx.x % GPU_WARP;
    const float most = gpu_warp_max(score);
    if (lane == 0) m.warps[warp] = most;
    __syncthreads();
    float now = *largest;
    for (int i = 0; i < TILE_KEYS / GPU_WARP; i++) now = fmaxf(now, m.warps[i]);
    const float share = threadIdx.x < n ? expf(score - now) : 0.0f, total = gpu_warp_sum(share);
    m.share[threadIdx.x] = share;
    if (lane == 0) m.warps[TILE_KEYS / GPU_WARP + warp] = total;
    __syncthreads();
    const float shrink = expf(*largest - now);
    *sum *= shrink;
    for (int i = 0; i < TILE_KEYS / GPU_WARP; i++) *sum += m.warps[TILE_KEYS / GPU_WARP + i];
    *largest = now;
    for (int64_t c = threadIdx.x; c < C; c += TILE_KEYS) {
        float x = m.out[c] * shrink;
        for (int64_t i = 0; i < n; i++) x += m.share[i] * stored_get<type>(m.values[i], c);
        m.out[c] = x;
    }
    __syncthreads(); // before the next tile's values and shares
}

static __device__ void plain_finish(plain_room m, float *out, float sum, int64_t C)
{
    const float inverse = 1.0f / sum;
    for (int64_t c = threadIdx.x; c < C; c += TILE_KEYS) out[c] = m.out[c] * inverse;
}

// ---- causal, over pages ----

template <int type> static __global__ void plain_kernel(attention_args a)
{
    GPU_DYNAMIC_SHARED(unsigned char, bytes);
    const attention_unit u = a.units[blockIdx.y];
    const int64_t i = blockIdx.x / a.H, h = blockIdx.x % a.H, g = h / (a.H / a.G);
    if (i >= u.n) return; // the whole block
    const plain_room m = plain_split(bytes, a.C);
    float largest = -INFINITY, sum = 0;
    plain_start(m, u.q + (i * a.H + h) * a.C, a.C);
    for (int64_t first = 0; first <= u.past + i; first += TILE_KEYS) {
        const int64_t left = u.past + i + 1 - first, n = left < TILE_KEYS ? left : TILE_KEYS;
        float score = -INFINITY;
        if (threadIdx.x < n) {
            const int64_t t = first + threadIdx.x;
            const char *page = (const char *)u.blocks[t / a.page_rows] + u.offset;
            const int64_t row = g * a.page_rows + t % a.page_rows;
            m.values[threadIdx.x] =
                page_row<type>(page, row + a.G * a.page_rows, a.page_rows, a.G, a.C);
            score = (float)a.scale *
                    plain_score<type>(m, page_row<type>(page, row, a.page_rows, a.G, a.C), a.C);
        }
        plain_add<type>(m, score, n, a.C, &largest, &sum);
    }
    plain_finish(m, u.out + (i * a.H + h) * a.C, sum, a.C);
}

void launch_attention_plain(cudaStream_t stream, const void *args)
{
    const attention_args *a = (const attention_args *)args;
    const dim3 grid((unsigned)(a->most_n * a->H), (unsigned)a->U), block(TILE_KEYS);
    const size_t bytes = plain_bytes(a->C);
    if (a->type == TENSOR_BF16) {
        GPU_LAUNCH(plain_kernel<TENSOR_BF16>, grid, block, bytes, stream, *a);
    } else if (a->type == TENSOR_I8) {
        GPU_LAUNCH(plain_kernel<TENSOR_I8>, grid, block, bytes, stream, *a);
    } else {
        GPU_LAUNCH(plain_kernel<TENSOR_F32>, grid, block, bytes, stream, *a);
    }
}

// ---- inside spans ----

static __global__ void spans_plain_kernel(spans_args a)
{
    GPU_DYNAMIC_SHARED(unsigned char, bytes);
    const int64_t pair = a.first + blockIdx.y, h = pair % a.H, D = a.H * a.C;
    const int64_t start = pair / a.H * a.span; // the span's first row
    const plain_room m = plain_split(bytes, a.C);
    float largest = -INFINITY, sum = 0;
    plain_start(m, a.qkv + (start + blockIdx.x) * 3 * D + h * a.C, a.C);
    for (int64_t first = 0; first < a.span; first += TILE_KEYS) {
        const int64_t left = a.span - first, n = left < TILE_KEYS ? left : TILE_KEYS;
        float score = -INFINITY;
        if (threadIdx.x < n) {
            const float *key = a.qkv + (start + first + threadIdx.x) * 3 * D + D + h * a.C;
            const stored_row k = {(const char *)key, NULL}, v = {(const char *)(key + D), NULL};
            m.values[threadIdx.x] = v;
            score = (float)a.scale * plain_score<TENSOR_F32>(m, k, a.C);
        }
        plain_add<TENSOR_F32>(m, score, n, a.C, &largest, &sum);
    }
    plain_finish(m, a.out + (start + blockIdx.x) * D + h * a.C, sum, a.C);
}

void launch_spans_plain(cudaStream_t stream, const void *args)
{
    const spans_args *a = (const spans_args *)args;
    GPU_LAUNCH(spans_plain_kernel, dim3((unsigned)a->span, (unsigned)a->pairs), dim3(TILE_KEYS),
               plain_bytes(a->C), stream, *a);
}
