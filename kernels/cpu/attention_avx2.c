// kernels/cpu/attention_avx2.c - attention in AVX2.
#include "kernels/backend.h"

#if defined(__x86_64__)

#include "kernels/cpu/attention_simd.h"

void attention_avx2_fill(backend_ops *ops)
{
    attention_fill(ops);
}

#endif
