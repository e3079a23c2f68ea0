// kernels/cpu/packed.h - products of packed weights with rows in int8: the driver (packed.c),
// and the inner loops that each level gives it.
//
// Rows are quantised in blocks of 32 inputs (PACKED_BLOCK), K padded with zeros:
//     largest = max |x|,  scale dx = largest / 127,  q = nearest even of x * (127 / largest)
//     (largest < 2^-100: dx = 0, q = 0; largest not finite: dx = NaN, q = 0)
// A step is min(group, 32) inputs, so a block has one step or two (groups of 16). With the exact
// integer sums of a step,
//     dot = sum q (value - offset),   low = sum q
// an output is, blocks and steps in rising order, every operation rounded once to float32:
//     part  = float(dot) * scale       first step of the block
//     part  = fma(float(dot), scale, part)   second step
//     sum   = fma(part, dx, sum)             from 0
//     under = fma(shift, dx * float(low), under)   each step, from 0; only formats with minima
//     y     = sum - under                          (sum alone without minima)
// where scale and shift are those of packed.h (factor * scale, super * sub, super_min * sub_min,
// each rounded once). Plain C, AVX2, AVX-512 and NEON give equal bits, for any number of rows,
// in any piece, with any number of threads: integer sums know no order, and the float order is
// fixed.
//
// Two forms, chosen by speed alone:
//   - few rows: codes stream by once and are unpacked in registers, up to `few` rows at a time.
//   - many rows: a pair of panels is unpacked to a byte a code in cache, and shared by all rows.
//
// Centre: what a level takes off every value before it multiplies, so that signed bytes serve
// chips without unsigned by signed products: 0, or 128. The rest of the offset is added to a step's
// sum beforehand: start = (centre - offset) * low.
#ifndef SIGHT_KERNELS_CPU_PACKED_H
#define SIGHT_KERNELS_CPU_PACKED_H

#include "kernels/backend.h"

#define PACKED_BLOCK 32    // inputs that share a scale of x
#define PACKED_MAX_TILE 8  // rows side by side
#define PACKED_LINE 64     // bytes: 16 rows times 4 inputs

// Rows of x, `tile` of them side by side, block after block. A block is, in this order (R = tile):
//     int8  q[8 quads][R][4]
//     float dx[R]
//     int32 start[steps][R]
//     float low[steps][R]        dx * float(low)
// Rows past the last one are zeros.
static inline size_t packed_x_block(int tile, int steps)
{
    return (size_t)tile * (PACKED_BLOCK + 4 + 8 * (size_t)steps);
}

static inline int64_t packed_blocks(int64_t K)
{
    return (K + PACKED_BLOCK - 1) / PACKED_BLOCK;
}

// Steps of a block.
static inline int packed_steps(const packed_format *f)
{
    return f->group == 16 ? 2 : 1;
}

// What a product needs of x beside the rows themselves; products that agree in it share them.
typedef struct packed_x_form {
    int steps;
    int bias; // centre - offset
} packed_x_form;

// One panel, ready for a tile of rows.
typedef struct packed_panel {
    const uint8_t *codes;
    const uint8_t *last; // codes of the last block, which the panel may hold half of; few form only
    const float *scales; // [blocks][steps][16]
    const float *shifts; // as scales, or NULL
} packed_panel;

// One level's inner loops. out is [rows][16] per panel, panels one after another; a product's
// bias and mode come after (linear_kernels.finish).
typedef struct packed_kernels {
    int few;          // rows of the widest tile of the few form: 8, 6, 4, ..
    int tile;         // rows of a tile of the many form, at most PACKED_MAX_TILE
    int panels;       // panels side by side there: 1 or 2
    int64_t few_rows; // up to so many rows the few form is the faster one

    int (*centre)(const packed_format *f);
    // `rows` rows of x [rows, K] into a tile.
    void (*pack_rows)(void *out, const float *x, int64_t K, int rows, int tile,
                      packed_x_form form);
    // Scales (and shifts unless NULL) of a panel as float32, [blocks][steps][16].
    void (*scales)(float *scales, float *shifts, const packed *p, int64_t panel);
    // One panel as it is stored times a tile of 1, 2, 3, 4, 6 or 8 rows, at most `few`.
    void (*few_product)(float *out, const packed_panel *w, const packed_format *f, const void *x,
                        int64_t blocks, int tile);
    // The codes of a panel as values less the centre, a byte each, [blocks][8 quads][16][4].
    void (*unpack)(uint8_t *out, const packed *p, int64_t panel);
    // `panels` unpacked panels times a tile.
    void (*many_product)(float *out, const packed_panel *w, const void *x, int64_t blocks,
                         int steps);
} packed_kernels;

// backend_ops.packed for levels that set packed_kernels.
void packed_run(kernels *k, float *const *y, const float *x, const weight *const *w, int n_w,
                int64_t N, linear_mode mode);

// Bytes of the codes of a panel as stored.
static inline size_t packed_panel_bytes(const packed *p)
{
    const packed_format *f = &p->format;
    return (size_t)(packed_groups(f, p->K) * f->group * PACKED_PANEL) * f->bits / 8;
}

#endif
