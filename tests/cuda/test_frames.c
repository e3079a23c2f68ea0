// Pictures to patch rows on the device, against the CPU's way: resize, turn, preprocess.
//
// From RGB on both are the same floats. Colours are held twice: exactly against the sum in double, and within
// a bound against swscale.
#include "support/test.h"

#include <math.h>

#include "decoder/av.h"
#include "decoder/orient.h"
#include "decoder/planes.h"
#include "decoder/resize.h"
#include "decoder/resize_passes.h"
#include "kernels/frames.h"
#include "kernels/memory.h"
#include "vision/preprocess.h"

// A picture that a test makes up, and how it is looked at.
typedef struct scene {
    int32_t width, height;        // as decoded
    int32_t grid_h, grid_w, turn; // as shown
    enum AVPixelFormat format;
    enum AVColorSpace space;
    bool full, smooth;
} scene;

static const vision_config vision = {.channels = 3, .patch = 16, .temporal_patch = 2, .merge = 2};
static const double mean[] = {0.5, 0.45, 0.4}, deviation[] = {0.5, 0.22, 0.27};

static int value_at(const scene *s, test_random *r, int32_t x, int32_t y, int plane)
{
    if (!s->smooth) return (int)(test_random_bits(r) & 255);
    return (int)(128 + 100 * sin(0.05 * x + plane) * cos(0.04 * y));
}

// A sample of plane 0 to 2 (y, u, v) of any format.
static void put_sample(AVFrame *f, int plane, int32_t x, int32_t y, int value)
{
    planes p;
    assert_true(planes_of(&p, f));
    const uint8_t *base = plane == 0 ? p.y : p.uv_step == 1 && plane == 2 ? p.v : p.u;
    int64_t at = plane == 0 ? x : (int64_t)x * p.uv_step + (p.uv_step == 2 && plane == 2);
    const int64_t pitch = plane == 0 ? p.y_pitch : p.uv_pitch;
    uint8_t *row = (uint8_t *)base + y * pitch;
    if (p.bits == 8) row[at] = (uint8_t)value;
    else ((uint16_t *)row)[at] = (uint16_t)((value << (p.bits - 8) | (value >> (16 - p.bits))) << p.shift);
}

static int get_sample(const planes *p, int plane, int32_t x, int32_t y)
{
    const uint8_t *base = plane == 0 ? p->y : p->uv_step == 1 && plane == 2 ? p->v : p->u;
    const int64_t at = plane == 0 ? x : (int64_t)x * p->uv_step + (p->uv_step == 2 && plane == 2);
    const uint8_t *row = base + y * (plane == 0 ? p->y_pitch : p->uv_pitch);
    return p->bits == 8 ? row[at] : ((const uint16_t *)row)[at] >> p->shift;
}

static AVFrame *make_frame(const scene *s)
{
    AVFrame *f = av_frame_alloc();
    assert_non_null(f);
    f->width = s->width;
    f->height = s->height;
    f->format = s->format;
    f->colorspace = s->space;
    f->color_range = s->full ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG;
    assert_int_equal(av_frame_get_buffer(f, 64), 0);
    test_random r = {11};
    for (int32_t y = 0; y < s->height; y++) {
        for (int32_t x = 0; x < s->width; x++) put_sample(f, 0, x, y, value_at(s, &r, x, y, 0));
    }
    for (int plane = 1; plane <= 2; plane++) {
        for (int32_t y = 0; y < s->height / 2; y++) {
            for (int32_t x = 0; x < s->width / 2; x++) {
                put_sample(f, plane, x, y, value_at(s, &r, 2 * x, 2 * y, plane));
            }
        }
    }
    return f;
}

static uint8_t rounded(double v)
{
    v = floor(v + 0.5);
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

// Each chroma sample stands for its four pixels.
static frame *exact_rgb(const AVFrame *f)
{
    planes p;
    frame *out = NULL;
    assert_true(planes_of(&p, f));
    assert_ok(frame_create(&out, p.width, p.height));
    const planes_colours *c = &p.colours;
    const double unit = 1 << (p.bits - 8), one = 65536;
    for (int32_t y = 0; y < p.height; y++) {
        for (int32_t x = 0; x < p.width; x++) {
            const double luma = (get_sample(&p, 0, x, y) / unit - c->luma_zero) * c->luma_gain / one;
            const double u = get_sample(&p, 1, x / 2, y / 2) / unit - 128;
            const double v = get_sample(&p, 2, x / 2, y / 2) / unit - 128;
            uint8_t *rgb = out->rgb + 3 * ((int64_t)y * p.width + x);
            rgb[0] = rounded(luma + c->v_to_r * v / one);
            rgb[1] = rounded(luma - c->u_to_g * u / one - c->v_to_g * v / one);
            rgb[2] = rounded(luma + c->u_to_b * u / one);
        }
    }
    return out;
}

static frame *swscale_rgb(const AVFrame *f)
{
    av_converter c = {0};
    frame *out = NULL;
    assert_ok(av_convert(&c, f, "a test"));
    assert_ok(resize_rows(&out, c.rgb, c.stride, f->width, f->height, f->width, f->height));
    av_converter_done(&c);
    return out;
}

static void stored_size(const scene *s, int32_t *width, int32_t *height)
{
    const bool swap = orient_swaps(s->turn);
    *width = (swap ? s->grid_h : s->grid_w) * vision.patch;
    *height = (swap ? s->grid_w : s->grid_h) * vision.patch;
}

// Rows of the pair of which both pictures are rgb, which goes.
static float *cpu_rows(const scene *s, frame *rgb, int64_t *n)
{
    int32_t width, height;
    frame *sized = NULL;
    stored_size(s, &width, &height);
    assert_ok(resize_bicubic(&sized, rgb, width, height));
    assert_ok(orient_apply(&sized, s->turn));
    const vision_plan plan = {.width = sized->width, .height = sized->height,
                              .grid = {1, s->grid_h, s->grid_w}};
    *n = (int64_t)s->grid_h * s->grid_w * preprocess_row_size(&vision);
    float *rows = malloc(sizeof *rows * (size_t)*n);
    assert_non_null(rows);
    preprocess_pair(rows, sized, sized, &plan, &vision, mean, deviation);
    frame_unref(&sized);
    frame_unref(&rgb);
    return rows;
}

static frames_axis axis_view(const resize_axis *a)
{
    return (frames_axis){a->n, a->taps, a->precision, a->first, a->count, a->weights};
}

static frames *open_frames(const scene *s)
{
    int32_t width, height;
    stored_size(s, &width, &height);
    resize_axis across, down;
    frames *f = NULL;
    assert_ok(resize_axis_init(&across, s->width, width));
    assert_ok(resize_axis_init(&down, s->height, height));
    frames_shape shape = {.width = s->width, .height = s->height, .across = axis_view(&across),
                          .down = axis_view(&down), .orientation = s->turn, .grid_w = s->grid_w,
                          .patch = vision.patch, .merge = vision.merge, .temporal = vision.temporal_patch};
    for (int c = 0; c < 3; c++) {
        shape.mean[c] = (float)mean[c] * 255;
        shape.std[c] = (float)deviation[c] * 255;
    }
    assert_ok(frames_create(&f, (device_id){DEVICE_CUDA, 0}));
    assert_ok(frames_set_shape(f, &shape));
    resize_axis_done(&across);
    resize_axis_done(&down);
    return f;
}

static frames_picture picture_of(const AVFrame *f)
{
    planes p;
    assert_true(planes_of(&p, f));
    return (frames_picture){.width = p.width, .height = p.height, .y = p.y, .u = p.u, .v = p.v,
                            .y_pitch = p.y_pitch, .uv_pitch = p.uv_pitch,
                            .uv_step = p.uv_step, .bits = p.bits, .shift = p.shift,
                            .colours = {p.colours.luma_gain, p.colours.luma_zero, p.colours.v_to_r,
                                        p.colours.u_to_g, p.colours.v_to_g, p.colours.u_to_b}};
}

static kernels *open_gpu(void)
{
    kernels *k = NULL;
    const kernels_options o = {.threads = 1, .device = {DEVICE_CUDA, 0}, .device_bytes = (int64_t)128 << 20};
    assert_ok(kernels_create(&k, &o));
    return k;
}

// slots: at once, or one after the other.
static float *gpu_rows(const scene *s, const AVFrame *from, int64_t n, bool at_once)
{
    kernels *k = open_gpu();
    frames *f = open_frames(s);
    const frames_picture p = picture_of(from);
    float *rows = NULL, *out = malloc(sizeof *out * (size_t)n);
    assert_non_null(out);
    assert_ok(frames_take(f, &rows, n));
    if (at_once) {
        assert_ok(frames_add(f, rows, &p, 0, 2));
    } else {
        assert_ok(frames_add(f, rows, &p, 1, 1));
        assert_ok(frames_add(f, rows, &p, 0, 1));
    }
    assert_ok(kernels_read(k, out, rows, sizeof *out * (size_t)n));
    frames_give(f, rows, k);
    frames_destroy(&f);
    kernels_destroy(&k);
    return out;
}

static const scene scenes[] = {
    {64, 64, 4, 4, 1, AV_PIX_FMT_YUV420P, AVCOL_SPC_BT709, false, false}, // as it is
    {96, 70, 4, 6, 1, AV_PIX_FMT_NV12, AVCOL_SPC_SMPTE170M, false, false},
    {130, 98, 2, 4, 1, AV_PIX_FMT_NV12, AVCOL_SPC_BT2020_NCL, true, false},
    {34, 30, 4, 6, 1, AV_PIX_FMT_P010LE, AVCOL_SPC_BT709, false, false}, // larger
    {50, 102, 6, 2, 1, AV_PIX_FMT_YUV420P10LE, AVCOL_SPC_BT709, true, false},
    {66, 34, 2, 2, 1, AV_PIX_FMT_P016LE, AVCOL_SPC_UNSPECIFIED, false, false},
    {34, 66, 4, 2, 1, AV_PIX_FMT_YUV420P12LE, AVCOL_SPC_BT709, false, false},
    {70, 130, 4, 6, 6, AV_PIX_FMT_NV12, AVCOL_SPC_BT709, false, false},
    {70, 130, 4, 6, 8, AV_PIX_FMT_YUV420P, AVCOL_SPC_BT709, false, false},
    {90, 70, 4, 6, 3, AV_PIX_FMT_NV12, AVCOL_SPC_BT709, false, false},
    {90, 70, 4, 6, 2, AV_PIX_FMT_NV12, AVCOL_SPC_BT709, false, false},
    {90, 70, 4, 6, 4, AV_PIX_FMT_NV12, AVCOL_SPC_BT709, false, false},
    {70, 90, 4, 6, 5, AV_PIX_FMT_NV12, AVCOL_SPC_BT709, false, false},
    {70, 90, 4, 6, 7, AV_PIX_FMT_NV12, AVCOL_SPC_BT709, false, false},
    {1100, 40, 2, 2, 1, AV_PIX_FMT_NV12, AVCOL_SPC_BT709, false, false},  // shrunk across, enlarged
    {40, 1500, 2, 2, 1, AV_PIX_FMT_NV12, AVCOL_SPC_BT709, false, false},  // lower tiles
};

static void same_floats_from_rgb(void **state)
{
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        const scene *s = &scenes[i];
        AVFrame *f = make_frame(s);
        int64_t n;
        float *want = cpu_rows(s, exact_rgb(f), &n), *got = gpu_rows(s, f, n, i % 2);
        for (int64_t j = 0; j < n; j++) {
            if (got[j] != want[j]) {
                fail_msg("scene %zu: float %lld is %g, not %g", i, (long long)j, (double)got[j],
                         (double)want[j]);
            }
        }
        free(want);
        free(got);
        av_frame_free(&f);
    }
}

// swscale's 8-bit conversion cuts luma's and chroma's parts down to units each, and rounds the sum: off by less than
// 3. A filter whose weights sum up to 1.25 at most in absolute value makes that 3 x 1.25^2 + 1 (two roundings).
static void near_swscale(void **state)
{
    const scene some[] = {
        {128, 96, 6, 8, 1, AV_PIX_FMT_YUV420P, AVCOL_SPC_BT709, false, false},
        {128, 96, 4, 6, 1, AV_PIX_FMT_YUV420P, AVCOL_SPC_SMPTE170M, false, false},
        {128, 96, 4, 6, 1, AV_PIX_FMT_YUVJ420P, AVCOL_SPC_BT470BG, true, false},
        {128, 96, 4, 6, 6, AV_PIX_FMT_YUV420P, AVCOL_SPC_BT709, false, true},
        {64, 48, 4, 6, 1, AV_PIX_FMT_YUV420P, AVCOL_SPC_BT709, true, true},
    };
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        const scene *s = &some[i];
        AVFrame *f = make_frame(s);
        int64_t n;
        double worst = 0;
        float *want = cpu_rows(s, swscale_rgb(f), &n), *got = gpu_rows(s, f, n, true);
        for (int64_t j = 0; j < n; j++) {
            const int c = (int)(j / 512 % 3);
            const double off = fabs((double)got[j] - want[j]) * deviation[c] * 255;
            if (off > worst) worst = off;
        }
        free(want);
        free(got);
        av_frame_free(&f);
        if (!(worst <= 3 * 1.25 * 1.25 + 1)) fail_msg("scene %zu: off by %.1f of 255", i, worst);
    }
}

static void rows_from_the_host(void **state)
{
    const scene *s = &scenes[0];
    kernels *k = open_gpu();
    frames *f = open_frames(s);
    const int64_t patches = (int64_t)s->grid_h * s->grid_w, n = patches * preprocess_row_size(&vision);
    float *host = malloc(sizeof *host * (size_t)n), *out = malloc(sizeof *out * (size_t)n);
    float *rows = NULL;
    assert_true(host && out);
    for (int64_t i = 0; i < n; i++) host[i] = (float)i;
    assert_ok(frames_take(f, &rows, n));
    assert_ok(frames_add_rows(f, rows, host, patches, 1, 1));
    assert_ok(frames_add_rows(f, rows, host, patches, 0, 1));
    assert_ok(kernels_read(k, out, rows, sizeof *out * (size_t)n));
    assert_memory_equal(out, host, sizeof *out * (size_t)n);
    free(host);
    free(out);
    frames_give(f, rows, k);
    frames_destroy(&f);
    kernels_destroy(&k);
}

static void buffers_go_round(void **state)
{
    kernels *k = open_gpu();
    frames *f = open_frames(&scenes[0]);
    float *rows[9] = {0}, *again = NULL;
    for (int i = 0; i < 8; i++) assert_ok(frames_take(f, &rows[i], 1000 + i));
    assert_fails(frames_take(f, &rows[8], 10), SIGHT_E_MEMORY, "buffers");
    frames_give(f, rows[3], k);
    frames_give(f, rows[5], NULL);
    frames_give(f, NULL, k);
    assert_ok(frames_take(f, &again, 1004)); // the larger one fits
    assert_ptr_equal(again, rows[5]);
    assert_ok(frames_take(f, &again, 5000)); // the other one grows
    frames_destroy(&f);
    frames_destroy(&f);
    kernels_destroy(&k);
}

static void what_it_does_not_take(void **state)
{
    frames *f = open_frames(&scenes[1]);
    AVFrame *from = make_frame(&scenes[1]);
    float *rows = NULL;
    assert_ok(frames_take(f, &rows, (int64_t)4 * 6 * preprocess_row_size(&vision)));
    frames_picture p = picture_of(from);
    p.bits = 14;
    assert_fails(frames_add(f, rows, &p, 0, 1), SIGHT_E_UNSUPPORTED, "14 bits");
    p = picture_of(from);
    p.width += 2;
    assert_fails(frames_add(f, rows, &p, 0, 1), SIGHT_E_UNSUPPORTED, "98 x 70");
    p = picture_of(from);
    p.on_device = true;
    p.y = (const char *)p.y + 1;
    assert_fails(frames_add(f, rows, &p, 0, 1), SIGHT_E_UNSUPPORTED, "aligned");
    frames_destroy(&f);
    av_frame_free(&from);
    const frames_shape odd = {.width = 3, .height = 4};
    assert_fails(frames_create(&f, (device_id){DEVICE_CPU, 0}), SIGHT_E_UNSUPPORTED, "GPU");
    assert_null(f);
    assert_ok(frames_create(&f, (device_id){DEVICE_CUDA, 0}));
    assert_fails(frames_set_shape(f, &odd), SIGHT_E_UNSUPPORTED, "even");
    frames_destroy(&f);
}

int main(void)
{
    if (device_gpus() == 0) {
        printf("skipped: %s\n", device_without_gpu());
        return 77;
    }
    av_silence();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_floats_from_rgb), cmocka_unit_test(near_swscale),
        cmocka_unit_test(rows_from_the_host),   cmocka_unit_test(buffers_go_round),
        cmocka_unit_test(what_it_does_not_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
