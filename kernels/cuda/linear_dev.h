// kernels/cuda/linear_dev.h - what the product kernels share: reading weights, finding a block's job, the end of
// a product. For linear_*.cu and packed_*.cu.
#ifndef SIGHT_KERNELS_CUDA_LINEAR_DEV_H
#define SIGHT_KERNELS_CUDA_LINEAR_DEV_H

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/mma.h"

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
            out[2 * i] = gpu_f16_to_f32((uint16_t)(u[i] & 0xffffu));
            out[2 * i + 1] = gpu_f16_to_f32((uint16_t)(u[i] >> 16));
        }
    }
}

// n floats of a row from k on, zeros past K.
template <int n>
static __device__ __forceinline__ void linear_row(float *out, const float *row, int64_t k, int64_t K, bool wide)
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
    for (int i = 0; i < n; i++) out[i] = k + i < K ? row[k + i] : 0.0f;
}

static __device__ __forceinline__ float linear_silu(float g)
{
    return g / (1.0f + expf(-g));
}

// Which job block `b` works on, and its number among that job's blocks; a block takes `rows` outputs.
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
static __device__ __forceinline__ void linear_end(const linear_args &a, const linear_job &job, int64_t n, int64_t m,
                                                  float sum, float up)
{
    float *y = job.y + n * job.y_stride + m;
    float v = (float)a.alpha * sum + (job.bias ? job.bias[m] : 0.0f);
    if (a.mode == LINEAR_MODE_SILU_MUL) {
        const float *bias = a.jobs[1].bias;
        v = linear_silu(v) * ((float)a.alpha * up + (bias ? bias[m] : 0.0f));
    } else if (a.mode == LINEAR_MODE_ADD) {
        v += *y;
    }
    *y = v;
}

static inline int64_t linear_blocks(const linear_args *a, int64_t rows)
{
    int64_t blocks = 0;
    const int n = a->mode == LINEAR_MODE_SILU_MUL ? 1 : a->n_jobs;
    for (int j = 0; j < n; j++) blocks += (a->jobs[j].M + rows - 1) / rows;
    return blocks;
}

#endif
