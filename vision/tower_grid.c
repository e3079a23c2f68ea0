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

void tower_add_positions(const tower *t, float *x, int32_t h, int32_t w)
{
    for (int64_t i = 0; i < (int64_t)h * w; i++) {
        int32_t row, column;
        place(i, w, t->config->merge, &row, &column);
        add_interpolated(t, x + i * t->config->hidden, taps_at(row, h, t->side),
                         taps_at(column, w, t->side));
    }
}

// cos and sin [n] of position `at` times the frequencies theta^(-f / n).
static void turn(float *cos_out, float *sin_out, int32_t at, float theta, int64_t n)
{
    for (int64_t f = 0; f < n; f++) {
        float angle = (float)at * (1 / powf(theta, (float)f / (float)n));
        cos_out[f] = cosf(angle);
        sin_out[f] = sinf(angle);
    }
}

void tower_angles(const tower *t, float *cos_out, float *sin_out, int32_t h, int32_t w)
{
    const int64_t half = t->config->hidden / t->config->heads / 2;
    const float theta = (float)t->config->rope_theta;
    for (int64_t i = 0; i < (int64_t)h * w; i++) {
        int32_t row, column;
        float *c = cos_out + i * 3 * half, *s = sin_out + i * 3 * half;
        place(i, w, t->config->merge, &row, &column);
        // The first half of the angles turns with the row, the second with the column.
        turn(c, s, row, theta, half / 2);
        turn(c + half / 2, s + half / 2, column, theta, half / 2);
        memcpy(c + half, c, (size_t)half * sizeof *c);
        memcpy(s + half, s, (size_t)half * sizeof *s);
        for (int64_t j = 0; j < half; j++) c[2 * half + j] = 1;
        memset(s + 2 * half, 0, (size_t)half * sizeof *s);
    }
}
