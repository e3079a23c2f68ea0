// Sizes and orientation out of the headers of the formats that image.c reads, without a library:
// a picture is refused by its claims before any decoder sees it.
#include <string.h>

#include "decoder/image_parts.h"
#include "decoder/orient.h"

const char *image_format_name(image_format format)
{
    static const char *const names[] = {"unknown", "jpeg", "png", "webp", "bmp", "tiff", "gif"};
    return names[format];
}

static bool starts(const uint8_t *data, size_t size, const char *magic, size_t n)
{
    return size >= n && memcmp(data, magic, n) == 0;
}

image_format image_sniff(const uint8_t *data, size_t size)
{
    if (starts(data, size, "\xff\xd8\xff", 3)) return IMAGE_JPEG;
    if (starts(data, size, "\x89PNG\r\n\x1a\n", 8)) return IMAGE_PNG;
    if (starts(data, size, "RIFF", 4) && size >= 12 && !memcmp(data + 8, "WEBP", 4)) {
        return IMAGE_WEBP;
    }
    if (starts(data, size, "II*\0", 4) || starts(data, size, "MM\0*", 4)) return IMAGE_TIFF;
    if (starts(data, size, "GIF87a", 6) || starts(data, size, "GIF89a", 6)) return IMAGE_GIF;
    if (starts(data, size, "BM", 2) && size >= 26) return IMAGE_BMP;
    return IMAGE_UNKNOWN;
}

static uint32_t be(const uint8_t *p, int n)
{
    uint32_t x = 0;
    for (int i = 0; i < n; i++) x = x << 8 | p[i];
    return x;
}

static uint32_t le(const uint8_t *p, int n)
{
    uint32_t x = 0;
    for (int i = n - 1; i >= 0; i--) x = x << 8 | p[i];
    return x;
}

static sight_err cut_off(const image_bytes *in, image_format format)
{
    return sight_fail(SIGHT_E_MEDIA, "'%s' ends inside its %s header", in->what,
                      image_format_name(format));
}

// One start-of-frame segment: precision, height, width, components.
static sight_err jpeg_frame(image_header *out, const image_bytes *in, int marker,
                            const uint8_t *body, size_t n)
{
    if (n < 6) return cut_off(in, IMAGE_JPEG);
    bool lossless = marker == 0xc3 || (marker & 7) == 7 || marker >= 0xcb;
    if (body[0] != 8 || lossless) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "'%s' is a %s JPEG of %d bits: not read", in->what,
                          lossless ? "lossless" : "lossy", body[0]);
    }
    out->height = be(body + 1, 2);
    out->width = be(body + 3, 2);
    return SIGHT_OK;
}

static sight_err read_jpeg(image_header *out, const image_bytes *in)
{
    const uint8_t *d = in->data;
    size_t at = 2;
    while (at + 4 <= in->size) {
        if (d[at] != 0xff) { // garbage between segments, as libjpeg passes over it
            at++;
            continue;
        }
        int marker = d[at + 1];
        if (marker == 0xff) {
            at++;
            continue;
        }
        if (marker == 0 || marker == 1 || (marker >= 0xd0 && marker <= 0xd8)) {
            at += 2;
            continue;
        }
        if (marker == 0xd9 || marker == 0xda) break;
        size_t length = be(d + at + 2, 2), body = at + 4;
        if (length < 2 || length - 2 > in->size - body) break;
        bool is_frame = marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 &&
                        marker != 0xcc;
        if (is_frame) return jpeg_frame(out, in, marker, d + body, length - 2);
        if (marker == 0xe1 && length >= 8 && !memcmp(d + body, "Exif\0\0", 6)) {
            out->orientation = orient_of_exif(d + body + 6, length - 8);
        }
        at += 2 + length;
    }
    return cut_off(in, IMAGE_JPEG);
}

// The eXIf chunk may also follow the pixels, so the whole list is walked.
static int png_orientation(const image_bytes *in)
{
    for (size_t at = 8; in->size - at >= 12;) {
        size_t n = be(in->data + at, 4);
        if (n > in->size - at - 12) break;
        if (!memcmp(in->data + at + 4, "eXIf", 4)) return orient_of_exif(in->data + at + 8, n);
        at += 12 + n;
    }
    return 1;
}

static sight_err read_png(image_header *out, const image_bytes *in)
{
    if (in->size < 33 || memcmp(in->data + 12, "IHDR", 4)) return cut_off(in, IMAGE_PNG);
    out->width = be(in->data + 16, 4);
    out->height = be(in->data + 20, 4);
    out->orientation = png_orientation(in);
    return SIGHT_OK;
}

static sight_err read_webp(image_header *out, const image_bytes *in)
{
    const uint8_t *d = in->data;
    if (in->size < 30) return cut_off(in, IMAGE_WEBP);
    if (!memcmp(d + 12, "VP8 ", 4)) {
        out->width = le(d + 26, 2) & 0x3fff;
        out->height = le(d + 28, 2) & 0x3fff;
        return SIGHT_OK;
    }
    if (!memcmp(d + 12, "VP8L", 4)) {
        uint32_t bits = le(d + 21, 4);
        out->width = (bits & 0x3fff) + 1;
        out->height = (bits >> 14 & 0x3fff) + 1;
        return SIGHT_OK;
    }
    if (memcmp(d + 12, "VP8X", 4)) return cut_off(in, IMAGE_WEBP);
    out->width = (int64_t)le(d + 24, 3) + 1;
    out->height = (int64_t)le(d + 27, 3) + 1;
    for (size_t at = 12; in->size - at >= 8;) {
        size_t n = le(d + at + 4, 4);
        if (n > in->size - at - 8) break;
        if (!memcmp(d + at, "EXIF", 4)) {
            bool prefixed = n >= 6 && !memcmp(d + at + 8, "Exif\0\0", 6);
            size_t skip = prefixed ? 6 : 0;
            out->orientation = orient_of_exif(d + at + 8 + skip, n - skip);
        }
        at += 8 + n + (n & 1);
        if (at > in->size) break;
    }
    return SIGHT_OK;
}

static sight_err read_bmp(image_header *out, const image_bytes *in)
{
    const uint8_t *d = in->data;
    uint32_t header = le(d + 14, 4);
    if (header == 12) {
        out->width = le(d + 18, 2);
        out->height = le(d + 20, 2);
        return SIGHT_OK;
    }
    int32_t w = (int32_t)le(d + 18, 4), h = (int32_t)le(d + 22, 4);
    out->width = w;
    out->height = h < 0 ? -(int64_t)h : h; // negative: rows go top down
    return SIGHT_OK;
}

// An inline SHORT or LONG of a directory entry.
static uint32_t tiff_value(const uint8_t *entry, uint32_t (*get)(const uint8_t *, int))
{
    return get(entry + 2, 2) == 3 ? get(entry + 8, 2) : get(entry + 8, 4);
}

static sight_err read_tiff(image_header *out, const image_bytes *in)
{
    const uint8_t *d = in->data;
    uint32_t (*get)(const uint8_t *, int) = d[0] == 'M' ? be : le;
    if (in->size < 14) return cut_off(in, IMAGE_TIFF);
    size_t at = get(d + 4, 4);
    if (at > in->size - 2) return cut_off(in, IMAGE_TIFF);
    uint32_t n = get(d + at, 2), compression = 1, photometric = 2;
    at += 2;
    for (uint32_t i = 0; i < n; i++, at += 12) {
        if (in->size - at < 12) return cut_off(in, IMAGE_TIFF);
        uint32_t tag = get(d + at, 2);
        if (tag == 259) compression = tiff_value(d + at, get);
        if (tag == 262) photometric = tiff_value(d + at, get);
        if (tag == 256) out->width = tiff_value(d + at, get);
        if (tag == 257) out->height = tiff_value(d + at, get);
    }
    if (compression == 7 && photometric == 2) { // FFmpeg would take its RGB for YCbCr
        return sight_fail(SIGHT_E_UNSUPPORTED, "'%s' is a TIFF of RGB coded as JPEG: not read",
                          in->what);
    }
    out->orientation = orient_of_exif(d, in->size);
    return SIGHT_OK;
}

static sight_err read_gif(image_header *out, const image_bytes *in)
{
    if (in->size < 13) return cut_off(in, IMAGE_GIF);
    out->width = le(in->data + 6, 2);
    out->height = le(in->data + 8, 2);
    return SIGHT_OK;
}

static sight_err fail_unknown(const image_bytes *in)
{
    if (in->size >= 12 && !memcmp(in->data + 4, "ftyp", 4)) {
        static const char brands[][5] = {"heic", "heix", "mif1", "avif", "avis", "msf1"};
        for (size_t i = 0; i < sizeof brands / sizeof *brands; i++) {
            if (memcmp(in->data + 8, brands[i], 4)) continue;
            return sight_fail(SIGHT_E_UNSUPPORTED, "'%s' is a HEIF or AVIF picture: not read",
                              in->what);
        }
    }
    return sight_fail(SIGHT_E_MEDIA, "'%s' is not a JPEG, PNG, WebP, BMP, TIFF or GIF picture",
                      in->what);
}

sight_err image_read_header(image_header *out, const image_bytes *in)
{
    image_header h = {.format = image_sniff(in->data, in->size), .orientation = 1};
    sight_err err = SIGHT_OK;
    switch (h.format) {
    case IMAGE_JPEG: err = read_jpeg(&h, in); break;
    case IMAGE_PNG: err = read_png(&h, in); break;
    case IMAGE_WEBP: err = read_webp(&h, in); break;
    case IMAGE_BMP: err = read_bmp(&h, in); break;
    case IMAGE_TIFF: err = read_tiff(&h, in); break;
    case IMAGE_GIF: err = read_gif(&h, in); break;
    case IMAGE_UNKNOWN: err = fail_unknown(in); break;
    }
    if (!err) *out = h;
    return err;
}
