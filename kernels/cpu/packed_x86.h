// kernels/cpu/packed_x86.h - rows to int8, as packed products on every x86 level take them. AVX2 is
// enough.
#ifndef SIGHT_KERNELS_CPU_PACKED_X86_H
#define SIGHT_KERNELS_CPU_PACKED_X86_H

#include <immintrin.h>
#include <math.h>

#include "kernels/cpu/packed_rows.h"

// ---- rows ----

static inline float largest_of(__m256 v)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

static inline int8_block to_int8(const float *x)
{
    const __m256 sign = _mm256_set1_ps(-0.0f), limit = _mm256_set1_ps(INFINITY);
    __m256 v[4], size = _mm256_setzero_ps(), finite = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_loadu_ps(x + 8 * i);
        const __m256 a = _mm256_andnot_ps(sign, v[i]);
        finite = _mm256_and_ps(finite, _mm256_cmp_ps(a, limit, _CMP_LT_OQ));
        size = _mm256_max_ps(size, a);
    }
    int8_block out = {{0}, 0, {0, 0}};
    const bool whole = _mm256_movemask_ps(finite) == 0xff;
    const float largest = largest_of(size);
    if (!whole) out.dx = NAN;
    if (!whole || largest < 0x1p-100f) return out;
    out.dx = largest / 127.0f;
    const __m256 inverse = _mm256_set1_ps(127.0f / largest);
    __m256i n[4];
    for (int i = 0; i < 4; i++) n[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i q = _mm256_packs_epi16(_mm256_packs_epi32(n[0], n[1]), _mm256_packs_epi32(n[2], n[3]));
    q = _mm256_permutevar8x32_epi32(q, order);
    _mm256_store_si256((__m256i *)out.q, q);
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
    __m256i sums = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    sums = _mm256_hadd_epi32(sums, sums);
    sums = _mm256_hadd_epi32(sums, sums);
    out.sums[0] = _mm256_extract_epi32(sums, 0);
    out.sums[1] = _mm256_extract_epi32(sums, 4);
    return out;
}

#endif
