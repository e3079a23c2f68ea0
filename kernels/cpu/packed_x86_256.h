// kernels/cpu/packed_x86_256.h - the vectors of packed_simd.h for eight rows at a time. A level adds its products of
// bytes: SIGNED, operand, iv_operand and iv_dot.
#ifndef SIGHT_KERNELS_CPU_PACKED_X86_256_H
#define SIGHT_KERNELS_CPU_PACKED_X86_256_H

#include "kernels/cpu/packed_x86.h"

#define VR 8

typedef __m256i ivec;
typedef __m256 fvec;

#define vec_prefetch(p) _mm_prefetch((const char *)(p), _MM_HINT_T0)
#define iv_load(p) _mm256_loadu_si256((const __m256i *)(p))
#define iv_store(p, v) _mm256_storeu_si256((__m256i *)(p), v)
#define iv_set1 _mm256_set1_epi32
#define iv_and _mm256_and_si256
#define iv_xor _mm256_xor_si256
#define iv_shift4(v) _mm256_srli_epi16(v, 4)
#define iv_table(p) _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(p)))
#define iv_lookup _mm256_shuffle_epi8
#define iv_to_float _mm256_cvtepi32_ps
#define fv_from_f16(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)))
#define fv_from_unsigned(p)                                                                        \
    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p))))
#define fv_from_signed(p)                                                                          \
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p))))
#define fv_zero _mm256_setzero_ps
#define fv_load _mm256_loadu_ps
#define fv_store _mm256_storeu_ps
#define fv_set1 _mm256_set1_ps
#define fv_mul _mm256_mul_ps
#define fv_sub _mm256_sub_ps
#define fv_fma _mm256_fmadd_ps

#endif
