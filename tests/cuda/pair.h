// tests/cuda/pair.h - floats that lie on both sides, for ops that run on both.
//
// cpu is plain C and exact. Numbers on the device may be shifted by a few floats, so that they are not aligned.
#ifndef TESTS_CUDA_PAIR_H
#define TESTS_CUDA_PAIR_H

#include <float.h>
#include <math.h>

#include "cuda/device_run.h"
#include "kernels/memory.h"

typedef struct sides {
    kernels *cpu, *gpu;
} sides;

typedef struct pair {
    const sides *s;
    float *plain, *device;
    void *block;
    int64_t n;
} pair;

static inline int sides_open(void **state)
{
    static sides s;
    s = (sides){0};
    const kernels_options cpu = {.threads = 1, .simd = SIMD_PLAIN, .exact = true};
    const kernels_options gpu = {.threads = 1, .simd = SIMD_PLAIN, .exact = true,
                                 .device = {DEVICE_CUDA, 0}, .device_bytes = (int64_t)256 << 20};
    *state = &s;
    if (!kernels_create(&s.cpu, &cpu) && !kernels_create(&s.gpu, &gpu)) return 0;
    fprintf(stderr, "%s\n", sight_error());
    return -1;
}

static inline int sides_close(void **state)
{
    sides *s = *state;
    kernels_destroy(&s->gpu);
    kernels_destroy(&s->cpu);
    return 0;
}

// n numbers of any contents, NaN on the plain side.
static inline pair pair_room(const sides *s, int64_t n, int64_t shift)
{
    pair p = {.s = s, .n = n, .plain = malloc((size_t)n * sizeof(float))};
    assert_non_null(p.plain);
    memset(p.plain, 0xff, (size_t)n * sizeof(float));
    assert_ok(kernels_alloc(&p.block, s->gpu, (size_t)(n + shift) * sizeof(float), "a test's numbers"));
    p.device = (float *)p.block + shift;
    return p;
}

static inline void pair_send(const pair *p)
{
    kernels_write(p->s->gpu, p->device, p->plain, (size_t)p->n * sizeof(float));
}

static inline pair pair_normal(const sides *s, int64_t n, float scale, uint64_t seed, int64_t shift)
{
    test_random r = {seed};
    pair p = pair_room(s, n, shift);
    for (int64_t i = 0; i < n; i++) p.plain[i] = scale * test_random_normal(&r);
    pair_send(&p);
    return p;
}

static inline void pair_free(pair *p)
{
    kernels_free(p->s->gpu, p->block);
    free(p->plain);
    *p = (pair){0};
}

// The device's numbers are within bound, of the greatest plain one, of the plain ones. With bound 0 they are the
// same bytes.
static inline void pair_check(const pair *p, double bound, const char *what)
{
    float *got = malloc((size_t)p->n * sizeof *got);
    assert_non_null(got);
    assert_ok(kernels_read(p->s->gpu, got, p->device, (size_t)p->n * sizeof *got));
    double greatest = 0;
    for (int64_t i = 0; i < p->n; i++) greatest = fmax(greatest, fabs((double)p->plain[i]));
    for (int64_t i = 0; i < p->n; i++) {
        const double off = fabs((double)got[i] - (double)p->plain[i]);
        const int same = memcmp(&got[i], &p->plain[i], sizeof *got) == 0;
        if (bound == 0 ? same : off <= bound * greatest + (double)FLT_MIN) continue;
        fail_msg("%s: number %lld of %lld is %.9g on the device, %.9g plain, allowed %g", what, (long long)i,
                 (long long)p->n, (double)got[i], (double)p->plain[i], bound * greatest);
    }
    free(got);
}

// Where there is a GPU, or the shim's: what the tests gave; else skipped, with the reason.
#define sides_run(tests) device_run(tests, sides_open, sides_close)

#endif
