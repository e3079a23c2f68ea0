// The output layer's looks with NEON as every arm64 chip has it.
#include "kernels/backend.h"

#if defined(__aarch64__)

#include <arm_neon.h>

static inline int32x4_t dot_by_pairs(int32x4_t sum, int8x16_t a, int8x16_t b)
{
    const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
    return vaddq_s32(sum, vpaddq_s32(low, vpaddlq_s16(vmull_high_s8(a, b))));
}

#define ARM_DOT dot_by_pairs
#include "kernels/cpu/output_arm.h"

void output_neon_fill(cpu_ops *ops)
{
    ops->output = &arm_kernels;
}

#endif
