// kernels/cpu/attention_tile16.h - the tile of attention_tile.h in 16-bit whole numbers, for AVX-512
// with VNNI: two multiply-adds where float32 does one, and less rounding than bf16.
//
// Queries and keys are whole numbers times a scale of their row, as large as 32-bit sums allow:
// |q| |k| < 2^31 bounds their product and every part of its sum (Cauchy-Schwarz), so norms go up to
// NORM. Values are whole numbers up to WHOLE times a scale of their block and component; weights are
// 2^(score - largest of the block), from 0 to WHOLE, and BLOCK_KEYS products of two of them fit a
// 32-bit sum. Blocks then meet in float, as in attention_tile.h. A row's sum adds its rounded
// weights, so that rounding shifts no mean.
//
// A pair is two neighbours in one 32-bit lane: components of queries and keys, keys of weights and
// values.
#ifndef SIGHT_KERNELS_CPU_ATTENTION_TILE16_H
#define SIGHT_KERNELS_CPU_ATTENTION_TILE16_H

#include "kernels/cpu/attention_rows.h"

#define PANEL_ROWS 64 // query rows whose scores are made together
#define PAIR_ROWS 6   // of a register tile, by PAIR_VECS vectors
#define PAIR_VECS 4
#define PAIR_MAX_VECS 5 // by 5 rows, for what 5 vectors hold and 4 do not
#define WHOLE 4095    // 128 * 4095^2 < 2^31
#define NORM 46300.0f // its square is 2^31 less room for the rounding of rows of up to 6,000 numbers
#define LARGEST 32766.0f
#define LEAST_UNIT 1e-20f // of a row of zeros: keeps LOWEST low

// All in one worker's scratch.
typedef struct query_tile {
    int64_t rows, C;
    int64_t pairs;   // of components
    int64_t wide;    // C in whole vectors
    int32_t *q;      // [panels][pairs][PANEL_ROWS], zeros beyond rows
    float *unit;     // [panels][PANEL_ROWS]: what a row's scores count in, log2 e included
    float *out;      // [panels][PANEL_ROWS][wide], not yet divided by sum
    float *largest;  // [panels][PANEL_ROWS]
    float *sum;      // [panels][PANEL_ROWS]
    float *limit;    // [panels][PANEL_ROWS]: last key that a row sees, counted from the block's first
    float *block;    // room for a block that has to be copied
    float *scores;   // [BLOCK_KEYS][PANEL_ROWS]; then pairs of weights [BLOCK_KEYS / 2][PANEL_ROWS]
    float *most;     // [PANEL_ROWS]: largest score of the block
    float *shrink, *grow; // [PANEL_ROWS]: what the sums so far, and the block's, are worth now
    int32_t *turned; // [4][wide / 2]: rows on their way to q
} query_tile;

typedef struct key_block {
    int16_t *keys;      // [n][2 pairs]
    float *key_unit;    // [n]
    int32_t *values;    // pairs [n / 2][wide]
    float *value_unit;  // [wide]
    int64_t n;
} key_block;

static int64_t wide_of(int64_t C)
{
    return (C + VEC_N - 1) / VEC_N * VEC_N;
}

static int64_t tile_panels(int64_t rows)
{
    return (rows + PANEL_ROWS - 1) / PANEL_ROWS;
}

static int64_t block_floats(int64_t C)
{
    return BLOCK_KEYS * wide_of(C) + BLOCK_KEYS + wide_of(C);
}

static key_block block_at(float *memory, int64_t C)
{
    const int64_t half = BLOCK_KEYS / 2 * wide_of(C);
    return (key_block){(int16_t *)memory, memory + 2 * half, (int32_t *)memory + half,
                       memory + 2 * half + BLOCK_KEYS, 0};
}

static void tile_place(query_tile *t, const kernels *k, int worker, int64_t max_rows, int64_t C)
{
    const int64_t padded = tile_panels(max_rows) * PANEL_ROWS, wide = wide_of(C);
    const int64_t floats = padded * (wide / 2 + wide + 4) + block_floats(C) +
                           (BLOCK_KEYS + 3) * PANEL_ROWS + 2 * wide;
    *t = (query_tile){.C = C, .pairs = (C + 1) / 2, .wide = wide};
    float *p = kernels_scratch(k, worker, (size_t)floats);
    t->q = (int32_t *)p;
    t->out = p += padded * (wide / 2);
    t->unit = p += padded * wide;
    t->largest = p += padded;
    t->sum = p += padded;
    t->limit = p += padded;
    t->block = p += padded;
    t->scores = p += block_floats(C);
    t->most = p += BLOCK_KEYS * PANEL_ROWS;
    t->shrink = p += PANEL_ROWS;
    t->grow = p += PANEL_ROWS;
    t->turned = (int32_t *)(p + PANEL_ROWS);
}

static void tile_start(query_tile *t, int64_t rows)
{
    const int64_t padded = tile_panels(rows) * PANEL_ROWS;
    t->rows = rows;
    for (int64_t i = 0; i < padded; i++) {
        t->largest[i] = LOWEST;
        t->sum[i] = 0;
        t->unit[i] = LEAST_UNIT;
    }
    memset(t->out, 0, (size_t)(padded * t->wide) * sizeof *t->out);
    int32_t *last = t->q + (padded - PANEL_ROWS) * t->pairs;
    if (rows < padded) memset(last, 0, (size_t)(t->pairs * PANEL_ROWS) * sizeof *last);
}

// ---- rows into whole numbers ----

// By what a row is multiplied to become whole numbers; 0 for a row of zeros.
static float whole_scale(vec largest, vec squares)
{
    const float most = _mm512_reduce_max_ps(largest), norm = sqrtf(vec_sum(squares));
    if (!(most > 1e-30f)) return 0;
    const float a = LARGEST / most, b = NORM / norm;
    return a < b ? a : b;
}

TILE_INLINE __m512i whole(vec x, vec scale)
{
    return _mm512_cvtps_epi32(x * scale);
}

// y [2 pairs] = the row in whole numbers; gives what they count in.
TILE_INLINE float whole_row(int16_t *y, const void *row, const float *scales, int64_t C,
                            const tensor_type type)
{
    vec largest = vec_set(0), squares = vec_set(0);
    for (int64_t c = 0; c < C; c += VEC_N) {
        const vec x = stored_get(row, scales, c, C - c, type);
        largest = vec_max(largest, vec_abs(x));
        squares = vec_fma(x, x, squares);
    }
    const float scale = whole_scale(largest, squares);
    for (int64_t c = 0; c < C; c += VEC_N) {
        const __m512i x = whole(stored_get(row, scales, c, C - c, type), vec_set(scale));
        const int64_t n = (C + 1) / 2 * 2 - c;
        _mm512_mask_cvtsepi32_storeu_epi16(y + c, n >= VEC_N ? 0xffff : vec_first(n), x);
    }
    return scale > 0 ? 1 / scale : 0;
}

// to[i * PANEL_ROWS + j] = from[j * from_row + i] for i, j < 4.
static void turn_4x4(int32_t *to, const int32_t *from, int64_t from_row)
{
    __m128i r[4];
    for (int i = 0; i < 4; i++) r[i] = _mm_loadu_si128((const __m128i *)(from + i * from_row));
    const __m128i ab = _mm_unpacklo_epi32(r[0], r[1]), cd = _mm_unpacklo_epi32(r[2], r[3]);
    const __m128i AB = _mm_unpackhi_epi32(r[0], r[1]), CD = _mm_unpackhi_epi32(r[2], r[3]);
    _mm_storeu_si128((__m128i *)to, _mm_unpacklo_epi64(ab, cd));
    _mm_storeu_si128((__m128i *)(to + PANEL_ROWS), _mm_unpackhi_epi64(ab, cd));
    _mm_storeu_si128((__m128i *)(to + 2 * PANEL_ROWS), _mm_unpacklo_epi64(AB, CD));
    _mm_storeu_si128((__m128i *)(to + 3 * PANEL_ROWS), _mm_unpackhi_epi64(AB, CD));
}

// Rows first .. first + n - 1 of the tile, all of one panel, are q[i] [C], times scale.
static void tile_set_queries(query_tile *t, int64_t first, const float *const *q, int64_t n,
                             float scale)
{
    const int64_t row = t->wide / 2;
    int32_t *panel = t->q + first / PANEL_ROWS * PANEL_ROWS * t->pairs + first % PANEL_ROWS;
    for (int64_t i = 0, rows; i < n; i += rows) {
        rows = n - i < 4 ? n - i : 4;
        for (int64_t r = 0; r < rows; r++) {
            const float unit = scale * whole_row((int16_t *)(t->turned + r * row), q[i + r], NULL,
                                                 t->C, TENSOR_F32);
            t->unit[first + i + r] = unit > LEAST_UNIT ? unit : LEAST_UNIT;
        }
        int64_t c = 0;
        for (; rows == 4 && c + 4 <= t->pairs; c += 4) {
            turn_4x4(panel + c * PANEL_ROWS + i, t->turned + c, row);
        }
        for (; c < t->pairs; c++) {
            for (int64_t r = 0; r < rows; r++) {
                panel[c * PANEL_ROWS + i + r] = t->turned[r * row + c];
            }
        }
    }
}

// One vector of components of all values.
TILE_INLINE void fill_values(key_block *b, const stored_rows *from, int64_t c, int64_t left,
                             int64_t wide, const tensor_type type)
{
    vec most = vec_set(0);
    for (int64_t i = 0; i < from->n; i++) {
        most = vec_max(most, vec_abs(stored_get(from->values[i], from->value_scales[i], c, left,
                                                type)));
    }
    const __mmask16 some = _mm512_cmp_ps_mask(most, vec_set(1e-30f), _CMP_GT_OQ);
    const vec scale = _mm512_maskz_div_ps(some, vec_set(WHOLE), most);
    vec_store(b->value_unit + c, most * vec_set(1.0f / WHOLE));
    for (int64_t i = 0; i < from->n; i += 2) {
        __m512i high = _mm512_setzero_si512();
        if (i + 1 < from->n) {
            high = whole(stored_get(from->values[i + 1], from->value_scales[i + 1], c, left, type),
                         scale);
        }
        const __m512i low =
            whole(stored_get(from->values[i], from->value_scales[i], c, left, type), scale);
        const __m512i pair = _mm512_mask_blend_epi16(0xaaaaaaaa, low, _mm512_slli_epi32(high, 16));
        _mm512_storeu_si512(b->values + i / 2 * wide + c, pair);
    }
}

TILE_INLINE void fill_as(key_block *b, const stored_rows *from, int64_t C, const tensor_type type)
{
    const int64_t row = (C + 1) / 2 * 2, wide = wide_of(C);
    for (int64_t i = 0; i < from->n; i++) {
        b->key_unit[i] = whole_row(b->keys + i * row, from->keys[i], from->key_scales[i], C, type);
    }
    for (int64_t c = 0; c < C; c += VEC_N) fill_values(b, from, c, C - c, wide, type);
}

static void block_fill(key_block *b, const stored_rows *from, int64_t C)
{
    b->n = from->n;
    BY_TYPE(from->type, fill_as, b, from, C);
}

// ---- products ----

// sum + the products of a pair. By hand: around the compiler's own form gcc 12 copies every sum to
// another register and to memory, which halves the speed.
TILE_INLINE __m512i pair_add(__m512i sum, __m512i a, __m512i b)
{
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

// sum[R][V] = A B over K pairs: element (i, k) of A at a[i * a_row + k * a_column], rows of B
// b_row apart.
TILE_INLINE void pair_products(const int R, const int V, __m512i sum[PAIR_ROWS][PAIR_MAX_VECS],
                               const int32_t *a, int64_t a_row, int64_t a_column, const int32_t *b,
                               int64_t b_row, int64_t K)
{
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) {
#pragma GCC unroll 8
        for (int j = 0; j < V; j++) sum[i][j] = _mm512_setzero_si512();
    }
    for (int64_t k = 0; k < K; k++) {
        __m512i row[PAIR_MAX_VECS];
#pragma GCC unroll 8
        for (int j = 0; j < V; j++) row[j] = _mm512_loadu_si512(b + k * b_row + j * VEC_N);
#pragma GCC unroll 8
        for (int i = 0; i < R; i++) {
            const __m512i x = _mm512_set1_epi32(a[i * a_row + k * a_column]);
#pragma GCC unroll 8
            for (int j = 0; j < V; j++) sum[i][j] = pair_add(sum[i][j], row[j], x);
        }
    }
}

// Whether six of the rows left are next, rather than four: 128 are twenty times six and two times four,
// 64 ten times six and four.
TILE_INLINE bool six_more(int64_t left)
{
    return left >= PAIR_ROWS && left != 8;
}

// Scores of R keys with V vectors of rows, in units of the rows; most moves on.
TILE_INLINE void score_registers(const int R, const int V, float *scores, float *most,
                                 const int32_t *keys, const float *key_unit, const int32_t *q,
                                 int64_t pairs)
{
    __m512i sum[PAIR_ROWS][PAIR_MAX_VECS];
    vec m[PAIR_MAX_VECS];
    pair_products(R, V, sum, keys, pairs, 1, q, PANEL_ROWS, pairs);
#pragma GCC unroll 8
    for (int j = 0; j < V; j++) m[j] = vec_load(most + j * VEC_N);
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) {
        const vec unit = vec_set(key_unit[i]);
#pragma GCC unroll 8
        for (int j = 0; j < V; j++) {
            const vec s = _mm512_cvtepi32_ps(sum[i][j]) * unit;
            m[j] = vec_max(m[j], s);
            vec_store(scores + i * PANEL_ROWS + j * VEC_N, s);
        }
    }
#pragma GCC unroll 8
    for (int j = 0; j < V; j++) vec_store(most + j * VEC_N, m[j]);
}

TILE_INLINE void score_strip(const int V, float *scores, float *most, const key_block *b,
                             const int32_t *q, int64_t pairs)
{
    const int32_t *keys = (const int32_t *)b->keys;
    int64_t i = 0;
    for (; six_more(b->n - i); i += PAIR_ROWS) {
        score_registers(PAIR_ROWS, V, scores + i * PANEL_ROWS, most, keys + i * pairs,
                        b->key_unit + i, q, pairs);
    }
    for (; i + 4 <= b->n; i += 4) {
        score_registers(4, V, scores + i * PANEL_ROWS, most, keys + i * pairs, b->key_unit + i, q,
                        pairs);
    }
    for (; i < b->n; i++) {
        score_registers(1, V, scores + i * PANEL_ROWS, most, keys + i * pairs, b->key_unit + i, q,
                        pairs);
    }
}

static void panel_scores(query_tile *t, const int32_t *q, const key_block *b, int64_t vecs)
{
    for (int64_t j = 0; j < PANEL_ROWS; j += VEC_N) vec_store(t->most + j, vec_set(LOWEST));
    switch (vecs) {
    case 1: score_strip(1, t->scores, t->most, b, q, t->pairs); break;
    case 2: score_strip(2, t->scores, t->most, b, q, t->pairs); break;
    case 3: score_strip(3, t->scores, t->most, b, q, t->pairs); break;
    default: score_strip(4, t->scores, t->most, b, q, t->pairs); break;
    }
}

// out of R rows, V vectors: shrinks, and takes in the block's weights times its values.
TILE_INLINE void value_registers(const int R, const int V, const query_tile *t, int64_t p,
                                 int64_t row, int64_t c, const key_block *b)
{
    __m512i sum[PAIR_ROWS][PAIR_MAX_VECS];
    float *out = t->out + (p * PANEL_ROWS + row) * t->wide + c;
    pair_products(R, V, sum, (const int32_t *)t->scores + row, 1, PANEL_ROWS, b->values + c,
                  t->wide, (b->n + 1) / 2);
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) {
        const vec shrink = vec_set(t->shrink[row + i]), grow = vec_set(t->grow[row + i]);
#pragma GCC unroll 8
        for (int j = 0; j < V; j++) {
            float *o = out + i * t->wide + j * VEC_N;
            const vec unit = vec_load(b->value_unit + c + j * VEC_N);
            const vec x = _mm512_cvtepi32_ps(sum[i][j]) * unit;
            vec_store(o, vec_fma(x, grow, vec_load(o) * shrink));
        }
    }
}

TILE_INLINE void value_strip(const int R, const int V, const query_tile *t, int64_t p, int64_t rows,
                             int64_t c, const key_block *b)
{
    int64_t i = 0;
    for (; R == PAIR_ROWS ? six_more(rows - i) : i + R <= rows; i += R) {
        value_registers(R, V, t, p, i, c, b);
    }
    for (; i + 4 <= rows; i += 4) value_registers(4, V, t, p, i, c, b);
    for (; i < rows; i++) value_registers(1, V, t, p, i, c, b);
}

static void panel_values(const query_tile *t, int64_t p, int64_t rows, const key_block *b)
{
    for (int64_t c = 0, vecs; c < t->wide; c += vecs * VEC_N) {
        vecs = (t->wide - c) / VEC_N;
        if (vecs > PAIR_MAX_VECS) vecs = PAIR_VECS;
        switch (vecs) {
        case 1: value_strip(PAIR_ROWS, 1, t, p, rows, c, b); break;
        case 2: value_strip(PAIR_ROWS, 2, t, p, rows, c, b); break;
        case 3: value_strip(PAIR_ROWS, 3, t, p, rows, c, b); break;
        case 4: value_strip(PAIR_ROWS, 4, t, p, rows, c, b); break;
        default: value_strip(5, 5, t, p, rows, c, b); break;
        }
    }
}

// ---- a block ----

// 2^x as a whole number, x up to log2 of WHOLE: fit of 2^f on [0, 1] (math_vec.h), error 7.5e-5, a third
// of the rounding to come. Hidden scores give 0.
TILE_INLINE __m512i whole_exp2(vec x)
{
    const vec f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); // x - floor(x)
    vec p = vec_set(7.802452e-2f);
    p = vec_fma(p, f, vec_set(0.22606716f));
    p = vec_fma(p, f, vec_set(0.69583356f));
    p = vec_fma(p, f, vec_set(0.9999252f));
    return _mm512_cvtps_epi32(_mm512_scalef_ps(p, x)); // p 2^floor(x)
}

// VEC_N rows from lane j: scores become pairs of weights; most, shrink, grow, largest and sum move
// on.
static void lanes_softmax(query_tile *t, int64_t p, int64_t j, int64_t n_keys)
{
    const int64_t at = p * PANEL_ROWS + j;
    const vec unit = vec_load(t->unit + at), block = vec_load(t->most + j) * unit;
    const vec before = vec_load(t->largest + at), now = vec_max(before, block);
    const vec offset = vec_set(11.999648f) - block; // log2 of WHOLE
    const __m512i ones = _mm512_set1_epi32(0x00010001);
    __m512i total = _mm512_setzero_si512();
    for (int64_t i = 0; i < n_keys; i += 2) {
        const float *s = t->scores + i * PANEL_ROWS + j;
        __m512i pair = whole_exp2(vec_fma(vec_load(s), unit, offset));
        if (i + 1 < n_keys) {
            const __m512i next = whole_exp2(vec_fma(vec_load(s + PANEL_ROWS), unit, offset));
            pair = _mm512_or_si512(pair, _mm512_slli_epi32(next, 16));
        }
        total = _mm512_dpwssd_epi32(total, pair, ones);
        _mm512_storeu_si512(t->scores + i / 2 * PANEL_ROWS + j, pair);
    }
    const vec shrink = vec_exp2(before - now), grow = vec_exp2(block - now);
    vec_store(t->sum + at, vec_fma(_mm512_cvtepi32_ps(total), grow, vec_load(t->sum + at) * shrink));
    vec_store(t->largest + at, now);
    vec_store(t->shrink + j, shrink);
    vec_store(t->grow + j, grow);
}

// Scores of keys beyond a row's limit become LOWEST.
static void panel_hide(query_tile *t, int64_t first, int64_t width, int64_t n_keys)
{
    for (int64_t j = 0; j < width; j += VEC_N) {
        const vec limit = vec_load(t->limit + first + j);
        vec most = vec_set(LOWEST);
        for (int64_t i = 0; i < n_keys; i++) {
            float *s = t->scores + i * PANEL_ROWS + j;
            const vec x = vec_where_le(vec_set((float)i), limit, vec_load(s), vec_set(LOWEST));
            most = vec_max(most, x);
            vec_store(s, x);
        }
        vec_store(t->most + j, most);
    }
}

static void panel_attend(query_tile *t, int64_t p, const key_block *b, bool masked)
{
    const int64_t first = p * PANEL_ROWS;
    const int64_t rows = t->rows - first < PANEL_ROWS ? t->rows - first : PANEL_ROWS;
    const int64_t vecs = (rows + VEC_N - 1) / VEC_N;
    panel_scores(t, t->q + first * t->pairs, b, vecs);
    if (masked) panel_hide(t, first, vecs * VEC_N, b->n);
    for (int64_t j = 0; j < vecs * VEC_N; j += VEC_N) lanes_softmax(t, p, j, b->n);
    panel_values(t, p, rows, b);
}

static void tile_attend(query_tile *t, const key_block *b, bool masked)
{
    for (int64_t p = 0; p < tile_panels(t->rows); p++) panel_attend(t, p, b, masked);
}

static const float *tile_out(const query_tile *t, int64_t i)
{
    return t->out + i * t->wide;
}

#endif
