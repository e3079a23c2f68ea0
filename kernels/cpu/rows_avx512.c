// kernels/cpu/rows_avx512.c - the row-wise ops in AVX-512.
#include "kernels/backend.h"

#if defined(__x86_64__)

#include "kernels/cpu/rows_simd.h"

void rows_avx512_fill(backend_ops *ops)
{
    rows_fill(ops);
}

#endif
