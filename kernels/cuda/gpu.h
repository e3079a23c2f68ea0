// kernels/cuda/gpu.h - what every .cu file includes: CUDA itself, or the shim that runs kernels on the CPU.
//
// .cu files are CUDA C++ kept close to C: kernels, and launchers of the type cuda_launcher (kernels/cuda/device.h)
// with C linkage. To be compiled for the shim too (tests/cuda_on_cpu), they keep to these rules:
//   - kernels are launched with GPU_LAUNCH, dynamic shared memory is declared with GPU_DYNAMIC_SHARED;
//   - bf16 and f16 numbers are uint16_t in memory, converted by the functions below;
//   - matrix instructions, asynchronous copies and cache hints come from kernels/cuda/mma.h;
//   - every thread of a block, or of a warp, reaches each of its barriers: no early return before one.
#ifndef SIGHT_KERNELS_CUDA_GPU_H
#define SIGHT_KERNELS_CUDA_GPU_H

#include <stdint.h>

#ifdef SIGHT_CUDA_SHIM
#include "cuda_on_cpu.h" // tests/cuda_on_cpu: __global__, threadIdx, __shared__, shuffles, GPU_LAUNCH
#else
#include <cuda_runtime.h>
#define GPU_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)
#define GPU_DYNAMIC_SHARED(type, name) extern __shared__ __align__(128) unsigned char gpu_shared_bytes[]; \
    type *name = reinterpret_cast<type *>(gpu_shared_bytes)
// Asks for more than 48 KiB of dynamic shared memory for a kernel.
#define GPU_ALLOW_SHARED(kernel, bytes) \
    cudaFuncSetAttribute((const void *)(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes))
#endif

#define GPU_WARP 32
#define GPU_ALL_LANES 0xffffffffu

static __device__ __forceinline__ float gpu_bf16_to_f32(uint16_t b)
{
    return __uint_as_float((uint32_t)b << 16);
}

// To nearest even; NaN stays NaN.
static __device__ __forceinline__ uint16_t gpu_f32_to_bf16(float f)
{
    const uint32_t u = __float_as_uint(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

// IEEE half, exact.
static __device__ __forceinline__ float gpu_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff;
    if (rest >= 0x7c00) return __uint_as_float(sign | 0x7f800000u | (rest & 0x3ff) << 13);
    if (rest < 0x400) { // subnormal: a multiple of 2^-24
        const float f = (float)rest * 5.9604644775390625e-8f;
        return sign ? -f : f;
    }
    return __uint_as_float(sign | ((rest << 13) + 0x38000000u));
}

static __device__ __forceinline__ float gpu_sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

static __device__ __forceinline__ float gpu_warp_sum(float x)
{
    for (int d = GPU_WARP / 2; d > 0; d /= 2) x += __shfl_xor_sync(GPU_ALL_LANES, x, d);
    return x;
}

static __device__ __forceinline__ float gpu_warp_max(float x)
{
    for (int d = GPU_WARP / 2; d > 0; d /= 2) x = fmaxf(x, __shfl_xor_sync(GPU_ALL_LANES, x, d));
    return x;
}

#endif
