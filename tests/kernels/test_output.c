// The output layer's looks: every level's values keep their bounds against op_linear, and the
// bounds are as close as the halves promise.
#include "kernels/levels.h"

#include "kernels/output.h"

typedef struct head {
    weight w;
    void *memory, *block;
    output_planes planes;
} head;

static void *lines(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(p);
    return p;
}

static head make_head(kernels *k, const float *w, int64_t M, int64_t K, tensor_type type)
{
    head h = {0};
    h.memory = malloc((size_t)(M * K) * 4);
    for (int64_t i = 0; i < M * K; i++) {
        if (type == TENSOR_F32) ((float *)h.memory)[i] = w[i];
        else ((uint16_t *)h.memory)[i] = f32_to_bf16(w[i]);
    }
    h.w.w = (tensor_view){.data = h.memory, .type = type, .n_dims = 2, .shape = {M, K}};
    h.block = lines(output_planes_bytes(M, K));
    memset(h.block, 0x5a, output_planes_bytes(M, K));
    output_planes_init(&h.planes, M, K, h.block);
    assert_true(op_output_make(k, &h.planes, &h.w));
    return h;
}

static void free_head(head *h)
{
    free(h->memory);
    free(h->block);
}

static void check_panels(const output_look *l, int64_t rows)
{
    for (int64_t m = 0; m < rows; m += OUTPUT_PANEL) {
        float peak = -INFINITY, reach = -INFINITY;
        for (int64_t i = m; i < m + OUTPUT_PANEL; i++) {
            peak = fmaxf(peak, l->value[i]);
            reach = fmaxf(reach, l->value[i] + l->bound[i]);
        }
        assert_true(l->peak[m / OUTPUT_PANEL] == peak && l->reach[m / OUTPUT_PANEL] == reach);
    }
}

// Both looks at N rows of x; checks every bound, and gives how far the bounds go on average, over
// norm(row) norm(x).
static void check_looks(kernels *k, const head *h, const float *x, int64_t N, double mean[2])
{
    const int64_t M = h->planes.M, K = h->planes.K, rows = output_rows(M);
    const size_t bytes = output_x_bytes(K);
    float *full = malloc((size_t)(N * M) * sizeof *full);
    const int64_t panels = output_panels(M), all = 2 * (rows + panels);
    float *numbers = malloc((size_t)(N * all) * sizeof *numbers);
    int32_t *ids = malloc((size_t)M * sizeof *ids);
    char *blocks = lines(bytes * (size_t)N);
    output_x in[OUTPUT_MAX_ROWS];
    output_look looks[OUTPUT_MAX_ROWS];
    op_linear(k, full, x, &h->w, N);
    for (int64_t n = 0; n < N; n++) {
        assert_true(op_output_read(k, &in[n], blocks + bytes * (size_t)n, x + n * K, &h->w));
        float *at = numbers + n * all;
        looks[n] = (output_look){at, at + rows, at + 2 * rows, at + 2 * rows + panels};
    }
    op_output_scan(k, looks, &h->planes, in, N);
    for (int64_t n = 0; n < N; n++) check_panels(&looks[n], rows);
    mean[0] = mean[1] = 0;
    for (int look = 0; look < 2; look++) {
        for (int64_t n = 0; n < N; n++) {
            for (int64_t m = 0; m < M; m++) {
                const double off = fabs((double)looks[n].value[m] - (double)full[n * M + m]);
                const double bound = (double)looks[n].bound[m];
                if (!(off <= bound)) {
                    fail_msg("%s, look %d, row %d of x, output %d: off by %g, bound %g",
                             simd_level_name(kernels_simd(k)), look, (int)n, (int)m, off, bound);
                }
                double a = 0, b = 1e-300;
                for (int64_t i = 0; i < K; i++) {
                    const double w = (double)tensor_get_f32(&h->w.w, m * K + i);
                    a += w * w;
                    b += (double)x[n * K + i] * (double)x[n * K + i];
                }
                mean[look] += bound / (sqrt(a * b) + 1e-25) / (double)(M * N);
            }
            // The second look, in an odd order and two goes.
            for (int64_t m = 0; m < M; m++) ids[m] = (int32_t)(M - 1 - m);
            if (look > 0) continue;
            op_output_refine(k, &looks[n], &h->planes, &in[n], ids, M / 3);
            op_output_refine(k, &looks[n], &h->planes, &in[n], ids + M / 3, M - M / 3);
        }
    }
    free(full);
    free(numbers);
    free(ids);
    free(blocks);
}

static void bounds_hold_on_random_heads(void **state)
{
    levels *l = *state;
    test_random r = {1};
    const int64_t shapes[][3] = {{1, 1, 1},   {17, 31, 2},  {16, 32, 3},    {33, 129, 4},
                                 {50, 96, 5}, {31, 257, 8}, {301, 1024, 1}, {40, 2080, 6}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const int64_t M = shapes[s][0], K = shapes[s][1], N = shapes[s][2];
        float *w = guarded_normal(M * K, &r, 0.02f), *x = guarded_normal(N * K, &r, 1);
        for (int i = 0; i < l->n; i++) {
            for (int type = TENSOR_F32; type <= TENSOR_BF16; type++) {
                double mean[2];
                head h = make_head(l->k[i], w, M, K, (tensor_type)type);
                check_looks(l->k[i], &h, x, N, mean);
                if (K >= 96) assert_true(mean[0] < 0.12 && mean[1] < 0.015);
                free_head(&h);
            }
        }
        guarded_free(w);
        guarded_free(x);
    }
}

// Large channels, rows of zeros, equal rows, a group of zeros, numbers near the ends of floats.
static void bounds_hold_on_odd_heads(void **state)
{
    enum { M = 48, K = 200 };
    levels *l = *state;
    test_random r = {2};
    float *w = guarded_normal(M * K, &r, 1), *x = guarded_normal(6 * K, &r, 1);
    for (int m = 0; m < M; m++) {
        for (int k = 0; k < K; k++) {
            float *v = &w[m * K + k];
            if (m < 8) *v = 0;
            else if (m < 12) *v = w[12 * K + k];
            else if (m < 16 && k == 37) *v *= 1000;
            else if (m < 20 && k >= 64 && k < 96) *v = 0;
            else if (m < 24) *v *= 1e-38f;
            else if (m < 28) *v *= 1e-12f * (float)k;
            else if (m < 32) *v *= 1e11f;
            else if (m < 36) *v = k % 2 ? 1 : -1;
            else if (m < 40) *v = expf(8 * *v);
        }
    }
    for (int k = 0; k < K; k++) {
        x[K + k] = 0;
        x[2 * K + k] *= k == 5 || k == 130 ? 500 : 0.1f;
        x[3 * K + k] *= 1e-37f;
        x[4 * K + k] *= 1e11f;
        x[5 * K + k] = expf(10 * x[5 * K + k]);
    }
    for (int i = 0; i < l->n; i++) {
        double mean[2];
        head h = make_head(l->k[i], w, M, K, TENSOR_F32);
        check_looks(l->k[i], &h, x, 6, mean);
        free_head(&h);
        const kernels_options fast = {.threads = 2, .simd = kernels_simd(l->k[i])};
        kernels *k = NULL;
        assert_ok(kernels_create(&k, &fast)); // bf16 products, where a level has them
        h = make_head(k, w, M, K, TENSOR_BF16);
        check_looks(k, &h, x, 6, mean);
        free_head(&h);
        kernels_destroy(&k);
    }
    guarded_free(w);
    guarded_free(x);
}

static void levels_make_the_same_planes(void **state)
{
    enum { M = 70, K = 1000 };
    levels *l = *state;
    test_random r = {3};
    float *w = guarded_normal(M * K, &r, 1);
    head first = make_head(l->k[0], w, M, K, TENSOR_BF16);
    for (int i = 1; i < l->n; i++) {
        double mean[2];
        float x[K];
        for (int k = 0; k < K; k++) x[k] = test_random_normal(&r);
        head h = make_head(l->k[i], w, M, K, TENSOR_BF16);
        output_planes own = h.planes;
        h.planes = first.planes; // those of plain serve every level: kept ones may move to another machine
        check_looks(l->k[i], &h, x, 1, mean);
        h.planes = own;
        free_head(&h);
    }
    free_head(&first);
    guarded_free(w);
}

static void numbers_that_are_not_finite_are_refused(void **state)
{
    enum { M = 20, K = 40 };
    levels *l = *state;
    float w[M * K] = {0}, x[K] = {0};
    const float odd[] = {NAN, INFINITY, -INFINITY, 3e38f};
    kernels *k = l->k[l->n - 1];
    head h = make_head(k, w, M, K, TENSOR_F32);
    void *block = lines(output_x_bytes(K));
    output_x in;
    for (int i = 0; i < 4; i++) {
        x[7] = odd[i];
        assert_false(op_output_read(k, &in, block, x, &h.w));
        ((float *)h.memory)[M * K - 1] = odd[i];
        assert_false(op_output_make(k, &h.planes, &h.w));
    }
    free(block);
    free_head(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_hold_on_random_heads),
        cmocka_unit_test(bounds_hold_on_odd_heads),
        cmocka_unit_test(levels_make_the_same_planes),
        cmocka_unit_test(numbers_that_are_not_finite_are_refused),
    };
    return cmocka_run_group_tests(tests, levels_open, levels_close);
}
