// Products of packed weights with NEON's dot products (FEAT_DotProd: Cortex-A55 and A76 on, Raspberry
// Pi 5, Jetson Orin, Graviton 2): four bytes in one.
#include "kernels/cpu/packed.h"

#if defined(__aarch64__)

#define ARM_DOT vdotq_s32
#include "kernels/cpu/packed_arm.h"

static const packed_kernels neondot_kernels = PACKED_KERNELS(16, many_product);

void packed_neondot_fill(backend_ops *ops)
{
    ops->packed = packed_run;
    ops->packed_kernels = &neondot_kernels;
}

#endif
