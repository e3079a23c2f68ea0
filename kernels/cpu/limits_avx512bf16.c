#include "kernels/cpu/limits.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define CHAINS 12 // more than latency times ports

static double bf16_loop(int64_t rounds, float *sink)
{
    __m512 sum[CHAINS];
    __m512bh x = (__m512bh)_mm512_set1_epi32((int)*sink * 0x3c003c00), y = x;
    for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_set1_ps(*sink);
    for (int64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_dpbf16_ps(sum[i], x, y);
    }
    for (int i = 0; i < CHAINS; i++) *sink += _mm512_reduce_add_ps(sum[i]);
    return 2.0 * 32 * CHAINS * (double)rounds;
}

void limits_avx512bf16_fill(limit_loops *loops)
{
    loops->bf16 = bf16_loop;
}

#endif
