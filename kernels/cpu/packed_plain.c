// Products of packed weights with rows in int8, in portable C: what the other forms are tested
// against, bit for bit.
#include <math.h>
#include <string.h>

#include "kernels/cpu/packed.h"
#include "kernels/cpu/linear.h"

#define GRAIN PACKED_PANEL // outputs per piece

// One row in int8.
typedef struct plain_row {
    int8_t *q;  // [blocks * 32]
    float *dx;  // [blocks]
} plain_row;

typedef struct plain_job {
    kernels *k;
    float *y;
    const weight *w, *up; // up: only for LINEAR_SILU_MUL
    int64_t N, blocks;
    linear_mode mode;
    plain_row rows;       // of all rows, one after another
} plain_job;

static void quantise_block(int8_t *q, float *dx, const float *x, int64_t n)
{
    float largest = 0;
    bool finite = true;
    for (int64_t i = 0; i < n; i++) {
        finite = finite && isfinite(x[i]);
        largest = fmaxf(largest, fabsf(x[i]));
    }
    memset(q, 0, PACKED_BLOCK);
    *dx = finite ? 0 : NAN;
    if (!finite || largest < 0x1p-100f) return;
    *dx = largest / 127.0f;
    const float inverse = 127.0f / largest;
    for (int64_t i = 0; i < n; i++) q[i] = (int8_t)nearbyintf(x[i] * inverse);
}

static void quantise_rows(const plain_row *out, const float *x, int64_t N, int64_t K)
{
    const int64_t blocks = packed_blocks(K);
    for (int64_t i = 0; i < N * blocks; i++) {
        const int64_t k = i % blocks * PACKED_BLOCK, left = K - k;
        quantise_block(out->q + i * PACKED_BLOCK, out->dx + i, x + i / blocks * K + k,
                       left < PACKED_BLOCK ? left : PACKED_BLOCK);
    }
}

// One row of weights: values less the offset, and a scale and a shift per step.
typedef struct plain_weights {
    int16_t *value; // [blocks * 32]
    float *scale, *shift;
} plain_weights;

static float output(const plain_job *j, const packed_format *f, const plain_weights *w, int64_t n)
{
    const int steps = packed_steps(f), size = PACKED_BLOCK / steps;
    const int8_t *q = j->rows.q + n * j->blocks * PACKED_BLOCK;
    const float *dx = j->rows.dx + n * j->blocks;
    float sum = 0, under = 0;
    for (int64_t b = 0; b < j->blocks; b++) {
        float part = 0;
        for (int s = 0; s < steps; s++) {
            const int64_t step = b * steps + s;
            int32_t dot = 0, low = 0;
            for (int64_t k = step * size; k < (step + 1) * size; k++) {
                dot += q[k] * w->value[k];
                low += q[k];
            }
            part = s ? fmaf((float)dot, w->scale[step], part) : (float)dot * w->scale[step];
            under = fmaf(w->shift[step], dx[b] * (float)low, under);
        }
        sum = fmaf(part, dx[b], sum);
    }
    return f->has_min ? sum - under : sum;
}

static plain_weights weights_of(const plain_job *j, int worker)
{
    const size_t inputs = (size_t)(j->blocks * PACKED_BLOCK), steps = (size_t)(2 * j->blocks);
    float *at = kernels_scratch(j->k, worker, inputs / 2 + 2 * steps);
    return (plain_weights){(int16_t *)(void *)(at + 2 * steps), at, at + steps};
}

static void load_weights(const plain_job *j, const plain_weights *out, const packed *p, int64_t m)
{
    const packed_format *f = &p->format;
    const int size = PACKED_BLOCK / packed_steps(f);
    const int64_t inputs = j->blocks * PACKED_BLOCK;
    for (int64_t k = 0; k < inputs; k++) {
        const bool real = k < p->K;
        out->value[k] = real ? (int16_t)(packed_get_value(p, m, k) - f->offset) : 0;
        if (k % size) continue;
        float shift = 0;
        out->scale[k / size] = real ? packed_get_scale(p, m, k / f->group, &shift) : 0;
        out->shift[k / size] = shift;
    }
}

static void outputs(void *arg, int64_t begin, int64_t end, int worker)
{
    const plain_job *j = arg;
    const plain_weights w = weights_of(j, worker);
    const int64_t M = j->w->w.shape[0];
    for (int64_t m = begin; m < end; m++) {
        const float bias = j->w->bias ? j->w->bias[m] : 0;
        float *y = j->y + m;
        load_weights(j, &w, j->w->packed, m);
        for (int64_t n = 0; n < j->N; n++) {
            const float v = output(j, &j->w->packed->format, &w, n) + bias;
            y[n * M] = j->mode == LINEAR_ADD ? y[n * M] + v : v;
        }
        if (j->mode != LINEAR_SILU_MUL) continue;
        const float up_bias = j->up->bias ? j->up->bias[m] : 0;
        load_weights(j, &w, j->up->packed, m);
        for (int64_t n = 0; n < j->N; n++) {
            const float v = y[n * M], up = output(j, &j->up->packed->format, &w, n) + up_bias;
            y[n * M] = v / (1 + expf(-v)) * up;
        }
    }
}

static void run_rows(plain_job *j, float *const *y, const float *x, const weight *const *w,
                     int n_w, int64_t skip)
{
    const int64_t K = w[0]->packed->K;
    float *dx = kernels_shared(j->k, (size_t)(j->N * j->blocks * (1 + PACKED_BLOCK / 4)));
    j->rows = (plain_row){(int8_t *)(dx + j->N * j->blocks), dx};
    quantise_rows(&j->rows, x + skip * K, j->N, K);
    for (int i = 0; i < n_w; i++) {
        j->w = w[i];
        j->up = j->mode == LINEAR_SILU_MUL ? w[1] : NULL;
        j->y = y[i] + skip * w[i]->w.shape[0];
        threads_for(j->k->pool, w[i]->w.shape[0], GRAIN, outputs, j);
    }
}

static void plain_packed(kernels *k, float *const *y, const float *x, const weight *const *w,
                         int n_w, int64_t N, linear_mode mode)
{
    plain_job job = {.k = k, .blocks = packed_blocks(w[0]->packed->K), .mode = mode};
    const int64_t fit = (int64_t)KERNELS_SHARED_FLOATS / (job.blocks * (1 + PACKED_BLOCK / 4));
    for (int64_t n = 0; n < N; n += fit) {
        job.N = N - n < fit ? N - n : fit;
        run_rows(&job, y, x, w, mode == LINEAR_SILU_MUL ? 1 : n_w, n);
    }
}

void packed_plain_fill(backend_ops *ops)
{
    ops->packed = plain_packed;
    ops->unpack = packed_get_rows;
}
