// kernels/cpu/packed_search_loops.h - the bodies behind packed_search.h. Included once by
// packed_search_<level>.c after it has defined SEARCH_LOOPS, the name of its table.
#include "kernels/cpu/packed_search.h"

#include <string.h>

// A lane per group. The compiler cuts it into the vectors that it has.
typedef float lanes __attribute__((vector_size(4 * SEARCH_LANES)));
typedef int32_t masks __attribute__((vector_size(4 * SEARCH_LANES)));

#define INLINE static inline __attribute__((always_inline))
#define PICK(mask, a, b) ((lanes)(((masks)(a) & (mask)) | ((masks)(b) & ~(mask))))
#define ALL(number) ((lanes){0} + (number))

// Where the largest weight may land, as parts of the table's end. Found by trying: more of them
// gain less than 1 % of the error.
#define FACTORS 6
static const float factors[FACTORS] = {0.80f, 0.87f, 0.93f, 0.98f, 1.04f, 1.11f};

INLINE void load(lanes *v, const float *p)
{
    memcpy(v, p, sizeof *v);
}

INLINE void store(float *p, const lanes *v)
{
    memcpy(p, v, sizeof *v);
}

INLINE void inverse_of(lanes *out, const lanes *d)
{
    const masks some = *d != 0.0f;
    *out = (lanes)((masks)(1.0f / PICK(some, *d, ALL(1.0f))) & some);
}

// The table's numbers that are nearest to v.
INLINE void nearest(lanes *value, const lanes *v, const search_table *t)
{
    lanes n = ALL(t->first);
#pragma GCC unroll 15
    for (int j = 0; j < 15; j++) n += (lanes)((*v > t->mid[j]) & (masks)ALL(t->step[j]));
    *value = n;
}

// With the codes that scale d gives, the best scale for them is num / den (least squares), and it
// takes num^2 / den off the error: kept where that is more than before.
INLINE void try_scale(lanes *best, lanes *gain, const lanes *d, const search_groups *g,
                      const search_table *t)
{
    lanes inverse, num = {0}, den = {0};
    inverse_of(&inverse, d);
    for (int e = 0; e < g->size; e++) {
        lanes x, w, v;
        load(&x, g->x[e]);
        load(&w, g->w[e]);
        v = x * inverse;
        nearest(&v, &v, t);
        w *= v;
        num += w * x;
        den += w * v;
    }
    const masks some = den > 0.0f;
    const lanes scale = (lanes)((masks)(num / PICK(some, den, ALL(1.0f))) & some);
    const lanes more = num * scale;
    const masks better = more > *gain;
    *best = PICK(better, scale, *best);
    *gain = PICK(better, more, *gain);
}

static void table_scales(float *out, const search_groups *g, const search_table *t)
{
    lanes largest = {0}, size = {0}, best = {0}, gain = {0};
    for (int e = 0; e < g->size; e++) {
        lanes x;
        load(&x, g->x[e]);
        const lanes a = PICK(x < 0.0f, -x, x);
        largest = PICK(a > size, x, largest);
        size = PICK(a > size, a, size);
    }
    for (int f = 0; f < 2 * FACTORS; f++) {
        const float end = (f < FACTORS ? t->first : t->last) * factors[f % FACTORS];
        const lanes d = largest / end;
        try_scale(&best, &gain, &d, g, t);
    }
    store(out, &best);
}

INLINE void add_error(lanes *sum, const lanes *x, const float *w, const lanes *value,
                      const lanes *d)
{
    lanes weight;
    load(&weight, w);
    const lanes off = *x - *value * *d;
    *sum += weight * off * off;
}

static void table_errors(float *error, const float *scales, const search_groups *g,
                         const search_table *t)
{
    lanes inverse, d, sum = {0};
    load(&d, scales);
    inverse_of(&inverse, &d);
    for (int e = 0; e < g->size; e++) {
        lanes x, v;
        load(&x, g->x[e]);
        v = x * inverse;
        nearest(&v, &v, t);
        add_error(&sum, &x, g->w[e], &v, &d);
    }
    store(error, &sum);
}

static void table_codes(uint8_t *codes, const float *scales, const search_groups *g,
                        const search_table *t)
{
    lanes inverse, d;
    load(&d, scales);
    inverse_of(&inverse, &d);
    for (int e = 0; e < g->size; e++, codes += SEARCH_LANES) {
        lanes x;
        masks c = {0};
        load(&x, g->x[e]);
        x *= inverse;
        for (int j = 0; j < 15; j++) c -= (masks)(x > t->mid[j]); // a true lane is -1
        for (int i = 0; i < SEARCH_LANES; i++) codes[i] = (uint8_t)c[i];
    }
}

// x in steps of 1 / inverse, as whole numbers from -128 to 127.
INLINE void even(lanes *value, const lanes *x, const lanes *inverse)
{
    const float to_integer = 12582912.0f; // 1.5 * 2^23: what is added to it is rounded to a whole number
    lanes n = *x * *inverse;
    n = PICK(n < -128.0f, ALL(-128.0f), n);
    n = PICK(n > 127.0f, ALL(127.0f), n);
    *value = n + to_integer - to_integer;
}

static void even_errors(float *error, const float *scales, const search_groups *g)
{
    lanes inverse, d, sum = {0};
    load(&d, scales);
    inverse_of(&inverse, &d);
    for (int e = 0; e < g->size; e++) {
        lanes x, v;
        load(&x, g->x[e]);
        even(&v, &x, &inverse);
        add_error(&sum, &x, g->w[e], &v, &d);
    }
    store(error, &sum);
}

static void even_codes(uint8_t *codes, const float *scales, const search_groups *g)
{
    lanes inverse, d;
    load(&d, scales);
    inverse_of(&inverse, &d);
    for (int e = 0; e < g->size; e++, codes += SEARCH_LANES) {
        lanes x;
        load(&x, g->x[e]);
        even(&x, &x, &inverse);
        for (int i = 0; i < SEARCH_LANES; i++) codes[i] = (uint8_t)(int)(x[i] + 128.0f);
    }
}

const search_loops SEARCH_LOOPS = {table_scales, table_errors, table_codes, even_errors, even_codes};
