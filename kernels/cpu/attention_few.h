// kernels/cpu/attention_few.h - attention of a few query rows (a decode step's heads of one KV head)
// over blocks of keys, at the speed of memory: keys and values are read once, as stored, and serve
// all rows. The same running softmax as attention_tile.h, rows one after another.
#ifndef SIGHT_KERNELS_CPU_ATTENTION_FEW_H
#define SIGHT_KERNELS_CPU_ATTENTION_FEW_H

#include "kernels/cpu/attention_rows.h"

#define FEW_TOKENS 8 // of a sequence: fewer are few
#define FEW_ROWS 48  // at most
#define FEW_GROUP 4  // rows, and keys, in registers together
#define FEW_KEYS 64  // of a block

typedef struct few_rows {
    int64_t rows, C;
    float *q;      // [rows][C], scaled by scale * log2 e
    float *out;    // [rows][C], not yet divided by sum
    float *scores; // [rows][FEW_KEYS], later the weights
    float largest[FEW_ROWS], sum[FEW_ROWS];
} few_rows;

// Keys or values that lie together, and of bytes their scales.
typedef struct few_run {
    const void *rows;    // [n][C]
    const float *scales; // [n][groups]
    int64_t n, groups;
    const void *next; // what will be read after the last row
} few_run;

static int64_t few_floats(int64_t rows, int64_t C)
{
    return rows * (2 * C + FEW_KEYS);
}

static void few_start(few_rows *f, float *memory, int64_t rows, int64_t C)
{
    f->rows = rows;
    f->C = C;
    f->scores = memory;
    f->q = memory + rows * FEW_KEYS;
    f->out = f->q + rows * C;
    for (int64_t i = 0; i < rows; i++) {
        f->largest[i] = LOWEST;
        f->sum[i] = 0;
    }
    memset(f->out, 0, (size_t)(rows * C) * sizeof *f->out);
}

#define FEW_AHEAD 8192 // bytes ahead of what is in use that are asked for from memory
#define CACHE_LINE 64

TILE_INLINE int64_t few_row_bytes(int64_t C, const tensor_type type)
{
    return C * (type == TENSOR_F32 ? 4 : type == TENSOR_BF16 ? 2 : 1);
}

// K rows in use from `key` on, and the place about FEW_AHEAD bytes on.
typedef struct few_place {
    const char *row, *ahead;
    const float *scales;
    int64_t row_bytes, groups;
} few_place;

TILE_INLINE few_place few_find(const few_run *r, int64_t key, int64_t C, const tensor_type type)
{
    const int64_t bytes = few_row_bytes(C, type);
    const int64_t ahead = key + (FEW_AHEAD / bytes + FEW_GROUP) / FEW_GROUP * FEW_GROUP;
    few_place p = {(const char *)r->rows + key * bytes, NULL, NULL, bytes, r->groups};
    if (type == TENSOR_I8) p.scales = r->scales + key * r->groups;
    p.ahead = ahead < r->n ? (const char *)r->rows + ahead * bytes
                           : (const char *)r->next + (ahead - r->n) * bytes;
    return p;
}

// Components c .. of row j of K; with `fetch` also asks for the line that is ahead, so that waiting for
// memory and computing overlap. Lines are asked for in order: the processor then takes the stream up by
// itself. (Past the end of a page this is harmless.)
TILE_INLINE vec few_get(const few_place *p, const int j, const int K, int64_t c, int64_t n,
                        const tensor_type type, const bool fetch)
{
    if (fetch) __builtin_prefetch(p->ahead + few_row_bytes(c, type) * K + j * CACHE_LINE, 0, 2);
    return stored_get(p->row + j * p->row_bytes, p->scales + j * p->groups, c, n, type);
}

// Components of R rows and K keys at c, n of them.
TILE_INLINE void few_score_step(const int R, const int K, vec sum[FEW_GROUP][FEW_GROUP],
                                const float *q, const few_place *p, int64_t c, int64_t C, int64_t n,
                                const tensor_type type, const bool fetch)
{
    vec k[FEW_GROUP];
#pragma GCC unroll 4
    for (int j = 0; j < K; j++) k[j] = few_get(p, j, K, c, n, type, fetch);
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
        const vec x = vec_get(q + i * C + c, n);
#pragma GCC unroll 4
        for (int j = 0; j < K; j++) sum[i][j] = vec_fma(x, k[j], sum[i][j]);
    }
}

// R rows by K keys: R x K sums of products, C long, a cache line of keys at a time.
TILE_INLINE void few_scores(const int R, const int K, few_rows *f, int64_t row, const few_run *keys,
                            int64_t key, const tensor_type type)
{
    const int64_t C = f->C, line = CACHE_LINE / few_row_bytes(1, type);
    const float *q = f->q + row * C;
    const few_place p = few_find(keys, key, C, type);
    vec sum[FEW_GROUP][FEW_GROUP];
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
#pragma GCC unroll 4
        for (int j = 0; j < K; j++) sum[i][j] = vec_set(0);
    }
    int64_t c = 0;
    for (; c + line <= C; c += line) {
#pragma GCC unroll 16
        for (int64_t d = 0; d < line; d += VEC_N) {
            few_score_step(R, K, sum, q, &p, c + d, C, VEC_N, type, d == 0);
        }
    }
    for (; c < C; c += VEC_N) few_score_step(R, K, sum, q, &p, c, C, C - c, type, false);
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
        float *to = f->scores + (row + i) * FEW_KEYS + key;
        if (K == FEW_GROUP) {
            vec_sum_of_4(to, sum[i]);
        } else { // in the same order, so that a key's score does not depend on how many follow
            const vec alone[4] = {sum[i][0], sum[i][0], sum[i][0], sum[i][0]};
            float same[4];
            vec_sum_of_4(same, alone);
            to[0] = same[0];
        }
    }
}

TILE_INLINE void few_value_step(const int R, const int K, const vec w[FEW_GROUP][FEW_GROUP],
                                float *out, const few_place *p, int64_t c, int64_t C, int64_t n,
                                const tensor_type type, const bool fetch)
{
    vec v[FEW_GROUP];
#pragma GCC unroll 4
    for (int j = 0; j < K; j++) v[j] = few_get(p, j, K, c, n, type, fetch);
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
        float *to = out + i * C + c;
        vec sum = vec_get(to, n);
#pragma GCC unroll 4
        for (int j = 0; j < K; j++) sum = vec_fma(w[i][j], v[j], sum);
        vec_put(to, sum, n);
    }
}

// out of R rows += weights of K keys times their values.
TILE_INLINE void few_values(const int R, const int K, few_rows *f, int64_t row,
                            const few_run *values, int64_t key, const tensor_type type)
{
    const int64_t C = f->C, line = CACHE_LINE / few_row_bytes(1, type);
    float *out = f->out + row * C;
    const few_place p = few_find(values, key, C, type);
    vec w[FEW_GROUP][FEW_GROUP];
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
#pragma GCC unroll 4
        for (int j = 0; j < K; j++) w[i][j] = vec_set(f->scores[(row + i) * FEW_KEYS + key + j]);
    }
    int64_t c = 0;
    for (; c + line <= C; c += line) {
#pragma GCC unroll 16
        for (int64_t d = 0; d < line; d += VEC_N) {
            few_value_step(R, K, w, out, &p, c + d, C, VEC_N, type, d == 0);
        }
    }
    for (; c < C; c += VEC_N) few_value_step(R, K, w, out, &p, c, C, C - c, type, false);
}

// Scores become weights, and out shrinks where the largest has grown.
static void few_softmax(few_rows *f, int64_t row, int64_t n_keys)
{
    float *s = f->scores + row * FEW_KEYS;
    for (int64_t i = n_keys; i < FEW_KEYS; i++) s[i] = -INFINITY;
    vec most = vec_set(f->largest[row]), total = vec_set(0);
    for (int64_t i = 0; i < FEW_KEYS; i += VEC_N) most = vec_max(vec_load(s + i), most);
    const float now = vec_largest(most);
    for (int64_t i = 0; i < FEW_KEYS; i += VEC_N) {
        const vec w = vec_exp2(vec_load(s + i) - vec_set(now));
        vec_store(s + i, w);
        total = total + w;
    }
    const float shrink = now > f->largest[row] ? exp2f(f->largest[row] - now) : 1;
    f->sum[row] = f->sum[row] * shrink + vec_sum(total);
    f->largest[row] = now;
    if (shrink == 1) return;
    float *out = f->out + row * f->C;
    for (int64_t c = 0; c < f->C; c += VEC_N) {
        vec_put(out + c, vec_get(out + c, f->C - c) * vec_set(shrink), f->C - c);
    }
}

// Register groups need constants.
#define FEW_BY_ROWS(do_it, K)                                                                      \
    switch (R) {                                                                                   \
    case 1: do_it(1, K, f, row, from, key, type); break;                                           \
    case 2: do_it(2, K, f, row, from, key, type); break;                                           \
    case 3: do_it(3, K, f, row, from, key, type); break;                                           \
    default: do_it(4, K, f, row, from, key, type); break;                                          \
    }

// do_it for all rows and keys, in groups.
#define FEW_OVER_ALL(name, do_it)                                                                  \
    TILE_INLINE void name(few_rows *f, const few_run *from, int64_t n_keys, const tensor_type type) \
    {                                                                                              \
        int64_t key = 0;                                                                           \
        for (; key + FEW_GROUP <= n_keys; key += FEW_GROUP) {                                      \
            for (int64_t row = 0; row < f->rows; row += FEW_GROUP) {                               \
                const int64_t R = f->rows - row;                                                   \
                FEW_BY_ROWS(do_it, FEW_GROUP)                                                      \
            }                                                                                      \
        }                                                                                          \
        for (; key < n_keys; key++) {                                                              \
            for (int64_t row = 0; row < f->rows; row += FEW_GROUP) {                               \
                const int64_t R = f->rows - row;                                                   \
                FEW_BY_ROWS(do_it, 1)                                                              \
            }                                                                                      \
        }                                                                                          \
    }

FEW_OVER_ALL(few_all_scores, few_scores)
FEW_OVER_ALL(few_all_values, few_values)

// n_keys <= FEW_KEYS keys and values; row i sees the first seen[i] of them, all when seen is NULL.
// A row's results do not depend on what other rows there are.
TILE_INLINE void few_attend(few_rows *f, const few_run *keys, const few_run *values, int64_t n_keys,
                            const int64_t *seen, const tensor_type type)
{
    few_all_scores(f, keys, n_keys, type);
    for (int64_t i = 0; i < f->rows; i++) {
        for (int64_t j = seen && seen[i] > 0 ? seen[i] : 0; seen && j < n_keys; j++) {
            f->scores[i * FEW_KEYS + j] = -INFINITY;
        }
        few_softmax(f, i, n_keys);
    }
    few_all_values(f, values, n_keys, type);
}

#endif
