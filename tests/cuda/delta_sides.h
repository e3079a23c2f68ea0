// tests/cuda/delta_sides.h - a GPU beside plain C, exact and fast, for the ops of a Gated DeltaNet layer.
#ifndef TESTS_CUDA_DELTA_SIDES_H
#define TESTS_CUDA_DELTA_SIDES_H

#include "cuda/pair.h"

typedef struct both {
    sides exact, fast; // the same CPU side
} both;

static inline int both_open(void **state)
{
    static both b;
    b = (both){0};
    const kernels_options fast = {.threads = 1,
                                  .simd = SIMD_PLAIN,
                                  .device = {DEVICE_CUDA, 0},
                                  .device_bytes = (int64_t)192 << 20};
    void *exact;
    if (sides_open(&exact)) return -1;
    b.exact = *(sides *)exact;
    b.fast.cpu = b.exact.cpu;
    *state = &b;
    if (!kernels_create(&b.fast.gpu, &fast)) return 0;
    fprintf(stderr, "%s\n", sight_error());
    return -1;
}

static inline int both_close(void **state)
{
    both *b = *state;
    kernels_destroy(&b->fast.gpu);
    void *exact = &b->exact;
    return sides_close(&exact);
}

static inline float *fetched(const pair *p)
{
    float *got = malloc((size_t)p->n * sizeof *got);
    assert_non_null(got);
    assert_ok(kernels_read(p->s->gpu, got, p->device, (size_t)p->n * sizeof *got));
    return got;
}

static inline double greatest_of(const float *x, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)x[i]));
    return most;
}

static inline double distance(const float *x, const float *y, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++) {
        const double off = fabs((double)x[i] - (double)y[i]);
        if (!(off <= most)) most = isnan(off) ? INFINITY : off;
    }
    return most;
}

// The device's numbers are within `allowed` of the plain ones.
static inline void check_within(const pair *p, double allowed, const char *what)
{
    float *got = fetched(p);
    const double off = distance(got, p->plain, p->n);
    if (!(off <= allowed)) fail_msg("%s: off by %g, allowed %g", what, off, allowed);
    free(got);
}

static inline void check_same(const pair *a, const pair *b, const char *what)
{
    float *x = fetched(a), *y = fetched(b);
    for (int64_t i = 0; i < a->n; i++) {
        if (memcmp(&x[i], &y[i], sizeof *x)) {
            fail_msg("%s: number %lld is %.9g and %.9g", what, (long long)i, (double)x[i],
                     (double)y[i]);
        }
    }
    free(x);
    free(y);
}

#endif
