#include "kernels/cpu/limits.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define CHAINS 12 // more than latency times ports

static double int8_loop(int64_t rounds, float *sink)
{
    __m512i sum[CHAINS], x = _mm512_set1_epi32((int)*sink * 0x01010101), y = x;
    for (int i = 0; i < CHAINS; i++) sum[i] = x;
    for (int64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_dpbusd_epi32(sum[i], x, y);
    }
    for (int i = 0; i < CHAINS; i++) *sink += (float)_mm512_reduce_add_epi32(sum[i]);
    return 2.0 * 64 * CHAINS * (double)rounds;
}

void limits_avx512vnni_fill(limit_loops *loops)
{
    loops->int8 = int8_loop;
}

#endif
