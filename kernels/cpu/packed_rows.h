// kernels/cpu/packed_rows.h - rows to int8, in the tiles that packed products take (packed_kernels.pack_rows).
// Included by packed_x86.h and packed_arm.h, which define to_int8 below it.
#ifndef SIGHT_KERNELS_CPU_PACKED_ROWS_H
#define SIGHT_KERNELS_CPU_PACKED_ROWS_H

#include <string.h>

#include "kernels/cpu/packed.h"

// A block in int8, its scale, and the sums of its halves.
typedef struct int8_block {
    _Alignas(32) int8_t q[PACKED_BLOCK];
    float dx;
    int32_t sums[2];
} int8_block;

// The level's own: x [PACKED_BLOCK]. A number that is not finite makes dx NaN.
static inline int8_block to_int8(const float *x);

// Row r of a tile's block.
static inline void put_block(char *to, const int8_block *v, int r, int tile, packed_x_form form)
{
    float *dx = (float *)(void *)(to + tile * PACKED_BLOCK);
    int32_t *start = (int32_t *)(void *)(dx + tile);
    float *low = (float *)(void *)(start + form.steps * tile);
    for (int i = 0; i < PACKED_BLOCK / 4; i++) memcpy(to + (i * tile + r) * 4, v->q + 4 * i, 4);
    dx[r] = v->dx;
    for (int s = 0; s < form.steps; s++) {
        const int32_t sum = form.steps == 2 ? v->sums[s] : v->sums[0] + v->sums[1];
        start[s * tile + r] = form.bias * sum;
        low[s * tile + r] = v->dx * (float)sum;
    }
}

static void pack_rows(void *out, const float *x, int64_t K, int rows, int tile, packed_x_form form)
{
    const int64_t blocks = packed_blocks(K);
    char *to = out;
    for (int64_t b = 0; b < blocks; b++, to += packed_x_block(tile, form.steps)) {
        const int64_t k = b * PACKED_BLOCK, left = K - k;
        for (int r = 0; r < tile; r++) {
            int8_block v = {{0}, 0, {0, 0}};
            if (r < rows && left >= PACKED_BLOCK) {
                v = to_int8(x + r * K + k);
            } else if (r < rows) {
                float last[PACKED_BLOCK] = {0};
                memcpy(last, x + r * K + k, (size_t)left * sizeof *last);
                v = to_int8(last);
            }
            put_block(to, &v, r, tile, form);
        }
    }
}

#endif
