// kernels/cpu/linear_tile512.h - the tile form with AVX-512: R rows times 32 outputs, lane by lane.
// Included by linear_avx512.c and linear_avx512bf16.c, which define before
//   UNITS   of a step, as in their linear_kernels
//   tile_lane(sum, x, w, steps, R)   sum += the products of one lane: x [steps, TILE], w [steps, PANEL]
#ifndef SIGHT_KERNELS_CPU_LINEAR_TILE512_H
#define SIGHT_KERNELS_CPU_LINEAR_TILE512_H

#include "kernels/cpu/linear_avx512.h"

// stack holds the sums that wait for their partner in the tree.
INLINE void tile_rows(float *out, const float *x, const float *w, int64_t J, const int R)
{
    _Alignas(64) float stack[5][TILE * PANEL];
    int top = 0;
    for (int i = 0; i < LINEAR_LANES; i++) {
        const int64_t steps = UNITS * J, at = lane_order(i) * steps;
        __m512 sum[TILE][2];
#pragma GCC unroll 14
        for (int r = 0; r < R; r++) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
        tile_lane(sum, x + at * TILE, w + at * PANEL, steps, R);
        for (int bit = i; bit & 1; bit >>= 1) {
            const float *partner = stack[--top];
#pragma GCC unroll 14
            for (int r = 0; r < R; r++) {
                sum[r][0] = _mm512_add_ps(_mm512_load_ps(partner + r * PANEL), sum[r][0]);
                sum[r][1] = _mm512_add_ps(_mm512_load_ps(partner + r * PANEL + 16), sum[r][1]);
            }
        }
        float *place = i + 1 < LINEAR_LANES ? stack[top++] : out;
#pragma GCC unroll 14
        for (int r = 0; r < R; r++) {
            _mm512_store_ps(place + r * PANEL, sum[r][0]);
            _mm512_store_ps(place + r * PANEL + 16, sum[r][1]);
        }
    }
}

static void tile_product(float *out, const float *x, const float *w, int64_t J, int64_t rows)
{
    switch ((rows + 1) / 2) {
    case 1: tile_rows(out, x, w, J, 2); break;
    case 2: tile_rows(out, x, w, J, 4); break;
    case 3: tile_rows(out, x, w, J, 6); break;
    case 4: tile_rows(out, x, w, J, 8); break;
    case 5: tile_rows(out, x, w, J, 10); break;
    case 6: tile_rows(out, x, w, J, 12); break;
    default: tile_rows(out, x, w, J, TILE); break;
    }
}

#endif
