// What depends only on a grid's size: the interpolated position table and the rotary angles.
//
// Sources: transformers, vision_utils.py (interpolation indices and weights) and models/qwen3_vl
// (axial rotary embedding); float32 as there.
#include <math.h>
#include <string.h>

#include "vision/tower_parts.h"

// The two table rows (or columns) that patch i of n lies between, and the second one's weight.
typedef struct taps {
    int32_t low, high;
    float weight;
} taps;

static taps taps_at(int32_t i, int32_t n, int32_t side)
{
    float at = (float)i * (float)(side - 1) / (float)(n > 1 ? n - 1 : 1);
    int32_t low = (int32_t)floorf(at);
    taps t = {low, low + 1 < side ? low + 1 : side - 1, at - (float)low};
    return t;
}

static void add_interpolated(const tower *t, float *x, taps row, taps column)
{
    const int64_t D = t->config->hidden;
    const float *table = t->positions;
    const float *a = table + ((int64_t)row.low * t->side + column.low) * D;
    const float *b = table + ((int64_t)row.low * t->side + column.high) * D;
    const float *c = table + ((int64_t)row.high * t->side + column.low) * D;
    const float *d = table + ((int64_t)row.high * t->side + column.high) * D;
    const float wa = (1 - row.weight) * (1 - column.weight);
    const float wb = (1 - row.weight) * column.weight;
    const float wc = row.weight * (1 - column.weight);
    const float wd = row.weight * column.weight;
    for (int64_t j = 0; j < D; j++) x[j] += a[j] * wa + b[j] * wb + c[j] * wc + d[j] * wd;
}

// Patch i of a pair stands at this row and column: merge blocks in raster order, raster inside.
static void place(int64_t i, int32_t w, int32_t merge, int32_t *row, int32_t *column)
{
    int64_t block = i / (merge * merge), inside = i % (merge * merge);
    int32_t blocks_w = w / merge;
    *row = (int32_t)(block / blocks_w) * merge + (int32_t)(inside / merge);
    *column = (int32_t)(block % blocks_w) * merge + (int32_t)(inside % merge);
}

typedef struct adding {
    const tower *t;
    float *x; // of patch `first`
    int64_t first, span;
    int32_t h, w;
} adding;

static void add_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const adding *a = arg;
    for (int64_t i = begin; i < end; i++) {
        int32_t row, column;
        place((a->first + i) % a->span, a->w, a->t->config->merge, &row, &column);
        add_interpolated(a->t, a->x + i * a->t->config->hidden, taps_at(row, a->h, a->t->side),
                         taps_at(column, a->w, a->t->side));
    }
}

void tower_add_positions(const tower *t, float *x, int64_t first, int64_t n, int32_t h, int32_t w)
{
    adding a = {t, x, first, (int64_t)h * w, h, w};
    kernels_rows(t->k, n, 32, add_pieces, &a);
}

// Patch i's angles: the first half of them turns with the row, the second with the column.
typedef struct turning {
    const tower *t;
    float *cos, *sin;
    const float *inv; // [half / 2] turns per position
    int32_t w;
} turning;

static void turn(const turning *s, float *cos_out, float *sin_out, int32_t at, int64_t n)
{
    for (int64_t f = 0; f < n; f++) {
        const float angle = (float)at * s->inv[f];
        cos_out[f] = cosf(angle);
        sin_out[f] = sinf(angle);
    }
}

static void turn_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const turning *s = arg;
    const int64_t half = s->t->config->hidden / s->t->config->heads / 2;
    for (int64_t i = begin; i < end; i++) {
        int32_t row, column;
        float *c = s->cos + i * 3 * half, *d = s->sin + i * 3 * half;
        place(i, s->w, s->t->config->merge, &row, &column);
        turn(s, c, d, row, half / 2);
        turn(s, c + half / 2, d + half / 2, column, half / 2);
        memcpy(c + half, c, (size_t)half * sizeof *c);
        memcpy(d + half, d, (size_t)half * sizeof *d);
        for (int64_t j = 0; j < half; j++) c[2 * half + j] = 1;
        memset(d + 2 * half, 0, (size_t)half * sizeof *d);
    }
}

void tower_angles(const tower *t, float *cos_out, float *sin_out, int32_t h, int32_t w)
{
    float inv[TOWER_MAX_HEAD / 4];
    const int64_t n = t->config->hidden / t->config->heads / 4;
    const float theta = (float)t->config->rope_theta;
    for (int64_t f = 0; f < n; f++) inv[f] = 1 / powf(theta, (float)f / (float)n);
    turning s = {t, cos_out, sin_out, inv, w};
    kernels_rows(t->k, (int64_t)h * w, 64, turn_pieces, &s);
}
