// kernels/cpu/attention_few.h - attention of a few query rows (a decode step's heads of one KV head)
// over blocks of keys, at the speed of memory: keys and values are read once, as stored, and serve
// all rows. The same running softmax as attention_tile.h, rows one after another.
#ifndef SIGHT_KERNELS_CPU_ATTENTION_FEW_H
#define SIGHT_KERNELS_CPU_ATTENTION_FEW_H

#include "kernels/cpu/attention_tile.h"

#define FEW_ROWS 8  // at most
#define FEW_GROUP 4 // rows, and keys, in registers together
#define FEW_KEYS 64 // of a block

typedef struct few_rows {
    int64_t rows, C;
    float *q;   // [rows][C], scaled by scale * log2 e
    float *out; // [rows][C], not yet divided by sum
    float largest[FEW_ROWS], sum[FEW_ROWS];
    float scores[FEW_ROWS][FEW_KEYS]; // later the weights
} few_rows;

static void few_start(few_rows *f, float *q, float *out, int64_t rows, int64_t C)
{
    *f = (few_rows){.rows = rows, .C = C, .q = q, .out = out};
    for (int i = 0; i < FEW_ROWS; i++) f->largest[i] = LOWEST;
    memset(out, 0, (size_t)(rows * C) * sizeof *out);
}

// n vector elements at x[i], zeros beyond.
TILE_INLINE vec load_some(const void *x, int64_t i, const bool bf16, int64_t n)
{
    if (bf16) {
        const uint16_t *p = (const uint16_t *)x + i;
        return n >= VEC_N ? vec_bf16(p) : vec_bf16_n(p, n);
    }
    return vec_get((const float *)x + i, n);
}

TILE_INLINE const void *row_at(const void *x, int64_t i, const bool bf16)
{
    return bf16 ? (const void *)((const uint16_t *)x + i) : (const void *)((const float *)x + i);
}

// Bytes ahead of the row in use that are asked for from memory.
#define FEW_AHEAD 8192

// n vector elements at x[i], zeros beyond; with `fetch` also asks for those FEW_AHEAD bytes on, a
// little at a time, so that waiting for memory and computing overlap. (Past the end of a page this
// is harmless.)
TILE_INLINE vec load_stored(const void *x, int64_t i, const bool bf16, int64_t n, bool fetch)
{
    const void *at = row_at(x, i, bf16);
    if (fetch) __builtin_prefetch((const void *)((uintptr_t)at + FEW_AHEAD));
    return load_some(at, 0, bf16, n);
}

// R rows by K keys: R x K sums of products, C long.
TILE_INLINE void few_scores(const int R, const int K, few_rows *f, int64_t row, const void *keys,
                            int64_t key, const bool bf16)
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
        for (int j = 0; j < K; j++) {
            k[j] = load_stored(keys, (key + j) * C + c, bf16, C - c, row == 0);
        }
#pragma GCC unroll 4
        for (int i = 0; i < R; i++) {
            const vec q = vec_get(f->q + (row + i) * C + c, C - c);
#pragma GCC unroll 4
            for (int j = 0; j < K; j++) sum[i][j] = vec_fma(q, k[j], sum[i][j]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
#pragma GCC unroll 4
        for (int j = 0; j < K; j++) f->scores[row + i][key + j] = vec_sum(sum[i][j]);
    }
}

// out of R rows += weights of K keys times their values.
TILE_INLINE void few_values(const int R, const int K, few_rows *f, int64_t row, const void *values,
                            int64_t key, const bool bf16)
{
    const int64_t C = f->C;
    vec w[FEW_GROUP][FEW_GROUP];
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
#pragma GCC unroll 4
        for (int j = 0; j < K; j++) w[i][j] = vec_set(f->scores[row + i][key + j]);
    }
    for (int64_t c = 0; c < C; c += VEC_N) {
        vec v[FEW_GROUP];
#pragma GCC unroll 4
        for (int j = 0; j < K; j++) {
            v[j] = load_stored(values, (key + j) * C + c, bf16, C - c, row == 0);
        }
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
    float *s = f->scores[row], now = f->largest[row];
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
    case 1: do_it(1, K, f, row, from, key, bf16); break;                                           \
    case 2: do_it(2, K, f, row, from, key, bf16); break;                                           \
    case 3: do_it(3, K, f, row, from, key, bf16); break;                                           \
    default: do_it(4, K, f, row, from, key, bf16); break;                                          \
    }

// do_it for all rows and keys, in groups.
#define FEW_OVER_ALL(name, do_it)                                                                  \
    TILE_INLINE void name(few_rows *f, const void *from, int64_t n_keys, const bool bf16)          \
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

// n_keys <= FEW_KEYS keys and values [n_keys][C]; row i sees the first seen[i] of them, all when
// seen is NULL.
TILE_INLINE void few_attend(few_rows *f, const void *keys, const void *values, int64_t n_keys,
                            const int64_t *seen, const bool bf16)
{
    few_all_scores(f, keys, n_keys, bf16);
    for (int64_t i = 0; i < f->rows; i++) {
        for (int64_t j = seen && seen[i] > 0 ? seen[i] : 0; seen && j < n_keys; j++) {
            f->scores[i][j] = -INFINITY;
        }
        few_softmax(f, i, n_keys);
    }
    few_all_values(f, values, n_keys, bf16);
}

#endif
