// The row-wise ops of a GPU against plain C, which tests/kernels/test_rows.c holds against double.
#include "cuda/pair.h"

#define EPS 1e-6f
#define SMALL (8 * (double)FLT_EPSILON) // of one function of one number, on either side

static void norms_at(const sides *s, int64_t N, int64_t D, int64_t shift, uint64_t seed)
{
    pair x = pair_normal(s, N * D, 3, seed, shift), y = pair_room(s, N * D, shift);
    pair w = pair_normal(s, D, 1, seed + 1, 0), b = pair_normal(s, D, 1, seed + 2, 0);
    // A sum of D squares in order errs by at most D/2 last places.
    const double bound = ((double)D / 2 + 16) * (double)FLT_EPSILON;
    op_rms_norm(s->cpu, y.plain, x.plain, w.plain, N, D, EPS);
    op_rms_norm(s->gpu, y.device, x.device, w.device, N, D, EPS);
    pair_check(&y, bound, "rms_norm");
    op_layer_norm(s->cpu, y.plain, x.plain, w.plain, b.plain, N, D, EPS);
    op_layer_norm(s->gpu, y.device, x.device, w.device, b.device, N, D, EPS);
    pair_check(&y, 4 * bound, "layer_norm");
    pair z = pair_normal(s, N * D, 3, seed, shift); // x again
    op_rms_norm(s->cpu, x.plain, x.plain, w.plain, N, D, EPS);
    op_rms_norm(s->gpu, x.device, x.device, w.device, N, D, EPS);
    pair_check(&x, bound, "rms_norm in place");
    op_layer_norm(s->cpu, z.plain, z.plain, w.plain, b.plain, N, D, EPS);
    op_layer_norm(s->gpu, z.device, z.device, w.device, b.device, N, D, EPS);
    pair_check(&z, 4 * bound, "layer_norm in place");
    pair_free(&x), pair_free(&y), pair_free(&z), pair_free(&w), pair_free(&b);
}

static void norms_agree(void **state)
{
    // rows of a warp and of a block, just under and over each border, not multiples of 4
    static const int64_t widths[] = {2, 3, 4, 31, 128, 257, 511, 512, 513, 516, 1024, 1031, 4096, 5124};
    static const int64_t rows[] = {1, 8, 9};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        norms_at(*state, rows[i % 3], widths[i], 0, 10 + 4 * i);
        norms_at(*state, rows[(i + 1) % 3], widths[i], 1 + (int64_t)i % 3, 500 + 4 * i);
    }
}

// One column has no variance: the bias is left.
static void layer_norm_of_one_column(void **state)
{
    const sides *s = *state;
    pair x = pair_normal(s, 5, 3, 3, 0), w = pair_normal(s, 1, 1, 4, 0), y = pair_room(s, 5, 0);
    op_layer_norm(s->cpu, y.plain, x.plain, w.plain, w.plain, 5, 1, EPS);
    op_layer_norm(s->gpu, y.device, x.device, w.device, w.device, 5, 1, EPS);
    pair_check(&y, 0, "layer_norm of one column");
    pair_free(&x), pair_free(&w), pair_free(&y);
}

static void rms_norm_of_zeros(void **state)
{
    const sides *s = *state;
    pair x = pair_normal(s, 10, 0, 3, 0), w = pair_normal(s, 5, 1, 4, 0), y = pair_room(s, 10, 0);
    op_rms_norm(s->cpu, y.plain, x.plain, w.plain, 2, 5, EPS);
    op_rms_norm(s->gpu, y.device, x.device, w.device, 2, 5, EPS);
    pair_check(&y, SMALL, "rms_norm of zeros");
    pair_free(&x), pair_free(&w), pair_free(&y);
}

typedef void map(kernels *k, float *y, const float *x, int64_t n);

static void maps_agree(void **state)
{
    const sides *s = *state;
    static const int64_t sizes[] = {1, 4, 7, 1023, 1024, 1025, 20001};
    static map *const maps[] = {op_add, op_gelu_tanh, op_gelu_erf};
    static const char *const names[] = {"add", "gelu_tanh", "gelu_erf"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int m = 0; m < 3; m++) {
            const int64_t shift = (int64_t)(i + (size_t)m) % 3;
            pair x = pair_normal(s, sizes[i], 3, 7 + i, shift);
            pair y = pair_normal(s, sizes[i], 2, 90 + i, 2 * shift);
            maps[m](s->cpu, y.plain, x.plain, sizes[i]);
            maps[m](s->gpu, y.device, x.device, sizes[i]);
            pair_check(&y, m == 0 ? 0 : SMALL, names[m]);
            maps[m](s->cpu, x.plain, x.plain, sizes[i]);
            maps[m](s->gpu, x.device, x.device, sizes[i]);
            pair_check(&x, m == 0 ? 0 : SMALL, names[m]);
            pair_free(&x), pair_free(&y);
        }
    }
}

// Large arguments saturate; nothing becomes NaN.
static void gelu_saturates(void **state)
{
    const sides *s = *state;
    static const float values[] = {-1e30f, -1000, -100, -20, -0.0f, 0, 1e-30f, 20, 100, 1000, 1e12f};
    enum { N = sizeof values / sizeof *values };
    for (int m = 0; m < 2; m++) {
        map *const gelu = m ? op_gelu_erf : op_gelu_tanh;
        pair x = pair_room(s, N, 0);
        float got[N];
        memcpy(x.plain, values, sizeof values);
        pair_send(&x);
        gelu(s->gpu, x.device, x.device, N);
        gelu(s->cpu, x.plain, x.plain, N);
        assert_ok(kernels_read(s->gpu, got, x.device, sizeof got));
        for (int i = 0; i < N; i++) assert_true(fabsf(got[i] - x.plain[i]) <= 1e-6f * fabsf(values[i]));
        pair_free(&x);
    }
}

typedef struct heads {
    int64_t N, H, C, R;
    int64_t between; // floats between two heads that are nobody's
} heads;

static void norm_rope_at(const sides *s, const heads *h, bool norm, int64_t shift, uint64_t seed)
{
    const int64_t n = h->N * h->H * h->C, head_stride = h->C + h->between;
    const int64_t row_stride = h->H * head_stride + h->between, half = h->R / 2;
    pair x = pair_normal(s, h->N * row_stride, 2, seed, shift), w = pair_normal(s, h->C, 1, seed + 1, shift);
    pair angle = pair_normal(s, 2 * h->N * half + 1, 3, seed + 2, 0), y = pair_room(s, n, shift);
    for (int64_t i = 0; i < h->N * half; i++) {
        const float a = angle.plain[i];
        angle.plain[i] = cosf(a), angle.plain[h->N * half + i] = sinf(a);
    }
    pair_send(&angle);
    const float *cosine = angle.plain, *sine = cosine + h->N * half;
    const float *cosine_there = angle.device, *sine_there = cosine_there + h->N * half;
    const double bound = ((double)h->C / 2 + 16) * (double)FLT_EPSILON;
    const float *w_here = norm ? w.plain : NULL, *w_there = norm ? w.device : NULL;
    op_norm_rope(s->cpu, y.plain, x.plain, w_here, cosine, sine, h->N, h->H, h->C, h->R, row_stride,
                 head_stride, EPS);
    op_norm_rope(s->gpu, y.device, x.device, w_there, cosine_there, sine_there, h->N, h->H, h->C, h->R,
                 row_stride, head_stride, EPS);
    pair_check(&y, bound, "norm_rope");
    pair_send(&y);
    op_norm_rope(s->cpu, y.plain, y.plain, w_here, cosine, sine, h->N, h->H, h->C, h->R, h->H * h->C, h->C,
                 EPS);
    op_norm_rope(s->gpu, y.device, y.device, w_there, cosine_there, sine_there, h->N, h->H, h->C, h->R,
                 h->H * h->C, h->C, EPS);
    pair_check(&y, bound, "norm_rope in place");
    pair_free(&x), pair_free(&w), pair_free(&angle), pair_free(&y);
}

static void norm_rope_agrees(void **state)
{
    static const heads shapes[] = {
        {1, 1, 2, 2, 0},   {3, 2, 16, 4, 1},     {5, 3, 72, 72, 0},  {2, 2, 80, 80, 3}, {9, 8, 256, 64, 256},
        {9, 4, 128, 128, 0}, {7, 2, 33, 10, 0},  {4, 2, 64, 0, 4},   {3, 1, 20, 18, 2}, {2, 3, 300, 300, 4},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        norm_rope_at(*state, &shapes[i], true, (int64_t)i % 2, 40 + 8 * i);
        norm_rope_at(*state, &shapes[i], false, (int64_t)i % 3, 400 + 8 * i);
        norm_rope_at(*state, &shapes[i], true, 0, 800 + 8 * i);
    }
}

static void sigmoid_mul_agrees(void **state)
{
    const sides *s = *state;
    static const heads shapes[] = {{1, 1, 1, 0, 0}, {3, 2, 16, 0, 16}, {5, 8, 256, 0, 256},
                                   {5, 3, 37, 0, 1}, {2, 5, 260, 0, 3}};
    for (size_t i = 0; i < 2 * sizeof shapes / sizeof *shapes; i++) {
        const heads *h = &shapes[i / 2];
        const int64_t head_stride = h->C + h->between, row_stride = h->H * head_stride + 4;
        pair gate = pair_normal(s, h->N * row_stride, 4, 5 + i, (int64_t)i % 2);
        pair y = pair_normal(s, h->N * h->H * h->C, 2, 60 + i, 0);
        gate.plain[0] = -200; // sigmoid 0, without a NaN on the way
        pair_send(&gate);
        op_sigmoid_mul(s->cpu, y.plain, gate.plain, h->N, h->H, h->C, row_stride, head_stride);
        op_sigmoid_mul(s->gpu, y.device, gate.device, h->N, h->H, h->C, row_stride, head_stride);
        pair_check(&y, SMALL, "sigmoid_mul");
        pair_free(&gate), pair_free(&y);
    }
}

static void taps_agree(void **state)
{
    const sides *s = *state;
    static const int64_t widths[] = {1, 5, 64, 1152, 1153};
    enum { N = 6, ROWS = 9 };
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        const int64_t D = widths[i];
        pair x = pair_normal(s, N * D, 1, 3 + i, 0), table = pair_normal(s, ROWS * D, 1, 40 + i, 0);
        pair weights = pair_normal(s, 4 * N, 1, 80 + i, 0);
        test_random r = {i + 1};
        int32_t rows[4 * N];
        void *rows_there;
        for (int j = 0; j < 4 * N; j++) rows[j] = (int32_t)test_random_range(&r, 0, ROWS - 1);
        assert_ok(kernels_alloc(&rows_there, s->gpu, sizeof rows, "a test's rows"));
        kernels_write(s->gpu, rows_there, rows, sizeof rows);
        op_add_taps(s->cpu, x.plain, table.plain, rows, weights.plain, N, D);
        op_add_taps(s->gpu, x.device, table.device, rows_there, weights.device, N, D);
        pair_check(&x, 4 * SMALL, "add_taps"); // terms may be greater than their sum
        kernels_free(s->gpu, rows_there);
        pair_free(&x), pair_free(&table), pair_free(&weights);
    }
}

static void copied_rows_are_the_same(void **state)
{
    const sides *s = *state;
    static const int64_t shapes[][4] = {{1, 1, 1, 1}, {5, 8, 12, 16}, {3, 1025, 1030, 2051}, {7, 3, 3, 8},
                                        {4, 1024, 1024, 2048}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int64_t *c = shapes[i], n = c[0], width = c[1], to_stride = c[2], from_stride = c[3];
        for (int64_t shift = 0; shift < 2; shift++) {
            pair from = pair_normal(s, n * from_stride, 1, 2 + i, shift);
            pair to = pair_normal(s, n * to_stride, 1, 50 + i, 0); // what lies between stays
            op_copy_rows(s->cpu, to.plain, to_stride, from.plain, from_stride, n, width);
            op_copy_rows(s->gpu, to.device, to_stride, from.device, from_stride, n, width);
            pair_check(&to, 0, "copy_rows");
            pair_free(&from), pair_free(&to);
        }
    }
}

static void angles_agree(void **state)
{
    const sides *s = *state;
    enum { HALF = 33, ROWS = 40, STRIDE = 47 };
    pair inv = pair_room(s, HALF, 0), cosine = pair_room(s, ROWS * HALF, 0), sine = pair_room(s, ROWS * HALF, 0);
    int32_t positions[3 * STRIDE], axis[HALF];
    test_random r = {5};
    void *axis_there;
    for (int i = 0; i < 3 * STRIDE; i++) positions[i] = (int32_t)test_random_range(&r, 0, 262143);
    for (int i = 0; i < HALF; i++) {
        inv.plain[i] = powf(1e7f, -(float)i / HALF);
        axis[i] = i % 3;
    }
    pair_send(&inv);
    assert_ok(kernels_alloc(&axis_there, s->gpu, sizeof axis, "a test's axes"));
    kernels_write(s->gpu, axis_there, axis, sizeof axis);
    rope_table here = {inv.plain, axis, HALF, 1.25f}, there = {inv.device, axis_there, HALF, 1.25f};
    op_rope_angles(s->cpu, cosine.plain, sine.plain, positions, STRIDE, ROWS, &here);
    op_rope_angles(s->gpu, cosine.device, sine.device, positions, STRIDE, ROWS, &there);
    pair_check(&cosine, SMALL, "cosines");
    pair_check(&sine, SMALL, "sines");
    kernels_free(s->gpu, axis_there);
    pair_free(&inv), pair_free(&cosine), pair_free(&sine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_agree),        cmocka_unit_test(layer_norm_of_one_column),
        cmocka_unit_test(rms_norm_of_zeros),  cmocka_unit_test(maps_agree),
        cmocka_unit_test(gelu_saturates),     cmocka_unit_test(norm_rope_agrees),
        cmocka_unit_test(sigmoid_mul_agrees), cmocka_unit_test(taps_agree),
        cmocka_unit_test(angles_agree),       cmocka_unit_test(copied_rows_are_the_same),
    };
    return sides_run(tests);
}
