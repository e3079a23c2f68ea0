// kernels/cpu/output_arm.h - the output layer's looks on arm64: four rows of a panel to a vector.
// Included by output_neon*.c, which define ARM_DOT(sum, a, b): int32 lanes plus the products of their
// four signed bytes.
#ifndef SIGHT_KERNELS_CPU_OUTPUT_ARM_H
#define SIGHT_KERNELS_CPU_OUTPUT_ARM_H

#include <arm_neon.h>

#include "kernels/cpu/output.h"

#define INLINE static inline __attribute__((always_inline))

INLINE int8x16_t low_halves(uint8x16_t v)
{
    return vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15)));
}

INLINE int8x16_t high_halves(uint8x16_t v)
{
    return vreinterpretq_s8_u8(vshrq_n_u8(v, 4));
}

INLINE int8x16_t quad(const int8_t *q)
{
    int32_t v;
    memcpy(&v, q, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(v));
}

INLINE float32x4_t four_scales(const int8_t *scale)
{
    uint32_t v;
    memcpy(&v, scale, 4);
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(vcreate_u8(v))))));
}

INLINE float32x4_t group_dots(const uint8_t *line, const int8_t *q, float offset)
{
    int32x4_t sum = vdupq_n_s32(0);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++, line += 64, q += 8) {
        const uint8x16_t v = vld1q_u8(line);
        sum = ARM_DOT(sum, low_halves(v), quad(q));
        sum = ARM_DOT(sum, high_halves(v), quad(q + 4));
    }
    return vaddq_f32(vcvtq_f32_s32(sum), vdupq_n_f32(offset));
}

typedef struct greatest {
    float value, reach;
} greatest;

// Rows m to m + 3 of a panel.
static greatest scan_four(const output_look *look, const output_planes *p, int64_t m,
                          const output_x *x)
{
    const int64_t groups = output_groups(p->K), panel = m / OUTPUT_PANEL, r = m % OUTPUT_PANEL;
    const uint8_t *line = p->high + panel * output_panel_bytes(p->K) + 4 * r;
    const int8_t *scale = p->scale + panel * groups * OUTPUT_PANEL + r;
    float32x4_t sum = vdupq_n_f32(0), norm = sum, error = sum;
    for (int64_t g = 0; g < groups; g++, line += 256, scale += OUTPUT_PANEL) {
        __builtin_prefetch(line + 2048);
        const float32x4_t s = four_scales(scale), a = vabsq_f32(s);
        const float32x4_t dots = group_dots(line, x->q + g * OUTPUT_GROUP, x->offset[g]);
        sum = vfmaq_f32(sum, vmulq_n_f32(dots, x->scale[g]), s);
        norm = vfmaq_n_f32(norm, a, x->norm[g]);
        error = vfmaq_n_f32(error, a, x->error[g]);
    }
    const uint32x4_t slack = vld1q_u32(p->slack + m);
    const float32x4_t first = vreinterpretq_f32_u32(vandq_u32(slack, vdupq_n_u32(0xffff0000)));
    const float32x4_t second = vreinterpretq_f32_u32(vshlq_n_u32(slack, 16));
    const float32x4_t unit = vld1q_f32(p->unit + m);
    const float32x4_t both = vfmaq_f32(vmulq_f32(second, error), first, norm);
    const float32x4_t value = vmulq_f32(vmulq_n_f32(unit, 16), sum);
    const float32x4_t bound = vfmaq_f32(vdupq_n_f32(OUTPUT_LEAST_BOUND), unit, both);
    vst1q_f32(look->value + m, value);
    vst1q_f32(look->bound + m, bound);
    return (greatest){vmaxvq_f32(value), vmaxvq_f32(vaddq_f32(value, bound))};
}

static void scan(const output_look *looks, const output_planes *p, int64_t panel, const output_x *x,
                 int64_t N)
{
    for (int64_t n = 0; n < N; n++) {
        greatest most = {-INFINITY, -INFINITY};
        for (int64_t r = 0; r < OUTPUT_PANEL; r += 4) {
            const greatest g = scan_four(&looks[n], p, panel * OUTPUT_PANEL + r, &x[n]);
            most.value = output_greater(g.value, most.value);
            most.reach = output_greater(g.reach, most.reach);
        }
        looks[n].peak[panel] = most.value;
        looks[n].reach[panel] = most.reach;
    }
}

// ---- second look ----

// The codes of 16 inputs of a record's line: half 0 or 1 of group g % 4.
INLINE int8x16_t record_codes(const uint8_t *line, int64_t g, int half)
{
    const uint8x16_t v = vld1q_u8(line + g % 2 * OUTPUT_GROUP + 16 * half);
    return g % 4 / 2 ? high_halves(v) : low_halves(v);
}

INLINE int32_t group_dot(const uint8_t *line, int64_t g, const int8_t *q)
{
    int32x4_t dots = ARM_DOT(vdupq_n_s32(0), record_codes(line, g, 0), vld1q_s8(q));
    dots = ARM_DOT(dots, record_codes(line, g, 1), vld1q_s8(q + 16));
    return vaddvq_s32(dots);
}

static void refine(const output_look *look, const output_planes *p, const output_x *x,
                   const int32_t *ids, int64_t n)
{
    output_refine_groups(look, p, x, ids, n, group_dot);
}

static const output_kernels arm_kernels = {output_make_row, scan, refine, 2};

#endif
