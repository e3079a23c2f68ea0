#include "decoder/orient.h"

#include <math.h>
#include <string.h>

bool orient_swaps(int orientation)
{
    return orientation >= 5 && orientation <= 8;
}

// The stored position of shown (x, y) is origin + x * step_x + y * step_y, in pixels.
typedef struct walk {
    int64_t origin, step_x, step_y;
} walk;

static walk walk_of(int orientation, int64_t w, int64_t h)
{
    switch (orientation) {
    case 2: return (walk){w - 1, -1, w};
    case 3: return (walk){w * h - 1, -1, -w};
    case 4: return (walk){w * (h - 1), 1, -w};
    case 5: return (walk){0, w, 1};
    case 6: return (walk){w * (h - 1), -w, 1};
    case 7: return (walk){w * h - 1, -w, -1};
    case 8: return (walk){w - 1, w, -1};
    default: return (walk){0, 1, w};
    }
}

// Tiles keep both sides of a transpose in the cache.
#define TILE 32

static void copy_tile(frame *to, const frame *from, walk k, int32_t x0, int32_t y0)
{
    int32_t x1 = x0 + TILE < to->width ? x0 + TILE : to->width;
    int32_t y1 = y0 + TILE < to->height ? y0 + TILE : to->height;
    for (int32_t y = y0; y < y1; y++) {
        uint8_t *out = to->rgb + 3 * ((int64_t)y * to->width + x0);
        for (int32_t x = x0; x < x1; x++, out += 3) {
            memcpy(out, from->rgb + 3 * (k.origin + x * k.step_x + y * k.step_y), 3);
        }
    }
}

void orient_into(frame *out, const frame *in, int orientation)
{
    const walk k = walk_of(orientation, in->width, in->height);
    for (int32_t y = 0; y < out->height; y += TILE) {
        for (int32_t x = 0; x < out->width; x += TILE) copy_tile(out, in, k, x, y);
    }
}

sight_err orient_apply(frame **f, int orientation)
{
    if (orientation < 2 || orientation > 8) return SIGHT_OK;
    const frame *in = *f;
    bool swap = orient_swaps(orientation);
    frame *out;
    sight_err err = frame_create(&out, swap ? in->height : in->width,
                                 swap ? in->width : in->height);
    if (err) return err;
    orient_into(out, in, orientation);
    out->time_s = in->time_s;
    frame_unref(f);
    *f = out;
    return SIGHT_OK;
}

int orient_of_matrix(const int32_t matrix[9])
{
    // Rows of the matrix say where the stored x and y axes point on the screen (y down).
    double xx = matrix[0], xy = matrix[1], yx = matrix[3], yy = matrix[4];
    bool swap = fabs(xy) + fabs(yx) > fabs(xx) + fabs(yy);
    if (!swap) {
        if (xx < 0) return yy < 0 ? 3 : 2;
        return yy < 0 ? 4 : 1;
    }
    if (xy > 0) return yx < 0 ? 6 : 5;
    return yx < 0 ? 7 : 8;
}

typedef struct tiff_view {
    const uint8_t *data;
    size_t size;
    bool big_endian;
} tiff_view;

static uint32_t get(const tiff_view *v, size_t at, int bytes)
{
    uint32_t x = 0;
    for (int i = 0; i < bytes; i++) {
        int shift = 8 * (v->big_endian ? bytes - 1 - i : i);
        x |= (uint32_t)v->data[at + (size_t)i] << shift;
    }
    return x;
}

int orient_of_exif(const uint8_t *tiff, size_t size)
{
    if (size < 14 || (memcmp(tiff, "II*\0", 4) && memcmp(tiff, "MM\0*", 4))) return 1;
    tiff_view v = {tiff, size, tiff[0] == 'M'};
    size_t at = get(&v, 4, 4);
    if (at > size - 2) return 1;
    uint32_t n = get(&v, at, 2);
    at += 2;
    for (uint32_t i = 0; i < n && size - at >= 12; i++, at += 12) {
        if (get(&v, at, 2) != 0x0112) continue;
        uint32_t value = get(&v, at + 8, get(&v, at + 2, 2) == 4 ? 4 : 2);
        return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}
