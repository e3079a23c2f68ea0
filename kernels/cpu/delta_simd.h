// kernels/cpu/delta_simd.h - op_delta_rule over vec, for delta_<level>.c to include: one token at a
// time for a few rows, in chunks for many. op_delta_rule_naive (delta_plain.c) is the formula.
#ifndef SIGHT_KERNELS_CPU_DELTA_SIMD_H
#define SIGHT_KERNELS_CPU_DELTA_SIMD_H

#include "kernels/backend.h"
#include "kernels/cpu/math_tile.h"

#define L2_EPS 1e-6f
#define CHUNK 64       // tokens
#define CHUNKED_FROM 8 // rows from which chunks are faster; steps give drafts exactly what decoding gives
#define SOLVE_ROWS 8   // of the triangular system solved at once
#define BLOCK_ROWS 16  // of the triangular products

// One value head of one sequence.
typedef struct delta_head {
    const delta_seq *seq;
    const delta_shape *shape;
    int64_t h, key_head;
    float *state; // [Dk, Dv]
} delta_head;

static const float *query_row(const delta_head *d, int64_t t)
{
    return d->seq->qkv + t * d->shape->stride + d->key_head * d->shape->Dk;
}

static const float *key_row(const delta_head *d, int64_t t)
{
    return query_row(d, t) + d->shape->key_heads * d->shape->Dk;
}

static const float *value_row(const delta_head *d, int64_t t)
{
    return d->seq->qkv + t * d->shape->stride + 2 * d->shape->key_heads * d->shape->Dk +
           d->h * d->shape->Dv;
}

static float *out_row(const delta_head *d, int64_t t)
{
    return d->seq->out + (t * d->shape->value_heads + d->h) * d->shape->Dv;
}

static float gate_at(const delta_head *d, const float *gates, int64_t t)
{
    return gates[t * d->shape->value_heads + d->h];
}

static void l2_normalise(float *y, const float *x, int64_t n, float scale)
{
    vec sum = vec_set(0);
    for (int64_t i = 0; i < n; i += VEC_N) {
        const vec v = vec_get(x + i, n - i);
        sum = vec_fma(v, v, sum);
    }
    const vec inverse = vec_set(scale / sqrtf(vec_sum(sum) + L2_EPS));
    for (int64_t i = 0; i < n; i += VEC_N) vec_put(y + i, vec_get(x + i, n - i) * inverse, n - i);
}

// ---- one token at a time ----

#if TILE_VECS == 4
#define STEP_VECS 8 // columns of the state in registers: three sets of them are
#else
#define STEP_VECS 4
#endif

// One token on V vectors of columns from c, the last of `last`. The state is read twice, the
// second time from cache, and written once.
TILE_INLINE void step_columns(const int V, const delta_head *d, int64_t t, int64_t c,
                              const float *q, const float *k, int64_t last)
{
    const int64_t Dk = d->shape->Dk, Dv = d->shape->Dv;
    const vec decay = vec_set(expf(gate_at(d, d->seq->g, t)));
    const vec beta = vec_set(gate_at(d, d->seq->beta, t));
    const float *v = value_row(d, t) + c;
    float *out = out_row(d, t) + c, *state = d->state + c;
    vec delta[STEP_VECS], sum[STEP_VECS];
#pragma GCC unroll 8
    for (int j = 0; j < V; j++) delta[j] = sum[j] = vec_set(0);
    for (int64_t i = 0; i < Dk; i++) {
        const vec ki = vec_set(k[i]);
#pragma GCC unroll 8
        for (int j = 0; j < V; j++) {
            const float *s = state + i * Dv + j * VEC_N;
            delta[j] = vec_fma(j == V - 1 ? vec_get(s, last) : vec_load(s), ki, delta[j]);
        }
    }
#pragma GCC unroll 8
    for (int j = 0; j < V; j++) {
        const vec target = vec_get(v + j * VEC_N, j == V - 1 ? last : VEC_N);
        delta[j] = vec_fnma(decay, delta[j], target) * beta;
    }
    for (int64_t i = 0; i < Dk; i++) {
        const vec ki = vec_set(k[i]), qi = vec_set(q[i]);
#pragma GCC unroll 8
        for (int j = 0; j < V; j++) {
            float *at = state + i * Dv + j * VEC_N;
            const vec s = vec_fma(ki, delta[j],
                                  (j == V - 1 ? vec_get(at, last) : vec_load(at)) * decay);
            vec_put(at, s, j == V - 1 ? last : VEC_N);
            sum[j] = vec_fma(s, qi, sum[j]);
        }
    }
#pragma GCC unroll 8
    for (int j = 0; j < V; j++) vec_put(out + j * VEC_N, sum[j], j == V - 1 ? last : VEC_N);
}

// All tokens on a strip of columns before the next strip, so that the strip stays in cache.
static void delta_steps(const delta_head *d, float *scratch)
{
    const int64_t Dk = d->shape->Dk, Dv = d->shape->Dv, n = d->seq->n;
    float *q = scratch, *k = q + n * Dk;
    for (int64_t t = 0; t < n; t++) {
        l2_normalise(q + t * Dk, query_row(d, t), Dk, 1.0f / sqrtf((float)Dk));
        l2_normalise(k + t * Dk, key_row(d, t), Dk, 1.0f);
    }
    int64_t c = 0;
    for (; c + STEP_VECS * VEC_N <= Dv; c += STEP_VECS * VEC_N) {
        for (int64_t t = 0; t < n; t++) {
            step_columns(STEP_VECS, d, t, c, q + t * Dk, k + t * Dk, VEC_N);
        }
    }
    for (; c < Dv; c += VEC_N) {
        for (int64_t t = 0; t < n; t++) step_columns(1, d, t, c, q + t * Dk, k + t * Dk, Dv - c);
    }
}

// ---- in chunks ----
//
// With G_i the sum of g up to token i of the chunk, S the state before it and D_ij = exp(G_i - G_j),
// the deltas U [m, Dv] of all tokens of a chunk solve the unit lower-triangular system
//     U_i = beta_i (v_i - exp(G_i) S^T k_i) - sum_{j<i} beta_i D_ij (k_i . k_j) U_j,
// and then  o_i = exp(G_i) S^T q_i + sum_{j<=i} D_ij (q_i . k_j) U_j,
//           S   = exp(G_m) S + sum_j exp(G_m - G_j) k_j U_j^T.
// (The WY form of Yang et al. 2024, "Gated Delta Networks", with the solve applied to the
// right-hand side instead of an inverse.) Exponents are never positive; G is summed in double since its
// differences matter.

typedef struct chunk_work {
    float *q, *k;     // [CHUNK][Dk], normalised
    float *k_turned;  // [Dk][CHUNK]
    float *u;         // [CHUNK][Dv]
    float *system;    // [CHUNK][CHUNK], minus the strict lower triangle
    float *scores;    // [CHUNK][CHUNK], lower triangle, zeros above it within a block of rows
    float *ones, *keep; // [CHUNK], [Dk]: scales for tile_product
    float *decay;     // [CHUNK]: exp(G_i)
} chunk_work;

static size_t chunk_place(chunk_work *w, float *p, int64_t Dk, int64_t Dv)
{
    float *const start = p;
    const int64_t k_even = (Dk + 15) / 16 * 16, v_even = (Dv + 15) / 16 * 16;
    w->q = p;
    w->k = p += CHUNK * k_even;
    w->k_turned = p += CHUNK * k_even;
    w->u = p += CHUNK * k_even;
    w->system = p += CHUNK * v_even;
    w->scores = p += CHUNK * CHUNK;
    w->ones = p += CHUNK * CHUNK;
    w->decay = p += CHUNK;
    w->keep = p += CHUNK;
    return (size_t)(p + k_even - start);
}

// Asks for the next chunk's rows: they lie far apart, which the processor does not see coming.
static void chunk_ask(const delta_head *d, int64_t first, int64_t m)
{
    const int64_t line = 64 / (int64_t)sizeof(float);
    for (int64_t i = first; i < first + m; i++) {
        const float *q = query_row(d, i), *k = key_row(d, i), *v = value_row(d, i);
        for (int64_t c = 0; c < d->shape->Dk; c += line) {
            __builtin_prefetch(q + c, 0, 2);
            __builtin_prefetch(k + c, 0, 2);
        }
        for (int64_t c = 0; c < d->shape->Dv; c += line) __builtin_prefetch(v + c, 0, 2);
    }
}

// Rows i .. i + n - 1 of k become columns of k_turned; n at most 4.
static void turn_keys(const chunk_work *w, int64_t i, int64_t n, int64_t Dk)
{
    const float *from[4];
    for (int64_t j = 0; j < n; j++) from[j] = w->k + (i + j) * Dk;
    int64_t c = 0;
    for (; n == 4 && c + 4 <= Dk; c += 4) {
        vec_turn_4x4(w->k_turned + c * CHUNK + i, CHUNK, from, c, 1);
    }
    for (; c < Dk; c++) {
        for (int64_t j = 0; j < n; j++) w->k_turned[c * CHUNK + i + j] = from[j][c];
    }
}

static void chunk_load(const delta_head *d, chunk_work *w, int64_t first, int64_t m)
{
    const int64_t Dk = d->shape->Dk;
    for (int64_t i = 0; i < m; i++) {
        l2_normalise(w->q + i * Dk, query_row(d, first + i), Dk, 1.0f / sqrtf((float)Dk));
        l2_normalise(w->k + i * Dk, key_row(d, first + i), Dk, 1.0f);
    }
    for (int64_t i = 0; i < m; i += 4) turn_keys(w, i, m - i < 4 ? m - i : 4, Dk);
    for (int64_t c = 0; m < CHUNK && c < Dk; c++) {
        memset(w->k_turned + c * CHUNK + m, 0, (size_t)(CHUNK - m) * sizeof *w->k_turned);
    }
}

// y[j] = exp(G[i] - G[j]) for j < n.
static void decays(float *y, const double *G, double Gi, int64_t n)
{
    for (int64_t j = 0; j < n; j++) y[j] = (float)(Gi - G[j]);
    for (int64_t j = 0; j < n; j += VEC_N) vec_put(y + j, vec_exp(vec_get(y + j, n - j)), n - j);
}

// The two triangles: products of keys with keys and of queries with keys, decayed.
static void chunk_triangles(const delta_head *d, chunk_work *w, const double *G, int64_t first,
                            int64_t m)
{
    const int64_t Dk = d->shape->Dk;
    for (int64_t b = 0; b < m; b += BLOCK_ROWS) {
        const int64_t rows = m - b < BLOCK_ROWS ? m - b : BLOCK_ROWS;
        tile_product(w->system + b * CHUNK, CHUNK, (tile_matrix){w->k + b * Dk, Dk, 1}, w->k_turned,
                     CHUNK, rows, b + BLOCK_ROWS, Dk, NULL);
        tile_product(w->scores + b * CHUNK, CHUNK, (tile_matrix){w->q + b * Dk, Dk, 1}, w->k_turned,
                     CHUNK, rows, b + BLOCK_ROWS, Dk, NULL);
        for (int64_t i = b; i < b + rows; i++) {
            float decay[CHUNK], *A = w->system + i * CHUNK, *P = w->scores + i * CHUNK;
            decays(decay, G, G[i], i + 1);
            const float beta = gate_at(d, d->seq->beta, first + i);
            for (int64_t j = 0; j < i; j++) A[j] *= -beta * decay[j];
            for (int64_t j = 0; j <= i; j++) P[j] *= decay[j];
            for (int64_t j = i + 1; j < b + BLOCK_ROWS; j++) P[j] = 0;
        }
    }
}

// u = beta (v - exp(G) k S)
static void chunk_right_side(const delta_head *d, chunk_work *w, int64_t first, int64_t m)
{
    const int64_t Dk = d->shape->Dk, Dv = d->shape->Dv;
    tile_product(w->u, Dv, (tile_matrix){w->k, Dk, 1}, d->state, Dv, m, Dv, Dk, NULL);
    for (int64_t i = 0; i < m; i++) {
        float *u = w->u + i * Dv;
        const float *v = value_row(d, first + i);
        const vec decay = vec_set(w->decay[i]), beta = vec_set(gate_at(d, d->seq->beta, first + i));
        for (int64_t c = 0; c < Dv; c += VEC_N) {
            const vec old = vec_get(u + c, Dv - c);
            vec_put(u + c, vec_fnma(decay, old, vec_get(v + c, Dv - c)) * beta, Dv - c);
        }
    }
}

// Forward substitution, blocks of rows taking in all rows above by a product.
static void chunk_solve(chunk_work *w, int64_t m, int64_t Dv)
{
    for (int64_t b = 0; b < m; b += SOLVE_ROWS) {
        const int64_t rows = m - b < SOLVE_ROWS ? m - b : SOLVE_ROWS;
        const float *A = w->system + b * CHUNK;
        if (b > 0) {
            tile_product(w->u + b * Dv, Dv, (tile_matrix){A, CHUNK, 1}, w->u, Dv, rows, Dv, b,
                         w->ones);
        }
        for (int64_t c = 0; c < Dv; c += VEC_N) {
            vec u[SOLVE_ROWS];
            for (int64_t i = 0; i < rows; i++) {
                float *to = w->u + (b + i) * Dv + c;
                u[i] = vec_get(to, Dv - c);
                for (int64_t j = 0; j < i; j++) {
                    u[i] = vec_fma(vec_set(A[i * CHUNK + b + j]), u[j], u[i]);
                }
                vec_put(to, u[i], Dv - c);
            }
        }
    }
}

static void chunk_out(const delta_head *d, chunk_work *w, int64_t first, int64_t m)
{
    const int64_t Dk = d->shape->Dk, Dv = d->shape->Dv, row = d->shape->value_heads * Dv;
    float *out = out_row(d, first);
    tile_product(out, row, (tile_matrix){w->q, Dk, 1}, d->state, Dv, m, Dv, Dk, NULL);
    for (int64_t b = 0; b < m; b += BLOCK_ROWS) {
        const int64_t rows = m - b < BLOCK_ROWS ? m - b : BLOCK_ROWS;
        tile_product(out + b * row, row, (tile_matrix){w->scores + b * CHUNK, CHUNK, 1}, w->u, Dv,
                     rows, Dv, b + rows, w->decay + b);
    }
}

static void chunk_state(const delta_head *d, chunk_work *w, const double *G, int64_t m)
{
    const int64_t Dk = d->shape->Dk, Dv = d->shape->Dv;
    float decay[CHUNK];
    decays(decay, G, G[m - 1], m);
    for (int64_t c = 0; c < Dk; c++) {
        float *k = w->k_turned + c * CHUNK;
        for (int64_t i = 0; i < m; i += VEC_N) {
            vec_put(k + i, vec_get(k + i, m - i) * vec_get(decay + i, m - i), m - i);
        }
        w->keep[c] = w->decay[m - 1];
    }
    tile_product(d->state, Dv, (tile_matrix){w->k_turned, CHUNK, 1}, w->u, Dv, Dk, Dv, m, w->keep);
}

static void delta_chunks(const delta_head *d, chunk_work *w)
{
    for (int64_t i = 0; i < CHUNK; i++) w->ones[i] = 1;
    for (int64_t first = 0; first < d->seq->n; first += CHUNK) {
        const int64_t left = d->seq->n - first, m = left < CHUNK ? left : CHUNK;
        double G[CHUNK], sum = 0;
        for (int64_t i = 0; i < m; i++) {
            G[i] = sum += (double)gate_at(d, d->seq->g, first + i);
            w->decay[i] = expf((float)sum);
        }
        chunk_load(d, w, first, m);
        chunk_ask(d, first + m, left - m < CHUNK ? left - m : CHUNK);
        chunk_triangles(d, w, G, first, m);
        chunk_right_side(d, w, first, m);
        chunk_solve(w, m, d->shape->Dv);
        chunk_out(d, w, first, m);
        chunk_state(d, w, G, m);
    }
}

// ---- the op ----

typedef struct delta_job {
    kernels *k;
    const delta_seq *seqs;
    const delta_shape *shape;
} delta_job;

// Pieces are (sequence, value head).
static void delta_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const delta_job *j = arg;
    const int64_t heads = j->shape->value_heads, Dk = j->shape->Dk, Dv = j->shape->Dv;
    for (int64_t i = begin; i < end; i++) {
        const int64_t h = i % heads;
        const delta_head d = {&j->seqs[i / heads], j->shape, h,
                              delta_key_head(j->shape, h),
                              j->seqs[i / heads].state + h * Dk * Dv};
        if (d.seq->before) {
            memcpy(d.state, d.seq->before + h * Dk * Dv, (size_t)(Dk * Dv) * sizeof *d.state);
        }
        if (d.seq->n < CHUNKED_FROM) {
            delta_steps(&d, kernels_scratch(j->k, worker, (size_t)(2 * CHUNKED_FROM * Dk)));
        } else {
            chunk_work w;
            const size_t floats = chunk_place(&w, kernels_scratch(j->k, worker, 0), Dk, Dv);
            kernels_scratch(j->k, worker, floats); // checks that it fits
            delta_chunks(&d, &w);
        }
    }
}

static void delta_rule(kernels *k, const delta_seq *seqs, int64_t S, const delta_shape *shape)
{
    delta_job j = {k, seqs, shape};
    threads_for(k->pool, S * shape->value_heads, 1, delta_pieces, &j);
}

static void delta_fill(backend_ops *ops)
{
    ops->delta_rule = delta_rule;
}

#endif
