// kernels/cuda/parts.cu - copies of several parts in one launch.
//
// 2 bytes moved per byte copied (read and written), no operations. In a step that checks guesses the
// parts are a layer's inputs and its convolution's tail, some hundred KiB: the launch, not the
// bytes, is what they cost, so that one for all parts is the point. A thread moves 64 bytes as four
// accesses of 16, all of them under way at once.
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/parts.h"

#define THREADS 256
#define EACH 4 // accesses of a thread

template <typename T>
static __device__ __forceinline__ void copy_piece(const parts_part &p, uint64_t first)
{
    const uint64_t n = p.bytes / sizeof(T);
    T *to = (T *)p.to;
    const T *from = (const T *)p.from;
    T v[EACH];
#pragma unroll
    for (uint64_t i = 0; i < EACH; i++)
        if (first + i * THREADS < n) v[i] = from[first + i * THREADS];
#pragma unroll
    for (uint64_t i = 0; i < EACH; i++)
        if (first + i * THREADS < n) to[first + i * THREADS] = v[i];
}

// Blocks of the first dimension share a part's bytes. What is not aligned to 16 bytes goes by words,
// in turns.
static __global__ void copy_parts_kernel(parts_args a)
{
    const parts_part p = a.parts[blockIdx.y];
    const uint64_t piece = (uint64_t)THREADS * EACH, first = blockIdx.x * piece + threadIdx.x;
    if ((((uintptr_t)p.to | (uintptr_t)p.from | p.bytes) & 15) == 0) {
        copy_piece<uint4>(p, first);
        return;
    }
    const uint64_t words = p.bytes / sizeof(uint32_t);
    for (uint64_t at = first; at < words; at += gridDim.x * piece) copy_piece<uint32_t>(p, at);
}

void launch_copy_parts(cudaStream_t stream, const void *args)
{
    const parts_args *a = (const parts_args *)args;
    const uint64_t block = (uint64_t)THREADS * EACH * sizeof(uint4);
    const dim3 grid((unsigned)((a->most + block - 1) / block), (unsigned)a->n, 1);
    if (a->most == 0) return;
    GPU_LAUNCH(copy_parts_kernel, grid, dim3(THREADS, 1, 1), 0, stream, *a);
}
