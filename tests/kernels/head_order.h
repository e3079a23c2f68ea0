// tests/kernels/head_order.h - value heads of the delta rule in the other order.
#ifndef TESTS_KERNELS_HEAD_ORDER_H
#define TESTS_KERNELS_HEAD_ORDER_H

#include <string.h>

#include "kernels/ops.h"

// Rows of `heads` runs of n numbers each, value heads from grouped to tiled order.
static inline void tile_heads(float *y, const float *x, int64_t rows, int64_t row, const delta_shape *s, int64_t n)
{
    const int64_t heads = s->value_heads, per_key = heads / s->key_heads;
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t v = 0; v < heads; v++) {
            const int64_t grouped = v % s->key_heads * per_key + v / s->key_heads;
            memcpy(y + i * row + v * n, x + i * row + grouped * n, (size_t)n * sizeof *y);
        }
    }
}

#endif
