// Products in portable C: what the other forms are tested against.
#include <math.h>
#include <string.h>

#include "kernels/cpu/linear.h"

#define LANES 16
#define ROWS 8   // of x at once
#define BLOCK 256 // of K at once
#define GRAIN 16 // outputs per piece

typedef struct plain_job {
    kernels *k;
    float *y;
    const float *x;
    const weight *w, *up; // up: only for LINEAR_SILU_MUL
    int64_t N;
    linear_mode mode;
} plain_job;

// out[n] = elements i.. of w.
static void weights_to_f32(float *out, const tensor_view *w, int64_t i, int64_t n)
{
    const char *p = (const char *)w->data + (size_t)i * tensor_type_bytes(w->type);
    uint16_t h[BLOCK];
    if (w->type == TENSOR_F32) {
        memcpy(out, p, (size_t)n * 4);
        return;
    }
    memcpy(h, p, (size_t)n * 2);
    if (w->type == TENSOR_BF16) {
        for (int64_t k = 0; k < n; k++) out[k] = bf16_to_f32(h[k]);
    } else {
        for (int64_t k = 0; k < n; k++) out[k] = f16_to_f32(h[k]);
    }
}

static void dot_add(float lanes[LANES], const float *w, const float *x, int64_t n)
{
    int64_t k = 0;
    for (; k + LANES <= n; k += LANES) {
        for (int p = 0; p < LANES; p++) lanes[p] += w[k + p] * x[k + p];
    }
    for (int p = 0; k + p < n; p++) lanes[p] += w[k + p] * x[k + p];
}

static float lanes_sum(float lanes[LANES])
{
    for (int half = LANES / 2; half; half /= 2) {
        for (int p = 0; p < half; p++) lanes[p] += lanes[p + half];
    }
    return lanes[0];
}

// out[n] = rows n of x times row m of w, n at most ROWS.
static void sum_row(float *out, const float *x, const tensor_view *w, int64_t m, int64_t n)
{
    const int64_t K = w->shape[1];
    float lanes[ROWS][LANES] = {{0}};
    float block[BLOCK];
    for (int64_t k = 0; k < K; k += BLOCK) {
        int64_t size = K - k < BLOCK ? K - k : BLOCK;
        weights_to_f32(block, w, m * K + k, size);
        for (int64_t i = 0; i < n; i++) dot_add(lanes[i], block, x + i * K + k, size);
    }
    for (int64_t i = 0; i < n; i++) out[i] = lanes_sum(lanes[i]);
}

// Row *m of a weight as it is stored; of a packed one, that row alone in the worker's scratch.
static tensor_view stored_row(const plain_job *j, const weight *w, int64_t *m, int worker)
{
    if (!w->packed) return w->w;
    const int64_t K = w->w.shape[1];
    float *row = kernels_scratch(j->k, worker, (size_t)K);
    packed_get_row(w->packed, row, *m);
    *m = 0;
    return (tensor_view){row, TENSOR_F32, 2, {1, K}};
}

static void weight_row(float *out, const plain_job *j, const weight *w, const float *x, int64_t m,
                       int64_t n, int worker)
{
    const tensor_view v = stored_row(j, w, &m, worker);
    sum_row(out, x, &v, m, n);
}

static void outputs(void *arg, int64_t begin, int64_t end, int worker)
{
    const plain_job *j = arg;
    int64_t M = j->w->w.shape[0], K = j->w->w.shape[1];
    float out[ROWS], up[ROWS];
    for (int64_t n = 0; n < j->N; n += ROWS) {
        int64_t rows = j->N - n < ROWS ? j->N - n : ROWS;
        for (int64_t m = begin; m < end; m++) {
            weight_row(out, j, j->w, j->x + n * K, m, rows, worker);
            float bias = j->w->bias ? j->w->bias[m] : 0;
            float *y = j->y + n * M + m;
            if (j->mode == LINEAR_SILU_MUL) {
                weight_row(up, j, j->up, j->x + n * K, m, rows, worker);
            }
            float up_bias = j->mode == LINEAR_SILU_MUL && j->up->bias ? j->up->bias[m] : 0;
            for (int64_t i = 0; i < rows; i++) {
                float v = out[i] + bias;
                if (j->mode == LINEAR_SILU_MUL) v = v / (1 + expf(-v)) * (up[i] + up_bias);
                y[i * M] = j->mode == LINEAR_ADD ? y[i * M] + v : v;
            }
        }
    }
}

static void plain_linear(kernels *k, float *const *y, const float *x, const weight *const *w,
                         int n_w, int64_t N, linear_mode mode)
{
    if (mode == LINEAR_SILU_MUL) {
        plain_job job = {k, y[0], x, w[0], w[1], N, mode};
        threads_for(k->pool, w[0]->w.shape[0], GRAIN, outputs, &job);
        return;
    }
    for (int i = 0; i < n_w; i++) {
        plain_job job = {k, y[i], x, w[i], NULL, N, mode};
        threads_for(k->pool, w[i]->w.shape[0], GRAIN, outputs, &job);
    }
}

void linear_plain_fill(backend_ops *ops)
{
    ops->linear = plain_linear;
}
