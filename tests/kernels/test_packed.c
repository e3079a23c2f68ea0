#include "support/test.h"

#include <math.h>

#include "kernels/backend.h"
#include "kernels/f8.h"
#include "kernels/packed.h"
#include "kernels/packed_formats.h"

// A packed matrix of random codes and scales, and the rows it was put together from.
typedef struct matrix {
    packed_rows rows;
    packed p;
    void *block;
    float *bias;
    weight weight;
} matrix;

static void matrix_init(matrix *m, test_random *r, int i, int64_t M, int64_t K)
{
    const packed_format f = format(i);
    const size_t bytes = packed_bytes(&f, M, K);
    *m = (matrix){.block = aligned_alloc(64, bytes), .bias = malloc((size_t)M * 4)};
    memset(m->block, 0xa5, bytes);
    assert_true(packed_rows_alloc(&m->rows, &f, M, K));
    packed_init(&m->p, &f, M, K, m->block);
    random_packed_rows(&m->rows, &f, r, M, K);
    packed_put(&m->p, 0, M, &m->rows);
    for (int64_t j = 0; j < M; j++) m->bias[j] = test_random_normal(r);
    m->weight = (weight){{NULL, TENSOR_BF16, 2, {M, K}}, m->bias, &m->p, NULL};
}

static void matrix_done(matrix *m)
{
    free(m->rows.codes);
    free(m->block);
    free(m->bias);
}

// By the definition in packed.h, from the rows and not from the block.
static double element(const matrix *m, int64_t row, int64_t k)
{
    const packed_format *f = &m->p.format;
    const int64_t g = row * packed_groups(f, m->p.K) + k / f->group;
    const uint8_t code = m->rows.codes[row * m->p.K + k];
    const double value = f->f8 ? f8_to_f32(code) : (f->has_table ? f->table[code] : code) - f->offset;
    if (f->scales == PACKED_FLAT) {
        return (double)f->factor * f16_to_f32(((const uint16_t *)m->rows.scales)[g]) * value;
    }
    if (f->scales == PACKED_FLAT_F32) {
        return (double)f->factor * ((const float *)m->rows.scales)[g] * value;
    }
    const int64_t s = row * packed_supers(f, m->p.K) + k / f->group / f->per_super;
    const double sub = f->signed_sub ? ((const int8_t *)m->rows.scales)[g]
                                     : ((const uint8_t *)m->rows.scales)[g];
    const double low = f->has_min ? (double)m->rows.super_min[s] * m->rows.mins[g] : 0;
    return (double)m->rows.super[s] * sub * value - low;
}

static void put_and_got_are_the_same(void **state)
{
    static const int64_t shapes[][2] = {{1, 1}, {16, 32}, {17, 33}, {40, 130}, {31, 500}, {48, 1056}};
    test_random r = {5};
    for (int i = 0; i < (N_FORMATS + N_MADE) * 6; i++) {
        const int64_t M = shapes[i % 6][0], K = shapes[i % 6][1];
        matrix m;
        matrix_init(&m, &r, i / 6, M, K);
        float *row = malloc((size_t)K * 4), *rows = malloc((size_t)(M * K) * 4);
        const int64_t first = M / 3;
        packed_get_rows(&m.p, rows, first, M - first);
        for (int64_t j = 0; j < M; j++) {
            packed_get_row(&m.p, row, j);
            for (int64_t k = 0; k < K; k++) {
                const double e = element(&m, j, k);
                assert_true(fabs(row[k] - e) <= 4e-7 * (fabs(e) + 3));
            }
            if (j >= first) assert_memory_equal(row, rows + (j - first) * K, (size_t)K * 4);
        }
        free(row);
        free(rows);
        matrix_done(&m);
    }
}

static void formats_that_are_not_run(void **state)
{
    const char *why;
    packed_format f = packed_format_int8();
    assert_true(packed_format_check(&f, &why) && !why);
    f.group = 48;
    assert_false(packed_format_check(&f, &why));
    assert_string_equal(why, "group");
    f = packed_format_int4();
    f.bits = 5;
    assert_false(packed_format_check(&f, &why));
    assert_string_equal(why, "bits");
    f.bits = 8;
    assert_false(packed_format_check(&f, &why));
    assert_string_equal(why, "has_table");
    f = packed_format_int4();
    f.per_super = 0;
    assert_false(packed_format_check(&f, &why));
    assert_string_equal(why, "per_super");
}

// ---- products ----

// One set of inner loops: those of a level, and those that some chips of a level have beside.
typedef struct variant {
    const char *name;
    kernels *k, *exact;
} variant;

#define MAX_VARIANTS 8

typedef struct variants {
    int n;
    variant v[MAX_VARIANTS];
} variants;

static kernels *new_kernels(simd_level level, int n_threads, bool exact)
{
    kernels *k = NULL;
    const sight_err err =
        kernels_create(&k, &(kernels_options){.threads = n_threads, .simd = level, .exact = exact});
    if (err == SIGHT_E_UNSUPPORTED) return NULL;
    assert_ok(err);
    return k;
}

static void add_variant(variants *all, const char *name, simd_level level, int n_threads,
                        void (*fill)(backend_ops *ops))
{
    variant v = {name, new_kernels(level, n_threads, false), new_kernels(level, n_threads, true)};
    if (!v.k) return;
    if (fill) fill(&v.k->ops);
    all->v[all->n++] = v;
}

static void open_variants(variants *all, int n_threads)
{
    *all = (variants){0};
    for (int level = SIMD_PLAIN; level < SIMD_COUNT; level++) {
        add_variant(all, simd_level_name((simd_level)level), (simd_level)level, n_threads, NULL);
    }
#if defined(__x86_64__)
    // Without the products of bytes that the processor may have.
    add_variant(all, "avx2 alone", SIMD_AVX2, n_threads, packed_avx2_fill);
    add_variant(all, "avx512 alone", SIMD_AVX512, n_threads, packed_avx512_fill);

#endif
}

static void close_variants(variants *all)
{
    for (int i = 0; i < all->n; i++) {
        kernels_destroy(&all->v[i].k);
        kernels_destroy(&all->v[i].exact);
    }
}

static float *normals(test_random *r, int64_t n)
{
    float *x = malloc((size_t)n * 4);
    for (int64_t i = 0; i < n; i++) x[i] = test_random_normal(r);
    return x;
}

// Rows as the products see them: in int8 by blocks of 32, back in float.
static double *rounded_rows(const float *x, int64_t N, int64_t K)
{
    double *out = malloc((size_t)(N * K) * sizeof *out);
    for (int64_t i = 0; i < N * K; i++) {
        const int64_t first = i / K * K + i % K / 32 * 32;
        float largest = 0;
        for (int64_t k = first; k < first + 32 && k < i / K * K + K; k++) {
            largest = fmaxf(largest, fabsf(x[k]));
        }
        out[i] = largest > 0 ? nearbyintf(x[i] * (127.0f / largest)) * (double)(largest / 127.0f) : 0;
    }
    return out;
}

// Plain C against double; x counts as rounded to int8, in exact mode and in E4M3 as it is.
static void check_answer(kernels *k, const matrix *m, const float *x, int64_t N, bool rounded)
{
    const int64_t M = m->p.M, K = m->p.K;
    double *rows = rounded_rows(x, N, K);
    float *y = malloc((size_t)(N * M) * 4), *weights = malloc((size_t)K * 4);
    for (int64_t i = 0; !rounded && i < N * K; i++) rows[i] = x[i];
    op_linear(k, y, x, &m->weight, N);
    for (int64_t j = 0; j < M; j++) {
        packed_get_row(&m->p, weights, j);
        for (int64_t n = 0; n < N; n++) {
            double sum = m->bias[j], scale = fabs(sum);
            for (int64_t i = 0; i < K; i++) {
                const double t = rows[n * K + i] * weights[i];
                sum += t;
                // Scale and shift may cancel in a weight, not in the product's two sums.
                scale += fabs(t) + fabs(rows[n * K + i]) * (m->p.format.has_min ? 2.56 : 0);
            }
            if (!(fabs(y[n * M + j] - sum) <= 4e-6 * scale)) {
                fail_msg("row %d output %d: %g, not %g", (int)n, (int)j, (double)y[n * M + j], sum);
            }
        }
    }
    free(rows);
    free(weights);
    free(y);
}

static const int64_t edge_N[] = {1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 24, 31, 47, 70};
static const int64_t edge_K[] = {1, 3, 15, 16, 17, 31, 32, 33, 64, 97, 130, 300};
static const int64_t edge_M[] = {1, 3, 15, 16, 17, 31, 32, 33, 47, 48, 50, 67, 130};
#define PICK(list, i) list[(size_t)(i) % (sizeof list / sizeof *list)]

static void plain_meets_the_answer(void **state)
{
    test_random r = {42};
    variants all;
    open_variants(&all, 2);
    for (int i = 0; i < (N_FORMATS + N_MADE) * 6; i++) {
        matrix m;
        const int64_t N = PICK(edge_N, i % 4), K = PICK(edge_K, i);
        matrix_init(&m, &r, i % (N_FORMATS + N_MADE), PICK(edge_M, i), K);
        float *x = normals(&r, N * K);
        check_answer(all.v[0].k, &m, x, N, !m.p.format.f8);
        check_answer(all.v[0].exact, &m, x, N, false);
        free(x);
        matrix_done(&m);
    }
    close_variants(&all);
}

// Set, add and the gated form of one variant, one after another.
static float *all_modes(kernels *k, const matrix *gate, const matrix *up, const float *x,
                        const float *start, int64_t N, int64_t *count)
{
    const int64_t size = N * gate->p.M;
    float *y = malloc((size_t)(3 * size) * 4);
    op_linear(k, y, x, &gate->weight, N);
    memcpy(y + size, start, (size_t)size * 4);
    op_linear_add(k, y + size, x, &gate->weight, N);
    op_linear_silu_mul(k, y + 2 * size, x, &gate->weight, &up->weight, N);
    *count = size;
    return y;
}

// The gated form's exponential differs between plain C and the others: in a few last places.
static void check_gated(const char *name, const float *y, const float *plain, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs((double)y[i] - plain[i]) <= 2e-6 * fabs(plain[i]) + 1e-30)) {
            fail_msg("%s: gated %g, plain %g", name, (double)y[i], (double)plain[i]);
        }
    }
}

static void every_level_is_plain_to_the_bit(void **state)
{
    test_random r = {43};
    variants all;
    open_variants(&all, 2);
    for (int i = 0; i < 15 * 14 * 2; i++) { // every N with every format
        const int f = i % (N_FORMATS + N_MADE);
        const int64_t N = PICK(edge_N, i), K = PICK(edge_K, i), M = PICK(edge_M, i);
        int64_t count;
        matrix gate, up;
        matrix_init(&gate, &r, f, M, K);
        matrix_init(&up, &r, i % 5 ? f : (f + 1) % N_FORMATS, M, K);
        float *x = normals(&r, N * K), *start = normals(&r, N * M);
        if (i % 7 == 0) memset(x, 0, (size_t)K * 4);
        float *plain = all_modes(all.v[0].k, &gate, &up, x, start, N, &count);
        for (int v = 1; v < all.n && !gate.p.format.f8 && !up.p.format.f8; v++) {
            float *y = all_modes(all.v[v].k, &gate, &up, x, start, N, &count);
            if (memcmp(y, plain, (size_t)(2 * count) * 4) != 0) {
                fail_msg("%s, format %d, N %d K %d M %d: not plain's bits", all.v[v].name, f, (int)N,
                         (int)K, (int)M);
            }
            check_gated(all.v[v].name, y + 2 * count, plain + 2 * count, count);
            free(y);
        }
        free(plain);
        free(x);
        free(start);
        matrix_done(&gate);
        matrix_done(&up);
    }
    close_variants(&all);
}

// Float rows: the same bits as the product of the unpacked matrix.
static void float_products_are_those_of_the_unpacked(void **state)
{
    test_random r = {47};
    variants all;
    open_variants(&all, 2);
    for (int i = 0; i < 15 * 14; i++) {
        const int f = i % (N_FORMATS + N_MADE);
        const int64_t N = PICK(edge_N, i), K = PICK(edge_K, i), M = PICK(edge_M, i);
        int64_t count;
        matrix m;
        matrix_init(&m, &r, f, M, K);
        float *x = normals(&r, N * K), *start = normals(&r, N * M);
        float *w = malloc((size_t)(M * K) * 4);
        packed_get_rows(&m.p, w, 0, M);
        matrix unpacked = m;
        unpacked.weight = (weight){{w, TENSOR_F32, 2, {M, K}}, m.bias, NULL, NULL};
        for (int v = 0; v < all.n; v++) {
            kernels *k = m.p.format.f8 && i & 1 ? all.v[v].k : all.v[v].exact;
            float *a = all_modes(k, &m, &m, x, start, N, &count);
            float *b = all_modes(k, &unpacked, &unpacked, x, start, N, &count);
            if (memcmp(a, b, (size_t)(3 * count) * 4) != 0) {
                fail_msg("%s, format %d, N %d K %d M %d", all.v[v].name, f, (int)N, (int)K, (int)M);
            }
            free(a);
            free(b);
        }
        free(x);
        free(start);
        free(w);
        matrix_done(&m);
    }
    close_variants(&all);
}

static void a_row_is_the_same_alone_and_in_a_batch(void **state)
{
    test_random r = {7};
    const int64_t N = 61, K = 333, M = 75;
    variants all;
    open_variants(&all, 2);
    for (int f = 0; f < N_FORMATS + N_MADE; f++) {
        matrix m;
        matrix_init(&m, &r, f, M, K);
        float *x = normals(&r, N * K), *y = malloc((size_t)(N * M) * 4);
        float *some = malloc((size_t)(N * M) * 4);
        for (int v = 1; v < all.n; v++) {
            op_linear(all.v[v].k, y, x, &m.weight, N);
            for (int64_t n = 1; n < 40; n += 3) {
                const int64_t first = test_random_range(&r, 0, N - n);
                op_linear(all.v[v].k, some, x + first * K, &m.weight, n);
                assert_memory_equal(some, y + first * M, (size_t)(n * M) * 4);
            }
        }
        free(x);
        free(y);
        free(some);
        matrix_done(&m);
    }
    close_variants(&all);
}

// Rows that do not fit the scratch at once, panels in groups, rows in parts; any number of threads.
static void cuts_and_threads_do_not_change_a_bit(void **state)
{
    static const int64_t shapes[][3] = {{500, 40, 1400}, {300, 70000, 3}, {900, 2048, 70}};
    static const int counts[] = {1, 2, 3, 5};
    test_random r = {29};
    for (int i = 0; i < 6; i++) {
        const int64_t N = shapes[i / 2][0], K = shapes[i / 2][1], M = shapes[i / 2][2];
        matrix m;
        matrix_init(&m, &r, i & 1 ? N_FORMATS : N_FORMATS + 1, M, K);
        float *x = normals(&r, N * K), *first = NULL;
        for (int t = 0; t < 4; t++) {
            kernels *k = new_kernels(SIMD_AUTO, counts[t], false);
            float *y = malloc((size_t)(N * M) * 4);
            op_linear(k, y, x, &m.weight, N);
            for (int64_t n = 0; n < N; n += 97) {
                float some[3 * 1400];
                const int64_t rows = N - n < 3 ? N - n : 3;
                op_linear(k, some, x + n * K, &m.weight, rows);
                assert_memory_equal(some, y + n * M, (size_t)(rows * M) * 4);
            }
            if (first) assert_memory_equal(y, first, (size_t)(N * M) * 4);
            if (first) free(y);
            else first = y;
            kernels_destroy(&k);
        }
        free(first);
        free(x);
        matrix_done(&m);
    }
}

// Packed in several ways and not packed, in one call.
static void many_are_the_same_as_one_by_one(void **state)
{
    test_random r = {13};
    variants all;
    open_variants(&all, 3);
    const int64_t K = 70;
    static const int chosen[] = {0, 3, N_FORMATS - 1, 2, N_FORMATS, -1, N_FORMATS + 1};
    static const int64_t sizes[] = {40, 1, 97, 16, 33, 20, 64};
    matrix m[7];
    uint16_t stored[20 * 70];
    for (int i = 0; i < 20 * 70; i++) stored[i] = f32_to_bf16(test_random_normal(&r));
    for (int i = 0; i < 7; i++) matrix_init(&m[i], &r, chosen[i] < 0 ? 0 : chosen[i], sizes[i], K);
    m[5].weight = (weight){{stored, TENSOR_BF16, 2, {20, K}}, NULL, NULL, NULL};
    for (int v = 0; v < all.n; v++) {
        for (int64_t N = 1; N < 60; N += 19) {
            float *x = normals(&r, N * K), *y[7], one[60 * 97];
            const weight *w[7];
            for (int i = 0; i < 7; i++) {
                y[i] = malloc((size_t)(N * sizes[i]) * 4);
                w[i] = &m[i].weight;
            }
            op_linear_many(all.v[v].k, y, x, w, 7, N);
            for (int i = 0; i < 7; i++) {
                op_linear(all.v[v].k, one, x, w[i], N);
                assert_memory_equal(one, y[i], (size_t)(N * sizes[i]) * 4);
                free(y[i]);
            }
            free(x);
        }
    }
    for (int i = 0; i < 7; i++) matrix_done(&m[i]);
    close_variants(&all);
}

// A NaN or an infinity in a row reaches all of its outputs and no other row's.
static void what_is_not_finite_stays_in_its_row(void **state)
{
    test_random r = {23};
    const int64_t K = 75, M = 37;
    variants all;
    open_variants(&all, 2);
    matrix m;
    matrix_init(&m, &r, N_FORMATS + 1, M, K);
    for (int v = 0; v < all.n; v++) {
        for (int64_t N = 1; N < 60; N += 17) {
            float *x = normals(&r, N * K), *y = malloc((size_t)(N * M) * 4);
            x[(N - 1) * K + 3] = N & 1 ? NAN : INFINITY;
            op_linear(all.v[v].k, y, x, &m.weight, N);
            for (int64_t i = 0; i < N * M; i++) {
                assert_int_equal(isfinite(y[i]) != 0, i / M != N - 1);
            }
            free(x);
            free(y);
        }
    }
    matrix_done(&m);
    close_variants(&all);
}

// A weight that is no number reaches exactly the outputs that use it.
static void e4m3_has_a_nan(void **state)
{
    test_random r = {37};
    const int64_t K = 70, M = 40;
    variants all;
    open_variants(&all, 2);
    matrix m;
    matrix_init(&m, &r, 10, M, K);
    assert_true(m.p.format.f8);
    m.rows.codes[7 * K + 33] = 0x7f;
    m.rows.codes[30 * K + 69] = 0xff;
    packed_put(&m.p, 0, M, &m.rows);
    for (int v = 0; v < all.n; v++) {
        for (int64_t N = 1; N < 40; N += 19) {
            float *x = normals(&r, N * K), *y = malloc((size_t)(N * M) * 4);
            op_linear(all.v[v].k, y, x, &m.weight, N);
            for (int64_t i = 0; i < N * M; i++) {
                assert_int_equal(isnan(y[i]) != 0, i % M == 7 || i % M == 30);
            }
            free(x);
            free(y);
        }
    }
    matrix_done(&m);
    close_variants(&all);
}

static void the_embedding_reads_packed_rows(void **state)
{
    test_random r = {31};
    variants all;
    open_variants(&all, 2);
    matrix m;
    matrix_init(&m, &r, N_FORMATS, 50, 96);
    const int32_t ids[] = {0, 49, 17, 17};
    float y[4 * 96], row[96];
    for (int v = 0; v < all.n; v++) {
        op_embed(all.v[v].k, y, ids, &m.weight, 4);
        for (int i = 0; i < 4; i++) {
            packed_get_row(&m.p, row, ids[i]);
            assert_memory_equal(row, y + i * 96, sizeof row);
        }
    }
    matrix_done(&m);
    close_variants(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(put_and_got_are_the_same),
        cmocka_unit_test(formats_that_are_not_run),
        cmocka_unit_test(plain_meets_the_answer),
        cmocka_unit_test(every_level_is_plain_to_the_bit),
        cmocka_unit_test(float_products_are_those_of_the_unpacked),
        cmocka_unit_test(a_row_is_the_same_alone_and_in_a_batch),
        cmocka_unit_test(cuts_and_threads_do_not_change_a_bit),
        cmocka_unit_test(many_are_the_same_as_one_by_one),
        cmocka_unit_test(what_is_not_finite_stays_in_its_row),
        cmocka_unit_test(e4m3_has_a_nan),
        cmocka_unit_test(the_embedding_reads_packed_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
