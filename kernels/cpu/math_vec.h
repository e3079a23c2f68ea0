// kernels/cpu/math_vec.h - one vector of floats, spelled the same at every SIMD level.
//
// The level's files (_avx512.c, _avx2.c, _neon.c) are compiled for its instructions; what the
// compiler then defines picks the section. +, -, * and / work on vec directly and are never fused.
// *_n forms touch only the first n elements, 1..VEC_N; loads give 0 beyond them.
#ifndef SIGHT_KERNELS_CPU_MATH_VEC_H
#define SIGHT_KERNELS_CPU_MATH_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

// For functions of sizes or types that are constants where they are inlined.
#define TILE_INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)

#include <immintrin.h>

#define VEC_N 16
typedef __m512 vec;

static inline __mmask16 vec_first(int64_t n)
{
    return (__mmask16)((1u << n) - 1);
}

static inline vec vec_set(float x)
{
    return _mm512_set1_ps(x);
}

static inline vec vec_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

static inline void vec_store(float *p, vec v)
{
    _mm512_storeu_ps(p, v);
}

static inline vec vec_load_n(const float *p, int64_t n)
{
    return _mm512_maskz_loadu_ps(vec_first(n), p);
}

static inline void vec_store_n(float *p, vec v, int64_t n)
{
    _mm512_mask_storeu_ps(p, vec_first(n), v);
}

static inline vec vec_bf16(const uint16_t *p)
{
    const __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

static inline vec vec_bf16_n(const uint16_t *p, int64_t n)
{
    const __m256i h = _mm256_maskz_loadu_epi16(vec_first(n), p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

static inline vec vec_i8(const int8_t *p)
{
    const __m128i b = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(b));
}

static inline vec vec_i8_n(const int8_t *p, int64_t n)
{
    const __m128i b = _mm_maskz_loadu_epi8(vec_first(n), p);
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(b));
}

// a * b + c
static inline vec vec_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

// c - a * b
static inline vec vec_fnma(vec a, vec b, vec c)
{
    return _mm512_fnmadd_ps(a, b, c);
}

// b where either is NaN
static inline vec vec_max(vec a, vec b)
{
    return _mm512_max_ps(a, b);
}

static inline vec vec_min(vec a, vec b)
{
    return _mm512_min_ps(a, b);
}

static inline vec vec_abs(vec a)
{
    return _mm512_abs_ps(a);
}

static inline vec vec_round(vec a) // to the nearest whole number
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

// a * 2^n, n whole and within [-250, 250].
static inline vec vec_scale2(vec a, vec n)
{
    return _mm512_scalef_ps(a, n);
}

// a <= b ? x : y
static inline vec vec_where_le(vec a, vec b, vec x, vec y)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LE_OQ), y, x);
}

static inline float vec_sum(vec v)
{
    return _mm512_reduce_add_ps(v);
}

static inline float vec_largest(vec v)
{
    return _mm512_reduce_max_ps(v);
}

#elif defined(__AVX2__)

#include <immintrin.h>

#define VEC_N 8
typedef __m256 vec;

static inline __m256i vec_first(int64_t n)
{
    static const int32_t mask[2 * VEC_N] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(const void *)(mask + VEC_N - n));
}

static inline vec vec_set(float x)
{
    return _mm256_set1_ps(x);
}

static inline vec vec_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

static inline void vec_store(float *p, vec v)
{
    _mm256_storeu_ps(p, v);
}

static inline vec vec_load_n(const float *p, int64_t n)
{
    return _mm256_maskload_ps(p, vec_first(n));
}

static inline void vec_store_n(float *p, vec v, int64_t n)
{
    _mm256_maskstore_ps(p, vec_first(n), v);
}

static inline vec vec_bf16(const uint16_t *p)
{
    const __m128i h = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

static inline vec vec_bf16_n(const uint16_t *p, int64_t n)
{
    uint16_t h[VEC_N] = {0};
    memcpy(h, p, (size_t)n * sizeof *h);
    return vec_bf16(h);
}

static inline vec vec_i8(const int8_t *p)
{
    const __m128i b = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b));
}

static inline vec vec_i8_n(const int8_t *p, int64_t n)
{
    int8_t b[VEC_N] = {0};
    memcpy(b, p, (size_t)n);
    return vec_i8(b);
}

static inline vec vec_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline vec vec_fnma(vec a, vec b, vec c)
{
    return _mm256_fnmadd_ps(a, b, c);
}

static inline vec vec_max(vec a, vec b)
{
    return _mm256_max_ps(a, b);
}

static inline vec vec_min(vec a, vec b)
{
    return _mm256_min_ps(a, b);
}

static inline vec vec_abs(vec a)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}

static inline vec vec_round(vec a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline vec vec_power2(__m256i n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

// In two halves: 2^n itself may not be a float.
static inline vec vec_scale2(vec a, vec n)
{
    const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    return a * vec_power2(half) * vec_power2(_mm256_sub_epi32(whole, half));
}

static inline vec vec_where_le(vec a, vec b, vec x, vec y)
{
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LE_OQ));
}

static inline float vec_sum(vec v)
{
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

static inline float vec_largest(vec v)
{
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

#elif defined(__ARM_NEON)

#include <arm_neon.h>

#define VEC_N 4
typedef float32x4_t vec;

static inline vec vec_set(float x)
{
    return vdupq_n_f32(x);
}

static inline vec vec_load(const float *p)
{
    return vld1q_f32(p);
}

static inline void vec_store(float *p, vec v)
{
    vst1q_f32(p, v);
}

static inline vec vec_load_n(const float *p, int64_t n)
{
    float x[VEC_N] = {0};
    memcpy(x, p, (size_t)n * sizeof *x);
    return vld1q_f32(x);
}

static inline void vec_store_n(float *p, vec v, int64_t n)
{
    float x[VEC_N];
    vst1q_f32(x, v);
    memcpy(p, x, (size_t)n * sizeof *x);
}

static inline vec vec_bf16(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

static inline vec vec_bf16_n(const uint16_t *p, int64_t n)
{
    uint16_t h[VEC_N] = {0};
    memcpy(h, p, (size_t)n * sizeof *h);
    return vec_bf16(h);
}

static inline vec vec_i8(const int8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    const int16x8_t h = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(h)));
}

static inline vec vec_i8_n(const int8_t *p, int64_t n)
{
    int8_t b[VEC_N] = {0};
    memcpy(b, p, (size_t)n);
    return vec_i8(b);
}

static inline vec vec_fma(vec a, vec b, vec c)
{
    return vfmaq_f32(c, a, b);
}

static inline vec vec_fnma(vec a, vec b, vec c)
{
    return vfmsq_f32(c, a, b);
}

static inline vec vec_max(vec a, vec b)
{
    return vmaxq_f32(a, b);
}

static inline vec vec_min(vec a, vec b)
{
    return vminq_f32(a, b);
}

static inline vec vec_abs(vec a)
{
    return vabsq_f32(a);
}

static inline vec vec_round(vec a)
{
    return vrndnq_f32(a);
}

static inline vec vec_power2(int32x4_t n)
{
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}

static inline vec vec_scale2(vec a, vec n)
{
    const int32x4_t whole = vcvtnq_s32_f32(n), half = vshrq_n_s32(whole, 1);
    return a * vec_power2(half) * vec_power2(vsubq_s32(whole, half));
}

static inline vec vec_where_le(vec a, vec b, vec x, vec y)
{
    return vbslq_f32(vcleq_f32(a, b), x, y);
}

static inline float vec_sum(vec v)
{
    return vaddvq_f32(v);
}

static inline float vec_largest(vec v)
{
    return vmaxvq_f32(v);
}

#else
#error "this file needs AVX-512, AVX2 or NEON"
#endif

// to[i * to_row + j] = scale * from[j][i] for i, j < 4.
static inline void vec_turn_4x4(float *to, int64_t to_row, const float *const *from, int64_t at,
                                float scale)
{
#if defined(__ARM_NEON)
    const float32x4x2_t ab = vtrnq_f32(vld1q_f32(from[0] + at), vld1q_f32(from[1] + at));
    const float32x4x2_t cd = vtrnq_f32(vld1q_f32(from[2] + at), vld1q_f32(from[3] + at));
    for (int i = 0; i < 2; i++) {
        const float32x4_t low = vcombine_f32(vget_low_f32(ab.val[i]), vget_low_f32(cd.val[i]));
        const float32x4_t high = vcombine_f32(vget_high_f32(ab.val[i]), vget_high_f32(cd.val[i]));
        vst1q_f32(to + i * to_row, vmulq_n_f32(low, scale));
        vst1q_f32(to + (i + 2) * to_row, vmulq_n_f32(high, scale));
    }
#else
    __m128 a = _mm_loadu_ps(from[0] + at), b = _mm_loadu_ps(from[1] + at);
    __m128 c = _mm_loadu_ps(from[2] + at), d = _mm_loadu_ps(from[3] + at);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    const __m128 s = _mm_set1_ps(scale);
    _mm_storeu_ps(to, _mm_mul_ps(a, s));
    _mm_storeu_ps(to + to_row, _mm_mul_ps(b, s));
    _mm_storeu_ps(to + 2 * to_row, _mm_mul_ps(c, s));
    _mm_storeu_ps(to + 3 * to_row, _mm_mul_ps(d, s));
#endif
}

// y[0 .. 3] = the sums of four vectors.
static inline void vec_sum_of_4(float *y, const vec v[4])
{
#if defined(__AVX512F__)
    const __m512 ab = _mm512_unpacklo_ps(v[0], v[1]) + _mm512_unpackhi_ps(v[0], v[1]);
    const __m512 cd = _mm512_unpacklo_ps(v[2], v[3]) + _mm512_unpackhi_ps(v[2], v[3]);
    const __m512 four = _mm512_shuffle_ps(ab, cd, 0x44) + _mm512_shuffle_ps(ab, cd, 0xee);
    const __m256 half = _mm512_castps512_ps256(four) + _mm512_extractf32x8_ps(four, 1);
    _mm_storeu_ps(y, _mm256_castps256_ps128(half) + _mm256_extractf128_ps(half, 1));
#elif defined(__AVX2__)
    const __m256 four = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    _mm_storeu_ps(y, _mm256_castps256_ps128(four) + _mm256_extractf128_ps(four, 1));
#else
    vst1q_f32(y, vpaddq_f32(vpaddq_f32(v[0], v[1]), vpaddq_f32(v[2], v[3])));
#endif
}

// Forms with an n take the first n elements, and all when n is VEC_N or more.
static inline vec vec_get(const float *p, int64_t n)
{
    return n >= VEC_N ? vec_load(p) : vec_load_n(p, n);
}

static inline void vec_put(float *p, vec v, int64_t n)
{
    if (n >= VEC_N) vec_store(p, v);
    else vec_store_n(p, v, n);
}

// ---- functions ----
//
// Coefficients: minimax fits of relative error by Lawson's iteration (repeated weighted least
// squares) on 4,000 Chebyshev nodes, computed in double and rounded to float.

// 2^x for x <= 128. Fit of 2^f on [-1/2, 1/2], error 2e-9; the result is within 1.5 last places,
// 0 below x = -150. NaN stays NaN.
static inline vec vec_exp2(vec x)
{
    x = vec_max(vec_set(-200), x);
    const vec n = vec_round(x), f = x - n;
    vec p = vec_set(1.5353342e-4f);
    p = vec_fma(p, f, vec_set(1.3398901e-3f));
    p = vec_fma(p, f, vec_set(9.618438e-3f));
    p = vec_fma(p, f, vec_set(5.5503324e-2f));
    p = vec_fma(p, f, vec_set(0.24022648f));
    p = vec_fma(p, f, vec_set(0.6931472f));
    return vec_scale2(vec_fma(p, f, vec_set(1)), n);
}

// e^x: x = n ln 2 + r with ln 2 in two parts, then e^r = 1 + r + r^2 p(r) on |r| <= ln 2 / 2, error
// 3e-9; within 1.5 last places. NaN stays NaN.
static inline vec vec_exp(vec x)
{
    x = vec_min(vec_set(130), vec_max(vec_set(-130), x));
    const vec n = vec_round(x * vec_set(1.44269504f));
    vec r = vec_fnma(n, vec_set(0.693359375f), x);
    r = vec_fnma(n, vec_set(-2.12194440e-4f), r);
    vec p = vec_set(1.3814599e-3f);
    p = vec_fma(p, r, vec_set(8.368717e-3f));
    p = vec_fma(p, r, vec_set(4.166839e-2f));
    p = vec_fma(p, r, vec_set(0.16666521f));
    p = vec_fma(p, r, vec_set(0.49999994f));
    p = vec_fma(p, r * r, r) + vec_set(1);
    return vec_scale2(p, n);
}

// x / (1 + e^-x)
static inline vec vec_silu(vec x)
{
    return x / (vec_set(1) + vec_exp(vec_set(0) - x));
}

// x Phi(x), from erfc(a) = t p(t) e^(-a^2), t = 1 / (1 + 0.35 a): fit of erfcx(a) / t on
// 0 <= a <= 10, error 7e-9.
static inline vec vec_gelu_erf(vec x)
{
    const vec half = vec_set(0.5f), one = vec_set(1);
    const vec t = one / vec_fma(vec_abs(x), vec_set(0.35f * 0.70710678f), one);
    vec p = vec_set(0.0384010449f);
    p = vec_fma(p, t, vec_set(-0.15892823f));
    p = vec_fma(p, t, vec_set(0.181461111f));
    p = vec_fma(p, t, vec_set(-0.0277054925f));
    p = vec_fma(p, t, vec_set(0.0870186165f));
    p = vec_fma(p, t, vec_set(0.146042272f));
    p = vec_fma(p, t, vec_set(0.151186153f));
    p = vec_fma(p, t, vec_set(0.187902406f));
    p = vec_fma(p, t, vec_set(0.197138354f));
    p = vec_fma(p, t, vec_set(0.197483778f));
    const vec below = half * t * p * vec_exp(vec_set(-0.5f) * x * x); // Phi(-|x|)
    return vec_where_le(x, vec_set(0), x * below, x - x * below);
}

// x/2 (1 + tanh(u)) = x / (1 + e^(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3)
static inline vec vec_gelu_tanh(vec x)
{
    const vec u = x * vec_fma(x * x, vec_set(-2 * 0.79788456f * 0.044715f),
                              vec_set(-2 * 0.79788456f));
    return x / (vec_set(1) + vec_exp(u));
}

#endif
