// The resampler against its formula in double, and its SIMD forms against the plain one.
#include "support/test.h"

#include <math.h>

#include "decoder/resize.h"
#include "decoder/resize_passes.h"

static frame *noise(test_random *r, int32_t width, int32_t height)
{
    frame *f = NULL;
    assert_ok(frame_create(&f, width, height));
    for (int64_t i = 0; i < (int64_t)width * height * 3; i++) {
        // Extremes often: that is where clamping shows.
        int kind = (int)test_random_range(r, 0, 3);
        f->rgb[i] = kind == 0 ? 0 : kind == 1 ? 255 : (uint8_t)test_random_range(r, 0, 255);
    }
    return f;
}

static double cubic(double x)
{
    x = fabs(x);
    if (x < 1) return 1.5 * x * x * x - 2.5 * x * x + 1;
    return x < 2 ? -0.5 * x * x * x + 2.5 * x * x - 4 * x + 2 : 0;
}

// One line of n values, stride apart, to m values; Pillow's bicubic in double, rounded to bytes.
static void line(uint8_t *out, int64_t out_stride, int32_t m, const uint8_t *in, int64_t stride,
                 int32_t n)
{
    double scale = (double)n / m, wide = fmax(scale, 1), support = 2 * wide;
    for (int32_t i = 0; i < m; i++) {
        double centre = (i + 0.5) * scale, sum = 0, total = 0;
        int32_t lo = (int32_t)fmax(0, trunc(centre - support + 0.5));
        int32_t hi = (int32_t)fmin(n, trunc(centre + support + 0.5));
        for (int32_t j = lo; j < hi; j++) {
            double w = cubic((j + 0.5 - centre) / wide);
            sum += w * in[j * stride];
            total += w;
        }
        out[i * out_stride] = (uint8_t)fmin(255, fmax(0, floor(sum / total + 0.5)));
    }
}

static void check_against_formula(test_random *r, int32_t w, int32_t h, int32_t w2, int32_t h2)
{
    frame *in = noise(r, w, h), *out = NULL;
    uint8_t *half = malloc((size_t)w2 * (size_t)h * 3);
    uint8_t *want = malloc((size_t)w2 * (size_t)h2 * 3);
    for (int c = 0; c < 3; c++) {
        for (int32_t y = 0; y < h; y++) {
            line(half + 3 * y * w2 + c, 3, w2, in->rgb + 3 * y * w + c, 3, w);
        }
        for (int32_t x = 0; x < w2; x++) {
            line(want + 3 * x + c, 3 * w2, h2, half + 3 * x + c, 3 * w2, h);
        }
    }
    assert_ok(resize_bicubic(&out, in, w2, h2));
    assert_int_equal(out->width, w2);
    assert_int_equal(out->height, h2);
    int64_t differ = 0, n = (int64_t)w2 * h2 * 3;
    for (int64_t i = 0; i < n; i++) {
        int d = abs(out->rgb[i] - want[i]);
        if (d > 1) fail_msg("%dx%d to %dx%d: value %lld is %d, not %d", w, h, w2, h2, (long long)i,
                            out->rgb[i], want[i]);
        differ += d;
    }
    if (differ * 20 > n + 200) fail_msg("%dx%d to %dx%d: %lld of %lld differ", w, h, w2, h2,
                                       (long long)differ, (long long)n);
    free(half);
    free(want);
    frame_unref(&in);
    frame_unref(&out);
}

static void test_formula(void **state)
{
    static const int32_t sizes[][4] = {
        {640, 480, 320, 256}, {33, 97, 160, 96}, {200, 130, 192, 128}, {1, 1, 64, 64},
        {1, 300, 32, 4800}, {300, 1, 32, 32}, {500, 7, 32, 32}, {2000, 3, 32, 64}, {64, 64, 64, 64},
        {64, 50, 64, 96}, {50, 64, 96, 64}, {31, 33, 1, 1}, {1000, 1000, 32, 32}, {5, 5, 6, 4},
    };
    test_random r = {11};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        check_against_formula(&r, sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3]);
    }
}

static void test_same_size_is_a_copy(void **state)
{
    test_random r = {3};
    frame *in = noise(&r, 37, 21), *out = NULL;
    in->time_s = 1.5;
    assert_ok(resize_bicubic(&out, in, 37, 21));
    assert_memory_equal(in->rgb, out->rgb, 37 * 21 * 3);
    assert_true(out->time_s == 1.5);
    frame_unref(&in);
    frame_unref(&out);
}

static void random_axis(resize_axis *a, test_random *r, int32_t inputs, int32_t outputs)
{
    *a = (resize_axis){.n = outputs, .precision = (int)test_random_range(r, 10, 15)};
    int32_t most = (int32_t)test_random_range(r, 1, inputs < 40 ? inputs : 40);
    a->taps = (most + 3) / 4 * 4;
    a->first = malloc((size_t)outputs * sizeof *a->first);
    a->count = malloc((size_t)outputs * sizeof *a->count);
    a->weights = calloc((size_t)outputs * (size_t)a->taps, sizeof *a->weights);
    for (int32_t i = 0; i < outputs; i++) {
        a->count[i] = (int32_t)test_random_range(r, 1, most);
        a->first[i] = (int32_t)test_random_range(r, 0, inputs - a->count[i]);
        for (int32_t j = 0; j < a->count[i]; j++) {
            a->weights[i * a->taps + j] = (int16_t)test_random_range(r, -32768, 32767);
        }
    }
}

static void test_simd_across(void **state)
{
    test_random r = {5};
    for (int round = 0; round < 300; round++) {
        int32_t inputs = (int32_t)test_random_range(&r, 1, 90);
        int32_t outputs = (int32_t)test_random_range(&r, 1, 70);
        resize_axis a;
        random_axis(&a, &r, inputs, outputs);
        size_t bytes = (size_t)inputs * 3;
        uint8_t *in = malloc(bytes + RESIZE_PAD);
        for (size_t i = 0; i < bytes + RESIZE_PAD; i++) in[i] = (uint8_t)test_random_bits(&r);
        uint8_t *want = malloc((size_t)outputs * 3), *got = malloc((size_t)outputs * 3);
        resize_passes_at(0)->across(want, in, &a);
        for (int k = 1; resize_passes_at(k); k++) {
            resize_passes_at(k)->across(got, in, &a);
            assert_memory_equal(got, want, (size_t)outputs * 3);
        }
        free(in);
        free(want);
        free(got);
        free(a.first);
        free(a.count);
        free(a.weights);
    }
}

static void test_simd_down(void **state)
{
    test_random r = {6};
    uint8_t *rows[40];
    for (int i = 0; i < 40; i++) rows[i] = malloc(200 + RESIZE_PAD);
    for (int round = 0; round < 300; round++) {
        int64_t n = test_random_range(&r, 1, 200);
        int32_t count = (int32_t)test_random_range(&r, 1, 40);
        int precision = (int)test_random_range(&r, 10, 15);
        int16_t weights[40];
        for (int i = 0; i < 40; i++) {
            weights[i] = (int16_t)test_random_range(&r, -32768, 32767);
            for (int x = 0; x < 200 + RESIZE_PAD; x++) rows[i][x] = (uint8_t)test_random_bits(&r);
        }
        uint8_t want[200], got[200];
        const uint8_t *const *view = (const uint8_t *const *)rows;
        resize_passes_at(0)->down(want, view, weights, count, precision, n);
        for (int k = 1; resize_passes_at(k); k++) {
            memset(got, 1, sizeof got);
            resize_passes_at(k)->down(got, view, weights, count, precision, n);
            assert_memory_equal(got, want, (size_t)n);
        }
    }
    for (int i = 0; i < 40; i++) free(rows[i]);
}

static void test_frames_are_counted(void **state)
{
    frame *f = NULL, *none = NULL;
    assert_ok(frame_create(&f, 2, 2));
    frame *g = frame_ref(f);
    frame_unref(&f);
    assert_null(f);
    g->rgb[11] = 7; // still there
    frame_unref(&g);
    frame_unref(&none);
    assert_fails(frame_create(&f, 1 << 30, 1 << 30), SIGHT_E_MEMORY, "memory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formula),
        cmocka_unit_test(test_same_size_is_a_copy),
        cmocka_unit_test(test_simd_across),
        cmocka_unit_test(test_simd_down),
        cmocka_unit_test(test_frames_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
