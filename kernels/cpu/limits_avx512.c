#include "kernels/cpu/limits.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define CHAINS 12 // more than latency times ports

static uint64_t read_all(const void *p, size_t bytes)
{
    const char *c = p;
    __m512i sum[4] = {_mm512_setzero_si512()};
    for (size_t i = 0; i < bytes; i += 256) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            _mm_prefetch(c + i + 64 * j + 2048, _MM_HINT_T0);
            sum[j] = _mm512_xor_si512(sum[j], _mm512_load_si512(c + i + 64 * j));
        }
    }
    __m512i all = _mm512_or_si512(_mm512_or_si512(sum[0], sum[1]), _mm512_or_si512(sum[2], sum[3]));
    return (uint64_t)_mm512_reduce_or_epi64(all);
}

static double f32_loop(int64_t rounds, float *sink)
{
    __m512 sum[CHAINS], x = _mm512_set1_ps(*sink), y = _mm512_set1_ps(1e-9f);
    for (int i = 0; i < CHAINS; i++) sum[i] = y;
    for (int64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_fmadd_ps(sum[i], x, y);
    }
    for (int i = 0; i < CHAINS; i++) *sink += _mm512_reduce_add_ps(sum[i]);
    return 2.0 * 16 * CHAINS * (double)rounds;
}

void limits_avx512_fill(limit_loops *loops)
{
    loops->read = read_all;
    loops->f32 = f32_loop;
}

#endif
