// kernels/cpu/linear.h - products: the driver that cuts the work (linear.c), and the inner loops
// that each level gives it.
//
// One order of summation serves every form, so that a row's result is the same, bit for bit, alone
// or in a batch, in any piece, with any number of threads. K is cut into J = ceil(K / 32) steps and
// a step into 16 lanes of two: lane p is one chain of fused multiply-adds from 0 over
//     k = 32 j + 2 p, 32 j + 2 p + 1, for j = 0, 1, ...   (k >= K counts as zero)
// and the lanes are added as a tree: lane i with i + 8, then i + 4, i + 2, i + 1.
//   - dot form, few rows: registers hold the lanes of an output, the weights stream by once. A
//     32-bit lane of a bf16 row holds exactly one pair, so a shift and a mask convert it.
//   - tile form, many rows: registers hold 16 outputs side by side; weights and rows are packed
//     lane by lane, and the lanes' sums meet in the same tree.
// The driver chooses the form by speed alone. All levels with fused multiply-add (AVX2, AVX-512,
// NEON) give equal bits; plain C rounds each product, bf16 products each pair as the chip does it.
//
// A unit is what a lane takes in one go: a float (two of them a step), or a pair of bf16 (one).
#ifndef SIGHT_KERNELS_CPU_LINEAR_H
#define SIGHT_KERNELS_CPU_LINEAR_H

#include "kernels/backend.h"

#define LINEAR_LANES 16
#define LINEAR_STEP 32      // of K
#define LINEAR_BLOCK 8      // rows of x side by side in the dot form
#define LINEAR_MAX_TILE 16  // rows
#define LINEAR_MAX_PANEL 32 // outputs
#define LINEAR_MAX_PIECE 48 // outputs that finish gets at once

static inline int64_t linear_steps(int64_t K)
{
    return (K + LINEAR_STEP - 1) / LINEAR_STEP;
}

// One level's inner loops.
typedef struct linear_kernels {
    int tile;           // rows of a tile
    int panel;          // outputs of a panel
    int units;          // 4-byte units per lane and step: 2 (floats) or 1 (pairs of bf16)
    int64_t dot_rows;   // up to so many rows the dot form is the faster one

    // units out[J][rows][units][16] of x [rows, K], rows <= LINEAR_BLOCK: a block of the dot form.
    void (*lane_rows)(float *out, const float *x, int64_t K, int64_t rows);
    // out[rows][cols] = rows x, in blocks as above, times cols rows of w; out's rows are out_stride
    // apart.
    void (*dot)(float *out, int64_t out_stride, const float *x, const void *w, tensor_type type,
                int64_t K, int64_t rows, int64_t cols);

    // out[rows][16] = rows <= LINEAR_BLOCK rows of x, a block as above, times a panel of E4M3 weights
    // with flat scales. NULL: they are unpacked first, as all packed weights.
    void (*dot_f8)(float *out, int64_t out_stride, const float *x, const packed *w, int64_t panel,
                   int64_t rows);

    // units out[16][J][units][tile] of x [rows, K], rows <= tile.
    void (*pack_rows)(float *out, const float *x, int64_t K, int64_t rows);
    // units out[16][J][units][panel] of w [cols, K], cols <= panel.
    void (*pack_weights)(float *out, const void *w, tensor_type type, int64_t K, int64_t cols);
    // out[rows][panel] from a packed tile and a packed panel.
    void (*tile_product)(float *out, const float *x, const float *w, int64_t J, int64_t rows);

    // y[rows][cols] from the products a (and b), rows in_stride apart; biases may be NULL.
    void (*finish)(float *y, int64_t y_stride, const float *a, const float *b, int64_t in_stride,
                   const float *bias_a, const float *bias_b, int64_t rows, int64_t cols,
                   linear_mode mode);
} linear_kernels;

// backend_ops.linear for levels that set linear_kernels (and perhaps linear_bf16).
void linear_run(kernels *k, float *const *y, const float *x, const weight *const *w, int n_w,
                int64_t N, linear_mode mode);

#if defined(__x86_64__)
void linear_f8_avx512(float *out, int64_t out_stride, const float *x, const packed *w,
                      int64_t panel, int64_t rows);
#endif

// ---- shared by the level files, compiled with each one's flags ----

// e^x within 2 units in the last place on [-87, 88], clamped outside: reduction by ln 2 in two
// parts and the polynomial of Cephes' expf.
static inline float linear_exp(float x)
{
    x = x > 88.0f ? 88.0f : x;
    x = x < -87.0f ? -87.0f : x;
    const float to_integer = 12582912.0f; // 1.5 * 2^23: the integer ends up in the low bits
    union {
        float f;
        uint32_t u;
    } n, z;
    n.f = x * 1.44269504f + to_integer;
    float whole = n.f - to_integer;
    float r = x - whole * 0.693359375f;
    r = r + whole * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    z.f = p * r * r + r + 1.0f;
    z.u += n.u << 23;
    return z.f;
}

// One row of outputs; with a constant n it compiles to whole vectors.
static inline __attribute__((always_inline)) void
linear_finish_row(float *restrict y, const float *restrict a, const float *restrict b,
                  const float *restrict bias_a, const float *restrict bias_b, const int64_t n,
                  linear_mode mode)
{
    if (mode == LINEAR_SET) {
        for (int64_t c = 0; c < n; c++) y[c] = a[c] + bias_a[c];
    } else if (mode == LINEAR_ADD) {
        for (int64_t c = 0; c < n; c++) y[c] = y[c] + (a[c] + bias_a[c]);
    } else {
        for (int64_t c = 0; c < n; c++) {
            const float v = a[c] + bias_a[c];
            y[c] = v / (1.0f + linear_exp(-v)) * (b[c] + bias_b[c]);
        }
    }
}

static inline void linear_finish(float *restrict y, int64_t y_stride, const float *restrict a,
                                 const float *restrict b, int64_t in_stride,
                                 const float *restrict bias_a, const float *restrict bias_b,
                                 int64_t rows, int64_t cols, linear_mode mode)
{
    static const float zero[LINEAR_MAX_PIECE] = {0};
    if (!bias_a) bias_a = zero;
    if (!bias_b) bias_b = zero;
    for (int64_t i = 0; i < rows; i++, y += y_stride, a += in_stride, b += in_stride) {
        if (cols == 16) linear_finish_row(y, a, b, bias_a, bias_b, 16, mode);
        else if (cols == 32) linear_finish_row(y, a, b, bias_a, bias_b, 32, mode);
        else linear_finish_row(y, a, b, bias_a, bias_b, cols, mode);
    }
}

#endif
