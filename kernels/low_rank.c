// Two small products beside a large one. A row's result does not depend on the rows beside it, so rows are
// taken in as many blocks as the scratch asks for.
#include "kernels/low_rank.h"

#include <assert.h>
#include <string.h>

static float *scratch(const kernels *k)
{
    return k->scratch + (size_t)threads_count(k->pool) * KERNELS_SCRATCH_FLOATS + KERNELS_SHARED_FLOATS;
}

static int64_t rows_that_fit(size_t floats, int64_t width, int64_t N)
{
    const int64_t n = (int64_t)floats / width;
    assert(n > 0);
    return n < N ? n : N;
}

static void check(const low_rank *l, const weight *w)
{
    assert(l->a.n_dims == 2 && l->b.n_dims == 2 && l->a.data && l->b.data);
    assert(l->a.shape[1] == w->w.shape[1] && l->b.shape[0] == w->w.shape[0]);
    assert(l->a.shape[0] == l->b.shape[1] && l->a.shape[0] > 0);
}

static void add_one(kernels *k, float *y, const float *x, const low_rank *l, int64_t N, float *t)
{
    const weight a = {.w = l->a}, b = {.w = l->b}, *pa = &a, *pb = &b;
    const int64_t r = l->a.shape[0];
    k->ops.linear(k, &t, x, &pa, 1, N, LINEAR_SET);
    for (int64_t i = 0; i < N * r; i++) t[i] *= l->scale;
    k->ops.linear(k, &y, t, &pb, 1, N, LINEAR_ADD);
}

void low_rank_add(kernels *k, float *y, const float *x, const weight *w, int64_t N)
{
    const int64_t M = w->w.shape[0], K = w->w.shape[1];
    for (const low_rank *l = w->lora; l; l = l->next) {
        check(l, w);
        const int64_t rows = rows_that_fit(KERNELS_LOW_RANK_FLOATS / 4, l->a.shape[0], N);
        for (int64_t i = 0; i < N; i += rows) {
            add_one(k, y + i * M, x + i * K, l, rows < N - i ? rows : N - i, scratch(k));
        }
    }
}

void low_rank_silu_mul(kernels *k, float *y, const float *x, const weight *gate, const weight *up,
                       int64_t N, low_rank_product product)
{
    const int64_t M = gate->w.shape[0], K = gate->w.shape[1];
    const size_t quarter = KERNELS_LOW_RANK_FLOATS / 4; // the first is low_rank_add's
    const int64_t rows = rows_that_fit(3 * quarter, M, N);
    float *u = scratch(k) + quarter;
    for (int64_t i = 0; i < N; i += rows, y += rows * M, x += rows * K) {
        const int64_t n = rows < N - i ? rows : N - i;
        product(k, y, x, gate, n);
        low_rank_add(k, y, x, gate, n);
        product(k, u, x, up, n);
        low_rank_add(k, u, x, up, n);
        for (int64_t j = 0; j < n * M; j++) u[j] *= y[j];
        k->ops.sigmoid_mul(k, u, y, n, 1, M, M, M);
        memcpy(y, u, (size_t)(n * M) * sizeof *y);
    }
}
