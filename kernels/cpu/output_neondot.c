// The output layer's looks with NEON's dot products.
#include "kernels/backend.h"

#if defined(__aarch64__)

#define ARM_DOT vdotq_s32
#include "kernels/cpu/output_arm.h"

void output_neondot_fill(backend_ops *ops)
{
    ops->output = &arm_kernels;
}

#endif
