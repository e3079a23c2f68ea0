// Products of packed weights with NEON's dot products (FEAT_DotProd: Cortex-A55 and A76 on, Raspberry
// Pi 5, Jetson Orin, Graviton 2): four bytes in one.
#include "kernels/cpu/packed.h"

#if defined(__aarch64__)

#define ARM_DOT vdotq_s32
#include "kernels/cpu/packed_arm.h"

static const packed_kernels neondot_kernels = {
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

void packed_neondot_fill(cpu_ops *ops)
{
    ops->packed = packed_run;
    ops->packed_kernels = &neondot_kernels;
}

#endif
