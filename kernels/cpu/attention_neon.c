// kernels/cpu/attention_neon.c - attention in NEON.
#include "kernels/backend.h"

#if defined(__aarch64__)

#include "kernels/cpu/attention_simd.h"

void attention_neon_fill(backend_ops *ops)
{
    attention_fill(ops);
}

#endif
