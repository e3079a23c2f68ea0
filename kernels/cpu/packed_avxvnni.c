// Products of packed weights with AVX2 and AVX-VNNI: eight rows, four unsigned by signed bytes
// each, in one. Laptops' chips without AVX-512 have it.
#include "kernels/cpu/packed.h"

#if defined(__x86_64__)

#include "kernels/cpu/packed_x86.h"

#define VR 8
#define SIGNED 0
#define FEW_ROWS 8
#define MANY_ROWS 6
#define MANY_PANELS 1

typedef __m256i ivec;
typedef __m256 fvec;
typedef __m256i operand;

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
#define iv_operand(v, kind) (v)
#define iv_dot(sum, w, x, kind) _mm256_dpbusd_avx_epi32(sum, w, x)

#include "kernels/cpu/packed_simd.h"

static int centre(const packed_format *f)
{
    return 0;
}

static const packed_kernels avxvnni_kernels = {
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

void packed_avxvnni_fill(cpu_ops *ops)
{
    ops->packed = packed_run;
    ops->packed_kernels = &avxvnni_kernels;
}

#endif
