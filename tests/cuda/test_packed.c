// Products of packed weights on a GPU, against double.
#include "cuda/device_run.h"
#include "cuda/products.h"
#include "kernels/packed.h"
#include "kernels/packed_formats.h"

#define N_ALL (N_FORMATS + N_MADE)

// Random codes and scales; what the host reads of them is what packed_get_row says.
static matrix packed_matrix_of(kernels *k, test_random *r, int which, int64_t M, int64_t K,
                               bool bias, bool exact)
{
    const packed_format f = format(which);
    const size_t bytes = (packed_bytes(&f, M, K) + 63) / 64 * 64;
    void *block = aligned_alloc(64, bytes);
    packed_rows rows;
    packed p;
    assert_true(packed_rows_alloc(&rows, &f, M, K));
    packed_init(&p, &f, M, K, block);
    random_packed_rows(&rows, &f, r, M, K);
    packed_put(&p, 0, M, &rows);
    matrix m = {.M = M,
                .K = K,
                .values = malloc((size_t)(M * K) * sizeof(float)),
                .rounded = true,
                .shifted = f.has_min,
                .exact = exact,
                .bias = bias ? normals(r, M) : NULL};
    packed_get_rows(&p, m.values, 0, M);
    matrix_take(&m, k, (weight){.w = {NULL, TENSOR_BF16, 2, {M, K}}, .packed = &p});
    free(rows.codes);
    free(block);
    return m;
}

// ---- shapes ----

static const int64_t edge_N[] = {1, 2, 3, 7, 8, 9, 16, 33, 64, 65, 130};
static const int64_t edge_K[] = {1, 3, 15, 16, 17, 31, 33, 64, 97, 130, 300, 700};
static const int64_t edge_M[] = {1, 3, 15, 16, 17, 31, 33, 47, 50, 67, 130};

static void check_shape(kernels *k, test_random *r, int which, int64_t N, int64_t K, int64_t M,
                        int i, bool exact)
{
    char what[96];
    snprintf(what, sizeof what, "format %d N %d K %d M %d%s", which, (int)N, (int)K, (int)M,
             exact ? " exact" : "");
    matrix gate = packed_matrix_of(k, r, which, M, K, i & 1, exact);
    matrix up = packed_matrix_of(k, r, i % 4 ? which : (which + 1) % N_ALL, M, K, i & 2, exact);
    check_modes(k, &gate, &up, what, r, N, i % 3);
    matrix_drop(&gate, k);
    matrix_drop(&up, k);
}

static void every_format_and_shape(void **state)
{
    const products_test *t = *state;
    test_random r = {42};
    for (int i = 0; i < N_ALL * 11; i++) {
        check_shape(t->k, &r, i / 11, PICK(edge_N, i), PICK(edge_K, 5 * i + i / 11),
                    PICK(edge_M, 3 * i + i / 11), i, false);
    }
}

static void every_format_exact(void **state)
{
    const products_test *t = *state;
    test_random r = {43};
    static const int64_t rows[] = {1, 4, 9, 70};
    for (int i = 0; i < N_ALL * 2; i++) {
        check_shape(t->exact, &r, i % N_ALL, PICK(rows, i), PICK(edge_K, 5 * i),
                    PICK(edge_M, 3 * i), i, true);
    }
}

static void long_rows(void **state)
{
    const products_test *t = *state;
    test_random r = {44};
    static const int64_t rows[] = {1, 2, 5, 20, 70};
    for (int i = 0; i < N_ALL; i++)
        check_shape(t->k, &r, i, PICK(rows, i), 2600 + 3 * i, 18, i, false);
}

static void a_row_is_the_same_alone_and_among_64(void **state)
{
    const products_test *t = *state;
    test_random r = {45};
    for (int i = 0; i <= N_ALL; i++) {
        const bool exact = i == N_ALL; // in float32 arithmetic
        const int which = exact ? 3 : i;
        const int64_t K = i == 1 || i == 6 ? 1111 : 300;
        kernels *k = exact ? t->exact : t->k;
        char what[64];
        snprintf(what, sizeof what, "format %d, K %d%s", which, (int)K, exact ? ", exact" : "");
        matrix m = packed_matrix_of(k, &r, which, 21, K, true, exact);
        matrix up = packed_matrix_of(k, &r, which, 21, K, false, exact);
        check_alone(k, &m, &up, &r, what);
        matrix_drop(&m, k);
        matrix_drop(&up, k);
    }
}

// Packed in several ways, in one call.
static void many_are_the_same_as_one_by_one(void **state)
{
    enum { WEIGHTS = 9 };
    static const int chosen[WEIGHTS] = {0, 2, 4, 9, 0, 2, N_FORMATS, N_FORMATS + 1, 10};
    const products_test *t = *state;
    test_random r = {46};
    for (int64_t N = 1; N < 80; N += 26) {
        matrix m[WEIGHTS];
        for (int i = 0; i < WEIGHTS; i++)
            m[i] = packed_matrix_of(t->k, &r, chosen[i], PICK(edge_M, 3 * i), 70, i & 1, false);
        check_many(t->k, m, WEIGHTS, N, &r);
    }
}

static void rows_of_a_table(void **state)
{
    const products_test *t = *state;
    test_random r = {47};
    for (int i = 0; i < N_ALL; i++) {
        const int64_t V = 50, D = 36 + 3 * i;
        const int32_t ids[] = {49, 0, 17, 16, 15, 17};
        matrix m = packed_matrix_of(t->k, &r, i, V, D, false, false);
        rows_there y = rows_send(t->k, NULL, 6 * D, 0);
        op_embed(t->k, y.at, ids, &m.taken, 6);
        float *got = rows_fetch(t->k, &y, 6 * D);
        for (int64_t j = 0; j < 6 * D; j++) {
            const float v = m.values[ids[j / D] * D + j % D];
            check_one("embed", got[j], v, m.shifted ? 1e-6 : 0, j / D, j % D);
        }
        free(got);
        kernels_free(t->k, y.block);
        matrix_drop(&m, t->k);
    }
}

// A NaN in a row reaches all of its outputs and no other row.
static void nan_goes_where_it_belongs(void **state)
{
    const products_test *t = *state;
    test_random r = {48};
    static const int64_t rows[] = {1, 6, 20, 70};
    for (int i = 0; i < 4 * 3; i++) {
        const int64_t N = rows[i % 4], M = 37, K = 77;
        matrix m = packed_matrix_of(t->k, &r, 4 + 3 * (i / 4), M, K, false, false);
        float *x = normals(&r, N * K);
        x[(N - 1) * K + K - 1] = NAN;
        rows_there dx = rows_send(t->k, x, N * K, 0), y = rows_send(t->k, NULL, N * M, 0);
        op_linear(t->k, y.at, dx.at, &m.taken, N);
        float *got = rows_fetch(t->k, &y, N * M);
        for (int64_t j = 0; j < N * M; j++)
            assert_int_equal(isnan(got[j]) != 0, j / M == N - 1);
        free(x), free(got);
        kernels_free(t->k, dx.block), kernels_free(t->k, y.block);
        matrix_drop(&m, t->k);
    }
}

static void rows_are_normed_on_the_way(void **state)
{
    const products_test *t = *state;
    test_random r = {92};
    for (int i = 0; i < 3 * N_ALL; i++) {
        char what[96];
        const int which = i % N_ALL;
        const int64_t N = i % 3 ? 1 + 3 * i % 8 : PICK(edge_N, i / 3 % 9), K = i < 40 ? PICK(edge_K, 5 * i + i / 8) : 2600 + 3 * i;
        const int64_t M = PICK(edge_M, 3 * i + i / 11);
        snprintf(what, sizeof what, "normed format %d N %d K %d M %d", which, (int)N, (int)K, (int)M);
        matrix gate = packed_matrix_of(t->k, &r, which, M, K, i & 1, false);
        matrix up = packed_matrix_of(t->k, &r, i % 4 ? which : (which + 1) % N_ALL, M, K, i & 2, false);
        check_normed(t->k, &gate, &up, what, &r, N, i % 3);
        matrix_drop(&gate, t->k);
        matrix_drop(&up, t->k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_and_shape),
        cmocka_unit_test(every_format_exact),
        cmocka_unit_test(long_rows),
        cmocka_unit_test(a_row_is_the_same_alone_and_among_64),
        cmocka_unit_test(many_are_the_same_as_one_by_one),
        cmocka_unit_test(rows_of_a_table),
        cmocka_unit_test(nan_goes_where_it_belongs),
        cmocka_unit_test(rows_are_normed_on_the_way),
    };
    return device_run(tests, products_open, products_close);
}
