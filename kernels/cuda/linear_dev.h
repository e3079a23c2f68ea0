// kernels/cuda/linear_dev.h - what the product kernels share: reading weights, finding a block's
// job, the end of a product. For linear_*.cu and packed_*.cu.
#ifndef SIGHT_KERNELS_CUDA_LINEAR_DEV_H
#define SIGHT_KERNELS_CUDA_LINEAR_DEV_H

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/mma.h"

// An f16 number in the lower half of h.
static __device__ __forceinline__ float linear_half(uint32_t h)
{
#ifdef SIGHT_CUDA_SHIM
    return gpu_f16_to_f32((uint16_t)h);
#else
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"((uint16_t)h));
    return f;
#endif
}

// Two floats as bf16, the first in the lower half, to nearest even.
static __device__ __forceinline__ uint32_t linear_pair(float low, float high)
{
#ifdef SIGHT_CUDA_SHIM
    return (uint32_t)gpu_f32_to_bf16(low) | (uint32_t)gpu_f32_to_bf16(high) << 16;
#else
    uint32_t u;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(u) : "f"(high), "f"(low));
    return u;
#endif
}

static __device__ __forceinline__ uint4 linear_round8(const float v[8])
{
    return make_uint4(linear_pair(v[0], v[1]), linear_pair(v[2], v[3]), linear_pair(v[4], v[5]),
                      linear_pair(v[6], v[7]));
}

// Numbers of a weight's type from 16 bytes.
template <int type> struct linear_pack {
    static const int count = type == LINEAR_F32 ? 4 : 8;
};

template <int type> static __device__ __forceinline__ void linear_widen(float *out, const uint4 &v)
{
    const uint32_t u[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (type == LINEAR_F32) {
            out[i] = __uint_as_float(u[i]);
        } else if (type == LINEAR_BF16) {
            out[2 * i] = __uint_as_float(u[i] << 16);
            out[2 * i + 1] = __uint_as_float(u[i] & 0xffff0000u);
        } else {
            out[2 * i] = linear_half(u[i] & 0xffffu);
            out[2 * i + 1] = linear_half(u[i] >> 16);
        }
    }
}

// n floats of a row from k on, zeros past K.
template <int n>
static __device__ __forceinline__ void linear_row(float *out, const float *row, int64_t k,
                                                  int64_t K, bool wide)
{
    if (wide && k + n <= K) {
#pragma unroll
        for (int i = 0; i < n; i += 4) {
            const float4 v = *reinterpret_cast<const float4 *>(row + k + i);
            out[i] = v.x;
            out[i + 1] = v.y;
            out[i + 2] = v.z;
            out[i + 3] = v.w;
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < n; i++)
        out[i] = k + i < K ? row[k + i] : 0.0f;
}

static __device__ __forceinline__ float linear_silu(float g)
{
    return g / (1.0f + expf(-g));
}

// What a row of K numbers, whose squares add up to that, is multiplied with by its norm.
static __device__ __forceinline__ float linear_norm_scale(float squares, int64_t K, double eps)
{
    return 1.0f / sqrtf(squares / (float)K + (float)eps);
}

// Which job block `b` works on, and its number among that job's blocks; a block takes `rows`
// outputs.
static __device__ __forceinline__ int linear_find(const linear_args &a, int64_t *b, int64_t rows)
{
    int j = 0;
    const int n = a.mode == LINEAR_MODE_SILU_MUL ? 1 : a.n_jobs;
    for (; j < n - 1; j++) {
        const int64_t blocks = (a.jobs[j].M + rows - 1) / rows;
        if (*b < blocks) break;
        *b -= blocks;
    }
    return j;
}

// Output m of row n; up: the second sum of a gated product.
static __device__ __forceinline__ void linear_end(const linear_args &a, const linear_job &job,
                                                  int64_t n, int64_t m, float sum, float up)
{
    float *y = job.y + n * job.y_stride + m;
    float v = fmaf((float)a.alpha, sum, job.bias ? job.bias[m] : 0.0f);
    if (a.mode == LINEAR_MODE_SILU_MUL) {
        const float *bias = a.jobs[1].bias;
        v = linear_silu(v) * fmaf((float)a.alpha, up, bias ? bias[m] : 0.0f);
    } else if (a.mode == LINEAR_MODE_ADD) {
        v += *y;
    }
    *y = v;
}

static inline int64_t linear_blocks(const linear_args *a, int64_t rows)
{
    int64_t blocks = 0;
    const int n = a->mode == LINEAR_MODE_SILU_MUL ? 1 : a->n_jobs;
    for (int j = 0; j < n; j++)
        blocks += (a->jobs[j].M + rows - 1) / rows;
    return blocks;
}

#endif
