// Products with AVX2, FMA and F16C: float32 sums, weights of any type.
#include "kernels/cpu/linear.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define VEC 8
typedef __m256 vec;
typedef struct pair_vec {
    vec even, odd;
} pair_vec;

#define vec_zero _mm256_setzero_ps
#define vec_load _mm256_loadu_ps
#define vec_store _mm256_storeu_ps
#define vec_set1 _mm256_set1_ps
#define vec_add _mm256_add_ps
#define vec_fma _mm256_fmadd_ps
#define vec_prefetch(p) _mm_prefetch(p, _MM_HINT_T1)

static inline pair_vec vec_pairs(const char *p, tensor_type type)
{
    if (type == TENSOR_BF16) {
        const __m256i high = _mm256_set1_epi32((int)0xffff0000);
        __m256i v = _mm256_loadu_si256((const __m256i *)p);
        return (pair_vec){_mm256_castsi256_ps(_mm256_slli_epi32(v, 16)),
                          _mm256_castsi256_ps(_mm256_and_si256(v, high))};
    }
    vec a, b;
    if (type == TENSOR_F32) {
        a = _mm256_loadu_ps((const float *)p);
        b = _mm256_loadu_ps((const float *)p + 8);
    } else {
        a = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
        b = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p + 1));
    }
    __m256d even = _mm256_castps_pd(_mm256_shuffle_ps(a, b, 0x88));
    __m256d odd = _mm256_castps_pd(_mm256_shuffle_ps(a, b, 0xdd));
    return (pair_vec){_mm256_castpd_ps(_mm256_permute4x64_pd(even, 0xd8)),
                      _mm256_castpd_ps(_mm256_permute4x64_pd(odd, 0xd8))};
}

static inline void vec_transpose(vec v[VEC])
{
    vec t[VEC];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            vec a = t[4 * i + h], b = t[4 * i + 2 + h];
            v[4 * i + 2 * h] = _mm256_shuffle_ps(a, b, 0x44);
            v[4 * i + 2 * h + 1] = _mm256_shuffle_ps(a, b, 0xee);
        }
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        vec a = v[c], b = v[4 + c];
        v[c] = _mm256_permute2f128_ps(a, b, 0x20);
        v[4 + c] = _mm256_permute2f128_ps(a, b, 0x31);
    }
}

static inline float vec_sum(const vec v[2])
{
    vec h = _mm256_add_ps(v[0], v[1]);
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

#include "kernels/cpu/linear_narrow.h"

void linear_avx2_fill(backend_ops *ops)
{
    ops->linear = linear_run;
    ops->linear_kernels = &narrow_kernels;
}

#endif
