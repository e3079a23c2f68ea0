// kernels/cpu/rows_avx2.c - the row-wise ops in AVX2.
#include "kernels/backend.h"

#if defined(__x86_64__)

#include "kernels/cpu/rows_simd.h"

void rows_avx2_fill(backend_ops *ops)
{
    rows_fill(ops);
}

#endif
