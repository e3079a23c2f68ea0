// Products of packed weights with AVX2 and AVX-VNNI: eight rows, four unsigned by signed bytes
// each, in one. Laptops' chips without AVX-512 have it.
#include "kernels/cpu/packed.h"

#if defined(__x86_64__)

#include "kernels/cpu/packed_x86_256.h"

#define SIGNED 0
#define FEW_ROWS 8
#define MANY_ROWS 6
#define MANY_PANELS 1

typedef __m256i operand;

#define iv_operand(v, kind) (v)
#define iv_dot(sum, w, x, kind) _mm256_dpbusd_avx_epi32(sum, w, x)

#include "kernels/cpu/packed_simd.h"

static const packed_kernels avxvnni_kernels = PACKED_KERNELS(16, many_product);

void packed_avxvnni_fill(backend_ops *ops)
{
    ops->packed = packed_run;
    ops->packed_kernels = &avxvnni_kernels;
}

#endif
