// kernels/cuda/delta_prepare.cu - the gated delta rule for many tokens, in chunks of 64 on tensor
// cores: the first of two kernels, and what both do.
//
// The WY form of S. Yang et al., "Gated Delta Networks" (arXiv 2412.06464); transformers'
// torch_chunk_gated_delta_rule (models/qwen3_5) is the same arithmetic. Letters, within a chunk of
// one value head: rows k_i, q_i are l2-normalised (q scaled by Dk^-0.5), G_i = g_1 + .. + g_i,
// D_ij = exp(G_i - G_j) for j <= i, S the state before the chunk. The deltas U (rows u_i; S becomes
// exp(g_i) S + k_i u_i^T at token i) solve a unit lower-triangular system:
//     u_i = beta_i (v_i - exp(G_i) S^T k_i) - sum_{j<i} beta_i D_ij (k_i . k_j) u_j
//     (I + L) U = diag(beta) X
// where L_ij = beta_i D_ij (k_i . k_j) for j < i, and x_i = v_i - exp(G_i) S^T k_i.
// With T = (I + L)^-1 diag(beta) and P_ij = D_ij (q_i . k_j) for j <= i
//     U = T X
//     o_i = exp(G_i) S^T q_i + sum_j P_ij u_j
//     S <- exp(G_m) S + sum_j exp(G_m - G_j) k_j u_j^T
// No exponent is positive. G is summed in double and kept as two floats, since its differences
// matter.
//
// The first kernel makes T and P of all chunks and heads at once; the second walks through the
// chunks with 32 columns of the state (columns do not touch each other), which stay in float32 in
// registers. Keys and queries are used raw: what normalises a row is a factor of whatever it is
// multiplied into, and decays are too.
//
// Products are tf32 with sums in float32; the inverse, decays and the state are float32. tf32
// rounds an operand by 2^-11 of its size at most, an eighth of what the bf16 products of the layers
// before do to q, k and v, so it adds less than there is; bf16 here would double that. exact:
// float32 multiply-adds in the place of each product.
//
// Operations per chunk and value head, Dk = Dv = 128: 0.66 M multiply-adds for the triangles (tiles
// above the diagonal are left out), 0.09 M for the inverse, 3.8 M for the walk: 9.1 Mop for 64
// tokens. Bytes: q, k of a chunk are 64 KiB, read once by the first kernel and Dv / 32 times by the
// walk, T and P 20 KiB, written once and read Dv / 32 times; all but the first reading come from
// the second-level cache. What bounds the walk is reading fragments from shared memory: for a block
// and chunk of 32 columns 2,530 loads of a warp, 2,790 cycles with the conflicts of keys read by
// columns, beside 928 products of 16 x 8 x 8. 8,192 tokens are 128 such chunks one after the other:
// 0.2 ms.
#include "kernels/cuda/delta_tiles.h"

typedef struct prepare_shared {
    float g[CHUNK], beta[CHUNK];
    float k_unit[CHUNK], q_unit[CHUNK]; // what normalises raw rows
    float sum[CHUNK], rest[CHUNK];      // G = sum + rest
} prepare_shared;

static __device__ __forceinline__ float decay_between(const prepare_shared *p, int i, int j)
{
    return expf(p->sum[i] - p->sum[j] + (p->rest[i] - p->rest[j]));
}

// Of the numbers that products will see, so that a rounded key still has length 1 and what it
// writes is what it erases.
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
static __device__ __forceinline__ void prepare_factors(prepare_shared *p, const float *keys,
                                                       const float *queries, int64_t Dk)
{
    const int i = threadIdx.x % CHUNK, width = padded_keys(Dk);
    if (threadIdx.x < CHUNK) {
        double sum = 0;
        for (int j = 0; j <= i; j++)
            sum += (double)p->g[j];
        p->sum[i] = (float)sum;
        p->rest[i] = (float)(sum - (double)p->sum[i]);
        p->k_unit[i] =
            1.0f / sqrtf(row_squares<EXACT>(keys + i * key_row(Dk), width) + DELTA_L2_EPS);
    } else {
        const float squares = row_squares<EXACT>(queries + i * key_row(Dk), width);
        p->q_unit[i] = 1.0f / (sqrtf(squares + DELTA_L2_EPS) * sqrtf((float)Dk));
    }
}

// The warp's rows of k k^T and q k^T, up to its diagonal block, become L in shared and P in device
// memory.
static __device__ __forceinline__ void prepare_triangles(const prepare_shared *p,
                                                         const float d[2][8][4], float *L, float *P)
{
    const int warp = threadIdx.x / GPU_WARP, group = threadIdx.x % GPU_WARP / 4,
              t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < 8; n++) {
        if (n >= 2 * (warp + 1)) continue;
        for (int e = 0; e < 4; e += 2) {
            const int i = BLOCK * warp + group + 4 * e, j = 8 * n + 2 * t;
            float scores[2];
            for (int c = 0; c < 2; c++) {
                const float decay =
                    j + c <= i ? decay_between(p, i, j + c) * p->k_unit[j + c] : 0.0f;
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
            for (int j = 0; j < i; j++)
                sum = fmaf(block[i * TRIANGLE_ROW + j], x[j], sum);
            x[i] = (i == column ? 1.0f : 0.0f) - sum;
        }
    }
    __syncthreads();
    if (mine) {
#pragma unroll
        for (int i = 0; i < BLOCK; i++)
            block[i * TRIANGLE_ROW + column] = x[i];
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
                sum =
                    fmaf(rows[i * TRIANGLE_ROW + first + j], room[j * TRIANGLE_ROW + column], sum);
            }
            rows[i * TRIANGLE_ROW + column] = -sum;
        }
        __syncthreads();
    }
}

static __device__ __forceinline__ void prepare_leave(const prepare_shared *p, const float *inverse,
                                                     float *to)
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

// A block has a chunk (x) of a value head (y) of a sequence (z). Shared memory has keys and
// queries, then the inverse.
template <bool EXACT>
static __global__ void __launch_bounds__(THREADS, 2) prepare_kernel(delta_chunk_args a)
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
    float *to =
        a.room + ((blockIdx.z * a.chunks + blockIdx.x) * z.value_heads + head) * DELTA_CHUNK_FLOATS;

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
    product<EXACT, 2, 8>(d, keys + BLOCK * warp * row_floats, CHUNK * row_floats, row_floats, 1,
                         keys, 1, row_floats, width, 2, 2 * (warp + 1));
    __syncthreads();
    prepare_triangles(&p, d, shared, to + DELTA_TRIANGLE);
    __syncthreads();
    invert_diagonal(shared);
    invert_below(shared, shared + CHUNK * TRIANGLE_ROW);
    prepare_leave(&p, shared, to);
}

// ---- launching ----

template <bool EXACT> static void prepare(cudaStream_t stream, const delta_chunk_args *a)
{
    const dim3 grid((unsigned)a->chunks, (unsigned)a->size.value_heads, (unsigned)a->S);
    const size_t bytes = delta_prepare_shared(a->size.Dk);
    const auto kernel = prepare_kernel<EXACT>;
    GPU_ALLOW_SHARED(kernel, bytes);
    GPU_LAUNCH(kernel, grid, THREADS, bytes, stream, *a);
}

extern "C" void launch_delta_prepare(cudaStream_t stream, const void *args)
{
    const delta_chunk_args *a = (const delta_chunk_args *)args;
    if (a->exact)
        prepare<true>(stream, a);
    else
        prepare<false>(stream, a);
}
