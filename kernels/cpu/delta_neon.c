// kernels/cpu/delta_neon.c - the gated delta rule in NEON.
#include "kernels/backend.h"

#if defined(__aarch64__)

#include "kernels/cpu/delta_simd.h"

void delta_neon_fill(backend_ops *ops)
{
    delta_fill(ops);
}

#endif
