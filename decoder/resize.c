#include "decoder/resize.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "decoder/resize_passes.h"

// Keys' cubic with a = -0.5.
static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

void resize_axis_done(resize_axis *a)
{
    free(a->first);
    free(a->count);
    free(a->weights);
    *a = (resize_axis){0};
}

// Normalised weights of output i into w; gives how many.
static int32_t weigh(double *w, int32_t *first, int32_t i, int32_t inputs, double scale,
                     double support, int32_t taps)
{
    double centre = scale * (i + 0.5), inverse = scale >= 1 ? 1 / scale : 1, total = 0;
    int64_t lo = (int64_t)(centre - support + 0.5), hi = (int64_t)(centre + support + 0.5);
    if (lo < 0) lo = 0;
    if (hi > inputs) hi = inputs;
    int32_t n = (int32_t)(hi - lo);
    if (n > taps) n = taps;
    for (int32_t j = 0; j < n; j++) {
        w[j] = cubic(((double)(j + lo) - centre + 0.5) * inverse);
        total += w[j];
    }
    for (int32_t j = 0; j < n && total != 0; j++) w[j] /= total;
    *first = (int32_t)lo;
    return n;
}

// As many bits as the largest weight leaves room for.
static int precision_for(double largest)
{
    int bits = 0;
    while (bits < 22 && (int)(0.5 + largest * (1 << (bits + 1))) < 1 << 15) bits++;
    return bits;
}

sight_err resize_axis_init(resize_axis *a, int32_t inputs, int32_t outputs)
{
    double scale = (double)inputs / outputs, support = scale >= 1 ? 2 * scale : 2;
    int32_t most = (int32_t)ceil(support) * 2 + 1;
    *a = (resize_axis){.n = outputs, .taps = (most + 3) / 4 * 4};
    size_t n = (size_t)outputs;
    double *w = calloc(n * (size_t)most, sizeof *w);
    a->first = calloc(n, sizeof *a->first);
    a->count = calloc(n, sizeof *a->count);
    a->weights = calloc(n * (size_t)a->taps, sizeof *a->weights);
    if (!w || !a->first || !a->count || !a->weights) {
        free(w);
        resize_axis_done(a);
        return sight_fail(SIGHT_E_MEMORY, "no memory to resize %d to %d", inputs, outputs);
    }
    double largest = 0;
    for (int32_t i = 0; i < outputs; i++) {
        double *row = w + (size_t)i * (size_t)most;
        a->count[i] = weigh(row, &a->first[i], i, inputs, scale, support, most);
        for (int32_t j = 0; j < a->count[i]; j++) largest = fmax(largest, row[j]);
    }
    a->precision = precision_for(largest);
    for (int32_t i = 0; i < outputs; i++) {
        for (int32_t j = 0; j < a->count[i]; j++) {
            double v = w[(size_t)i * (size_t)most + (size_t)j] * (1 << a->precision);
            a->weights[(size_t)i * (size_t)a->taps + (size_t)j] =
                (int16_t)(v < 0 ? v - 0.5 : v + 0.5);
        }
    }
    free(w);
    return SIGHT_OK;
}

// Rows pass through once: a ring holds those that the next output rows still need.
typedef struct ring {
    uint8_t *rows;        // [size, stride]
    uint8_t *padded;      // one input row that may be read past its end
    const uint8_t **view; // [size] the rows of one output, in order
    int64_t stride;
    int32_t size;
    int32_t filled; // input rows done so far
} ring;

static void ring_done(ring *r)
{
    free(r->rows);
    free(r->padded);
    free(r->view);
}

static sight_err ring_init(ring *r, int32_t size, int64_t out_bytes, int64_t in_bytes)
{
    *r = (ring){.size = size, .stride = out_bytes + RESIZE_PAD};
    r->rows = calloc((size_t)size, (size_t)r->stride);
    r->padded = calloc(1, (size_t)in_bytes + RESIZE_PAD);
    r->view = calloc((size_t)size, sizeof *r->view);
    if (r->rows && r->padded && r->view) return SIGHT_OK;
    ring_done(r);
    return sight_fail(SIGHT_E_MEMORY, "no memory to resize rows of %lld bytes",
                      (long long)in_bytes);
}

typedef struct source {
    const uint8_t *rgb;
    int64_t stride, bytes; // of a row
} source;

static void ring_fill(ring *r, int32_t end, const source *in, const resize_axis *across,
                      const resize_passes *passes)
{
    for (; r->filled < end; r->filled++) {
        const uint8_t *row = in->rgb + r->filled * in->stride;
        uint8_t *to = r->rows + (r->filled % r->size) * r->stride;
        if (!across) {
            memcpy(to, row, (size_t)in->bytes);
            continue;
        }
        memcpy(r->padded, row, (size_t)in->bytes);
        passes->across(to, r->padded, across);
    }
}

static void run(frame *out, ring *r, const source *in, const resize_axis *across,
                const resize_axis *down)
{
    const resize_passes *passes = resize_passes_best();
    int64_t row_bytes = (int64_t)out->width * 3;
    for (int32_t y = 0; y < out->height; y++) {
        int32_t first = down ? down->first[y] : y, count = down ? down->count[y] : 1;
        uint8_t *to = out->rgb + y * row_bytes;
        ring_fill(r, first + count, in, across, passes);
        if (!down) {
            memcpy(to, r->rows + (y % r->size) * r->stride, (size_t)row_bytes);
            continue;
        }
        for (int32_t j = 0; j < count; j++) {
            r->view[j] = r->rows + ((first + j) % r->size) * r->stride;
        }
        passes->down(to, r->view, down->weights + (int64_t)y * down->taps, count, down->precision,
                     row_bytes);
    }
}

sight_err resize_into(frame *out, const uint8_t *rgb, int64_t stride, int32_t in_width, int32_t in_height)
{
    resize_axis across = {0}, down = {0};
    ring r = {0};
    const bool wide = out->width != in_width, tall = out->height != in_height;
    source in = {rgb, stride, (int64_t)in_width * 3};
    sight_err err = SIGHT_OK;
    if (wide) err = resize_axis_init(&across, in_width, out->width);
    if (!err && tall) err = resize_axis_init(&down, in_height, out->height);
    if (!err) err = ring_init(&r, tall ? down.taps : 1, (int64_t)out->width * 3, in.bytes);
    if (!err) {
        run(out, &r, &in, wide ? &across : NULL, tall ? &down : NULL);
        ring_done(&r);
    }
    resize_axis_done(&across);
    resize_axis_done(&down);
    return err;
}

sight_err resize_rows(frame **out, const uint8_t *rgb, int64_t stride, int32_t in_width,
                      int32_t in_height, int32_t width, int32_t height)
{
    frame *f = NULL;
    sight_err err = frame_create(&f, width, height);
    if (!err) err = resize_into(f, rgb, stride, in_width, in_height);
    if (err) frame_unref(&f);
    else *out = f;
    return err;
}

sight_err resize_bicubic(frame **out, const frame *in, int32_t width, int32_t height)
{
    sight_err err = resize_rows(out, in->rgb, (int64_t)in->width * 3, in->width, in->height, width,
                                height);
    if (!err) (*out)->time_s = in->time_s;
    return err;
}
