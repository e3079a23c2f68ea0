// Products of packed weights with AVX2: bytes in pairs to 16 bits, pairs of those to 32.
#include "kernels/cpu/packed.h"

#if defined(__x86_64__)

#include "kernels/cpu/packed_x86.h"

#define VR 8
#define SIGNED 1 // unsigned by signed pairs would not fit 16 bits
#define FEW_ROWS 8
#define MANY_ROWS 4
#define MANY_PANELS 1

typedef __m256i ivec;
typedef __m256 fvec;
typedef struct operand {
    __m256i v, size;
} operand;

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
// The sign moves from the weight to x: |w| is at most 128 and |x| 127, so a pair fits 16 bits.
#define iv_operand(v, kind) ((operand){v, (kind) == NIBBLES ? v : _mm256_abs_epi8(v)})
#define iv_dot(sum, w, x, kind)                                                                    \
    _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(                                  \
                              (w).size, (kind) == NIBBLES ? (x) : _mm256_sign_epi8(x, (w).v)),     \
                          _mm256_set1_epi16(1)))

#include "kernels/cpu/packed_simd.h"

// Codes of 4 bits without a table are small as they are.
static int centre(const packed_format *f)
{
    return f->bits == 4 && !f->has_table ? 0 : 128;
}

static const packed_kernels avx2_kernels = {
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

void packed_avx2_fill(cpu_ops *ops)
{
    ops->packed = packed_run;
    ops->packed_kernels = &avx2_kernels;
}

#endif
