// kernels/cuda/attention_mma.h - numbers for the tensor cores' products of attention_*.cu.
#ifndef SIGHT_KERNELS_CUDA_ATTENTION_MMA_H
#define SIGHT_KERNELS_CUDA_ATTENTION_MMA_H

#include "kernels/cuda/mma.h"

// x in the lower half, y in the upper, to nearest even. In one instruction where there is one.
static __device__ __forceinline__ uint32_t bf16_pair(float x, float y)
{
#ifdef SIGHT_CUDA_SHIM
    return gpu_f32_to_bf16(x) | (uint32_t)gpu_f32_to_bf16(y) << 16;
#else
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(y), "f"(x));
    return pair;
#endif
}

// x and y as sums of two bf16 numbers each: 16 bits.
static __device__ __forceinline__ void bf16_cut(uint32_t *high, uint32_t *low, float x, float y)
{
    *high = bf16_pair(x, y);
    *low = bf16_pair(x - __uint_as_float(*high << 16), y - __uint_as_float(*high & 0xffff0000u));
}

// Off by 2 in the last place or so; what would be subnormal is 0.
static __device__ __forceinline__ float fast_exp2(float x)
{
#ifdef SIGHT_CUDA_SHIM
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

// Signed byte i of four as a float: 2^23 + 128 + byte has it in its lowest bits.
static __device__ __forceinline__ float byte_float(uint32_t moved, int i)
{
    return __uint_as_float((moved >> 8 * i & 0xff) | 0x4b000000u) - 8388736.0f;
}

// Signed bytes i and j of four as a pair of bf16 numbers, exact.
static __device__ __forceinline__ uint32_t bytes_bf16(uint32_t four, int i, int j)
{
    const uint32_t moved = four ^ 0x80808080u;
    return __float_as_uint(byte_float(moved, i)) >> 16 |
           (__float_as_uint(byte_float(moved, j)) & 0xffff0000u);
}

#endif
