// Products with NEON: float32 sums, weights of any type.
#include "kernels/cpu/linear.h"

#if defined(__aarch64__)

#include <arm_neon.h>
#include <string.h>

#define VEC 4
typedef float32x4_t vec;
typedef struct pair_vec {
    vec even, odd;
} pair_vec;

#define vec_zero() vdupq_n_f32(0)
#define vec_load vld1q_f32
#define vec_store vst1q_f32
#define vec_set1 vdupq_n_f32
#define vec_add vaddq_f32
#define vec_fma(a, b, sum) vfmaq_f32(sum, a, b)
#define vec_prefetch(p) __builtin_prefetch(p, 0, 2)

static inline pair_vec vec_pairs(const char *p, tensor_type type)
{
    if (type == TENSOR_F32) {
        float32x4x2_t v = vld2q_f32((const float *)p);
        return (pair_vec){v.val[0], v.val[1]};
    }
    uint8x16_t bytes = vld1q_u8((const uint8_t *)p);
    if (type == TENSOR_BF16) {
        uint32x4_t v = vreinterpretq_u32_u8(bytes);
        return (pair_vec){vreinterpretq_f32_u32(vshlq_n_u32(v, 16)),
                          vreinterpretq_f32_u32(vandq_u32(v, vdupq_n_u32(0xffff0000)))};
    }
    float16x8_t h = vreinterpretq_f16_u8(bytes);
    vec a = vcvt_f32_f16(vget_low_f16(h)), b = vcvt_high_f32_f16(h);
    return (pair_vec){vuzp1q_f32(a, b), vuzp2q_f32(a, b)};
}

static inline void vec_transpose(vec v[VEC])
{
    float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(v[0], v[1]));
    float64x2_t b = vreinterpretq_f64_f32(vtrn2q_f32(v[0], v[1]));
    float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(v[2], v[3]));
    float64x2_t d = vreinterpretq_f64_f32(vtrn2q_f32(v[2], v[3]));
    v[0] = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
    v[1] = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
    v[2] = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
    v[3] = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
}

static inline float vec_sum(const vec v[4])
{
    vec h = vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]));
    float32x2_t q = vadd_f32(vget_low_f32(h), vget_high_f32(h));
    return vget_lane_f32(q, 0) + vget_lane_f32(q, 1);
}

#include "kernels/cpu/linear_narrow.h"

void linear_neon_fill(backend_ops *ops)
{
    ops->linear = linear_run;
    ops->linear_kernels = &narrow_kernels;
}

#endif
