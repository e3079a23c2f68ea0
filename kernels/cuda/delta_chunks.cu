// kernels/cuda/delta_chunks.cu - the gated delta rule for many tokens: chunks of 64 on tensor cores.
//
// The WY form of S. Yang et al., "Gated Delta Networks" (arXiv 2412.06464); transformers' torch_chunk_gated_delta_rule
// (models/qwen3_5) is the same arithmetic. Letters, within a chunk of one value head: rows k_i, q_i are l2-normalised (q
// scaled by Dk^-0.5), G_i = g_1 + .. + g_i, D_ij = exp(G_i - G_j) for j <= i, S the state before the chunk. The deltas
// U (rows u_i; S becomes exp(g_i) S + k_i u_i^T at token i) solve a unit lower-triangular system:
//     u_i = beta_i (v_i - exp(G_i) S^T k_i) - sum_{j<i} beta_i D_ij (k_i . k_j) u_j
//     (I + L) U = diag(beta) X,    L_ij = beta_i D_ij (k_i . k_j) for j < i,    x_i = v_i - exp(G_i) S^T k_i
// With T = (I + L)^-1 diag(beta) and P_ij = D_ij (q_i . k_j) for j <= i
//     U = T X,    o_i = exp(G_i) S^T q_i + sum_j P_ij u_j,    S <- exp(G_m) S + sum_j exp(G_m - G_j) k_j u_j^T
// No exponent is positive. G is summed in double and kept as two floats, since its differences matter.
//
// The first kernel makes T and P of all chunks and heads at once; the second walks through the chunks with 32 columns of
// the state (columns do not touch each other), which stay in float32 in registers. Keys and queries are used raw: what
// normalises a row is a factor of whatever it is multiplied into, and decays are too.
//
// Products are tf32 with sums in float32; the inverse, decays and the state are float32. tf32 rounds an operand by 2^-11 of its
// size at most, an eighth of what the bf16 products of the layers before do to q, k and v, so it adds less than there is;
// bf16 here would double that. exact: float32 multiply-adds in the place of each product.
//
// Operations per chunk and value head, Dk = Dv = 128: 1.3 M multiply-adds (of the triangles half is left out) for T and P,
// 0.09 M for the inverse, 4.3 M for the walk: 11.4 Mop for 64 tokens. Bytes: q, k of a chunk are 64 KiB, read once by the
// first kernel and Dv / 32 times by the walk, T and P 20 KiB of rows up to the diagonal, written once and read Dv / 32
// times; all but the first reading come from the second-level cache. What bounds the walk is reading fragments from shared memory:
// 22.5 K words of 32 lanes for a block and chunk of 32 columns, 2,800 cycles, while its products take 2,000 on sm_90.
#include "kernels/cuda/delta_parts.h"
#include "kernels/cuda/mma.h"

#define WARPS 4
#define THREADS (WARPS * GPU_WARP)
#define CHUNK DELTA_CHUNK
#define COLUMNS DELTA_CHUNK_COLUMNS
#define BLOCK 16                 // rows of a warp's tile, and of a block of the triangular inverse
#define TRIANGLE_ROW (CHUNK + 4) // floats of a triangle's row in shared memory: rows 4 banks apart
#define COLUMN_ROW (COLUMNS + 8) // of a row of columns: rows 8 banks apart

// Dk as tiles need it, and floats of a key's row in shared memory: an odd number of fours, so that rows are 4 banks
// apart, or 12, 20, 28: eight rows times four columns meet 32 banks.
static __host__ __device__ __forceinline__ int padded_keys(int64_t Dk)
{
    return (int)((Dk + BLOCK - 1) / BLOCK * BLOCK);
}

static __host__ __device__ __forceinline__ int key_row(int64_t Dk)
{
    return padded_keys(Dk) + 4;
}

// ---- products of tiles in shared memory ----

// An operand's number for the tensor core, which cuts off the lower 13 bits: rounded, half away from zero.
static __device__ __forceinline__ uint32_t tf32_of(float x)
{
    return __float_as_uint(x) + 0x1000u;
}

// d[a][n] += A_a B for tiles of 16 x 8: A_a [16, K] element (m, k) at A + a * a_next + m * am + k * ak, B [K, 8 N] element
// (k, n) at B + k * bk + n * bn. Of NA and NT tiles the first na and nt. K is a multiple of 8. Warp-wide; d lies as
// mma.h says.
template <int NA, int NT>
static __device__ __forceinline__ void product_f32(float d[NA][NT][4], const float *A, int a_next, int am, int ak,
                                                   const float *B, int bk, int bn, int K, int na, int nt)
{
    const int group = threadIdx.x % GPU_WARP / 4, t = threadIdx.x % 4;
    for (int k = 0; k < K; k++) {
        float b[NT][2];
#pragma unroll
        for (int n = 0; n < NT; n++) {
            if (n >= nt) continue;
            b[n][0] = B[k * bk + (8 * n + 2 * t) * bn];
            b[n][1] = B[k * bk + (8 * n + 2 * t + 1) * bn];
        }
#pragma unroll
        for (int a = 0; a < NA; a++) {
            if (a >= na) continue;
            const float low = A[a * a_next + group * am + k * ak];
            const float high = A[a * a_next + (group + 8) * am + k * ak];
#pragma unroll
            for (int n = 0; n < NT; n++) {
                if (n >= nt) continue;
                d[a][n][0] = fmaf(low, b[n][0], d[a][n][0]);
                d[a][n][1] = fmaf(low, b[n][1], d[a][n][1]);
                d[a][n][2] = fmaf(high, b[n][0], d[a][n][2]);
                d[a][n][3] = fmaf(high, b[n][1], d[a][n][3]);
            }
        }
    }
}

template <int NA, int NT>
static __device__ __forceinline__ void product_tf32(float d[NA][NT][4], const float *A, int a_next, int am, int ak,
                                                    const float *B, int bk, int bn, int K, int na, int nt)
{
    const int group = threadIdx.x % GPU_WARP / 4, t = threadIdx.x % 4;
#pragma unroll 2
    for (int k = 0; k < K; k += 8) {
        uint32_t x[NA][4];
#pragma unroll
        for (int a = 0; a < NA; a++) {
            if (a >= na) continue;
            const float *from = A + a * a_next + group * am + (k + t) * ak;
            x[a][0] = tf32_of(from[0]);
            x[a][1] = tf32_of(from[8 * am]);
            x[a][2] = tf32_of(from[4 * ak]);
            x[a][3] = tf32_of(from[8 * am + 4 * ak]);
        }
#pragma unroll
        for (int n = 0; n < NT; n++) {
            if (n >= nt) continue;
            const float *from = B + (k + t) * bk + (8 * n + group) * bn;
            const uint32_t y[2] = {tf32_of(from[0]), tf32_of(from[4 * bk])};
#pragma unroll
            for (int a = 0; a < NA; a++) {
                if (a < na) mma_tf32(d[a][n], x[a], y);
            }
        }
    }
}

template <bool EXACT, int NA, int NT>
static __device__ __forceinline__ void product(float d[NA][NT][4], const float *A, int a_next, int am, int ak,
                                               const float *B, int bk, int bn, int K, int na, int nt)
{
    if (EXACT) product_f32<NA, NT>(d, A, a_next, am, ak, B, bk, bn, K, na, nt);
    else product_tf32<NA, NT>(d, A, a_next, am, ak, B, bk, bn, K, na, nt);
}

template <int NA, int NT> static __device__ __forceinline__ void tiles_clear(float d[NA][NT][4])
{
#pragma unroll
    for (int i = 0; i < NA * NT * 4; i++) d[i / (4 * NT)][i / 4 % NT][i % 4] = 0;
}

// Asks for `rows` rows of Dk floats, zeros below and beside them: to [CHUNK][key_row]. All threads.
static __device__ __forceinline__ void keys_ask(float *to, const float *from, int64_t stride, int64_t rows,
                                                int64_t Dk, bool wide)
{
    const int width = padded_keys(Dk), row_floats = key_row(Dk);
    for (int row = threadIdx.x / GPU_WARP; row < CHUNK; row += WARPS) {
        for (int c = 4 * (threadIdx.x % GPU_WARP); c < width; c += 4 * GPU_WARP) {
            const bool good = row < rows && c < Dk;
            const float *at = from + (good ? row * stride + c : 0);
            float *const place = to + row * row_floats + c;
            if (wide) {
                copy_async16(place, at, good);
            } else {
                for (int i = 0; i < 4; i++) place[i] = good && c + i < Dk ? at[i] : 0.0f;
            }
        }
    }
}

// ---- the first kernel: T and P of every chunk ----

typedef struct prepare_shared {
    float g[CHUNK], beta[CHUNK];
    float k_unit[CHUNK], q_unit[CHUNK]; // what normalises raw rows
    float sum[CHUNK], rest[CHUNK];      // G = sum + rest
} prepare_shared;

static __device__ __forceinline__ float decay_between(const prepare_shared *p, int i, int j)
{
    return expf(p->sum[i] - p->sum[j] + (p->rest[i] - p->rest[j]));
}

// Of the numbers that products will see, so that a rounded key still has length 1 and what it writes is
// what it erases.
template <bool EXACT> static __device__ __forceinline__ float row_squares(const float *x, int n)
{
    float sum[4] = {0, 0, 0, 0};
    for (int c = 0; c < n; c += 4) {
        for (int i = 0; i < 4; i++) {
            const float v = EXACT ? x[c + i] : __uint_as_float(tf32_of(x[c + i]) & 0xffffe000u);
            sum[i] = fmaf(v, v, sum[i]);
        }
    }
    return sum[0] + sum[1] + (sum[2] + sum[3]);
}

// One thread per key row and then per query row.
template <bool EXACT>
static __device__ __forceinline__ void prepare_factors(prepare_shared *p, const float *keys, const float *queries,
                                                       int64_t Dk)
{
    const int i = threadIdx.x % CHUNK, width = padded_keys(Dk);
    if (threadIdx.x < CHUNK) {
        double sum = 0;
        for (int j = 0; j <= i; j++) sum += (double)p->g[j];
        p->sum[i] = (float)sum;
        p->rest[i] = (float)(sum - (double)p->sum[i]);
        p->k_unit[i] = 1.0f / sqrtf(row_squares<EXACT>(keys + i * key_row(Dk), width) + DELTA_L2_EPS);
    } else {
        const float squares = row_squares<EXACT>(queries + i * key_row(Dk), width);
        p->q_unit[i] = 1.0f / (sqrtf(squares + DELTA_L2_EPS) * sqrtf((float)Dk));
    }
}

// The warp's rows of k k^T and q k^T, up to its diagonal block, become L in shared and P in device memory.
static __device__ __forceinline__ void prepare_triangles(const prepare_shared *p, const float d[2][8][4], float *L,
                                                         float *P)
{
    const int warp = threadIdx.x / GPU_WARP, group = threadIdx.x % GPU_WARP / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < 8; n++) {
        if (n >= 2 * (warp + 1)) continue;
        for (int e = 0; e < 4; e += 2) {
            const int i = BLOCK * warp + group + 4 * e, j = 8 * n + 2 * t;
            float scores[2];
            for (int c = 0; c < 2; c++) {
                const float decay = j + c <= i ? decay_between(p, i, j + c) * p->k_unit[j + c] : 0.0f;
                scores[c] = decay * p->q_unit[i] * d[1][n][e + c];
                L[i * TRIANGLE_ROW + j + c] =
                    j + c < i ? decay * p->k_unit[i] * p->beta[i] * d[0][n][e + c] : 0.0f;
            }
            *(float2 *)(P + i * CHUNK + j) = make_float2(scores[0], scores[1]);
        }
    }
}

// The diagonal blocks of (I + L)^-1 take the place of L's: a thread has a column of one of them.
static __device__ __forceinline__ void invert_diagonal(float *L)
{
    const int first = threadIdx.x / BLOCK * BLOCK, column = threadIdx.x % BLOCK;
    const bool mine = threadIdx.x < CHUNK;
    float *block = L + first * (TRIANGLE_ROW + 1);
    float x[BLOCK];
    if (mine) {
#pragma unroll
        for (int i = 0; i < BLOCK; i++) {
            float sum = 0;
#pragma unroll
            for (int j = 0; j < i; j++) sum = fmaf(block[i * TRIANGLE_ROW + j], x[j], sum);
            x[i] = (i == column ? 1.0f : 0.0f) - sum;
        }
    }
    __syncthreads();
    if (mine) {
#pragma unroll
        for (int i = 0; i < BLOCK; i++) block[i * TRIANGLE_ROW + column] = x[i];
    }
    __syncthreads();
}

// Then a row of blocks at a time: T_IJ = -T_II sum_{J<=M<I} L_IM T_MJ. room [BLOCK][TRIANGLE_ROW].
static __device__ __forceinline__ void invert_below(float *L, float *room)
{
    for (int first = BLOCK; first < CHUNK; first += BLOCK) {
        float *rows = L + first * TRIANGLE_ROW;
        for (int e = threadIdx.x; e < BLOCK * first; e += THREADS) {
            const int i = e / first, column = e % first;
            float sum = 0;
            for (int j = column / BLOCK * BLOCK; j < first; j++) {
                sum = fmaf(rows[i * TRIANGLE_ROW + j], L[j * TRIANGLE_ROW + column], sum);
            }
            room[i * TRIANGLE_ROW + column] = sum;
        }
        __syncthreads();
        for (int e = threadIdx.x; e < BLOCK * first; e += THREADS) {
            const int i = e / first, column = e % first;
            float sum = 0;
            for (int j = 0; j <= i; j++) {
                sum = fmaf(rows[i * TRIANGLE_ROW + first + j], room[j * TRIANGLE_ROW + column], sum);
            }
            rows[i * TRIANGLE_ROW + column] = -sum;
        }
        __syncthreads();
    }
}

static __device__ __forceinline__ void prepare_leave(const prepare_shared *p, const float *inverse, float *to)
{
    for (int e = threadIdx.x; e < CHUNK * CHUNK; e += THREADS) {
        const int i = e / CHUNK, j = e % CHUNK;
        if (j < (i / BLOCK + 1) * BLOCK) to[e] = inverse[i * TRIANGLE_ROW + j] * p->beta[j];
    }
    float *factors = to + 2 * DELTA_TRIANGLE;
    if (threadIdx.x < CHUNK) {
        const int i = threadIdx.x;
        const float from_start = expf(p->sum[i]);
        factors[i] = from_start * p->k_unit[i];
        factors[CHUNK + i] = from_start * p->q_unit[i];
        factors[2 * CHUNK + i] = decay_between(p, CHUNK - 1, i) * p->k_unit[i];
        if (i == 0) factors[3 * CHUNK] = expf(p->sum[CHUNK - 1]);
    }
}

extern "C" size_t delta_prepare_shared(int64_t Dk)
{
    const size_t keys = (size_t)2 * CHUNK * (size_t)key_row(Dk);
    const size_t inverse = (size_t)(CHUNK + BLOCK) * TRIANGLE_ROW;
    return (keys > inverse ? keys : inverse) * sizeof(float);
}

// A block has a chunk (x) of a value head (y) of a sequence (z). Shared memory has keys and queries, then the inverse.
template <bool EXACT> static __global__ void __launch_bounds__(THREADS, 2) prepare_kernel(delta_chunk_args a)
{
    GPU_DYNAMIC_SHARED(float, shared);
    __shared__ prepare_shared p;
    const delta_sizes z = a.size;
    const delta_rows seq = a.seqs[blockIdx.z];
    const int64_t first = (int64_t)blockIdx.x * CHUNK, head = blockIdx.y;
    if (first >= seq.n) return; // the whole block
    const int64_t rows = seq.n - first < CHUNK ? seq.n - first : CHUNK;
    const int width = padded_keys(z.Dk), row_floats = key_row(z.Dk), warp = threadIdx.x / GPU_WARP;
    float *keys = shared, *queries = keys + CHUNK * row_floats;
    float *to = a.room + ((blockIdx.z * a.chunks + blockIdx.x) * z.value_heads + head) * DELTA_CHUNK_FLOATS;

    const float *q = seq.qkv + first * z.stride + delta_key_of(&z, head) * z.Dk;
    keys_ask(keys, q + z.key_heads * z.Dk, z.stride, rows, z.Dk, a.wide);
    keys_ask(queries, q, z.stride, rows, z.Dk, a.wide);
    copy_async_commit();
    if (threadIdx.x < CHUNK) {
        const bool good = threadIdx.x < rows;
        const int64_t gate = (first + threadIdx.x) * z.value_heads + head;
        p.g[threadIdx.x] = good ? seq.g[gate] : 0.0f;
        p.beta[threadIdx.x] = good ? seq.beta[gate] : 0.0f;
    }
    copy_async_wait<0>();
    __syncthreads();
    prepare_factors<EXACT>(&p, keys, queries, z.Dk);
    float d[2][8][4];
    tiles_clear<2, 8>(d);
    product<EXACT, 2, 8>(d, keys + BLOCK * warp * row_floats, CHUNK * row_floats, row_floats, 1, keys, 1,
                         row_floats, width, 2, 2 * (warp + 1));
    __syncthreads();
    prepare_triangles(&p, d, shared, to + DELTA_TRIANGLE);
    __syncthreads();
    invert_diagonal(shared);
    invert_below(shared, shared + CHUNK * TRIANGLE_ROW);
    prepare_leave(&p, shared, to);
}

// ---- the second kernel: chunk after chunk ----

// Where the parts of shared memory lie, in floats. With `ahead` queries and P have room of their own, so that they
// come while keys and T are worked on, and the other way round; else they take turns in one.
typedef struct walk_place {
    int keys, t, queries, p, state, x, u, floats;
} walk_place;

static __host__ __device__ __forceinline__ walk_place walk_find(int64_t Dk, bool ahead)
{
    const int half = CHUNK * key_row(Dk) + CHUNK * TRIANGLE_ROW;
    walk_place w;
    w.keys = 0;
    w.t = CHUNK * key_row(Dk);
    w.queries = ahead ? half : 0;
    w.p = w.queries + w.t;
    w.state = ahead ? 2 * half : half;
    w.x = w.state + padded_keys(Dk) * COLUMN_ROW;
    w.u = w.x + CHUNK * COLUMN_ROW;
    w.floats = w.u + CHUNK * COLUMN_ROW;
    return w;
}

extern "C" size_t delta_walk_shared(int64_t Dk, int64_t ahead)
{
    return (size_t)walk_find(Dk, ahead != 0).floats * sizeof(float);
}

// The rows of T or P that were written.
static __device__ __forceinline__ void triangle_ask(float *to, const float *from)
{
    const int column = 4 * (threadIdx.x % BLOCK);
    for (int row = threadIdx.x / BLOCK; row < CHUNK; row += THREADS / BLOCK) {
        if (column < (row / BLOCK + 1) * BLOCK) {
            copy_async16(to + row * TRIANGLE_ROW + column, from + row * CHUNK + column, true);
        }
    }
}

// One sequence, one value head and its columns from `column` on.
typedef struct walk {
    delta_rows seq;
    delta_sizes size;
    const float *queries; // raw, of the first row
    const float *room;    // of the first chunk; the next is `room_next` floats on
    int64_t room_next, head, column;
    bool wide;
} walk;

static __device__ __forceinline__ int64_t walk_rows(const walk *w, int64_t chunk)
{
    const int64_t left = w->seq.n - chunk * CHUNK;
    return left < CHUNK ? left : CHUNK;
}

// Keys and T, or queries and P, of a chunk. Asks for nothing after the last chunk.
static __device__ __forceinline__ void walk_ask(float *keys, float *triangle, const walk *w, int64_t chunk,
                                                bool of_queries)
{
    const int64_t rows = walk_rows(w, chunk);
    if (rows <= 0) return;
    const float *from = w->queries + chunk * CHUNK * w->size.stride;
    if (!of_queries) from += w->size.key_heads * w->size.Dk;
    keys_ask(keys, from, w->size.stride, rows, w->size.Dk, w->wide);
    triangle_ask(triangle, w->room + chunk * w->room_next + (of_queries ? DELTA_TRIANGLE : 0));
    copy_async_commit();
}

static __device__ __forceinline__ void walk_wait(void)
{
    copy_async_wait<0>();
    __syncthreads();
}

// Places of a lane's numbers in the tile n of rows from `row`: row, column of number e; within 32 columns.
static __device__ __forceinline__ int tile_row(int row, int e)
{
    return row + threadIdx.x % GPU_WARP / 4 + 8 * (e / 2);
}

static __device__ __forceinline__ int tile_column(int n, int e)
{
    return 8 * n + 2 * (threadIdx.x % 4) + e % 2;
}

#define NT (COLUMNS / 8)

// The warp's rows of a chunk's v, zeros outside.
static __device__ __forceinline__ void walk_values(float v[NT][4], const walk *w, int64_t chunk, int row)
{
    const int64_t rows = walk_rows(w, chunk), columns = w->size.Dv - w->column;
    const float *from = w->seq.qkv + chunk * CHUNK * w->size.stride + 2 * w->size.key_heads * w->size.Dk +
                        w->head * w->size.Dv + w->column;
#pragma unroll
    for (int i = 0; i < NT * 4; i++) {
        const int r = tile_row(row, i % 4), c = tile_column(i / 4, i % 4);
        v[i / 4][i % 4] = r < rows && c < columns ? from[r * w->size.stride + c] : 0.0f;
    }
}

static __device__ __forceinline__ void walk_store_out(const float o[NT][4], const walk *w, int64_t chunk, int row)
{
    const int64_t rows = walk_rows(w, chunk), columns = w->size.Dv - w->column;
    const int64_t stride = w->size.value_heads * w->size.Dv;
    float *to = w->seq.out + chunk * CHUNK * stride + w->head * w->size.Dv + w->column;
#pragma unroll
    for (int i = 0; i < NT * 4; i++) {
        const int r = tile_row(row, i % 4), c = tile_column(i / 4, i % 4);
        if (r < rows && c < columns) to[r * stride + c] = o[i / 4][i % 4];
    }
}

// The state's rows of a warp: tiles of 16 rows, `WARPS` tiles apart.
template <int MT>
static __device__ __forceinline__ void state_load(float s[MT][NT][4], const walk *w)
{
    const float *state = w->seq.before ? w->seq.before : w->seq.state;
    state += w->head * w->size.Dk * w->size.Dv + w->column;
#pragma unroll
    for (int i = 0; i < MT * NT * 4; i++) {
        const int n = i / 4 % NT, e = i % 4;
        const int r = tile_row(BLOCK * (threadIdx.x / GPU_WARP + WARPS * (i / (4 * NT))), e);
        const int c = tile_column(n, e);
        const bool good = r < w->size.Dk && c < w->size.Dv - w->column;
        s[i / (4 * NT)][n][e] = good ? state[r * w->size.Dv + c] : 0.0f;
    }
}

template <int MT>
static __device__ __forceinline__ void state_store(const float s[MT][NT][4], const walk *w)
{
    float *state = w->seq.state + w->head * w->size.Dk * w->size.Dv + w->column;
#pragma unroll
    for (int i = 0; i < MT * NT * 4; i++) {
        const int n = i / 4 % NT, e = i % 4;
        const int r = tile_row(BLOCK * (threadIdx.x / GPU_WARP + WARPS * (i / (4 * NT))), e);
        const int c = tile_column(n, e);
        if (r < w->size.Dk && c < w->size.Dv - w->column) state[r * w->size.Dv + c] = s[i / (4 * NT)][n][e];
    }
}

// For the products of the next chunk: [padded_keys][COLUMN_ROW], of `tiles` tiles.
template <int MT>
static __device__ __forceinline__ void state_share(float *shared, const float s[MT][NT][4], int tiles)
{
#pragma unroll
    for (int i = 0; i < MT * NT * 2; i++) {
        const int a = i / (2 * NT), n = i / 2 % NT, e = i % 2 * 2;
        const int tile = threadIdx.x / GPU_WARP + WARPS * a;
        if (tile < tiles) {
            *(float2 *)(shared + tile_row(BLOCK * tile, e) * COLUMN_ROW + tile_column(n, e)) =
                make_float2(s[a][n][e], s[a][n][e + 1]);
        }
    }
}

static __device__ __forceinline__ void columns_share(float *shared, const float d[NT][4], int row, const float scale[2])
{
#pragma unroll
    for (int i = 0; i < NT * 2; i++) {
        const int n = i / 2, e = i % 2 * 2;
        *(float2 *)(shared + tile_row(row, e) * COLUMN_ROW + tile_column(n, e)) =
            make_float2(d[n][e] * scale[i % 2], d[n][e + 1] * scale[i % 2]);
    }
}

// A lane's two rows of a chunk's factors.
static __device__ __forceinline__ void walk_factors(float f[2], const float *factors, int row)
{
    f[0] = factors[tile_row(row, 0)];
    f[1] = factors[tile_row(row, 2)];
}

// With the chunk's keys and T: U into u, and its rows on their way into the state into x; then the state after the chunk
// in registers. Barriers: x and u must be free at the start, keys and T are at the end.
template <bool EXACT, int MT>
static __device__ __forceinline__ void walk_keys(float s[MT][NT][4], float *shared, const walk_place *at,
                                                 const walk *w, int64_t chunk)
{
    const int warp = threadIdx.x / GPU_WARP, row = BLOCK * warp;
    const int width = padded_keys(w->size.Dk), row_floats = key_row(w->size.Dk);
    const float *factors = w->room + chunk * w->room_next + 2 * DELTA_TRIANGLE;
    const float *keys = shared + at->keys;
    float v[NT][4], d[1][NT][4], f[2];
    const float ones[2] = {1, 1};

    walk_values(v, w, chunk, row);
    walk_factors(f, factors, row);
    tiles_clear<1, NT>(d);
    product<EXACT, 1, NT>(d, keys + row * row_floats, 0, row_floats, 1, shared + at->state, COLUMN_ROW, 1, width,
                          1, NT);
#pragma unroll
    for (int i = 0; i < NT * 4; i++) v[i / 4][i % 4] = fmaf(-f[i % 4 / 2], d[0][i / 4][i % 4], v[i / 4][i % 4]);
    columns_share(shared + at->x, v, row, ones);
    __syncthreads();

    tiles_clear<1, NT>(d);
    product<EXACT, 1, NT>(d, shared + at->t + row * TRIANGLE_ROW, 0, TRIANGLE_ROW, 1, shared + at->x, COLUMN_ROW, 1,
                          row + BLOCK, 1, NT);
    walk_factors(f, factors + 2 * CHUNK, row);
    __syncthreads();
    columns_share(shared + at->u, d[0], row, ones);
    columns_share(shared + at->x, d[0], row, f);
    __syncthreads();

    const float keep = factors[3 * CHUNK];
#pragma unroll
    for (int i = 0; i < MT * NT * 4; i++) s[i / (4 * NT)][i / 4 % NT][i % 4] *= keep;
    const int tiles = width / BLOCK;
    product<EXACT, MT, NT>(s, keys + BLOCK * warp, WARPS * BLOCK, 1, row_floats, shared + at->x, COLUMN_ROW, 1,
                           CHUNK, tiles > warp ? (tiles - warp + WARPS - 1) / WARPS : 0, NT);
}

// With the chunk's queries and P: the output, from the state before the chunk.
template <bool EXACT>
static __device__ __forceinline__ void walk_queries(const float *shared, const walk_place *at, const walk *w,
                                                    int64_t chunk)
{
    const int row = BLOCK * (threadIdx.x / GPU_WARP);
    const int width = padded_keys(w->size.Dk), row_floats = key_row(w->size.Dk);
    float d[1][NT][4], f[2];
    walk_factors(f, w->room + chunk * w->room_next + 2 * DELTA_TRIANGLE + CHUNK, row);
    tiles_clear<1, NT>(d);
    product<EXACT, 1, NT>(d, shared + at->queries + row * row_floats, 0, row_floats, 1, shared + at->state,
                          COLUMN_ROW, 1, width, 1, NT);
#pragma unroll
    for (int i = 0; i < NT * 4; i++) d[0][i / 4][i % 4] *= f[i % 4 / 2];
    product<EXACT, 1, NT>(d, shared + at->p + row * TRIANGLE_ROW, 0, TRIANGLE_ROW, 1, shared + at->u, COLUMN_ROW, 1,
                          row + BLOCK, 1, NT);
    walk_store_out(d[0], w, chunk, row);
}

static __device__ __forceinline__ walk walk_open(const delta_chunk_args *a)
{
    walk w;
    w.size = a->size;
    w.seq = a->seqs[blockIdx.z];
    w.head = blockIdx.y;
    w.column = (int64_t)blockIdx.x * COLUMNS;
    w.queries = w.seq.qkv + delta_key_of(&w.size, w.head) * w.size.Dk;
    w.room_next = w.size.value_heads * DELTA_CHUNK_FLOATS;
    w.room = a->room + blockIdx.z * a->chunks * w.room_next + w.head * DELTA_CHUNK_FLOATS;
    w.wide = a->wide;
    return w;
}

// A block has 32 columns (x) of a value head (y) of a sequence (z). MT: tiles of the state a warp has.
template <bool EXACT, int MT> static __global__ void __launch_bounds__(THREADS, 2) walk_kernel(delta_chunk_args a)
{
    GPU_DYNAMIC_SHARED(float, shared);
    const walk w = walk_open(&a);
    const walk_place at = walk_find(w.size.Dk, a.ahead);
    const int tiles = padded_keys(w.size.Dk) / BLOCK;
    float s[MT][NT][4];
    walk_ask(shared + at.keys, shared + at.t, &w, 0, false);
    state_load<MT>(s, &w);
    state_share<MT>(shared + at.state, s, tiles);
    for (int64_t chunk = 0; chunk * CHUNK < w.seq.n; chunk++) {
        walk_wait();
        if (a.ahead) walk_ask(shared + at.queries, shared + at.p, &w, chunk, true);
        walk_keys<EXACT, MT>(s, shared, &at, &w, chunk);
        if (!a.ahead) {
            __syncthreads();
            walk_ask(shared + at.queries, shared + at.p, &w, chunk, true);
        }
        walk_wait();
        if (a.ahead) walk_ask(shared + at.keys, shared + at.t, &w, chunk + 1, false);
        walk_queries<EXACT>(shared, &at, &w, chunk);
        __syncthreads();
        if (!a.ahead) walk_ask(shared + at.keys, shared + at.t, &w, chunk + 1, false);
        state_share<MT>(shared + at.state, s, tiles);
    }
    state_store<MT>(s, &w);
}

// ---- launching ----

template <bool EXACT> static void launch_prepare(cudaStream_t stream, const delta_chunk_args *a)
{
    const dim3 grid((unsigned)a->chunks, (unsigned)a->size.value_heads, (unsigned)a->S);
    const size_t bytes = delta_prepare_shared(a->size.Dk);
    const auto kernel = prepare_kernel<EXACT>;
    GPU_ALLOW_SHARED(kernel, bytes);
    GPU_LAUNCH(kernel, grid, THREADS, bytes, stream, *a);
}

template <bool EXACT, int MT> static void launch_walk(cudaStream_t stream, const delta_chunk_args *a)
{
    const dim3 grid((unsigned)((a->size.Dv + COLUMNS - 1) / COLUMNS), (unsigned)a->size.value_heads,
                    (unsigned)a->S);
    const size_t bytes = delta_walk_shared(a->size.Dk, a->ahead);
    const auto kernel = walk_kernel<EXACT, MT>;
    GPU_ALLOW_SHARED(kernel, bytes);
    GPU_LAUNCH(kernel, grid, THREADS, bytes, stream, *a);
}

template <bool EXACT> static void launch_both(cudaStream_t stream, const delta_chunk_args *a)
{
    launch_prepare<EXACT>(stream, a);
    if (a->size.Dk <= 64) launch_walk<EXACT, 1>(stream, a);
    else if (a->size.Dk <= 128) launch_walk<EXACT, 2>(stream, a);
    else launch_walk<EXACT, 4>(stream, a);
}

extern "C" void launch_delta_chunks(cudaStream_t stream, const void *args)
{
    const delta_chunk_args *a = (const delta_chunk_args *)args;
    if (a->exact) launch_both<true>(stream, a);
    else launch_both<false>(stream, a);
}
