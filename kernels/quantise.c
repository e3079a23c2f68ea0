// int8 and int4 made from float32 rows. These two are two-level: a byte of scale per group against a
// float32 per 1,024 inputs, which leaves bits for small groups. int4's sixteen numbers are
// closer together near zero, where weights are many; a negative scale turns the table round. On
// normally distributed weights it loses 18 % less (squared) than Q4_K in as many bits. And E4M3, whose
// scales need no search: its steps grow with the numbers.
#include <math.h>
#include <string.h>

#include "kernels/backend.h"
#include "kernels/cpu/packed_search.h"
#include "kernels/f8.h"
#include "kernels/packed.h"

#define SUPER 1024 // inputs

// The numbers of int4's codes: Lloyd's iteration with scales searched as below, over groups of
// 16 of normally distributed numbers and of a trained model's weights.
static const int8_t int4_numbers[16] = {-127, -104, -83, -65, -49, -34, -21, -8,
                                        2,    14,   25,  38,  51,  67,  86,  112};

packed_format packed_format_int8(void)
{
    return (packed_format){.bits = 8, .offset = 128, .group = 32, .scales = PACKED_TWO_LEVEL,
                           .per_super = SUPER / 32, .factor = 1};
}

packed_format packed_format_int4(void)
{
    packed_format f = {.bits = 4, .has_table = true, .offset = 128, .group = 16,
                       .scales = PACKED_TWO_LEVEL, .per_super = SUPER / 16, .signed_sub = true,
                       .factor = 1};
    for (int i = 0; i < 16; i++) f.table[i] = (uint8_t)(int4_numbers[i] + 128);
    return f;
}

packed_format packed_format_fp8(void)
{
    return (packed_format){.bits = 8, .f8 = true, .f8_rows = true, .group = 128, .scales = PACKED_FLAT_F32, .factor = 1};
}

static const search_loops *best_loops(void)
{
#if defined(__x86_64__)
    if (simd_level_available(SIMD_AVX512)) return &search_loops_avx512;
    if (simd_level_available(SIMD_AVX2)) return &search_loops_avx2;
#endif
    return &search_loops_plain;
}

static search_table table_of(const packed_format *f)
{
    search_table t = {.first = (float)f->table[0] - (float)f->offset,
                      .last = (float)f->table[15] - (float)f->offset};
    for (int j = 0; j < 15; j++) {
        const float a = (float)f->table[j], b = (float)f->table[j + 1];
        t.mid[j] = (a + b) / 2 - (float)f->offset;
        t.step[j] = b - a;
    }
    return t;
}

// n floats from x on, as groups side by side; what is past them is zero and counts nothing.
static void load_groups(search_groups *g, int size, const float *x, const float *importance,
                        int64_t n)
{
    g->size = size;
    if (n < (int64_t)size * SEARCH_LANES) memset(g->x, 0, sizeof g->x);
    for (int i = 0; i < SEARCH_LANES && i * size < n; i++) {
        const int64_t left = n - i * size;
        const int count = left < size ? (int)left : size;
        for (int e = 0; e < count; e++) g->x[e][i] = x[i * size + e];
    }
    for (int e = 0; e < size; e++) {
        for (int i = 0; i < SEARCH_LANES; i++) g->w[e][i] = 1;
    }
    for (int64_t k = 0; importance && k < n && k < size * SEARCH_LANES; k++) {
        g->w[k % size][k / size] = importance[k];
    }
}

// The scale with which the largest weight of a group takes the last code. Slightly less than that
// is best: it is cut by less than half a step.
static void even_scales(float *d, const search_groups *g)
{
    for (int i = 0; i < SEARCH_LANES; i++) d[i] = 0;
    for (int e = 0; e < g->size; e++) {
        for (int i = 0; i < SEARCH_LANES; i++) {
            const float a = g->x[e][i] < 0 ? -g->x[e][i] : g->x[e][i];
            d[i] = a > d[i] ? a : d[i];
        }
    }
    for (int i = 0; i < SEARCH_LANES; i++) d[i] /= 127.8f;
}

typedef struct quantiser {
    const packed_format *f;
    const search_loops *loops;
    search_table table;
    int most; // largest sub-scale
} quantiser;

static void errors_at(const quantiser *q, float *error, const float *d, const search_groups *g)
{
    if (q->f->has_table) q->loops->table_errors(error, d, g, &q->table);
    else q->loops->even_errors(error, d, g);
}

static void codes_at(const quantiser *q, uint8_t *codes, const float *d, const search_groups *g)
{
    if (q->f->has_table) q->loops->table_codes(codes, d, g, &q->table);
    else q->loops->even_codes(codes, d, g);
}

// The sub-scale of each group: the wanted scale rounded, or one up or down if that loses less.
static void choose_subs(const quantiser *q, int *sub, const float *d, float super,
                        const search_groups *g)
{
    float least[SEARCH_LANES], error[SEARCH_LANES], scale[SEARCH_LANES];
    const int lowest = q->f->signed_sub ? -q->most : 0;
    int middle[SEARCH_LANES];
    for (int i = 0; i < SEARCH_LANES; i++) {
        middle[i] = super > 0 ? (int)lrintf(d[i] / super) : 0;
        sub[i] = 0;
        least[i] = INFINITY;
    }
    for (int o = -1; o <= 1; o++) {
        for (int i = 0; i < SEARCH_LANES; i++) scale[i] = super * (float)(middle[i] + o);
        errors_at(q, error, scale, g);
        for (int i = 0; i < SEARCH_LANES; i++) {
            const int s = middle[i] + o;
            if (s < lowest || s > q->most || !(error[i] < least[i])) continue;
            least[i] = error[i];
            sub[i] = s;
        }
    }
}

// Up to SEARCH_LANES groups of one row under one super-scale; n floats.
static void put_groups(const quantiser *q, uint8_t *codes, uint8_t *subs, float super,
                       const float *d, const search_groups *g, int64_t n)
{
    uint8_t side[SEARCH_MAX_GROUP * SEARCH_LANES];
    float scale[SEARCH_LANES];
    int sub[SEARCH_LANES];
    choose_subs(q, sub, d, super, g);
    for (int i = 0; i < SEARCH_LANES; i++) scale[i] = super * (float)sub[i];
    codes_at(q, side, scale, g);
    for (int64_t i = 0; i * g->size < n; i++) {
        for (int64_t e = 0; e < g->size && i * g->size + e < n; e++) {
            codes[i * g->size + e] = side[e * SEARCH_LANES + i];
        }
    }
    for (int64_t i = 0; i * g->size < n; i++) subs[i] = (uint8_t)sub[i];
}

// n <= SUPER inputs of one row; the codes and sub-scales of a row that is all zeros are zero's.
static void quantise_super(const quantiser *q, uint8_t *codes, uint8_t *subs, float *super,
                           const float *w, const float *importance, int64_t n)
{
    const int size = q->f->group;
    const int64_t block = (int64_t)size * SEARCH_LANES;
    search_groups blocks[SUPER / 16 / SEARCH_LANES], *g = blocks;
    float d[SUPER / 16], largest = 0;
    for (int64_t k = 0; k < n; k += block, g++) {
        load_groups(g, size, w + k, importance ? importance + k : NULL, n - k);
        if (q->f->has_table) q->loops->table_scales(d + k / size, g, &q->table);
        else even_scales(d + k / size, g);
        for (int i = 0; i < SEARCH_LANES; i++) largest = fmaxf(largest, fabsf(d[k / size + i]));
    }
    *super = largest / (float)q->most;
    g = blocks;
    for (int64_t k = 0; k < n; k += block, g++) {
        put_groups(q, codes + k, subs + k / size, *super, d + k / size, g,
                   n - k < block ? n - k : block);
    }
}

// n <= 128 inputs. Less than 1e-30 is nothing: F8_MAX over it would not be a float.
static void quantise_f8(uint8_t *codes, float *scale, const float *w, int64_t n)
{
    float greatest = 0;
    for (int64_t i = 0; i < n; i++) greatest = fmaxf(greatest, fabsf(w[i]));
    const bool some = greatest > 1e-30f;
    const float turned = some ? F8_MAX / greatest : 0;
    *scale = some ? greatest / F8_MAX : 0;
    for (int64_t i = 0; i < n; i++) codes[i] = f32_to_f8(w[i] * turned);
}

static void quantise_f8_rows(packed_rows *out, const packed_format *f, const float *w, int64_t n, int64_t K)
{
    const int64_t groups = packed_groups(f, K);
    for (int64_t i = 0; i < n * groups; i++) {
        const int64_t k = i % groups * f->group, at = i / groups * K + k, left = K - k;
        quantise_f8(out->codes + at, (float *)out->scales + i, w + at, left < f->group ? left : f->group);
    }
}

void packed_quantise(packed_rows *out, const packed_format *f, const float *w, int64_t n,
                     int64_t K, const float *importance)
{
    if (f->f8) {
        quantise_f8_rows(out, f, w, n, K);
        return;
    }
    const quantiser q = {f, best_loops(), f->has_table ? table_of(f) : (search_table){0},
                         f->signed_sub ? 127 : 255};
    const int64_t groups = packed_groups(f, K), supers = packed_supers(f, K);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t s = 0; s < supers; s++) {
            const int64_t k = s * SUPER, left = K - k < SUPER ? K - k : SUPER;
            quantise_super(&q, out->codes + i * K + k,
                           (uint8_t *)out->scales + i * groups + k / f->group,
                           out->super + i * supers + s, w + i * K + k,
                           importance ? importance + k : NULL, left);
        }
    }
}
