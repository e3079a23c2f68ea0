// tests/cuda/products.h - products on a GPU against double: matrices that lie on both sides, rows,
// and the three modes.
//
// What is allowed is derived from what a kernel is said to do: float32 sums of K products are off
// by at most K last places of the sum of magnitudes; rows that are cut in two bf16 numbers by 2^-17 of
// themselves; where rows (and packed weights) are rounded to bf16, so are the answer's.
#ifndef TESTS_CUDA_PRODUCTS_H
#define TESTS_CUDA_PRODUCTS_H

#include <math.h>

#include "kernels/fused.h"
#include "kernels/memory.h"
#include "support/test.h"

typedef struct matrix {
    int64_t M, K;
    float *values; // [M, K], as the host reads them
    float *bias;   // [M] or NULL
    bool rounded;  // numbers become bf16 for more than 64 rows
    bool shifted;  // packed with minima: a chip's fused multiply-add may round the last place
                   // otherwise
    bool exact;    // float32 arithmetic whatever the number of rows
    weight taken;
} matrix;

typedef struct products_test {
    kernels *k, *exact;
} products_test;

static inline kernels *products_kernels(bool exact)
{
    kernels *k = NULL;
    const kernels_options o = {.threads = 1,
                               .simd = SIMD_PLAIN,
                               .exact = exact,
                               .device = {DEVICE_CUDA, 0},
                               .device_bytes = (int64_t)1 << 30};
    assert_ok(kernels_create(&k, &o));
    return k;
}

static inline int products_open(void **state)
{
    static products_test t;
    t = (products_test){products_kernels(false), products_kernels(true)};
    *state = &t;
    return 0;
}

static inline int products_close(void **state)
{
    products_test *t = *state;
    kernels_destroy(&t->k);
    kernels_destroy(&t->exact);
    return 0;
}

static inline float *normals(test_random *r, int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = test_random_normal(r);
    return x;
}

static inline float as_bf16(float f)
{
    return bf16_to_f32(f32_to_bf16(f));
}

// ---- answers ----

typedef struct answer {
    double sum, allowed;
} answer;

// What a product does to its numbers.
typedef enum products_way { WAY_FLOAT, WAY_CUT, WAY_BF16 } products_way;

static inline answer answer_of(const matrix *m, const float *x, int64_t row, products_way way)
{
    const bool bf16 = way == WAY_BF16;
    double sum = m->bias ? m->bias[row] : 0, scale = fabs(sum), largest = 0;
    for (int64_t k = 0; k < m->K; k++) {
        float w = m->values[row * m->K + k];
        if (bf16 && m->rounded) w = as_bf16(w);
        const double t = (double)w * (bf16 ? as_bf16(x[k]) : x[k]);
        sum += t;
        // Parts may cancel in a weight, not in the sums.
        scale += fabs(t) + (m->shifted ? 2.56 * fabs(x[k]) : 0);
        largest = fmax(largest, fabs(t));
    }
    // Tensor cores cut their sums off: twice the error of rounding. Of cut rows (and f16 weights) low parts are added too: up to four terms.
    const double each = way == WAY_FLOAT ? ldexp(1, -24) : ldexp(1, -23);
    const double terms = (double)(m->K + 8) * (way == WAY_CUT ? 4 : 1);
    return (answer){sum, scale * (each * terms + (way == WAY_CUT ? ldexp(1, -17) : 0)) +
                             (bf16 && m->shifted ? largest / 256 : 0)};
}

static inline void check_one(const char *what, float got, double expected, double allowed,
                             int64_t n, int64_t m)
{
    if (fabs(got - expected) <= allowed + 1e-30) return;
    fail_msg("%s: row %d, output %d is %.9g, not %.9g; allowed %g", what, (int)n, (int)m,
             (double)got, expected, allowed);
}

static inline void check_gated(const char *what, float got, answer g, answer u, int64_t n,
                               int64_t m)
{
    const double s = g.sum / (1 + exp(-g.sum));
    const double allowed =
        1.1 * g.allowed * (fabs(u.sum) + u.allowed) + fabs(s) * u.allowed + 4e-7 * fabs(s * u.sum);
    check_one(what, got, s * u.sum, allowed, n, m);
}

// ---- the device's side ----

typedef struct rows_there {
    float *block, *at; // shifted by some floats
} rows_there;

static inline rows_there rows_send(kernels *k, const float *host, int64_t n, int64_t shift)
{
    void *p;
    assert_ok(kernels_alloc(&p, k, (size_t)(n + shift) * sizeof(float), "a test's rows"));
    if (host) kernels_write(k, (float *)p + shift, host, (size_t)n * sizeof(float));
    return (rows_there){p, (float *)p + shift};
}

static inline float *rows_fetch(kernels *k, const rows_there *r, int64_t n)
{
    float *y = malloc((size_t)n * sizeof *y);
    assert_ok(kernels_read(k, y, r->at, (size_t)n * sizeof *y));
    return y;
}

// Brings w over, with a copy of the bias, which is taken.
static inline void matrix_take(matrix *m, kernels *k, weight w)
{
    m->taken = w;
    if (m->bias) {
        float *bias = malloc((size_t)m->M * sizeof *bias);
        memcpy(bias, m->bias, (size_t)m->M * sizeof *bias);
        m->taken.bias = bias;
    }
    assert_ok(kernels_take_weight(k, &m->taken));
}

static inline void matrix_drop(matrix *m, kernels *k)
{
    kernels_drop_weight(k, &m->taken);
    free(m->values);
    free(m->bias);
}

static inline products_way way_of(const matrix *m, int64_t N)
{
    return m->exact ? WAY_FLOAT : N > 64 ? WAY_BF16 : WAY_CUT;
}

// Set, add and (with up) the gated form of N rows; x and y are shifted by some floats.
static inline void check_modes(kernels *k, const matrix *m, const matrix *up, const char *what,
                               test_random *r, int64_t N, int64_t shift)
{
    const int64_t M = m->M, K = m->K, size = N * M;
    const products_way way = way_of(m, N);
    float *x = normals(r, N * K), *start = normals(r, size);
    rows_there dx = rows_send(k, x, N * K, shift), set = rows_send(k, NULL, size, shift);
    rows_there add = rows_send(k, start, size, 0), gated = rows_send(k, NULL, size, shift);
    op_linear(k, set.at, dx.at, &m->taken, N);
    op_linear_add(k, add.at, dx.at, &m->taken, N);
    if (up) op_linear_silu_mul(k, gated.at, dx.at, &m->taken, &up->taken, N);
    float *ys = rows_fetch(k, &set, size), *ya = rows_fetch(k, &add, size);
    float *yg = up ? rows_fetch(k, &gated, size) : NULL;
    for (int64_t i = 0; i < size; i++) {
        const float *row = x + i / M * K;
        const answer a = answer_of(m, row, i % M, way);
        check_one(what, ys[i], a.sum, a.allowed, i / M, i % M);
        check_one(what, ya[i], a.sum + start[i], a.allowed + 1e-6 * fabs(start[i]), i / M, i % M);
        if (up)
            check_gated(what, yg[i], a, answer_of(up, row, i % M, way_of(up, N)), i / M, i % M);
    }
    free(x), free(start), free(ys), free(ya), free(yg);
    kernels_free(k, dx.block), kernels_free(k, set.block), kernels_free(k, add.block),
        kernels_free(k, gated.block);
}

// ---- rows that are normed on the way ----

#define NORM_EPS 1e-3f

// The product as it is without a norm, whose sum of K squares is in float32.
static inline answer normed_answer(const matrix *m, const float *x, const float *norm, int64_t row)
{
    double squares = 0, sum = 0, scale = 0;
    for (int64_t k = 0; k < m->K; k++) squares += (double)x[k] * x[k];
    const double by = 1 / sqrt(squares / (double)m->K + (double)NORM_EPS);
    for (int64_t k = 0; k < m->K; k++) {
        const double t = (double)m->values[row * m->K + k] * x[k] * norm[k] * by;
        sum += t;
        scale += fabs(t) + (m->shifted ? 2.56 * fabs(x[k] * norm[k] * by) : 0);
    }
    const double bias = m->bias ? m->bias[row] : 0;
    const double each = ldexp(1, -24) * (double)(2 * m->K + 16) * (m->exact ? 1 : 4) + (m->exact ? 0 : ldexp(1, -17));
    return (answer){sum + bias, (scale + fabs(bias)) * each};
}

// N rows through a norm and m, and gated with up where there is a form of both; N <= 64.
static inline void check_normed(kernels *k, const matrix *m, const matrix *up, const char *what, test_random *r,
                                int64_t N, int64_t shift)
{
    const int64_t M = m->M, K = m->K, size = N * M;
    float *x = normals(r, N * K), *norm = normals(r, K);
    rows_there dx = rows_send(k, x, N * K, shift), dn = rows_send(k, norm, K, shift);
    rows_there set = rows_send(k, NULL, size, shift), gated = rows_send(k, NULL, size, shift);
    const norm_of of = {dn.at, NORM_EPS};
    const weight *w[] = {&m->taken};
    assert_true(op_linear_normed(k, &set.at, dx.at, &of, w, 1, N));
    const bool both = op_linear_silu_mul_normed(k, gated.at, dx.at, &of, &m->taken, &up->taken, N);
    float *ys = rows_fetch(k, &set, size), *yg = both ? rows_fetch(k, &gated, size) : NULL;
    for (int64_t i = 0; i < size; i++) {
        const answer a = normed_answer(m, x + i / M * K, norm, i % M);
        check_one(what, ys[i], a.sum, a.allowed, i / M, i % M);
        if (yg) check_gated(what, yg[i], a, normed_answer(up, x + i / M * K, norm, i % M), i / M, i % M);
    }
    assert_false(op_linear_normed(k, &set.at, dx.at, &of, w, 1, 65)); // as many as the kernels do not take
    free(x), free(norm), free(ys), free(yg);
    kernels_free(k, dx.block), kernels_free(k, dn.block), kernels_free(k, set.block), kernels_free(k, gated.block);
}

// ---- alone and among others ----

enum { FORM_SET, FORM_ADD, FORM_GATED, FORM_NORMED, FORM_NORMED_GATED, FORMS };

// What rows are multiplied with in every form.
typedef struct forms {
    const matrix *m, *up;
    const float *norm;
    const float *start; // [M], what is added to
} forms;

static inline float *run_form(kernels *k, const forms *f, const float *x, int64_t n, int form)
{
    const int64_t M = f->m->M;
    rows_there y = rows_send(k, NULL, n * M, 0);
    const norm_of of = {f->norm, NORM_EPS};
    const weight *w[] = {&f->m->taken};
    for (int64_t i = 0; i < n && form == FORM_ADD; i++)
        kernels_write(k, y.at + i * M, f->start, (size_t)M * sizeof *f->start);
    if (form == FORM_SET) op_linear(k, y.at, x, w[0], n);
    if (form == FORM_ADD) op_linear_add(k, y.at, x, w[0], n);
    if (form == FORM_GATED) op_linear_silu_mul(k, y.at, x, w[0], &f->up->taken, n);
    if (form == FORM_NORMED) assert_true(op_linear_normed(k, &y.at, x, &of, w, 1, n));
    if (form == FORM_NORMED_GATED)
        assert_true(op_linear_silu_mul_normed(k, y.at, x, &of, w[0], &f->up->taken, n));
    float *got = rows_fetch(k, &y, n * M);
    kernels_free(k, y.block);
    return got;
}

// Rows of steps of 2 to 64 give, each, the bits that they give alone, in every form; the first, the middle and the last are
// looked at.
static inline void check_alone(kernels *k, const matrix *m, const matrix *up, test_random *r, const char *what)
{
    static const int64_t counts[] = {2, 3, 8, 9, 16, 17, 33, 64};
    const int64_t K = m->K, M = m->M;
    float *x = normals(r, 64 * K), *norm = normals(r, K), *start = normals(r, M);
    rows_there dx = rows_send(k, x, 64 * K, 0), dn = rows_send(k, norm, K, 0);
    const forms f = {m, up, dn.at, start};
    for (int form = 0; form < FORMS; form++) {
        float *alone[64] = {NULL};
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            const int64_t n = counts[c], looked[] = {0, n / 2, n - 1};
            float *all = run_form(k, &f, dx.at, n, form);
            for (int i = 0; i < 3; i++) {
                const int64_t row = looked[i];
                if (!alone[row]) alone[row] = run_form(k, &f, dx.at + row * K, 1, form);
                if (memcmp(alone[row], all + row * M, (size_t)M * sizeof *all))
                    fail_msg("%s, form %d: row %d of %d is not what it is alone", what, form, (int)row, (int)n);
            }
            free(all);
        }
        for (int i = 0; i < 64; i++) free(alone[i]);
    }
    free(x), free(norm), free(start);
    kernels_free(k, dx.block), kernels_free(k, dn.block);
}

// n weights of as many columns, in one call for N rows: each gives the bits that it gives alone, and within what is allowed. Drops
// them.
#define MOST_MANY 16
static inline void check_many(kernels *k, matrix *m, int n, int64_t N, test_random *r)
{
    const int64_t K = m->K;
    const weight *w[MOST_MANY];
    rows_there there[MOST_MANY];
    float *y[MOST_MANY], *x = normals(r, N * K);
    rows_there dx = rows_send(k, x, N * K, 0);
    assert_true(n <= MOST_MANY);
    for (int i = 0; i < n; i++) {
        w[i] = &m[i].taken;
        there[i] = rows_send(k, NULL, N * m[i].M, 0);
        y[i] = there[i].at;
    }
    op_linear_many(k, y, dx.at, w, n, N);
    for (int i = 0; i < n; i++) {
        const int64_t size = N * m[i].M;
        rows_there alone = rows_send(k, NULL, size, 0);
        op_linear(k, alone.at, dx.at, w[i], N);
        float *a = rows_fetch(k, &there[i], size), *b = rows_fetch(k, &alone, size);
        assert_memory_equal(a, b, (size_t)size * sizeof *a);
        for (int64_t j = 0; j < size; j++) {
            const answer e = answer_of(&m[i], x + j / m[i].M * K, j % m[i].M, way_of(&m[i], N));
            check_one("many", a[j], e.sum, e.allowed, j / m[i].M, j % m[i].M);
        }
        free(a), free(b);
        kernels_free(k, alone.block), kernels_free(k, there[i].block);
        matrix_drop(&m[i], k);
    }
    free(x);
    kernels_free(k, dx.block);
}

#define PICK(list, i) list[(size_t)(i) % (sizeof list / sizeof *list)]

#endif
