// Products of packed weights with AVX-512 VNNI: sixteen rows, four unsigned by signed bytes
// each, in one.
#include "kernels/cpu/packed.h"

#if defined(__x86_64__)

#include "kernels/cpu/packed_x86.h"

#define VR 16
#define SIGNED 0
#define FEW_ROWS 8
#define MANY_ROWS 6 // 12 sums and 12 parts, 2 vectors of codes and x; a seventh row is not faster
#define MANY_PANELS 2

typedef __m512i ivec;
typedef __m512 fvec;
typedef __m512i operand;

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
#define iv_operand(v, kind) (v)
#define iv_dot(sum, w, x, kind) _mm512_dpbusd_epi32(sum, w, x)

#include "kernels/cpu/packed_simd.h"

static int centre(const packed_format *f)
{
    return 0;
}

static const packed_kernels avx512vnni_kernels = {
    .few = FEW_ROWS,
    .tile = MANY_ROWS,
    .panels = MANY_PANELS,
    .few_rows = 16,
    .centre = centre,
    .pack_rows = pack_rows,
    .scales = scales,
    .few_product = few_product,
    .unpack = unpack,
    .many_product = many_product,
};

void packed_avx512vnni_fill(cpu_ops *ops)
{
    ops->packed = packed_run;
    ops->packed_kernels = &avx512vnni_kernels;
}

#endif
