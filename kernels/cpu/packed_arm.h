// kernels/cpu/packed_arm.h - what packed products share on arm64: vectors of four rows, and rows to
// int8. Included by packed_neon*.c, which define ARM_DOT(sum, a, b): int32 lanes plus the products
// of their four signed bytes.
#ifndef SIGHT_KERNELS_CPU_PACKED_ARM_H
#define SIGHT_KERNELS_CPU_PACKED_ARM_H

#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu/packed_rows.h"

#define VR 4
#define SIGNED 1
#define FEW_ROWS 4
#define MANY_ROWS 4
#define MANY_PANELS 1

typedef int32x4_t ivec;
typedef float32x4_t fvec;
typedef int8x16_t operand;

static inline fvec bytes_to_float(const char *p, bool is_signed)
{
    uint32_t four_bytes;
    memcpy(&four_bytes, p, 4);
    const uint8x8_t v = vcreate_u8(four_bytes);
    if (!is_signed) return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(v))));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(v)))));
}

#define vec_prefetch(p) __builtin_prefetch(p)
#define iv_load(p) vreinterpretq_s32_u8(vld1q_u8((const uint8_t *)(p)))
#define iv_store(p, v) vst1q_u8(p, vreinterpretq_u8_s32(v))
#define iv_set1 vdupq_n_s32
#define iv_and vandq_s32
#define iv_xor veorq_s32
#define iv_shift4(v) vreinterpretq_s32_u8(vshrq_n_u8(vreinterpretq_u8_s32(v), 4))
#define iv_table(p) vreinterpretq_s32_u8(vld1q_u8(p))
#define iv_lookup(table, v)                                                                        \
    vreinterpretq_s32_u8(vqtbl1q_u8(vreinterpretq_u8_s32(table), vreinterpretq_u8_s32(v)))
#define iv_to_float vcvtq_f32_s32
#define fv_from_f16(p) vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8((const uint8_t *)(p))))
#define fv_from_unsigned(p) bytes_to_float(p, false)
#define fv_from_signed(p) bytes_to_float(p, true)
#define fv_zero() vdupq_n_f32(0)
#define fv_load vld1q_f32
#define fv_store vst1q_f32
#define fv_set1 vdupq_n_f32
#define fv_mul vmulq_f32
#define fv_sub vsubq_f32
#define fv_fma(a, b, sum) vfmaq_f32(sum, a, b)
#define iv_operand(v, kind) vreinterpretq_s8_s32(v)
#define iv_dot(sum, w, x, kind) ARM_DOT(sum, w, vreinterpretq_s8_s32(x))

#include "kernels/cpu/packed_simd.h"

// ---- rows to int8 ----

static inline int8x16_t sixteen(const float *x, float inverse)
{
    int16x4_t half[4];
    for (int i = 0; i < 4; i++) {
        half[i] = vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4 * i), inverse)));
    }
    return vcombine_s8(vqmovn_s16(vcombine_s16(half[0], half[1])),
                       vqmovn_s16(vcombine_s16(half[2], half[3])));
}

static inline int8_block to_int8(const float *x)
{
    float32x4_t size = vdupq_n_f32(0);
    uint32x4_t finite = vdupq_n_u32(UINT32_MAX);
    for (int i = 0; i < PACKED_BLOCK; i += 4) {
        const float32x4_t a = vabsq_f32(vld1q_f32(x + i));
        finite = vandq_u32(finite, vcltq_f32(a, vdupq_n_f32(INFINITY)));
        size = vmaxq_f32(size, a);
    }
    int8_block out = {{0}, 0, {0, 0}};
    const bool whole = vminvq_u32(finite) == UINT32_MAX;
    const float largest = vmaxvq_f32(size);
    if (!whole) out.dx = NAN;
    if (!whole || largest < 0x1p-100f) return out;
    out.dx = largest / 127.0f;
    const float inverse = 127.0f / largest;
    for (int i = 0; i < 2; i++) {
        const int8x16_t q = sixteen(x + 16 * i, inverse);
        vst1q_s8(out.q + 16 * i, q);
        out.sums[i] = vaddlvq_s8(q);
    }
    return out;
}

#endif
