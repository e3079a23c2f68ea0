// Products of packed weights with AVX2: bytes in pairs to 16 bits, pairs of those to 32.
#include "kernels/cpu/packed.h"

#if defined(__x86_64__)

#include "kernels/cpu/packed_x86_256.h"

#define SIGNED 1 // unsigned by signed pairs would not fit 16 bits
#define FEW_ROWS 8
#define MANY_ROWS 4
#define MANY_PANELS 1

typedef struct operand {
    __m256i v, size;
} operand;

// The sign moves from the weight to x: |w| is at most 128 and |x| 127, so a pair fits 16 bits.
#define iv_operand(v, kind) ((operand){v, (kind) == NIBBLES ? v : _mm256_abs_epi8(v)})
#define iv_dot(sum, w, x, kind)                                                                    \
    _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(                                  \
                              (w).size, (kind) == NIBBLES ? (x) : _mm256_sign_epi8(x, (w).v)),     \
                          _mm256_set1_epi16(1)))

#include "kernels/cpu/packed_simd.h"

static const packed_kernels avx2_kernels = PACKED_KERNELS(16, many_product);

void packed_avx2_fill(backend_ops *ops)
{
    ops->packed = packed_run;
    ops->packed_kernels = &avx2_kernels;
}

#endif
