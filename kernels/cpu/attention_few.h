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
    const void *rows;    // [n_keys][C]
    const float *scales; // [n_keys][groups]
    int64_t groups;
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

TILE_INLINE const void *few_row_at(const few_run *r, int64_t key, int64_t C, const tensor_type type)
{
    return (const char *)r->rows + key * C * (type == TENSOR_F32 ? 4 : type == TENSOR_BF16 ? 2 : 1);
}

// Bytes ahead of the row in use that are asked for from memory.
#define FEW_AHEAD 8192

// Components c .. of a key; with `fetch` also asks for those FEW_AHEAD bytes on, a little at a time, so
// that waiting for memory and computing overlap. (Past the end of a page this is harmless.)
TILE_INLINE vec few_get(const few_run *r, int64_t key, int64_t c, int64_t C, const tensor_type type,
                        bool fetch)
{
    const void *row = few_row_at(r, key, C, type);
    const float *scales = type == TENSOR_I8 ? r->scales + key * r->groups : NULL;
    if (fetch) {
        const int64_t bytes = type == TENSOR_F32 ? 4 : type == TENSOR_BF16 ? 2 : 1;
        __builtin_prefetch((const void *)((uintptr_t)row + (uintptr_t)(c * bytes) + FEW_AHEAD));
    }
    return stored_get(row, scales, c, C - c, type);
}

// R rows by K keys: R x K sums of products, C long.
TILE_INLINE void few_scores(const int R, const int K, few_rows *f, int64_t row, const few_run *keys,
                            int64_t key, const tensor_type type)
{
    const int64_t C = f->C;
    vec sum[FEW_GROUP][FEW_GROUP];
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
#pragma GCC unroll 4
        for (int j = 0; j < K; j++) sum[i][j] = vec_set(0);
    }
    for (int64_t c = 0; c < C; c += VEC_N) {
        vec k[FEW_GROUP];
#pragma GCC unroll 4
        for (int j = 0; j < K; j++) k[j] = few_get(keys, key + j, c, C, type, row == 0);
#pragma GCC unroll 4
        for (int i = 0; i < R; i++) {
            const vec q = vec_get(f->q + (row + i) * C + c, C - c);
#pragma GCC unroll 4
            for (int j = 0; j < K; j++) sum[i][j] = vec_fma(q, k[j], sum[i][j]);
        }
    }
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

// out of R rows += weights of K keys times their values.
TILE_INLINE void few_values(const int R, const int K, few_rows *f, int64_t row,
                            const few_run *values, int64_t key, const tensor_type type)
{
    const int64_t C = f->C;
    vec w[FEW_GROUP][FEW_GROUP];
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
#pragma GCC unroll 4
        for (int j = 0; j < K; j++) w[i][j] = vec_set(f->scores[(row + i) * FEW_KEYS + key + j]);
    }
    for (int64_t c = 0; c < C; c += VEC_N) {
        vec v[FEW_GROUP];
#pragma GCC unroll 4
        for (int j = 0; j < K; j++) v[j] = few_get(values, key + j, c, C, type, row == 0);
#pragma GCC unroll 4
        for (int i = 0; i < R; i++) {
            float *to = f->out + (row + i) * C + c;
            vec sum = vec_get(to, C - c);
#pragma GCC unroll 4
            for (int j = 0; j < K; j++) sum = vec_fma(w[i][j], v[j], sum);
            vec_put(to, sum, C - c);
        }
    }
}

// Scores become weights, and out shrinks where the largest has grown.
static void few_softmax(few_rows *f, int64_t row, int64_t n_keys)
{
    float *s = f->scores + row * FEW_KEYS, now = f->largest[row];
    for (int64_t i = 0; i < n_keys; i++) now = s[i] > now ? s[i] : now;
    for (int64_t i = n_keys; i < FEW_KEYS; i++) s[i] = -INFINITY;
    vec total = vec_set(0);
    for (int64_t i = 0; i < FEW_KEYS; i += VEC_N) {
        const vec w = vec_exp2(vec_load(s + i) - vec_set(now));
        vec_store(s + i, w);
        total = total + w;
    }
    const float shrink = exp2f(f->largest[row] - now);
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
