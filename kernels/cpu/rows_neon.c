// kernels/cpu/rows_neon.c - the row-wise ops in NEON.
#include "kernels/backend.h"

#if defined(__aarch64__)

#include "kernels/cpu/rows_simd.h"

void rows_neon_fill(backend_ops *ops)
{
    rows_fill(ops);
}

#endif
