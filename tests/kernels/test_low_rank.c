// Products with low-rank additions, against double.
#include "support/test.h"

#include <math.h>

#include "kernels/ops.h"

#define K 96
#define M 80

typedef struct adapted {
    float w[M * K], w2[M * K], a[2][24 * K], b[2][M * 24];
    low_rank ranks[2];
    weight weight, other; // other: without additions
} adapted;

static void fill(test_random *r, float *to, int64_t n, float scale)
{
    for (int64_t i = 0; i < n; i++) to[i] = bf16_to_f32(f32_to_bf16(scale * test_random_normal(r)));
}

static tensor_view view(const float *data, int64_t rows, int64_t columns)
{
    return (tensor_view){data, TENSOR_F32, 2, {rows, columns}};
}

// Two additions, of rank 8 and 24.
static void adapted_init(adapted *t, test_random *r)
{
    memset(t, 0, sizeof *t);
    fill(r, t->w, M * K, 0.1f);
    fill(r, t->w2, M * K, 0.1f);
    for (int i = 0; i < 2; i++) {
        const int64_t rank = i ? 24 : 8;
        fill(r, t->a[i], rank * K, 0.1f);
        fill(r, t->b[i], M * rank, 0.1f);
        t->ranks[i] = (low_rank){view(t->a[i], rank, K), view(t->b[i], M, rank), i ? -0.5f : 2, NULL};
    }
    t->ranks[0].next = &t->ranks[1];
    t->weight = (weight){.w = view(t->w, M, K), .lora = t->ranks};
    t->other = (weight){.w = view(t->w2, M, K)};
}

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

static double answer(const adapted *t, const float *x, int64_t m)
{
    double sum = dot(x, t->w + m * K, K);
    for (const low_rank *l = t->ranks; l; l = l->next) {
        const float *a = l->a.data, *b = l->b.data;
        const int64_t r = l->a.shape[0];
        for (int64_t j = 0; j < r; j++) sum += l->scale * dot(x, a + j * K, K) * b[m * r + j];
    }
    return sum;
}

static void assert_near(float got, double expected)
{
    if (fabs(got - expected) > 2e-5 * (1 + fabs(expected))) fail_msg("%g, expected %g", (double)got, expected);
}

// Set, added and gated; one row alone gives the bits that it gives in a batch.
static void run(kernels *k, adapted *t, test_random *r, int64_t N)
{
    float *x = malloc((size_t)(N * K) * sizeof *x), *y = malloc((size_t)(N * M) * sizeof *y);
    float *z = malloc((size_t)(N * M) * sizeof *z), one[M];
    fill(r, x, N * K, 1);
    op_linear(k, y, x, &t->weight, N);
    memcpy(z, y, (size_t)(N * M) * sizeof *z);
    op_linear_add(k, z, x, &t->weight, N);
    for (int64_t i = 0; i < N * M; i++) {
        assert_near(y[i], answer(t, x + i / M * K, i % M));
        assert_near(z[i], 2 * answer(t, x + i / M * K, i % M));
    }
    op_linear(k, one, x + (N - 1) * K, &t->weight, 1);
    assert_memory_equal(one, y + (N - 1) * M, sizeof one);
    for (int both = 0; both < 2; both++) {
        const weight *gate = both ? &t->other : &t->weight, *up = both ? &t->weight : &t->other;
        op_linear_silu_mul(k, z, x, gate, up, N);
        for (int64_t i = 0; i < N * M; i++) {
            const double g = both ? dot(x + i / M * K, t->w2 + i % M * K, K) : answer(t, x + i / M * K, i % M);
            const double u = both ? answer(t, x + i / M * K, i % M) : dot(x + i / M * K, t->w2 + i % M * K, K);
            assert_near(z[i], g / (1 + exp(-g)) * u);
        }
    }
    const weight *many[] = {&t->other, &t->weight};
    float *out[] = {z, y};
    op_linear_many(k, out, x, many, 2, N);
    assert_near(z[0], dot(x, t->w2, K));
    assert_near(y[N * M - 1], answer(t, x + (N - 1) * K, M - 1));
    free(x);
    free(y);
    free(z);
}

static void every_level(void **state)
{
    test_random r = {7};
    adapted *t = malloc(sizeof *t);
    adapted_init(t, &r);
    for (int level = SIMD_PLAIN; level < SIMD_COUNT; level++) {
        kernels *k = NULL;
        const kernels_options o = {.threads = 2, .simd = (simd_level)level, .exact = true};
        if (kernels_create(&k, &o)) continue; // not on this processor
        run(k, t, &r, 1);
        run(k, t, &r, 5);
        run(k, t, &r, 70);
        kernels_destroy(&k);
    }
    free(t);
}

// Beside packed weights: the same addition as beside the numbers that they stand for.
static void packed_weights(void **state)
{
    test_random r = {8};
    adapted *t = malloc(sizeof *t);
    adapted_init(t, &r);
    const packed_format f = packed_format_int8();
    packed_rows rows;
    packed p;
    void *block = aligned_alloc(64, (packed_bytes(&f, M, K) + 63) / 64 * 64);
    assert_true(packed_rows_alloc(&rows, &f, M, K));
    packed_quantise(&rows, &f, t->w, M, K, NULL);
    packed_init(&p, &f, M, K, block);
    packed_put(&p, 0, M, &rows);
    for (int64_t m = 0; m < M; m++) packed_get_row(&p, t->w + m * K, m);
    t->weight.packed = &p;
    t->weight.w.data = NULL;
    kernels *k = NULL;
    const kernels_options o = {.threads = 2, .exact = true};
    assert_ok(kernels_create(&k, &o));
    run(k, t, &r, 9);
    kernels_destroy(&k);
    free(rows.codes);
    free(block);
    free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_level),
        cmocka_unit_test(packed_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
