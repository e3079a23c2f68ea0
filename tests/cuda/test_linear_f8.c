// Products of many rows with E4M3 weights and rows in E4M3, against double: with the very codes that rows become,
// and with the rows as they were.
//
// What is allowed. Against the codes: float32 sums of groups, and on a chip what its tensor cores cut off within a
// group. Of 14 bits (DeepSeek-V3 Technical Report, 3.3.2) 13 lie behind the point: each of the 32 products of an
// instruction, and the sum so far, loses up to 2^-13 of the greatest of them, in four instructions.
// Against the rows: at most sum |w| e(x), with e(x) = max(2^-4 |x|, 2^-10 scale) (kernels/cuda/linear_f8.h); and the
// mean square of all errors of a test is what independent even roundings give, sum (w e(x))^2 / 3, by no more than half.
#include "kernels/cuda/linear_f8.h"

#include "cuda/device_run.h"
#include "cuda/products.h"
#include "kernels/cuda/linear_weights.h"
#include "kernels/f8.h"

#define GROUP LINEAR_F8_GROUP

enum { PER_TENSOR, PER_ROW, PER_BLOCK, PER_BLOCK_F16, WITH_FACTOR, KINDS };

typedef struct f8_test {
    kernels *k, *off; // as chosen; without such products
    bool chosen;      // this chip has them
} f8_test;

static kernels *open_kernels(bool no_f8)
{
    kernels *k = NULL;
    const kernels_options o = {.threads = 1,
                               .simd = SIMD_PLAIN,
                               .no_f8 = no_f8,
                               .device = {DEVICE_CUDA, 0},
                               .device_bytes = (int64_t)1 << 30};
    assert_ok(kernels_create(&k, &o));
    return k;
}

static int64_t up_to(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

// ---- matrices ----

static const uint16_t half_scales[] = {0x3c00, 0x2e66, 0xb555, 0x3001, 0x3801};

static void fill_scales(packed_rows *rows, test_random *r, int kind, int64_t M, int64_t groups)
{
    const float one = fabsf(test_random_normal(r)) + 0.1f;
    float *blocks = normals(r, groups);
    for (int64_t m = 0; m < M; m++) {
        const float row = test_random_normal(r);
        if (m % 128 == 0)
            for (int64_t g = 0; g < groups; g++) blocks[g] = test_random_normal(r);
        for (int64_t g = 0; g < groups; g++) {
            const float v = kind == PER_TENSOR ? one : kind == PER_ROW ? row : blocks[g];
            if (kind == PER_BLOCK_F16) ((uint16_t *)rows->scales)[m * groups + g] = half_scales[(m / 16 + 3 * g) % 5];
            else ((float *)rows->scales)[m * groups + g] = v;
        }
    }
    free(blocks);
}

static packed_format format_of(int kind)
{
    return (packed_format){.bits = 8,
                           .f8 = true,
                           .f8_rows = true,
                           .group = GROUP,
                           .scales = kind == PER_BLOCK_F16 ? PACKED_FLAT : PACKED_FLAT_F32,
                           .factor = kind == WITH_FACTOR ? -0.375f : 1};
}

static matrix f8_matrix(kernels *k, test_random *r, int kind, int64_t M, int64_t K, bool bias)
{
    const packed_format f = format_of(kind);
    void *block = aligned_alloc(64, up_to((int64_t)packed_bytes(&f, M, K), 64));
    packed_rows rows;
    packed p;
    assert_true(packed_rows_alloc(&rows, &f, M, K));
    packed_init(&p, &f, M, K, block);
    for (int64_t j = 0; j < M * K; j++) {
        uint8_t code = (uint8_t)(test_random_bits(r) >> 20);
        if ((code & 0x7f) == 0x7f) code ^= 1; // no NaN
        rows.codes[j] = code;
    }
    fill_scales(&rows, r, kind, M, packed_groups(&f, K));
    packed_put(&p, 0, M, &rows);
    matrix m = {.M = M, .K = K, .values = malloc((size_t)(M * K) * sizeof(float)), .bias = bias ? normals(r, M) : NULL};
    packed_get_rows(&p, m.values, 0, M);
    matrix_take(&m, k, (weight){.w = {NULL, TENSOR_BF16, 2, {M, K}}, .packed = &p});
    free(rows.codes);
    free(block);
    return m;
}

// ---- rows ----

// What a row becomes: its numbers, as doubles [K], and what each may be off by.
static void round_row(double *rounded, double *off, const float *x, int64_t K)
{
    for (int64_t first = 0; first < K; first += GROUP) {
        const int64_t end = first + GROUP < K ? first + GROUP : K;
        float greatest = 0;
        for (int64_t k = first; k < end; k++) greatest = fmaxf(greatest, fabsf(x[k]));
        const float turned = greatest > 1e-30f ? F8_MAX / greatest : 0, scale = turned > 0 ? greatest / F8_MAX : 0;
        for (int64_t k = first; k < end; k++) {
            rounded[k] = (double)f8_to_f32(f32_to_f8(x[k] * turned)) * scale;
            off[k] = fmax(fabs(x[k]) / 16, scale / 1024.0);
        }
    }
}

// Rows as they come: large and small groups, some zeros, a great number here and there.
static float *uneven_rows(test_random *r, int64_t N, int64_t K)
{
    float *x = normals(r, N * K);
    for (int64_t i = 0; i < N * K; i++) {
        const int64_t group = i % K / GROUP + i / K;
        x[i] = group % 7 == 3 ? 0 : group % 5 == 2 ? x[i] * 1e-3f : x[i];
        if (i % 97 == 5) x[i] *= 40;
    }
    return x;
}

// ---- answers ----

typedef struct f8_answer {
    double sum, plain;      // with rounded rows; with rows as they are
    double allowed, bound;  // against sum; of plain - sum
    double variance;        // of plain - sum, roundings being independent
} f8_answer;

static f8_answer f8_answer_of(const matrix *m, const float *x, const double *rounded, const double *off, int64_t row,
                              bool cut)
{
    f8_answer a = {0};
    double size = 0, lost = 0;
    for (int64_t first = 0; first < m->K; first += GROUP) {
        double sum = 0, greatest = 0;
        for (int64_t k = first; k < first + GROUP && k < m->K; k++) {
            const double w = m->values[row * m->K + k], t = w * rounded[k];
            sum += t;
            size += fabs(t);
            greatest = fmax(greatest, fmax(fabs(t), fabs(sum)));
            a.plain += w * x[k];
            a.bound += fabs(w) * off[k];
            a.variance += w * off[k] * w * off[k] / 3;
        }
        a.sum += sum;
        lost += 4 * 33 * ldexp(greatest, -13);
    }
    const double bias = m->bias ? m->bias[row] : 0;
    a.sum += bias;
    a.plain += bias;
    a.allowed = (size + fabs(bias)) * ldexp(1, -24) * (GROUP + (double)(m->K / GROUP) + 12) + (cut ? lost : 0);
    return a;
}

typedef struct errors {
    double squares, expected;
} errors;

static void check_against_rows(const char *what, errors *e, float got, const f8_answer *a, int64_t n, int64_t m)
{
    check_one(what, got, a->plain, a->bound + a->allowed, n, m);
    e->squares += (got - a->plain) * (got - a->plain);
    e->expected += a->variance;
}

static void check_all(kernels *k, const matrix *gate, const matrix *up, const char *what, test_random *r, int64_t N,
                      int64_t shift)
{
    const int64_t M = gate->M, K = gate->K, size = N * M;
    const bool cut = !cuda_get_chip(k)->emulated;
    float *x = uneven_rows(r, N, K), *start = normals(r, size);
    double *rounded = malloc((size_t)K * sizeof *rounded), *off = malloc((size_t)K * sizeof *off);
    rows_there dx = rows_send(k, x, N * K, shift), set = rows_send(k, NULL, size, shift);
    rows_there add = rows_send(k, start, size, 0), both = rows_send(k, NULL, size, shift);
    op_linear(k, set.at, dx.at, &gate->taken, N);
    op_linear_add(k, add.at, dx.at, &gate->taken, N);
    op_linear_silu_mul(k, both.at, dx.at, &gate->taken, &up->taken, N);
    float *ys = rows_fetch(k, &set, size), *ya = rows_fetch(k, &add, size), *yg = rows_fetch(k, &both, size);
    errors e = {0};
    for (int64_t n = 0; n < N; n++) {
        round_row(rounded, off, x + n * K, K);
        for (int64_t m = 0; m < M; m++) {
            const f8_answer a = f8_answer_of(gate, x + n * K, rounded, off, m, cut);
            const f8_answer u = f8_answer_of(up, x + n * K, rounded, off, m, cut);
            const int64_t i = n * M + m;
            check_one(what, ys[i], a.sum, a.allowed, n, m);
            check_one(what, ya[i], a.sum + start[i], a.allowed + 1e-6 * fabs(start[i]), n, m);
            check_gated(what, yg[i], (answer){a.sum, a.allowed}, (answer){u.sum, u.allowed}, n, m);
            check_against_rows(what, &e, ys[i], &a, n, m);
        }
    }
    if (size > 1000 && !(e.squares <= 1.5 * e.expected)) {
        fail_msg("%s: the mean square of errors is %.2f of what roundings give", what, e.squares / e.expected);
    }
    free(x), free(start), free(rounded), free(off), free(ys), free(ya), free(yg);
    kernels_free(k, dx.block), kernels_free(k, set.block), kernels_free(k, add.block), kernels_free(k, both.block);
}

// ---- tests ----

static const int64_t edge_N[] = {65, 66, 127, 128, 129, 200, 300};
static const int64_t edge_K[] = {1, 16, 100, 127, 128, 129, 256, 300, 500};
static const int64_t edge_M[] = {1, 15, 16, 17, 63, 64, 65, 80, 128, 130, 200};

static void every_kind_and_shape(void **state)
{
    const f8_test *t = *state;
    test_random r = {61};
    for (int i = 0; i < 7 * KINDS && t->chosen; i++) {
        char what[96];
        const int kind = i % KINDS;
        const int64_t N = PICK(edge_N, i), K = PICK(edge_K, 2 * i + i / 9), M = PICK(edge_M, 3 * i + i / 11);
        snprintf(what, sizeof what, "kind %d N %d K %d M %d", kind, (int)N, (int)K, (int)M);
        matrix gate = f8_matrix(t->k, &r, kind, M, K, i & 1);
        matrix up = f8_matrix(t->k, &r, i % 3 ? kind : (kind + 1) % KINDS, M, K, i & 2);
        check_all(t->k, &gate, &up, what, &r, N, i % 4);
        matrix_drop(&gate, t->k);
        matrix_drop(&up, t->k);
    }
}

static void long_rows(void **state)
{
    const f8_test *t = *state;
    test_random r = {62};
    for (int i = 0; i < 2 && t->chosen; i++) {
        matrix m = f8_matrix(t->k, &r, i ? PER_BLOCK : PER_ROW, 40, 3000 + 72 * i, true);
        check_all(t->k, &m, &m, "long rows", &r, 70, 0);
        matrix_drop(&m, t->k);
    }
}

// Up to 64 rows, exact products, and where it is turned off, nothing becomes E4M3.
static void fewer_rows_stay_as_they_are(void **state)
{
    const f8_test *t = *state;
    test_random r = {63};
    static const int64_t rows[] = {1, 8, 9, 64, 65};
    for (int i = 0; i < 5; i++) {
        const bool off = rows[i] > 64;
        kernels *k = off ? t->off : t->k;
        matrix m = f8_matrix(k, &r, i % KINDS, 50, 300, i & 1);
        m.rounded = true;
        check_modes(k, &m, &m, "few rows, or off", &r, rows[i], 0);
        assert_false(linear_f8_takes(k, &m.taken, rows[i]));
        matrix_drop(&m, k);
    }
}

static void who_takes_it(void **state)
{
    const f8_test *t = *state;
    test_random r = {64};
    matrix m = f8_matrix(t->k, &r, PER_ROW, 16, 128, false);
    packed p = *m.taken.packed;
    weight w = {.w = m.taken.w, .packed = &p};
    assert_int_equal(linear_f8_takes(t->k, &w, 65), t->chosen);
    assert_false(linear_f8_takes(t->k, &w, 64));
    p.format.f8_rows = false; // published for weights alone
    assert_false(linear_f8_takes(t->k, &w, 65));
    p.format.f8_rows = true;
    p.format.group = 64;
    assert_false(linear_f8_takes(t->k, &w, 65));
    matrix_drop(&m, t->k);
}

// Several of one input, E4M3 with others between.
static void many_are_the_same_as_one_by_one(void **state)
{
    enum { WEIGHTS = 6, N = 140, K = 200 };
    static const int64_t heights[WEIGHTS] = {130, 16, 7, 64, 200, 33};
    const f8_test *t = *state;
    kernels *k = t->k;
    test_random r = {65};
    matrix m[WEIGHTS];
    const weight *w[WEIGHTS];
    rows_there there[WEIGHTS];
    float *y[WEIGHTS], *x = normals(&r, N * K);
    rows_there dx = rows_send(k, x, N * K, 0);
    for (int i = 0; i < WEIGHTS; i++) {
        m[i] = f8_matrix(k, &r, i % KINDS, heights[i], K, i & 1);
        w[i] = &m[i].taken;
        there[i] = rows_send(k, NULL, N * heights[i], 0);
        y[i] = there[i].at;
    }
    op_linear_many(k, y, dx.at, w, WEIGHTS, N);
    for (int i = 0; i < WEIGHTS; i++) {
        const int64_t n = N * heights[i];
        rows_there alone = rows_send(k, NULL, n, 0);
        op_linear(k, alone.at, dx.at, w[i], N);
        float *a = rows_fetch(k, &there[i], n), *b = rows_fetch(k, &alone, n);
        assert_memory_equal(a, b, (size_t)n * sizeof *a);
        free(a), free(b);
        kernels_free(k, alone.block), kernels_free(k, there[i].block);
        matrix_drop(&m[i], k);
    }
    free(x);
    kernels_free(k, dx.block);
}

// The norm taken on the way gives the bits of the norm before.
static void rows_are_normed_on_the_way(void **state)
{
    const f8_test *t = *state;
    kernels *k = t->k;
    test_random r = {66};
    static const int64_t widths[] = {100, 130, 512, 516, 1111};
    for (int i = 0; i < 5 && t->chosen; i++) {
        const int64_t N = 65 + i, K = widths[i], M = 48;
        matrix gate = f8_matrix(k, &r, i % KINDS, M, K, true), up = f8_matrix(k, &r, i % KINDS, M, K, false);
        float *x = normals(&r, N * K), *norm = normals(&r, K);
        rows_there dx = rows_send(k, x, N * K, i % 2), dn = rows_send(k, norm, K, 0), normed = rows_send(k, NULL, N * K, 0);
        rows_there got = rows_send(k, NULL, 2 * N * M, 0), wanted = rows_send(k, NULL, 2 * N * M, 0);
        const norm_of of = {dn.at, NORM_EPS};
        const weight *w[] = {&gate.taken};
        assert_true(op_linear_normed(k, &got.at, dx.at, &of, w, 1, N));
        assert_true(op_linear_silu_mul_normed(k, got.at + N * M, dx.at, &of, &gate.taken, &up.taken, N));
        op_rms_norm(k, normed.at, dx.at, dn.at, N, K, NORM_EPS);
        op_linear(k, wanted.at, normed.at, &gate.taken, N);
        op_linear_silu_mul(k, wanted.at + N * M, normed.at, &gate.taken, &up.taken, N);
        float *a = rows_fetch(k, &got, 2 * N * M), *b = rows_fetch(k, &wanted, 2 * N * M);
        assert_memory_equal(a, b, (size_t)(2 * N * M) * sizeof *a);
        free(x), free(norm), free(a), free(b);
        kernels_free(k, dx.block), kernels_free(k, dn.block), kernels_free(k, normed.block);
        kernels_free(k, got.block), kernels_free(k, wanted.block);
        matrix_drop(&gate, k);
        matrix_drop(&up, k);
    }
}

// A NaN, an infinity or nothing but tiny numbers in a row reach its outputs and no other row's.
static void odd_numbers_stay_in_their_row(void **state)
{
    const f8_test *t = *state;
    test_random r = {67};
    const int64_t N = 70, M = 37, K = 270;
    matrix m = f8_matrix(t->k, &r, PER_ROW, M, K, false);
    float *x = normals(&r, N * K);
    x[3 * K + 269] = NAN;
    x[5 * K] = INFINITY;
    for (int64_t i = 0; i < K; i++) x[7 * K + i] = 1e-41f, x[9 * K + i] = 0;
    rows_there dx = rows_send(t->k, x, N * K, 0), y = rows_send(t->k, NULL, N * M, 0);
    op_linear(t->k, y.at, dx.at, &m.taken, N);
    float *got = rows_fetch(t->k, &y, N * M);
    for (int64_t j = 0; j < N * M; j++) {
        const int64_t n = j / M;
        if (n == 3) assert_true(isnan(got[j]));
        else if (n == 5) assert_false(isfinite(got[j]));
        else assert_true(isfinite(got[j]));
        if (n == 9) assert_true(got[j] == 0);
        if (n == 7) assert_true(fabsf(got[j]) < 1e-30f);
    }
    free(x), free(got);
    kernels_free(t->k, dx.block), kernels_free(t->k, y.block);
    matrix_drop(&m, t->k);
}

// A row's bits do not depend on the rows beside it.
static void a_row_is_the_same_among_others(void **state)
{
    const f8_test *t = *state;
    test_random r = {68};
    const int64_t N = 200, M = 70, K = 300, fewer = 65;
    matrix m = f8_matrix(t->k, &r, PER_BLOCK, M, K, true);
    float *x = normals(&r, N * K);
    rows_there dx = rows_send(t->k, x, N * K, 0), all = rows_send(t->k, NULL, N * M, 0),
               some = rows_send(t->k, NULL, fewer * M, 0);
    op_linear(t->k, all.at, dx.at, &m.taken, N);
    op_linear(t->k, some.at, dx.at + 100 * K, &m.taken, fewer);
    float *a = rows_fetch(t->k, &all, N * M), *b = rows_fetch(t->k, &some, fewer * M);
    if (cuda_get_chip(t->k)->emulated) assert_memory_equal(a + 100 * M, b, (size_t)(fewer * M) * sizeof *a);
    free(x), free(a), free(b);
    kernels_free(t->k, dx.block), kernels_free(t->k, all.block), kernels_free(t->k, some.block);
    matrix_drop(&m, t->k);
}

// What the library gets: the codes row by row, and their scales.
static void weights_are_laid_in_rows(void **state)
{
    const f8_test *t = *state;
    kernels *k = t->k;
    test_random r = {69};
    for (int kind = 0; kind < KINDS; kind++) {
        const int64_t M = 50, K = 300, stride = up_to(K, GROUP), groups = stride / GROUP, first = 16;
        const int64_t n = kind % 2 ? 16 : M - first;
        matrix m = f8_matrix(k, &r, kind, M, K, false);
        void *codes, *scales;
        assert_ok(kernels_alloc(&codes, k, (size_t)(n * stride), "codes"));
        assert_ok(kernels_alloc(&scales, k, (size_t)(groups * n) * sizeof(float), "scales"));
        const f8_lay_args a = {.w = *linear_packed(&m.taken), .codes = codes, .scales = scales, .first = first, .n = n, .stride = stride};
        cuda_launch(k, launch_f8_lay, &a, sizeof a);
        uint8_t *c = malloc((size_t)(n * stride));
        float *s = malloc((size_t)(groups * n) * sizeof *s);
        assert_ok(kernels_read(k, c, codes, (size_t)(n * stride)));
        assert_ok(kernels_read(k, s, scales, (size_t)(groups * n) * sizeof *s));
        for (int64_t i = 0; i < n * stride; i++) {
            const int64_t row = i / stride, at = i % stride;
            const float v = at < K ? m.values[(first + row) * K + at] : 0;
            assert_true(f8_to_f32(c[i]) * s[at / GROUP * n + row] == v);
        }
        free(c), free(s);
        kernels_free(k, codes), kernels_free(k, scales);
        matrix_drop(&m, k);
    }
}

static void biases_are_set_and_added(void **state)
{
    enum { N = 5, M = 7, STRIDE = 11 };
    const f8_test *t = *state;
    test_random r = {70};
    float *y = normals(&r, N * STRIDE), *bias = normals(&r, M);
    rows_there dy = rows_send(t->k, y, N * STRIDE, 0), db = rows_send(t->k, bias, M, 0);
    for (int add = 0; add < 2; add++) { // set, then added once more
        const f8_bias_args a = {dy.at + 2, db.at, N, M, STRIDE, add};
        cuda_launch(t->k, launch_f8_bias, &a, sizeof a);
    }
    float *got = rows_fetch(t->k, &dy, N * STRIDE);
    for (int i = 0; i < N * STRIDE; i++) {
        const int m = i % STRIDE - 2;
        assert_true(got[i] == (m >= 0 && m < M ? 2 * bias[m] : y[i]));
    }
    free(y), free(bias), free(got);
    kernels_free(t->k, dy.block), kernels_free(t->k, db.block);
}

static void codes_are_rounded_to_the_nearest(void **state)
{
    assert_int_equal(f32_to_f8(NAN) & 0x7f, 0x7f);
    assert_int_equal(f32_to_f8(INFINITY), 0x7e);
    assert_int_equal(f32_to_f8(-1e9f), 0xfe);
    for (int c = 0; c < 0x7f; c++) {
        const float low = f8_to_f32((uint8_t)c), high = c == 0x7e ? 480 : f8_to_f32((uint8_t)(c + 1));
        const float middle = (low + high) / 2;
        assert_int_equal(f32_to_f8(low), c);
        assert_int_equal(f32_to_f8(-low), c | 0x80);
        assert_int_equal(f32_to_f8(nextafterf(middle, 0)), c);
        if (c < 0x7e) {
            assert_int_equal(f32_to_f8(nextafterf(middle, 1000)), c + 1);
            assert_int_equal(f32_to_f8(middle), c + c % 2); // to even
        }
    }
}

static int open_test(void **state)
{
    static f8_test t;
    t.k = open_kernels(false);
    t.off = open_kernels(true);
    test_random r = {60};
    matrix m = f8_matrix(t.k, &r, PER_ROW, 16, 128, false);
    t.chosen = linear_f8_takes(t.k, &m.taken, 65);
    matrix_drop(&m, t.k);
    const cuda_chip *c = cuda_get_chip(t.k);
    if (!t.chosen) printf("sm_%d%d multiplies no E4M3 here: its products are not tested\n", c->major, c->minor);
    if (c->emulated && !t.chosen) return 1;
    *state = &t;
    return 0;
}

static int close_test(void **state)
{
    f8_test *t = *state;
    kernels_destroy(&t->k);
    kernels_destroy(&t->off);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_and_shape),
        cmocka_unit_test(long_rows),
        cmocka_unit_test(fewer_rows_stay_as_they_are),
        cmocka_unit_test(who_takes_it),
        cmocka_unit_test(many_are_the_same_as_one_by_one),
        cmocka_unit_test(rows_are_normed_on_the_way),
        cmocka_unit_test(odd_numbers_stay_in_their_row),
        cmocka_unit_test(a_row_is_the_same_among_others),
        cmocka_unit_test(weights_are_laid_in_rows),
        cmocka_unit_test(biases_are_set_and_added),
        cmocka_unit_test(codes_are_rounded_to_the_nearest),
    };
    return device_run(tests, open_test, close_test);
}
