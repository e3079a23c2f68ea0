// kernels/cpu/dot_neon.h - what vdotq_s32 does, on arm64 chips without it: each int32 lane of sum plus the
// products of its four signed bytes.
#ifndef SIGHT_KERNELS_CPU_DOT_NEON_H
#define SIGHT_KERNELS_CPU_DOT_NEON_H

#include <arm_neon.h>

static inline int32x4_t dot_by_pairs(int32x4_t sum, int8x16_t a, int8x16_t b)
{
    const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
    return vaddq_s32(sum, vpaddq_s32(low, vpaddlq_s16(vmull_high_s8(a, b))));
}

#endif
