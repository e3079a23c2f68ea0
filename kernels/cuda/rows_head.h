// kernels/cuda/rows_head.h - the norm and rotation of one head by a warp; for rows_rope.cu and heads.cu, which give
// the same bits.
#ifndef SIGHT_KERNELS_CUDA_ROWS_HEAD_H
#define SIGHT_KERNELS_CUDA_ROWS_HEAD_H

#include "kernels/cuda/rows_vec.h"

// Of rms_norm: C may be 0 for a warp without a head, which still comes to the warp's sum.
static __device__ __forceinline__ float head_scale(const float *x, int64_t C, float eps, bool wide)
{
    float sum = 0, v[4];
    for (int64_t c = 4 * (int64_t)threadIdx.x; c < C; c += 4 * GPU_WARP) {
        rows_load(v, x + c, C - c, wide);
        sum += v[0] * v[0] + v[1] * v[1] + (v[2] * v[2] + v[3] * v[3]);
    }
    return 1.0f / sqrtf(gpu_warp_sum(sum) / (float)C + eps);
}

// x[0..3] * scale * w[0..3]; w NULL: x.
static __device__ __forceinline__ void load_scaled(float v[4], const float *x, const float *w,
                                                   float scale, int64_t left, bool wide)
{
    rows_load(v, x, left, wide);
    if (!w) return;
    float f[4];
    rows_load(f, w, left, wide);
    for (int i = 0; i < 4; i++) v[i] = v[i] * scale * f[i];
}

// y = the first R components of x turned by cos, sin [R/2], the rest as they are, all scaled by the norm w (NULL: none). A
// lane reads both halves of what it writes, so y may be x: the sum over the warp lies between all reads
// of the first pass and the first write. wide: everything is aligned to four floats. All lanes of the warp.
static __device__ __forceinline__ void head_turn(float *y, const float *x, const float *w, const float *cos,
                                                 const float *sin, float scale, int64_t C, int64_t R, bool wide)
{
    const int64_t half = R / 2;
    for (int64_t j = 4 * (int64_t)threadIdx.x; j < half; j += 4 * GPU_WARP) {
        const int64_t left = half - j;
        float p[4], q[4], c[4], s[4], turned[4];
        load_scaled(p, x + j, w ? w + j : nullptr, scale, left, wide);
        load_scaled(q, x + half + j, w ? w + half + j : nullptr, scale, left, wide);
        rows_load(c, cos + j, left, wide);
        rows_load(s, sin + j, left, wide);
        for (int i = 0; i < 4; i++) turned[i] = p[i] * c[i] - q[i] * s[i];
        rows_store(y + j, turned, left, wide);
        for (int i = 0; i < 4; i++) turned[i] = q[i] * c[i] + p[i] * s[i];
        rows_store(y + half + j, turned, left, wide);
    }
    if (!w && x == y) return;
    for (int64_t d = R + 4 * (int64_t)threadIdx.x; d < C; d += 4 * GPU_WARP) {
        float v[4];
        load_scaled(v, x + d, w ? w + d : nullptr, scale, C - d, wide);
        rows_store(y + d, v, C - d, wide);
    }
}

#endif
