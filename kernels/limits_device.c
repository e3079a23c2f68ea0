// kernels/limits_device.c - what a GPU can do at most: copies within its memory, and bf16 products. Through the
// same ops that models use, so the peak is that of products as they are called, conversions included.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/sort.h"
#include "kernels/backend.h"
#include "kernels/memory.h"

#define PASSES     11
#define COPY_FIRST ((size_t)1 << 20)
#define COPY_MOST  ((size_t)1 << 30)
#define SIDE_FIRST ((int64_t)128)
#define SIDE_MOST  ((int64_t)8192)
// Sizes are doubled until a call takes so long: then what it takes to start one does not show.
#define LONG_S 1e-3

typedef struct product_job {
    weight w; // [side, side]
    float *x, *y;
    int64_t side;
} product_job;

// Seconds of a call, the median of several; 0 when the device fails.
typedef void device_call(kernels *k, void *arg);

static double time_call(kernels *k, device_call *call, void *arg)
{
    double seconds[PASSES];
    call(k, arg);
    if (kernels_read(k, NULL, NULL, 0)) return 0;
    for (int i = 0; i < PASSES; i++) {
        const double start = clock_now_s();
        call(k, arg);
        if (kernels_read(k, NULL, NULL, 0)) return 0;
        seconds[i] = clock_now_s() - start;
        if (seconds[i] > 100 * LONG_S) return seconds[i];
    }
    sort_doubles(seconds, PASSES);
    return seconds[PASSES / 2];
}

typedef struct copy_job {
    char *to, *from;
    size_t bytes;
} copy_job;

static void copy_once(kernels *k, void *arg)
{
    const copy_job *j = arg;
    op_copy(k, j->to, j->from, j->bytes);
}

// A copy reads and writes.
static double measure_copy(kernels *k)
{
    double rate = 0, took = 0;
    for (size_t bytes = COPY_FIRST; bytes <= COPY_MOST && took < LONG_S; bytes *= 2) {
        void *p = NULL;
        if (kernels_alloc(&p, k, 2 * bytes, "measuring")) break;
        copy_job j = {p, (char *)p + bytes, bytes};
        op_zero(k, p, 2 * bytes);
        took = time_call(k, copy_once, &j);
        kernels_free(k, p);
        if (took <= 0) break;
        rate = 2 * (double)bytes / took / 1e9;
    }
    return rate;
}

static void product_once(kernels *k, void *arg)
{
    const product_job *j = arg;
    op_linear(k, j->y, j->x, &j->w, j->side);
}

static void product_done(kernels *k, product_job *j)
{
    kernels_drop_weight(k, &j->w);
    kernels_free(k, j->x);
    kernels_free(k, j->y);
}

// Numbers of both signs near 1: chips clock higher on zeros.
static void fill_bf16(uint16_t *w, int64_t n)
{
    uint32_t state = 1;
    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        w[i] = (uint16_t)(0x3f80u | (state >> 16 & 0x807fu));
    }
}

static sight_err product_init(product_job *j, kernels *k, int64_t side)
{
    const size_t n = (size_t)(side * side);
    uint16_t *host = malloc(n * sizeof *host);
    float *rows = malloc(n * sizeof *rows);
    *j = (product_job){.side = side};
    j->w.w = (tensor_view){.data = host, .type = TENSOR_BF16, .n_dims = 2, .shape = {side, side}};
    sight_err err = host && rows ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for measuring");
    if (!err) {
        fill_bf16(host, (int64_t)n);
        for (size_t i = 0; i < n; i++) {
            const uint32_t bits = (uint32_t)host[n - 1 - i] << 16;
            memcpy(&rows[i], &bits, sizeof bits);
        }
        err = kernels_alloc((void **)&j->x, k, n * sizeof *j->x, "measuring");
    }
    if (!err) err = kernels_alloc((void **)&j->y, k, n * sizeof *j->y, "measuring");
    if (!err) kernels_write(k, j->x, rows, n * sizeof *rows);
    if (!err) err = kernels_take_weight(k, &j->w);
    if (err) j->w = (weight){0};
    if (!err) err = kernels_status(k);
    free(host);
    free(rows);
    if (err) product_done(k, j);
    return err;
}

static double measure_products(kernels *k)
{
    double rate = 0, took = 0;
    for (int64_t side = SIDE_FIRST; side <= SIDE_MOST && took < LONG_S; side *= 2) {
        product_job j;
        if (product_init(&j, k, side)) break;
        took = time_call(k, product_once, &j);
        product_done(k, &j);
        if (took <= 0) break;
        rate = 2 * (double)side * (double)side * (double)side / took / 1e9;
    }
    return rate;
}

void limits_device_measure(kernels *k, machine_limits *out)
{
    *out = (machine_limits){.read_gb_s = measure_copy(k), .bf16_gop_s = measure_products(k)};
}
