// The output layer's looks with NEON as every arm64 chip has it.
#include "kernels/backend.h"

#if defined(__aarch64__)

#include "kernels/cpu/dot_neon.h"

#define ARM_DOT dot_by_pairs
#include "kernels/cpu/output_arm.h"

void output_neon_fill(backend_ops *ops)
{
    ops->output = &arm_kernels;
}

#endif
