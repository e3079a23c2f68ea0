#include "support/test.h"

#include <math.h>

#include "kernels/backend.h"
#include "kernels/cpu/packed_search.h"
#include "kernels/packed.h"

typedef struct matrix {
    int64_t M, K;
    float *w;
    packed_rows rows;
    packed p;
    void *block;
} matrix;

static void matrix_init(matrix *m, test_random *r, int64_t M, int64_t K)
{
    *m = (matrix){.M = M, .K = K, .w = malloc((size_t)(M * K) * 4)};
    for (int64_t i = 0; i < M * K; i++) m->w[i] = test_random_normal(r);
}

static void matrix_quantise(matrix *m, const packed_format *f, const float *importance)
{
    const char *why;
    assert_true(packed_format_check(f, &why));
    assert_true(packed_rows_alloc(&m->rows, f, m->M, m->K));
    packed_quantise(&m->rows, f, m->w, m->M, m->K, importance);
    m->block = aligned_alloc(64, packed_bytes(f, m->M, m->K));
    packed_init(&m->p, f, m->M, m->K, m->block);
    packed_put(&m->p, 0, m->M, &m->rows);
}

static void matrix_done(matrix *m)
{
    free(m->w);
    free(m->rows.codes);
    free(m->block);
}

// Squared error over squared weights; importance counts errors of each input.
static double loss(const matrix *m, const float *importance)
{
    double off = 0, all = 0;
    float *row = malloc((size_t)m->K * 4);
    for (int64_t i = 0; i < m->M; i++) {
        packed_get_row(&m->p, row, i);
        for (int64_t k = 0; k < m->K; k++) {
            const double v = m->w[i * m->K + k], w = importance ? importance[k] : 1;
            off += w * (v - row[k]) * (v - row[k]);
            all += w * v * v;
        }
    }
    free(row);
    return off / (all + 1e-300);
}

// What the plainest rule loses: the largest of 32 weights takes the last code of an even scale.
static double naive_loss(const matrix *m, float most)
{
    double off = 0, all = 0;
    for (int64_t i = 0; i < m->M * m->K; i += 32) {
        float largest = 0;
        for (int64_t k = 0; k < 32; k++) largest = fmaxf(largest, fabsf(m->w[i + k]));
        const float d = largest / most;
        for (int64_t k = 0; k < 32; k++) {
            const double v = m->w[i + k], q = d * nearbyintf(m->w[i + k] / d);
            off += (v - q) * (v - q);
            all += v * v;
        }
    }
    return off / all;
}

static void scales_are_better_than_the_plain_rule(void **state)
{
    test_random r = {3};
    const packed_format int8 = packed_format_int8(), int4 = packed_format_int4();
    matrix m;
    matrix_init(&m, &r, 64, 1024);
    const double naive8 = naive_loss(&m, 127), naive4 = naive_loss(&m, 7);
    matrix_quantise(&m, &int8, NULL);
    assert_true(loss(&m, NULL) < 0.99 * naive8);
    free(m.rows.codes);
    free(m.block);
    matrix_quantise(&m, &int4, NULL);
    // 0.0080 for Q4_0's rule, 0.0048 for a scale and a minimum per 32; bits 4.5 each.
    assert_true(loss(&m, NULL) < 0.5 * naive4 && loss(&m, NULL) < 0.0041);
    matrix_done(&m);
}

static void bits_of_a_weight(void **state)
{
    const packed_format int8 = packed_format_int8(), int4 = packed_format_int4();
    assert_int_equal(packed_bytes(&int8, 1024, 1024), (1 << 20) + (1 << 15) + 4096);
    assert_int_equal(packed_bytes(&int4, 1024, 1024), (1 << 19) + (1 << 16) + 4096);
}

// Any K: whole supers, part of one, part of a group; outliers, zeros, tiny and huge numbers.
static void odd_shapes_and_numbers(void **state)
{
    static const int64_t widths[] = {1, 15, 16, 17, 31, 33, 192, 500, 1023, 1024, 1025, 2100};
    test_random r = {5};
    for (size_t i = 0; i < 2 * sizeof widths / sizeof *widths; i++) {
        const packed_format f = i & 1 ? packed_format_int4() : packed_format_int8();
        matrix m;
        matrix_init(&m, &r, 19, widths[i / 2]);
        const int64_t K = m.K;
        memset(m.w, 0, (size_t)K * 4);
        for (int64_t k = 0; k < K; k++) {
            m.w[K + k] *= 1e-12f;
            m.w[2 * K + k] *= 1e12f;
            m.w[3 * K + k] *= k ? 1 : 100;
            m.w[4 * K + k] = 2.5f;
        }
        matrix_quantise(&m, &f, NULL);
        float *row = malloc((size_t)K * 4);
        for (int64_t j = 0; j < m.M; j++) {
            packed_get_row(&m.p, row, j);
            const double scale = j == 1 ? 5e-12 : j == 2 ? 5e12 : j == 3 ? 100 : j == 4 ? 2.5 : 5;
            for (int64_t k = 0; k < K; k++) {
                const double off = fabs((double)row[k] - m.w[j * K + k]);
                if (!(off <= (f.bits == 8 ? 0.02 : 0.3) * scale)) {
                    fail_msg("bits %d K %d row %d input %d: %g for %g", f.bits, (int)K, (int)j,
                             (int)k, (double)row[k], (double)m.w[j * K + k]);
                }
                if (j == 0) assert_true(row[k] == 0);
            }
        }
        free(row);
        matrix_done(&m);
    }
}

static void importance_moves_the_error(void **state)
{
    test_random r = {9};
    const packed_format f = packed_format_int4();
    float importance[256];
    for (int i = 0; i < 256; i++) importance[i] = i % 4 ? 0.05f : 10;
    matrix even, weighed;
    matrix_init(&even, &r, 40, 256);
    weighed = even;
    weighed.w = malloc(40 * 256 * 4);
    memcpy(weighed.w, even.w, 40 * 256 * 4);
    matrix_quantise(&even, &f, NULL);
    matrix_quantise(&weighed, &f, importance);
    assert_true(loss(&weighed, importance) < 0.8 * loss(&even, importance));
    matrix_done(&even);
    matrix_done(&weighed);
}

static void check_loops(const search_loops *a, const search_groups *g, const search_table *t)
{
    const search_loops *plain = &search_loops_plain;
    float d[2][SEARCH_LANES], error[2][SEARCH_LANES];
    uint8_t codes[2][SEARCH_MAX_GROUP * SEARCH_LANES];
    plain->table_scales(d[0], g, t);
    a->table_scales(d[1], g, t);
    assert_memory_equal(d[0], d[1], sizeof d[0]);
    plain->table_errors(error[0], d[0], g, t);
    a->table_errors(error[1], d[0], g, t);
    assert_memory_equal(error[0], error[1], sizeof error[0]);
    plain->even_errors(error[0], d[0], g);
    a->even_errors(error[1], d[0], g);
    assert_memory_equal(error[0], error[1], sizeof error[0]);
    const size_t n = (size_t)g->size * SEARCH_LANES;
    plain->table_codes(codes[0], d[0], g, t);
    a->table_codes(codes[1], d[0], g, t);
    assert_memory_equal(codes[0], codes[1], n);
    plain->even_codes(codes[0], d[0], g);
    a->even_codes(codes[1], d[0], g);
    assert_memory_equal(codes[0], codes[1], n);
}

static void levels_agree_to_the_bit(void **state)
{
    test_random r = {13};
    search_table t = {.first = -127, .last = 113};
    for (int j = 0; j < 15; j++) {
        t.mid[j] = -119 + 16.0f * (float)j;
        t.step[j] = 16;
    }
    for (int i = 0; i < 50; i++) {
        search_groups g = {.size = i & 1 ? 16 : 32};
        for (int e = 0; e < g.size; e++) {
            for (int l = 0; l < SEARCH_LANES; l++) {
                g.x[e][l] = l == 3 ? 0 : test_random_normal(&r);
                g.w[e][l] = i % 5 ? 1 : fabsf(test_random_normal(&r));
            }
        }
#if defined(__x86_64__)
        if (simd_level_available(SIMD_AVX2)) check_loops(&search_loops_avx2, &g, &t);
        if (simd_level_available(SIMD_AVX512)) check_loops(&search_loops_avx512, &g, &t);
#endif
        check_loops(&search_loops_plain, &g, &t);
    }
}

// Rows do not know their neighbours: any cut of the rows gives the same.
static void rows_in_parts_are_the_same(void **state)
{
    test_random r = {21};
    const packed_format f = packed_format_int4();
    matrix m;
    packed_rows some;
    matrix_init(&m, &r, 33, 333);
    matrix_quantise(&m, &f, NULL);
    assert_true(packed_rows_alloc(&some, &f, 16, m.K));
    void *block = aligned_alloc(64, packed_bytes(&f, m.M, m.K));
    packed p;
    packed_init(&p, &f, m.M, m.K, block);
    for (int64_t first = 0; first < m.M; first += 16) {
        const int64_t n = m.M - first < 16 ? m.M - first : 16;
        packed_quantise(&some, &f, m.w + first * m.K, n, m.K, NULL);
        packed_put(&p, first, n, &some);
    }
    float *a = malloc((size_t)m.K * 4), *b = malloc((size_t)m.K * 4);
    for (int64_t i = 0; i < m.M; i++) {
        packed_get_row(&p, a, i);
        packed_get_row(&m.p, b, i);
        assert_memory_equal(a, b, (size_t)m.K * 4);
    }
    free(a);
    free(b);
    free(some.codes);
    free(block);
    matrix_done(&m);
}

// Off by 2^-4 of a weight at most, or 2^-10 of the scale where that is more: as rows of x in linear_f8.h.
static void fp8_is_as_near_as_its_steps(void **state)
{
    static const int64_t widths[] = {1, 127, 128, 129, 500};
    test_random r = {19};
    const packed_format f = packed_format_fp8();
    for (int i = 0; i < 5; i++) {
        matrix m;
        matrix_init(&m, &r, 19, widths[i]);
        for (int64_t k = 0; k < m.K; k++) m.w[k] = 0, m.w[m.K + k] = 1e-35f, m.w[2 * m.K + k] *= 1e30f;
        matrix_quantise(&m, &f, NULL);
        float *row = malloc((size_t)m.K * 4), shift;
        for (int64_t j = 0; j < m.M; j++) {
            packed_get_row(&m.p, row, j);
            for (int64_t k = 0; k < m.K; k++) {
                const float w = m.w[j * m.K + k], scale = packed_get_scale(&m.p, j, k / 128, &shift);
                const double allowed = fmax(fabs(w) / 16, scale / 1024.0) * 1.000001 + (j == 1 ? 1e-35 : 0);
                assert_true(fabs((double)row[k] - w) <= allowed);
            }
        }
        free(row);
        matrix_done(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scales_are_better_than_the_plain_rule),
        cmocka_unit_test(bits_of_a_weight),
        cmocka_unit_test(odd_shapes_and_numbers),
        cmocka_unit_test(importance_moves_the_error),
        cmocka_unit_test(levels_agree_to_the_bit),
        cmocka_unit_test(rows_in_parts_are_the_same),
        cmocka_unit_test(fp8_is_as_near_as_its_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
