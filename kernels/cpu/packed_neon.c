// Products of packed weights with NEON as every arm64 chip has it: bytes multiplied to 16 bits,
// added in fours.
#include "kernels/cpu/packed.h"

#if defined(__aarch64__)

#include <arm_neon.h>

static inline int32x4_t dot_by_pairs(int32x4_t sum, int8x16_t a, int8x16_t b)
{
    const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
    return vaddq_s32(sum, vpaddq_s32(low, vpaddlq_s16(vmull_high_s8(a, b))));
}

#define ARM_DOT dot_by_pairs
#include "kernels/cpu/packed_arm.h"

static const packed_kernels neon_kernels = {
    .few = FEW_ROWS,
    .tile = MANY_ROWS,
    .panels = MANY_PANELS,
    .few_rows = 16,
    .centre = arm_centre,
    .pack_rows = pack_rows,
    .scales = scales,
    .few_product = few_product,
    .unpack = unpack,
    .many_product = many_product,
};

void packed_neon_fill(cpu_ops *ops)
{
    ops->packed = packed_run;
    ops->packed_kernels = &neon_kernels;
}

#endif
