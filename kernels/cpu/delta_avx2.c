// kernels/cpu/delta_avx2.c - the gated delta rule in AVX2.
#include "kernels/backend.h"

#if defined(__x86_64__)

#include "kernels/cpu/delta_simd.h"

void delta_avx2_fill(backend_ops *ops)
{
    delta_fill(ops);
}

#endif
