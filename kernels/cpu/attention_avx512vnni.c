// kernels/cpu/attention_avx512vnni.c - attention in AVX-512 with products of 16-bit whole numbers.
#include "kernels/backend.h"

#if defined(__x86_64__)

#define ATTENTION_16

#include "kernels/cpu/attention_simd.h"

void attention_avx512vnni_fill(backend_ops *ops)
{
    attention_fill(ops);
}

#endif
