// tests/kernels/levels.h - one harness for all SIMD levels: plain C against double, every level
// against both.
//
// Tolerance: a level may be off from double by twice what plain C is, plus the rounding of a few
// last places of the largest value (plain may be exact by luck). Each test also bounds plain itself.
#ifndef TESTS_KERNELS_LEVELS_H
#define TESTS_KERNELS_LEVELS_H

#include <float.h>
#include <math.h>

#include "kernels/ops.h"
#include "support/test.h"

#define LEVELS_THREADS 3

typedef struct levels {
    int n;
    kernels *k[SIMD_COUNT]; // k[0] is plain
    kernels *single;        // the best level on one thread, for invariance
} levels;

static inline int levels_open(void **state)
{
    static levels l;
    l = (levels){0};
    for (int level = SIMD_PLAIN; level < SIMD_COUNT; level++) {
        const kernels_options options = {.threads = LEVELS_THREADS, .simd = (simd_level)level,
                                         .exact = true};
        const sight_err err = kernels_create(&l.k[l.n], &options);
        if (err == SIGHT_E_UNSUPPORTED) continue; // not this processor's
        if (err) return -1;
        l.n++;
    }
    const kernels_options one = {.threads = 1, .simd = kernels_simd(l.k[l.n - 1]), .exact = true};
    if (kernels_create(&l.single, &one)) return -1;
    *state = &l;
    return 0;
}

static inline int levels_close(void **state)
{
    levels *l = *state;
    for (int i = 0; i < l->n; i++) kernels_destroy(&l->k[i]);
    kernels_destroy(&l->single);
    return 0;
}

// ---- guarded memory: 4-byte aligned only, poisoned, with a fence on both sides ----

#define FENCE 33 // odd: data is never aligned for vectors
#define POISON 0x7fc0dead

static inline float *guarded(int64_t n)
{
    uint32_t *p = malloc((size_t)(n + 2 * FENCE) * sizeof *p);
    assert_non_null(p);
    for (int64_t i = 0; i < n + 2 * FENCE; i++) p[i] = POISON;
    return (float *)p + FENCE;
}

static inline float *guarded_normal(int64_t n, test_random *r, float scale)
{
    float *p = guarded(n);
    for (int64_t i = 0; i < n; i++) p[i] = scale * test_random_normal(r);
    return p;
}

static inline float *guarded_copy(const float *x, int64_t n)
{
    float *p = guarded(n);
    memcpy(p, x, (size_t)n * sizeof *p);
    return p;
}

// Every element was written and nothing around them was.
static inline void check_guards(const float *x, int64_t n, const char *what)
{
    const uint32_t *p = (const uint32_t *)x - FENCE;
    for (int64_t i = 0; i < n + 2 * FENCE; i++) {
        const int inside = i >= FENCE && i < n + FENCE;
        if ((p[i] == POISON) == inside) {
            fail_msg("%s: element %lld of %lld %s", what, (long long)(i - FENCE), (long long)n,
                     inside ? "was not written" : "is outside, and was written");
        }
    }
}

static inline void guarded_free(float *p)
{
    if (p) free(p - FENCE);
}

// ---- comparing ----

static inline double largest_error(const float *x, const double *reference, int64_t n)
{
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        const double e = fabs((double)x[i] - reference[i]);
        if (!(e <= worst)) worst = isnan(e) ? INFINITY : e;
    }
    return worst;
}

static inline double largest_of(const double *x, int64_t n)
{
    double worst = 0;
    for (int64_t i = 0; i < n; i++) worst = fmax(worst, fabs(x[i]));
    return worst;
}

// plain_bound: what plain C itself may be off by, absolute.
static inline void check_level(const levels *l, int level, const float *x, const float *plain,
                               const double *reference, int64_t n, double plain_bound,
                               const char *what)
{
    const double of_plain = largest_error(plain, reference, n);
    const double allowed = 2 * of_plain + 4 * FLT_EPSILON * largest_of(reference, n) + FLT_MIN;
    const double e = largest_error(x, reference, n);
    check_guards(x, n, what);
    if (!(of_plain <= plain_bound + FLT_MIN)) {
        fail_msg("%s: plain is off by %g, bound %g", what, of_plain, plain_bound);
    }
    if (!(e <= allowed)) {
        fail_msg("%s: %s is off by %g, allowed %g (plain %g)", what,
                 simd_level_name(kernels_simd(l->k[level])), e, allowed, of_plain);
    }
}

static inline double *doubles(int64_t n)
{
    double *p = calloc((size_t)(n > 0 ? n : 1), sizeof *p);
    assert_non_null(p);
    return p;
}

#endif
