// Products of packed weights with NEON as every arm64 chip has it: bytes multiplied to 16 bits,
// added in fours.
#include "kernels/cpu/packed.h"

#if defined(__aarch64__)

#include "kernels/cpu/dot_neon.h"

#define ARM_DOT dot_by_pairs
#include "kernels/cpu/packed_arm.h"

static const packed_kernels neon_kernels = PACKED_KERNELS(16, many_product);

void packed_neon_fill(backend_ops *ops)
{
    ops->packed = packed_run;
    ops->packed_kernels = &neon_kernels;
}

#endif
