#include "vision/preprocess.h"

#include <stddef.h>

int64_t preprocess_row_size(const vision_config *v)
{
    return (int64_t)v->channels * v->temporal_patch * v->patch * v->patch;
}

// (u8 / 255 - mean) / std for every byte, as float32 the way the reference fuses it:
// (u8 - mean * 255) / (std * 255).
typedef struct tables {
    float value[3][256];
} tables;

static void tables_fill(tables *t, const double mean[3], const double std[3])
{
    for (int c = 0; c < 3; c++) {
        float m = (float)mean[c] * 255, s = (float)std[c] * 255;
        for (int i = 0; i < 256; i++) t->value[c][i] = ((float)i - m) / s;
    }
}

// One plane of a patch, [patch, patch], from the frame's pixel (x, y) on.
static float *copy_plane(float *to, const frame *f, const float *value, int channel, int32_t x,
                         int32_t y, int32_t patch)
{
    for (int32_t i = 0; i < patch; i++) {
        const uint8_t *p = f->rgb + 3 * ((int64_t)(y + i) * f->width + x) + channel;
        for (int32_t j = 0; j < patch; j++) *to++ = value[p[3 * j]];
    }
    return to;
}

static float *copy_patch(float *to, const frame *a, const frame *b, const tables *t, int32_t x,
                         int32_t y, const vision_config *v)
{
    for (int c = 0; c < v->channels; c++) {
        for (int32_t k = 0; k < v->temporal_patch; k++) {
            to = copy_plane(to, k == 0 ? a : b, t->value[c % 3], c % 3, x, y, v->patch);
        }
    }
    return to;
}

void preprocess_pair(float *rows, const frame *a, const frame *b, const vision_plan *plan,
                     const vision_config *v, const double mean[3], const double std[3])
{
    tables t;
    tables_fill(&t, mean, std);
    int32_t merge = v->merge, patch = v->patch;
    for (int32_t by = 0; by < plan->grid.h; by += merge) {
        for (int32_t bx = 0; bx < plan->grid.w; bx += merge) {
            for (int32_t i = 0; i < merge * merge; i++) {
                int32_t y = (by + i / merge) * patch, x = (bx + i % merge) * patch;
                rows = copy_patch(rows, a, b, &t, x, y, v);
            }
        }
    }
}
