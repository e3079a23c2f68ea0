// Products of plain weights on a GPU, against double.
#include "cuda/device_run.h"
#include "cuda/products.h"

static const tensor_type types[] = {TENSOR_BF16, TENSOR_F16, TENSOR_F32};
static const int64_t edge_N[] = {1, 2, 3, 7, 8, 9, 16, 33, 64, 65, 130};
static const int64_t edge_K[] = {1, 7, 8, 9, 31, 64, 97, 128, 257, 300, 520};
static const int64_t edge_M[] = {1, 3, 4, 5, 15, 16, 17, 33, 64, 65, 130};

// Numbers that f16 holds exactly.
static uint16_t to_f16(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {f};
    const int exponent = (int)(v.u >> 23 & 255) - 112;
    if (exponent <= 0) return (uint16_t)(v.u >> 16 & 0x8000);
    return (uint16_t)((v.u >> 16 & 0x8000) | (uint32_t)exponent << 10 | (v.u >> 13 & 1023));
}

static void fill(void *data, float *values, tensor_type type, test_random *r, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const float v = test_random_normal(r);
        if (type == TENSOR_F32) ((float *)data)[i] = values[i] = v;
        if (type == TENSOR_BF16) values[i] = bf16_to_f32(((uint16_t *)data)[i] = f32_to_bf16(v));
        if (type == TENSOR_F16) values[i] = f16_to_f32(((uint16_t *)data)[i] = to_f16(v));
    }
}

static matrix plain_matrix(kernels *k, test_random *r, tensor_type type, int64_t M, int64_t K,
                           bool bias, bool exact)
{
    matrix m = {.M = M,
                .K = K,
                .values = malloc((size_t)(M * K) * sizeof(float)),
                .rounded = type == TENSOR_F16,
                .exact = exact || type == TENSOR_F32,
                .bias = bias ? normals(r, M) : NULL};
    void *data = malloc((size_t)(M * K) * tensor_type_bytes(type)); // gone when it was taken
    fill(data, m.values, type, r, M * K);
    matrix_take(&m, k, (weight){.w = {data, type, 2, {M, K}}});
    free(data);
    return m;
}

// ---- every shape ----

static void check_shape(kernels *k, test_random *r, tensor_type type, int64_t N, int64_t K,
                        int64_t M, int i, bool exact)
{
    char what[96];
    snprintf(what, sizeof what, "type %d N %d K %d M %d%s", (int)type, (int)N, (int)K, (int)M,
             exact ? " exact" : "");
    const tensor_type second = i % 5 == 4 ? types[i % 3] : type;
    matrix gate = plain_matrix(k, r, type, M, K, i & 1, exact);
    matrix up = plain_matrix(k, r, second, M, K, i & 2, exact);
    check_modes(k, &gate, &up, what, r, N, i % 3);
    matrix_drop(&gate, k);
    matrix_drop(&up, k);
}

static void every_shape(void **state)
{
    const products_test *t = *state;
    test_random r = {11};
    for (int i = 0; i < 3 * 11 * 3; i++) {
        check_shape(t->k, &r, types[i / 11 % 3], PICK(edge_N, i), PICK(edge_K, 3 * i + i / 11),
                    PICK(edge_M, 5 * i + i / 11), i, false);
    }
}

static void every_shape_exact(void **state)
{
    const products_test *t = *state;
    test_random r = {12};
    for (int i = 0; i < 2 * 11; i++) {
        check_shape(t->exact, &r, types[i / 11 % 2], PICK(edge_N, i), PICK(edge_K, 3 * i),
                    PICK(edge_M, 5 * i), i, true);
    }
}

// K long enough for every way of sharing it between warps.
static void long_rows(void **state)
{
    const products_test *t = *state;
    test_random r = {13};
    static const int64_t lengths[] = {1024, 2056, 4104, 8200, 3001};
    static const int64_t rows[] = {1, 3, 8, 12, 70};
    for (int i = 0; i < 10; i++)
        check_shape(t->k, &r, TENSOR_BF16, rows[i % 5], lengths[i / 2], 9, i, false);
}

// Tiles of 128 rows and outputs in both directions, 32 outputs of 64 rows.
static void large(void **state)
{
    const products_test *t = *state;
    test_random r = {14};
    check_shape(t->k, &r, TENSOR_BF16, 260, 200, 390, 0, false);
    matrix m = plain_matrix(t->k, &r, TENSOR_BF16, 4100, 72, true, false);
    check_modes(t->k, &m, NULL, "4100 outputs", &r, 40, 0);
    matrix_drop(&m, t->k);
}

// ---- several weights ----

static void many_are_the_same_as_one_by_one(void **state)
{
    const products_test *t = *state;
    test_random r = {15};
    static const int64_t rows[] = {1, 5, 20, 70};
    for (int i = 0; i < 4; i++) {
        matrix m[11];
        for (int j = 0; j < 11; j++)
            m[j] = plain_matrix(t->k, &r, j == 4 ? TENSOR_F32 : TENSOR_BF16, PICK(edge_M, 3 * j), 72, j & 1, false);
        check_many(t->k, m, 11, rows[i], &r);
    }
}

static void a_row_is_the_same_alone_and_among_64(void **state)
{
    const products_test *t = *state;
    test_random r = {16};
    static const int64_t lengths[] = {100, 257, 1024};
    for (int i = 0; i < 9; i++) {
        const bool exact = i == 8; // in float32 arithmetic
        kernels *k = exact ? t->exact : t->k;
        char what[64];
        const int64_t K = i == 3 ? 2600 : lengths[i / 3];
        snprintf(what, sizeof what, "type %d, K %d%s", (int)types[i % 3], (int)K, exact ? ", exact" : "");
        matrix m = plain_matrix(k, &r, types[i % 3], 21, K, true, exact);
        matrix up = plain_matrix(k, &r, types[i % 3], 21, K, false, exact);
        check_alone(k, &m, &up, &r, what);
        matrix_drop(&m, k);
        matrix_drop(&up, k);
    }
    // As many outputs as take 32 a block where there are many rows.
    matrix m = plain_matrix(t->k, &r, TENSOR_BF16, 4100, 40, true, false);
    float *x = normals(&r, 20 * 40);
    rows_there dx = rows_send(t->k, x, 20 * 40, 0);
    const forms f = {.m = &m};
    float *all = run_form(t->k, &f, dx.at, 20, FORM_SET), *one = run_form(t->k, &f, dx.at + 19 * 40, 1, FORM_SET);
    assert_memory_equal(one, all + 19 * 4100, 4100 * sizeof *one);
    free(x), free(all), free(one);
    kernels_free(t->k, dx.block);
    matrix_drop(&m, t->k);
}

// ---- adapters ----

static double low_rank_sum(const float *a, const float *b, const float *x, int64_t K, int64_t rank)
{
    double sum = 0;
    for (int64_t j = 0; j < rank; j++) {
        double t = 0;
        for (int64_t i = 0; i < K; i++)
            t += (double)a[j * K + i] * x[i];
        sum += t * b[j];
    }
    return sum;
}

static void check_adapted(kernels *k, test_random *r, int64_t N)
{
    enum { M = 37, K = 50, RANK = 5 };
    const float scale = -0.5f;
    float *a = normals(r, RANK * K), *b = normals(r, M * RANK), *w = normals(r, M * K),
          *x = normals(r, N * K);
    const low_rank second = {
        {a, TENSOR_F32, 2, {RANK, K}}, {b, TENSOR_F32, 2, {M, RANK}}, scale, NULL};
    low_rank first = second;
    first.next = &second; // twice the same
    weight taken = {.w = {w, TENSOR_F32, 2, {M, K}}, .lora = &first}, other = {.w = taken.w};
    assert_ok(kernels_take_weight(k, &taken));
    assert_ok(kernels_take_weight(k, &other));
    rows_there dx = rows_send(k, x, N * K, 0), y = rows_send(k, NULL, N * M, 0),
               z = rows_send(k, NULL, N * M, 0);
    op_linear(k, y.at, dx.at, &taken, N);
    op_linear_silu_mul(k, z.at, dx.at, &other, &taken, N);
    float *got = rows_fetch(k, &y, N * M), *gated = rows_fetch(k, &z, N * M);
    for (int64_t i = 0; i < N * M; i++) {
        const float *row = x + i / M * K;
        double plain = 0;
        for (int64_t j = 0; j < K; j++)
            plain += (double)w[i % M * K + j] * row[j];
        const double sum =
            plain + 2 * (double)scale * low_rank_sum(a, b + i % M * RANK, row, K, RANK);
        check_one("adapted", got[i], sum, 2e-4, i / M, i % M);
        const double s = plain / (1 + exp(-plain));
        check_one("adapted and gated", gated[i], s * sum, 2e-4 * (1 + fabs(s)) + 2e-5 * fabs(sum),
                  i / M, i % M);
    }
    kernels_drop_weight(k, &taken);
    kernels_drop_weight(k, &other);
    free(a), free(b), free(w), free(x), free(got), free(gated);
    kernels_free(k, dx.block), kernels_free(k, y.block), kernels_free(k, z.block);
}

static void adapters_add_up(void **state)
{
    const products_test *t = *state;
    test_random r = {17};
    check_adapted(t->k, &r, 1);
    check_adapted(t->k, &r, 8);
    check_adapted(t->k, &r, 70);
}

// ---- the rest ----

static void rows_of_a_table(void **state)
{
    const products_test *t = *state;
    test_random r = {18};
    for (int i = 0; i < 6; i++) {
        const int64_t V = 50, D = i & 1 ? 300 : 37, N = 9;
        matrix m = plain_matrix(t->k, &r, types[i % 3], V, D, false, false);
        int32_t ids[9];
        for (int j = 0; j < N; j++)
            ids[j] = j ? (int32_t)test_random_range(&r, 0, V - 1) : 49;
        rows_there y = rows_send(t->k, NULL, N * D, 0);
        op_embed(t->k, y.at, ids, &m.taken, N);
        memset(ids, 0, sizeof ids);
        float *got = rows_fetch(t->k, &y, N * D);
        assert_memory_equal(got, m.values + 49 * D, (size_t)D * sizeof *got);
        for (int64_t j = 0; j < N; j++) { // each is some row of the table
            bool found = false;
            for (int64_t v = 0; v < V && !found; v++)
                found = !memcmp(got + j * D, m.values + v * D, (size_t)D * 4);
            assert_true(found);
        }
        free(got);
        kernels_free(t->k, y.block);
        matrix_drop(&m, t->k);
    }
}

// A NaN in row n or weight m reaches exactly the outputs that use it.
static void nan_goes_where_it_belongs(void **state)
{
    const products_test *t = *state;
    test_random r = {19};
    static const int64_t rows[] = {1, 6, 20, 70};
    for (int i = 0; i < 4; i++) {
        const int64_t N = rows[i], K = 45, M = 37;
        float *x = normals(&r, N * K);
        uint16_t *w = malloc((size_t)(M * K) * 2);
        for (int64_t j = 0; j < M * K; j++)
            w[j] = f32_to_bf16(test_random_normal(&r));
        x[(N - 1) * K + K - 1] = NAN;
        w[5 * K + K - 1] = 0x7fc0;
        weight taken = {.w = {w, TENSOR_BF16, 2, {M, K}}};
        assert_ok(kernels_take_weight(t->k, &taken));
        rows_there dx = rows_send(t->k, x, N * K, 0), y = rows_send(t->k, NULL, N * M, 0);
        op_linear(t->k, y.at, dx.at, &taken, N);
        float *got = rows_fetch(t->k, &y, N * M);
        for (int64_t j = 0; j < N * M; j++)
            assert_int_equal(isnan(got[j]) != 0, j / M == N - 1 || j % M == 5);
        free(x), free(w), free(got);
        kernels_drop_weight(t->k, &taken);
        kernels_free(t->k, dx.block), kernels_free(t->k, y.block);
    }
}

// What does not fit is told with its size, and the weight is as before.
static void weights_that_do_not_fit(void **state)
{
    const products_test *t = *state;
    static uint16_t few[16];
    float *bias = calloc(1 << 20, sizeof *bias);
    weight w = {.w = {few, TENSOR_BF16, 2, {1 << 20, 1 << 12}}, .bias = bias};
    assert_fails(kernels_take_weight(t->k, &w), SIGHT_E_MEMORY,
                 "no memory for 8192.0 MiB of weights");
    assert_ptr_equal(w.w.data, few);
    assert_ptr_equal(w.bias, bias);
    kernels_drop_weight(t->k, &w); // never taken
    assert_null(w.bias);
    assert_ok(kernels_status(t->k));
}

static void rows_are_normed_on_the_way(void **state)
{
    const products_test *t = *state;
    test_random r = {91};
    for (int i = 0; i < 30; i++) {
        char what[96];
        const int64_t N = i % 3 ? 1 + i % 8 : PICK(edge_N, i / 3 % 9), K = i < 28 ? PICK(edge_K, 3 * i + i / 8) : 2600 + 8 * i, M = PICK(edge_M, 5 * i);
        const tensor_type type = types[i % 3];
        snprintf(what, sizeof what, "normed type %d N %d K %d M %d", (int)type, (int)N, (int)K, (int)M);
        matrix gate = plain_matrix(t->k, &r, type, M, K, i & 1, false);
        matrix up = plain_matrix(t->k, &r, i % 5 == 4 ? types[(i + 1) % 3] : type, M, K, i & 2, false);
        check_normed(t->k, &gate, &up, what, &r, N, i % 3);
        matrix_drop(&gate, t->k);
        matrix_drop(&up, t->k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape),
        cmocka_unit_test(every_shape_exact),
        cmocka_unit_test(long_rows),
        cmocka_unit_test(large),
        cmocka_unit_test(many_are_the_same_as_one_by_one),
        cmocka_unit_test(a_row_is_the_same_alone_and_among_64),
        cmocka_unit_test(adapters_add_up),
        cmocka_unit_test(rows_of_a_table),
        cmocka_unit_test(nan_goes_where_it_belongs),
        cmocka_unit_test(weights_that_do_not_fit),
        cmocka_unit_test(rows_are_normed_on_the_way),
    };
    return device_run(tests, products_open, products_close);
}
