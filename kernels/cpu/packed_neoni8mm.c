// Products of packed weights with NEON's matrix products (FEAT_I8MM: Graviton 3, Neoverse V1, Cortex-X2
// on): two rows of eight bytes times two in one, for many rows. Few rows are bound by memory, and go as
// with dot products.
#include "kernels/cpu/packed.h"

#if defined(__aarch64__)

#define ARM_DOT vdotq_s32
#include "kernels/cpu/packed_arm.h"

#define PAIRS (PACKED_PANEL / 2) // of outputs

// Two neighbouring quads of four rows (or outputs) as two pairs of eight inputs each.
typedef struct eights {
    int8x16_t pair[2];
} eights;

INLINE eights join(const void *quad, const void *next)
{
    const int32x4_t a = vld1q_s32(quad), b = vld1q_s32(next);
    return (eights){{vreinterpretq_s8_s32(vzip1q_s32(a, b)), vreinterpretq_s8_s32(vzip2q_s32(a, b))}};
}

// The exact sums of one step: sum[pair of outputs][pair of rows] is 2 outputs by 2 rows.
INLINE void step_pairs(int32x4_t sum[PAIRS][2], const uint8_t *codes, const int8_t *q, const int first,
                       const int last)
{
#pragma GCC unroll 8
    for (int p = 0; p < PAIRS; p++) sum[p][0] = sum[p][1] = vdupq_n_s32(0);
#pragma GCC unroll 4
    for (int i = first; i < last; i += 2) {
        const eights x = join(q + i * MANY_ROWS * 4, q + (i + 1) * MANY_ROWS * 4);
#pragma GCC unroll 4
        for (int v = 0; v < PACKED_PANEL / 4; v++) {
            const eights w = join(codes + i * PACKED_LINE + 16 * v, codes + (i + 1) * PACKED_LINE + 16 * v);
#pragma GCC unroll 2
            for (int p = 0; p < 2; p++) {
                sum[2 * v + p][0] = vmmlaq_s32(sum[2 * v + p][0], w.pair[p], x.pair[0]);
                sum[2 * v + p][1] = vmmlaq_s32(sum[2 * v + p][1], w.pair[p], x.pair[1]);
            }
        }
    }
}

// Row r times outputs 4 v to 4 v + 3 out of the pairs.
INLINE int32x4_t row_of(int32x4_t sum[PAIRS][2], int r, int v)
{
    const int32x4_t a = sum[2 * v][r / 2], b = sum[2 * v + 1][r / 2];
    return r % 2 ? vuzp2q_s32(a, b) : vuzp1q_s32(a, b);
}

INLINE void pairs_block(float *out, const packed_panel *w, int64_t b, const char *x, const int steps,
                        const bool first)
{
    const uint8_t *codes = w->codes + b * PACKED_BLOCK * PACKED_PANEL;
    const float *dx = (const float *)(const void *)(x + MANY_ROWS * PACKED_BLOCK);
    const int32_t *start = (const int32_t *)(const void *)(dx + MANY_ROWS);
    float32x4_t part[MANY_ROWS][HALVES];
#pragma GCC unroll 2
    for (int s = 0; s < steps; s++, start += MANY_ROWS) {
        int32x4_t sum[PAIRS][2];
        step_pairs(sum, codes, (const int8_t *)x, s * 8 / steps, (s + 1) * 8 / steps);
#pragma GCC unroll 4
        for (int v = 0; v < HALVES; v++) {
            const float32x4_t scale = vld1q_f32(w->scales + (b * steps + s) * PACKED_PANEL + v * VR);
#pragma GCC unroll 4
            for (int r = 0; r < MANY_ROWS; r++) {
                const int32x4_t dot = vaddq_s32(row_of(sum, r, v), vdupq_n_s32(start[r]));
                const float32x4_t f = vcvtq_f32_s32(dot);
                part[r][v] = s ? vfmaq_f32(part[r][v], f, scale) : vmulq_f32(f, scale);
            }
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < MANY_ROWS; r++) {
#pragma GCC unroll 4
        for (int v = 0; v < HALVES; v++) {
            float *o = out + r * PACKED_PANEL + v * VR;
            const float32x4_t before = first ? vdupq_n_f32(0) : vld1q_f32(o);
            vst1q_f32(o, vfmaq_f32(before, part[r][v], vdupq_n_f32(dx[r])));
        }
    }
}

static void pairs_product(float *out, const packed_panel *w, const void *x, int64_t blocks, int steps)
{
    const int64_t size = (int64_t)packed_x_block(MANY_ROWS, steps);
    for (int64_t b = 0; b < blocks; b++) {
        const char *at = (const char *)x + b * size;
        if (steps == 1) pairs_block(out, w, b, at, 1, b == 0);
        else pairs_block(out, w, b, at, 2, b == 0);
    }
    if (w->shifts) take_under(out, w->shifts, x, blocks, MANY_ROWS, steps);
}

static const packed_kernels neoni8mm_kernels = PACKED_KERNELS(8, pairs_product);

void packed_neoni8mm_fill(backend_ops *ops)
{
    ops->packed = packed_run;
    ops->packed_kernels = &neoni8mm_kernels;
}

#endif
