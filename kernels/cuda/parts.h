// kernels/cuda/parts.h - copies of several parts at once: what parts.c hands to the launcher of
// parts.cu.
#ifndef SIGHT_KERNELS_CUDA_PARTS_H
#define SIGHT_KERNELS_CUDA_PARTS_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct parts_part { // copy_part of kernels/memory.h, which is no C++
    void *to;
    const void *from;
    uint64_t bytes;
} parts_part;

typedef struct parts_args {
    const parts_part *parts; // [n], on the device
    int64_t n;
    uint64_t most; // bytes of the largest
} parts_args;

void launch_copy_parts(cudaStream_t stream, const void *parts_args);

#ifdef __cplusplus
}
#endif

#endif
