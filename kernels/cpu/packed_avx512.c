// Products of packed weights with AVX-512 alone: bytes in pairs to 16 bits, pairs of those to 32.
#include "kernels/cpu/packed.h"

#if defined(__x86_64__)

#include "kernels/cpu/packed_x86_512.h"

#define SIGNED 1 // unsigned by signed pairs would not fit 16 bits
#define FEW_ROWS 8
#define MANY_ROWS 6
#define MANY_PANELS 1

typedef struct operand {
    __m512i v, size;
    __mmask64 negative;
} operand;

// The sign moves from the weight to x: |w| is at most 128 and |x| 127, so a pair fits 16 bits.
#define iv_operand(v, kind) ((operand){v, (kind) == NIBBLES ? v : _mm512_abs_epi8(v), _mm512_movepi8_mask(v)})
#define iv_dot(sum, w, x, kind)                                                                    \
    _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16((w).size, signed_by(x, w, kind)), \
                                            _mm512_set1_epi16(1)))
#define signed_by(x, w, kind)                                                                      \
    ((kind) == NIBBLES ? (x) : _mm512_mask_sub_epi8(x, (w).negative, _mm512_setzero_si512(), x))

#include "kernels/cpu/packed_simd.h"

static const packed_kernels avx512_kernels = PACKED_KERNELS(16, many_product);

void packed_avx512_fill(backend_ops *ops)
{
    ops->packed = packed_run;
    ops->packed_kernels = &avx512_kernels;
}

#endif
