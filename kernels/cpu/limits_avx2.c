#include "kernels/cpu/limits.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define CHAINS 12 // more than latency times ports

static uint64_t read_all(const void *p, size_t bytes)
{
    const char *c = p;
    __m256i a = _mm256_setzero_si256(), b = a;
    for (size_t i = 0; i < bytes; i += 64) {
        _mm_prefetch(c + i + 2048, _MM_HINT_T0);
        a = _mm256_xor_si256(a, _mm256_load_si256((const __m256i *)(c + i)));
        b = _mm256_xor_si256(b, _mm256_load_si256((const __m256i *)(c + i + 32)));
    }
    a = _mm256_or_si256(a, b);
    return (uint64_t)_mm256_extract_epi64(a, 0) | (uint64_t)_mm256_extract_epi64(a, 1) |
           (uint64_t)_mm256_extract_epi64(a, 2) | (uint64_t)_mm256_extract_epi64(a, 3);
}

static double f32_loop(int64_t rounds, float *sink)
{
    __m256 sum[CHAINS], x = _mm256_set1_ps(*sink), y = _mm256_set1_ps(1e-9f);
    for (int i = 0; i < CHAINS; i++) sum[i] = y;
    for (int64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) sum[i] = _mm256_fmadd_ps(sum[i], x, y);
    }
    for (int i = 1; i < CHAINS; i++) sum[0] = _mm256_add_ps(sum[0], sum[i]);
    *sink += _mm256_cvtss_f32(sum[0]);
    return 2.0 * 8 * CHAINS * (double)rounds;
}

void limits_avx2_fill(limit_loops *loops)
{
    loops->read = read_all;
    loops->f32 = f32_loop;
}

#endif
