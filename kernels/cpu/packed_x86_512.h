// kernels/cpu/packed_x86_512.h - the vectors of packed_simd.h for sixteen rows at a time. A level adds its products of
// bytes: SIGNED, operand, iv_operand and iv_dot.
#ifndef SIGHT_KERNELS_CPU_PACKED_X86_512_H
#define SIGHT_KERNELS_CPU_PACKED_X86_512_H

#include "kernels/cpu/packed_x86.h"

#define VR 16

typedef __m512i ivec;
typedef __m512 fvec;

#define vec_prefetch(p) _mm_prefetch((const char *)(p), _MM_HINT_T0)
#define iv_load(p) _mm512_loadu_si512(p)
#define iv_store(p, v) _mm512_storeu_si512(p, v)
#define iv_set1 _mm512_set1_epi32
#define iv_and _mm512_and_si512
#define iv_xor _mm512_xor_si512
#define iv_shift4(v) _mm512_srli_epi16(v, 4)
#define iv_table(p) _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(p)))
#define iv_lookup _mm512_shuffle_epi8
#define iv_to_float _mm512_cvtepi32_ps
#define fv_from_f16(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#define fv_from_unsigned(p)                                                                        \
    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(p))))
#define fv_from_signed(p)                                                                          \
    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(p))))
#define fv_zero _mm512_setzero_ps
#define fv_load _mm512_loadu_ps
#define fv_store _mm512_storeu_ps
#define fv_set1 _mm512_set1_ps
#define fv_mul _mm512_mul_ps
#define fv_sub _mm512_sub_ps
#define fv_fma _mm512_fmadd_ps

#endif
