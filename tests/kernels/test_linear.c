#include "support/test.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/ops.h"

static const tensor_type types[] = {TENSOR_BF16, TENSOR_F16, TENSOR_F32};

// Memory that ends where a page that must not be touched begins.
typedef struct guarded {
    char *map;
    size_t map_bytes;
    void *data;
} guarded;

static guarded guarded_alloc(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (bytes + page - 1) / page * page;
    guarded g = {.map_bytes = body + page};
    g.map = mmap(NULL, g.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.map != MAP_FAILED);
    assert_int_equal(mprotect(g.map + body, page, PROT_NONE), 0);
    g.data = g.map + body - bytes;
    return g;
}

static void guarded_free(guarded *g)
{
    munmap(g->map, g->map_bytes);
}

// One product with random numbers, and its answer in double.
typedef struct product {
    int64_t N, K, M;
    guarded w, x;
    float *bias, *start; // start [N, M]: y before
    weight weight;
    double *answer;      // [N, M], without start
    double *scale;       // [N, M], sum of |w x| and |bias|
} product;

static uint16_t to_f16(float f) // of a number that f16 holds exactly
{
    union {
        float f;
        uint32_t u;
    } v = {f};
    int exponent = (int)(v.u >> 23 & 255) - 112;
    if (exponent <= 0) return (uint16_t)(v.u >> 16 & 0x8000);
    return (uint16_t)((v.u >> 16 & 0x8000) | (uint32_t)exponent << 10 | (v.u >> 13 & 1023));
}

static void product_done(product *p)
{
    guarded_free(&p->w);
    guarded_free(&p->x);
    free(p->bias);
    free(p->start);
    free(p->answer);
    free(p->scale);
}

static void product_answer(product *p, bool bf16_rows)
{
    const float *x = p->x.data;
    for (int64_t n = 0; n < p->N; n++) {
        for (int64_t m = 0; m < p->M; m++) {
            double sum = p->weight.bias ? p->bias[m] : 0, scale = fabs(sum);
            for (int64_t k = 0; k < p->K; k++) {
                float v = x[n * p->K + k];
                if (bf16_rows) v = bf16_to_f32(f32_to_bf16(v));
                double t = (double)v * tensor_get_f32(&p->weight.w, m * p->K + k);
                sum += t;
                scale += fabs(t);
            }
            p->answer[n * p->M + m] = sum;
            p->scale[n * p->M + m] = scale;
        }
    }
}

static void product_init(product *p, test_random *r, tensor_type type, int64_t N, int64_t K,
                         int64_t M, bool bias)
{
    size_t count = (size_t)(N * M);
    *p = (product){.N = N, .K = K, .M = M};
    p->w = guarded_alloc((size_t)(M * K) * tensor_type_bytes(type));
    p->x = guarded_alloc((size_t)(N * K) * 4);
    p->bias = malloc((size_t)M * 4);
    p->start = malloc(count * 4);
    p->answer = malloc(count * sizeof(double));
    p->scale = malloc(count * sizeof(double));
    for (int64_t i = 0; i < M * K; i++) {
        float v = bf16_to_f32(f32_to_bf16(test_random_normal(r)));
        if (type == TENSOR_F32) ((float *)p->w.data)[i] = v * 1.001f;
        if (type == TENSOR_BF16) ((uint16_t *)p->w.data)[i] = f32_to_bf16(v);
        if (type == TENSOR_F16) ((uint16_t *)p->w.data)[i] = to_f16(v);
    }
    for (int64_t i = 0; i < N * K; i++) ((float *)p->x.data)[i] = test_random_normal(r);
    for (int64_t i = 0; i < M; i++) p->bias[i] = test_random_normal(r);
    for (int64_t i = 0; i < N * M; i++) p->start[i] = test_random_normal(r);
    p->weight = (weight){{p->w.data, type, 2, {M, K}}, bias ? p->bias : NULL, NULL, NULL};
    product_answer(p, false);
}

static kernels *new_kernels(simd_level level, int threads, bool exact)
{
    kernels *k = NULL;
    sight_err err =
        kernels_create(&k, &(kernels_options){.threads = threads, .simd = level, .exact = exact});
    if (err == SIGHT_E_UNSUPPORTED) return NULL;
    assert_ok(err);
    return k;
}

static bool rounds_rows(simd_level level, tensor_type type)
{
    return level == SIMD_AVX512BF16 && type == TENSOR_BF16;
}

// The largest error in units of the sum of magnitudes.
static double worst_error(const product *p, const float *y, const float *start)
{
    double worst = 0;
    for (int64_t i = 0; i < p->N * p->M; i++) {
        double before = start ? start[i] : 0;
        double e = fabs(y[i] - (p->answer[i] + before)) / (p->scale[i] + fabs(before) + 1e-30);
        if (!(e <= worst)) worst = e;
    }
    return worst;
}

static double plain_error(const product *p)
{
    kernels *k = new_kernels(SIMD_PLAIN, 1, true);
    float *y = malloc((size_t)(p->N * p->M) * 4);
    op_linear(k, y, p->x.data, &p->weight, p->N);
    double e = worst_error(p, y, NULL);
    free(y);
    kernels_destroy(&k);
    return e;
}

// Twice plain C's error, and where luck leaves that none, a rounding or two.
static void check_product(kernels *k, product *p)
{
    double plain = plain_error(p), allowed = 2 * (plain > 0x1p-24 ? plain : 0x1p-24);
    assert_true(plain < 1e-5);
    bool rounds = rounds_rows(kernels_simd(k), p->weight.w.type);
    if (rounds) product_answer(p, true);
    guarded y = guarded_alloc((size_t)(p->N * p->M) * 4);
    op_linear(k, y.data, p->x.data, &p->weight, p->N);
    double set = worst_error(p, y.data, NULL);
    memcpy(y.data, p->start, (size_t)(p->N * p->M) * 4);
    op_linear_add(k, y.data, p->x.data, &p->weight, p->N);
    double add = worst_error(p, y.data, p->start);
    if (!(set <= allowed) || !(add <= allowed + 0x1p-24)) { // one rounding more
        fail_msg("%s, type %d, N %d K %d M %d: errors %g, %g, allowed %g",
                 simd_level_name(kernels_simd(k)), p->weight.w.type, (int)p->N, (int)p->K,
                 (int)p->M, set, add, allowed);
    }
    guarded_free(&y);
    if (rounds) product_answer(p, false);
}

static const int64_t edge_N[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15, 17, 24, 25, 31, 47};
static const int64_t edge_K[] = {1, 2, 3, 15, 16, 31, 32, 33, 63, 64, 97, 130};
static const int64_t edge_M[] = {1, 2, 3, 15, 16, 17, 23, 24, 25, 31, 32, 33, 67};
#define PICK(list, i) list[(size_t)(i) % (sizeof list / sizeof *list)]

static void every_level_meets_the_answer(void **state)
{
    test_random r = {42};
    for (int level = SIMD_PLAIN; level < SIMD_COUNT; level++) {
        kernels *k = new_kernels((simd_level)level, 2, false);
        if (!k) continue;
        for (int i = 0; i < 17 * 12; i++) { // every N with every K, M going round
            product p;
            product_init(&p, &r, types[i % 3], PICK(edge_N, i), PICK(edge_K, i), PICK(edge_M, i),
                         i & 1);
            check_product(k, &p);
            product_done(&p);
        }
        for (int t = 0; t < 3; t++) {
            product p;
            product_init(&p, &r, types[t], 70, 1111, 203, true);
            check_product(k, &p);
            product_done(&p);
        }
        kernels_destroy(&k);
    }
}

static void a_row_is_the_same_alone_and_in_a_batch(void **state)
{
    test_random r = {7};
    const int64_t N = 61, K = 333, M = 75;
    for (int level = SIMD_PLAIN; level < SIMD_COUNT; level++) {
        kernels *k = new_kernels((simd_level)level, 2, false);
        if (!k) continue;
        for (int t = 0; t < 3; t++) {
            product p;
            product_init(&p, &r, types[t], N, K, M, true);
            float *all = malloc((size_t)(N * M) * 4), *some = malloc((size_t)(N * M) * 4);
            op_linear(k, all, p.x.data, &p.weight, N);
            for (int64_t n = 1; n < 30; n++) {
                int64_t first = test_random_range(&r, 0, N - n);
                op_linear(k, some, (float *)p.x.data + first * K, &p.weight, n);
                assert_memory_equal(some, all + first * M, (size_t)(n * M) * 4);
            }
            free(all);
            free(some);
            product_done(&p);
        }
        kernels_destroy(&k);
    }
}

// Shapes at which the work is cut every way it can be: panels in groups, rows in parts, rows that
// do not fit the scratch at once, and K too long for a packed panel.
static void cuts_do_not_change_a_bit(void **state)
{
    static const int64_t shapes[][3] = {{500, 40, 1400}, {450, 10000, 5}, {110, 40000, 2}};
    test_random r = {29};
    for (int level = SIMD_PLAIN; level < SIMD_COUNT; level++) {
        kernels *k = new_kernels((simd_level)level, 2, false);
        if (!k) continue;
        for (int i = 0; i < 3; i++) {
            int64_t N = shapes[i][0], K = shapes[i][1], M = shapes[i][2];
            uint16_t *w = malloc((size_t)(M * K) * 2);
            float *x = malloc((size_t)(N * K) * 4), *all = malloc((size_t)(N * M) * 4);
            float *some = malloc((size_t)(8 * M) * 4);
            for (int64_t j = 0; j < M * K; j++) w[j] = f32_to_bf16(test_random_normal(&r));
            for (int64_t j = 0; j < N * K; j++) x[j] = (float)(test_random_bits(&r) >> 40) - 8e6f;
            weight stored = {{w, TENSOR_BF16, 2, {M, K}}, NULL, NULL, NULL};
            op_linear(k, all, x, &stored, N);
            for (int64_t n = 0; n < N; n += 37) {
                int64_t rows = N - n < 8 ? N - n : 8;
                op_linear(k, some, x + n * K, &stored, rows);
                assert_memory_equal(some, all + n * M, (size_t)(rows * M) * 4);
            }
            op_linear(k, some, x + (N - 1) * K, &stored, 1);
            assert_memory_equal(some, all + (N - 1) * M, (size_t)M * 4);
            free(w);
            free(x);
            free(all);
            free(some);
        }
        kernels_destroy(&k);
    }
}

static void threads_do_not_change_a_bit(void **state)
{
    test_random r = {11};
    static const int counts[] = {1, 2, 3, 5};
    static const int64_t rows[] = {1, 8, 300};
    const int64_t K = 257, M = 100;
    for (int level = SIMD_PLAIN; level < SIMD_COUNT; level++) {
        for (int i = 0; i < 9; i++) {
            product p;
            int64_t N = rows[i / 3];
            product_init(&p, &r, types[i % 3], N, K, M, true);
            float *first = malloc((size_t)(N * M) * 4), *y = malloc((size_t)(N * M) * 4);
            for (int t = 0; t < 4; t++) {
                kernels *k = new_kernels((simd_level)level, counts[t], false);
                if (!k) break;
                op_linear(k, t ? y : first, p.x.data, &p.weight, N);
                if (t) assert_memory_equal(y, first, (size_t)(N * M) * 4);
                kernels_destroy(&k);
            }
            free(first);
            free(y);
            product_done(&p);
        }
    }
}

// float32 products are exact twins on every level that has fused multiply-add.
static void levels_with_fma_agree_to_the_bit(void **state)
{
    test_random r = {19};
    for (int i = 0; i < 12; i++) {
        product p;
        int64_t N = i & 1 ? 5 : 40;
        product_init(&p, &r, types[i % 3], N, 1 + 61 * i, 33, true);
        float *first = NULL;
        for (int level = SIMD_AVX2; level < SIMD_COUNT; level++) {
            kernels *k = new_kernels((simd_level)level, 1, true);
            if (!k) continue;
            float *y = malloc((size_t)(N * 33) * 4);
            op_linear(k, y, p.x.data, &p.weight, N);
            if (first) assert_memory_equal(y, first, (size_t)(N * 33) * 4);
            if (first) free(y);
            else first = y;
            kernels_destroy(&k);
        }
        free(first);
        product_done(&p);
    }
}

static void many_are_the_same_as_one_by_one(void **state)
{
    test_random r = {13};
    static const int64_t sizes[] = {40, 1, 97};
    for (int level = SIMD_PLAIN; level < SIMD_COUNT; level++) {
        kernels *k = new_kernels((simd_level)level, 3, false);
        if (!k) continue;
        for (int64_t N = 1; N < 60; N += 19) {
            product p[3];
            float *y[3], one[60 * 97];
            const weight *w[3];
            for (int i = 0; i < 3; i++) {
                product_init(&p[i], &r, types[i], N, 70, sizes[i], i != 1);
                y[i] = malloc((size_t)(N * sizes[i]) * 4);
                w[i] = &p[i].weight;
            }
            op_linear_many(k, y, p[0].x.data, w, 3, N);
            for (int i = 0; i < 3; i++) {
                op_linear(k, one, p[0].x.data, w[i], N);
                assert_memory_equal(one, y[i], (size_t)(N * sizes[i]) * 4);
            }
            for (int i = 0; i < 3; i++) {
                product_done(&p[i]);
                free(y[i]);
            }
        }
        kernels_destroy(&k);
    }
}

// The product's own roundings move silu by at most 1.1 times as much.
static void check_silu_mul(kernels *k, product *gate, product *up)
{
    int64_t count = gate->N * gate->M;
    float *y = malloc((size_t)count * 4);
    op_linear_silu_mul(k, y, gate->x.data, &gate->weight, &up->weight, gate->N);
    for (int64_t i = 0; i < count; i++) {
        double a = gate->answer[i], b = up->answer[i], silu = a / (1 + exp(-a)), answer = silu * b;
        double allowed = 1e-6 * (1.1 * gate->scale[i] * fabs(b) + fabs(silu) * up->scale[i]) +
                         1e-6 * fabs(answer);
        if (!(fabs(y[i] - answer) <= allowed)) {
            fail_msg("%s: gate %g up %g give %g, not %g", simd_level_name(kernels_simd(k)), a, b,
                     (double)y[i], answer);
        }
    }
    free(y);
}

static void silu_mul_meets_the_answer(void **state)
{
    test_random r = {17};
    for (int level = SIMD_PLAIN; level < SIMD_COUNT; level++) {
        kernels *k = new_kernels((simd_level)level, 2, false);
        if (!k) continue;
        for (int i = 0; i < 60; i++) {
            product gate, up;
            int64_t N = PICK(edge_N, i), K = PICK(edge_K, i / 2), M = PICK(edge_M, i);
            tensor_type second = types[(i % 3 + (i % 5 == 4)) % 3];
            product_init(&gate, &r, types[i % 3], N, K, M, i & 1);
            product_init(&up, &r, second, N, K, M, i & 1);
            memcpy(up.x.data, gate.x.data, (size_t)(N * K) * 4);
            bool rounds = level == SIMD_AVX512BF16 && i % 3 == 0 && second == TENSOR_BF16;
            product_answer(&gate, rounds);
            product_answer(&up, rounds);
            check_silu_mul(k, &gate, &up);
            product_done(&gate);
            product_done(&up);
        }
        kernels_destroy(&k);
    }
}

// A NaN in row n or weight m reaches exactly the outputs that use it.
static void nan_goes_where_it_belongs(void **state)
{
    test_random r = {23};
    for (int level = SIMD_PLAIN; level < SIMD_COUNT; level++) {
        kernels *k = new_kernels((simd_level)level, 2, false);
        if (!k) continue;
        for (int64_t N = 1; N < 40; N += 17) {
            const int64_t K = 45, M = 37;
            product p;
            product_init(&p, &r, TENSOR_BF16, N, K, M, false);
            ((float *)p.x.data)[(N - 1) * K + K - 1] = NAN;
            ((uint16_t *)p.w.data)[5 * K + K - 1] = 0x7fc0;
            float *y = malloc((size_t)(N * M) * 4);
            op_linear(k, y, p.x.data, &p.weight, N);
            for (int64_t i = 0; i < N * M; i++) {
                bool expected = i / M == N - 1 || i % M == 5;
                assert_int_equal(isnan(y[i]) != 0, expected);
            }
            free(y);
            product_done(&p);
        }
        kernels_destroy(&k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_level_meets_the_answer),
        cmocka_unit_test(a_row_is_the_same_alone_and_in_a_batch),
        cmocka_unit_test(cuts_do_not_change_a_bit),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(levels_with_fma_agree_to_the_bit),
        cmocka_unit_test(many_are_the_same_as_one_by_one),
        cmocka_unit_test(silu_mul_meets_the_answer),
        cmocka_unit_test(nan_goes_where_it_belongs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
