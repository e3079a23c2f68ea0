// kernels/cpu/attention_avx512.c - attention in AVX-512.
#include "kernels/backend.h"

#if defined(__x86_64__)

#include "kernels/cpu/attention_simd.h"

void attention_avx512_fill(backend_ops *ops)
{
    attention_fill(ops);
}

#endif
