#include "decoder/image.h"

#include <stdio.h>

#include "decoder/image_parts.h"
#include "decoder/orient.h"
#include "decoder/remote.h"
#include "decoder/resize.h"

#define DEFAULT_MAX_PIXELS 268435456LL
#define DEFAULT_MAX_BYTES  (1LL << 30)

static sight_err check_bytes(image_bytes *in, const void *bytes, size_t size, const char *what,
                             const image_limits *limits)
{
    int64_t max_bytes = limits && limits->max_bytes ? limits->max_bytes : DEFAULT_MAX_BYTES;
    int64_t max_pixels = limits && limits->max_pixels ? limits->max_pixels : DEFAULT_MAX_PIXELS;
    *in = (image_bytes){bytes, size, what, max_pixels};
    if (!bytes || size == 0) return sight_fail(SIGHT_E_MEDIA, "'%s' is empty", what);
    if (size > (uint64_t)max_bytes) {
        return sight_fail(SIGHT_E_LIMIT, "'%s' has %zu bytes, the limit is %lld", what, size,
                          (long long)max_bytes);
    }
    return SIGHT_OK;
}

static sight_err check_size(const image_header *h, const image_bytes *in)
{
    if (h->width < 1 || h->height < 1) {
        return sight_fail(SIGHT_E_MEDIA, "'%s' is a %s picture of %lld x %lld: no pixels",
                          in->what, image_format_name(h->format), (long long)h->width,
                          (long long)h->height);
    }
    int64_t pixels;
    if (__builtin_mul_overflow(h->width, h->height, &pixels) || pixels > in->max_pixels ||
        h->width > INT32_MAX / 4 || h->height > INT32_MAX / 4) {
        return sight_fail(SIGHT_E_LIMIT, "'%s' has %lld x %lld pixels, the limit is %lld in all",
                          in->what, (long long)h->width, (long long)h->height,
                          (long long)in->max_pixels);
    }
    return SIGHT_OK;
}

static sight_err open_header(image_header *h, image_bytes *in, const void *bytes, size_t size,
                             const char *what, const image_limits *limits)
{
    sight_err err = check_bytes(in, bytes, size, what, limits);
    if (!err) err = image_read_header(h, in);
    if (!err) err = check_size(h, in);
    return err;
}

static void describe(image_info *out, const image_header *h)
{
    const bool swap = orient_swaps(h->orientation);
    out->width = (int32_t)(swap ? h->height : h->width);
    out->height = (int32_t)(swap ? h->width : h->height);
    snprintf(out->format, sizeof out->format, "%s", image_format_name(h->format));
}

sight_err image_probe(image_info *out, const void *bytes, size_t size, const char *what,
                      const image_limits *limits)
{
    image_bytes in;
    image_header h;
    if (limits && limits->decoders) return remote_picture_probe(out, bytes, size, what, limits);
    sight_err err = open_header(&h, &in, bytes, size, what, limits);
    if (!err) describe(out, &h);
    return err;
}

sight_err image_read(frame **out, image_info *source, const void *bytes, size_t size, const char *what, int32_t width,
                     int32_t height, const image_limits *limits)
{
    if (limits && limits->decoders) {
        return remote_picture_read(out, source, bytes, size, what, width, height, limits);
    }
    frame *whole = NULL;
    image_info info;
    sight_err err = image_probe(&info, bytes, size, what, limits);
    if (!err) err = image_decode(&whole, bytes, size, what, limits);
    if (!err) err = resize_bicubic(out, whole, width, height);
    frame_unref(&whole);
    if (!err) *source = info;
    return err;
}

sight_err image_decode(frame **out, const void *bytes, size_t size, const char *what,
                       const image_limits *limits)
{
    image_bytes in;
    image_header h;
    sight_err err = open_header(&h, &in, bytes, size, what, limits);
    if (err) return err;
    frame *f = NULL;
    switch (h.format) {
    case IMAGE_JPEG: err = image_decode_jpeg(&f, &in); break;
    case IMAGE_PNG: err = image_decode_png(&f, &in); break;
    default: err = image_decode_av(&f, &in, h.format); break;
    }
    if (!err && (f->width != h.width || f->height != h.height)) {
        err = sight_fail(SIGHT_E_MEDIA, "'%s' says that it is %lld x %lld and holds %d x %d", what,
                         (long long)h.width, (long long)h.height, f->width, f->height);
    }
    if (!err) err = orient_apply(&f, h.orientation);
    if (err) frame_unref(&f);
    else *out = f;
    return err;
}
