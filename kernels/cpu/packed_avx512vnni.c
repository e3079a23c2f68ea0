// Products of packed weights with AVX-512 VNNI: sixteen rows, four unsigned by signed bytes
// each, in one.
#include "kernels/cpu/packed.h"

#if defined(__x86_64__)

#include "kernels/cpu/packed_x86_512.h"

#define SIGNED 0
#define FEW_ROWS 8
#define MANY_ROWS 6 // 12 sums and 12 parts, 2 vectors of codes and x; a seventh row is not faster
#define MANY_PANELS 2

typedef __m512i operand;

#define iv_operand(v, kind) (v)
#define iv_dot(sum, w, x, kind) _mm512_dpbusd_epi32(sum, w, x)

#include "kernels/cpu/packed_simd.h"

static const packed_kernels avx512vnni_kernels = PACKED_KERNELS(16, many_product);

void packed_avx512vnni_fill(backend_ops *ops)
{
    ops->packed = packed_run;
    ops->packed_kernels = &avx512vnni_kernels;
}

#endif
