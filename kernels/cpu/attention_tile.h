// kernels/cpu/attention_tile.h - a tile of query rows that walks over blocks of keys, over vec.
//
// Scores are kept turned, [keys][rows]: then keys and values are used as they lie, only the queries
// are turned (once), and the largest score and the sum of a row run down a lane, without
// shuffles. Softmax is online and in powers of two (the queries are scaled by log2 e): a tile keeps,
// per row, the largest score so far, the sum of 2^(score - largest), and the sum of the values so
// weighted, which shrinks when the largest grows (Milakov and Gimelshein 2018; Dao et al. 2022).
#ifndef SIGHT_KERNELS_CPU_ATTENTION_TILE_H
#define SIGHT_KERNELS_CPU_ATTENTION_TILE_H

#include "kernels/cpu/attention_rows.h"
#include "kernels/cpu/math_tile.h"

#define PANEL_ROWS 64  // query rows whose scores are made together

// All in one worker's scratch. C is the head's width.
typedef struct query_tile {
    int64_t rows, C;
    float *q;       // [panels][C][PANEL_ROWS], scaled, zeros beyond rows
    float *out;     // [rows][C], not yet divided by sum
    float *largest; // [panels][PANEL_ROWS]
    float *sum;     // [panels][PANEL_ROWS]
    float *limit;   // [panels][PANEL_ROWS]: last key that a row sees, counted from the block's first
    float *block;   // room for a block that has to be copied
    float *scores;  // [BLOCK_KEYS][PANEL_ROWS], later the weights
    float *shrink;  // [PANEL_ROWS]
} query_tile;

// The keys and values that a tile takes in: keys [n][C], values [n][value_stride(C)].
typedef struct key_block {
    float *keys, *values;
    int64_t n;
} key_block;

// Rows of values begin on cache lines, an odd number of lines from each other when they are long:
// a column of rows that are a power of two apart would fall on few sets of the cache.
static inline int64_t value_stride(int64_t C)
{
    const int64_t lines = (C + 15) / 16;
    return (lines > 4 ? lines | 1 : lines) * 16;
}

static int64_t tile_panels(int64_t rows)
{
    return (rows + PANEL_ROWS - 1) / PANEL_ROWS;
}

// Room for a block of keys and values.
static int64_t block_floats(int64_t C)
{
    return BLOCK_KEYS * ((C + 15) / 16 * 16 + value_stride(C));
}

static key_block block_at(float *memory, int64_t C)
{
    return (key_block){memory, memory + BLOCK_KEYS * ((C + 15) / 16 * 16), 0};
}

// Lays the tile out for up to max_rows rows of width C.
static void tile_place(query_tile *t, const kernels *k, int worker, int64_t max_rows, int64_t C)
{
    const int64_t padded = tile_panels(max_rows) * PANEL_ROWS;
    const int64_t even = (C + 15) / 16 * 16; // keeps what follows on cache lines
    const int64_t floats = 2 * padded * even + 3 * padded + block_floats(C) +
                           BLOCK_KEYS * PANEL_ROWS + PANEL_ROWS;
    t->C = C;
    t->q = kernels_scratch(k, worker, (size_t)floats);
    t->out = t->q + padded * even;
    t->largest = t->out + padded * even;
    t->sum = t->largest + padded;
    t->limit = t->sum + padded;
    t->block = t->limit + padded;
    t->scores = t->block + block_floats(C);
    t->shrink = t->scores + BLOCK_KEYS * PANEL_ROWS;
}

static void tile_start(query_tile *t, int64_t rows)
{
    t->rows = rows;
    const int64_t padded = tile_panels(rows) * PANEL_ROWS, beyond = padded - rows;
    for (int64_t i = 0; i < padded; i++) {
        t->largest[i] = LOWEST;
        t->sum[i] = 0;
    }
    memset(t->out, 0, (size_t)(rows * t->C) * sizeof(float));
    float *last = t->q + (padded / PANEL_ROWS - 1) * PANEL_ROWS * t->C + PANEL_ROWS - beyond;
    for (int64_t c = 0; beyond > 0 && c < t->C; c++) {
        memset(last + c * PANEL_ROWS, 0, (size_t)beyond * sizeof(float));
    }
}

// Rows first .. first + n - 1 of the tile, all of one panel, are q[i] [C], times scale.
static void tile_set_queries(query_tile *t, int64_t first, const float *const *q, int64_t n,
                             float scale)
{
    float *panel = t->q + first / PANEL_ROWS * PANEL_ROWS * t->C + first % PANEL_ROWS;
    for (int64_t c = 0; c < t->C; c += 4) {
        float *to = panel + c * PANEL_ROWS;
        int64_t i = 0;
        for (; c + 4 <= t->C && i + 4 <= n; i += 4) {
            vec_turn_4x4(to + i, PANEL_ROWS, q + i, c, scale);
        }
        for (; i < n; i++) {
            for (int64_t j = 0; j < 4 && c + j < t->C; j++) {
                to[j * PANEL_ROWS + i] = q[i][c + j] * scale;
            }
        }
    }
}

// ---- filling a block ----

TILE_INLINE void fill_row(float *y, const void *row, const float *scales, int64_t C,
                          const tensor_type type)
{
    for (int64_t c = 0; c < C; c += VEC_N) {
        vec_put(y + c, stored_get(row, scales, c, C - c, type), C - c);
    }
}

TILE_INLINE void fill_as(key_block *b, const stored_rows *from, int64_t C, const tensor_type type)
{
    const int64_t stride = value_stride(C);
    for (int64_t i = 0; i < from->n; i++) {
        fill_row(b->keys + i * C, from->keys[i], from->key_scales[i], C, type);
        fill_row(b->values + i * stride, from->values[i], from->value_scales[i], C, type);
    }
}

static void block_fill(key_block *b, const stored_rows *from, int64_t C)
{
    b->n = from->n;
    BY_TYPE(from->type, fill_as, b, from, C);
}

// ---- a block ----

// Scores of keys beyond a row's limit become -infinity.
static void panel_hide(float *scores, const float *limit, int64_t width, int64_t n_keys)
{
    for (int64_t i = 0; i < n_keys; i++) {
        for (int64_t j = 0; j < width; j += VEC_N) {
            float *s = scores + i * PANEL_ROWS + j;
            vec_store(s, vec_where_le(vec_set((float)i), vec_load(limit + j), vec_load(s),
                                      vec_set(-INFINITY)));
        }
    }
}

// VEC_N rows: scores become weights; largest and sum move on; gives by how much sums shrink.
static vec lanes_softmax(float *scores, float *largest, float *sum, int64_t n_keys)
{
    const vec before = vec_load(largest);
    vec m[4] = {before, before, before, before};
    int64_t i = 0;
    for (; i + 4 <= n_keys; i += 4) {
        for (int j = 0; j < 4; j++) {
            m[j] = vec_max(m[j], vec_load(scores + (i + j) * PANEL_ROWS));
        }
    }
    for (; i < n_keys; i++) m[0] = vec_max(m[0], vec_load(scores + i * PANEL_ROWS));
    const vec now = vec_max(vec_max(m[0], m[1]), vec_max(m[2], m[3]));
    const vec shrink = vec_exp2(before - now);
    vec total = vec_load(sum) * shrink;
    for (i = 0; i < n_keys; i++) {
        const vec w = vec_exp2(vec_load(scores + i * PANEL_ROWS) - now);
        total = total + w;
        vec_store(scores + i * PANEL_ROWS, w);
    }
    vec_store(largest, now);
    vec_store(sum, total);
    return shrink;
}

// Panel p takes the block's keys in. masked: limit holds.
static void panel_attend(query_tile *t, int64_t p, const key_block *b, bool masked)
{
    const int64_t C = t->C, n_keys = b->n, first = p * PANEL_ROWS;
    const int64_t rows = t->rows - first < PANEL_ROWS ? t->rows - first : PANEL_ROWS;
    const int64_t width = (rows + VEC_N - 1) / VEC_N * VEC_N;
    tile_product(t->scores, PANEL_ROWS, (tile_matrix){b->keys, C, 1}, t->q + first * C, PANEL_ROWS,
                 n_keys, width, C, NULL);
    if (masked) panel_hide(t->scores, t->limit + first, width, n_keys);
    for (int64_t j = 0; j < width; j += VEC_N) {
        const vec shrink = lanes_softmax(t->scores + j, t->largest + first + j, t->sum + first + j,
                                         n_keys);
        vec_store(t->shrink + j, shrink);
    }
    tile_product(t->out + first * C, C, (tile_matrix){t->scores, 1, PANEL_ROWS}, b->values,
                 value_stride(C), rows, C, n_keys, t->shrink);
}

static void tile_attend(query_tile *t, const key_block *b, bool masked)
{
    for (int64_t p = 0; p < tile_panels(t->rows); p++) panel_attend(t, p, b, masked);
}

// Row i's weighted values, not yet divided by sum.
static const float *tile_out(const query_tile *t, int64_t i)
{
    return t->out + i * t->C;
}

#endif
