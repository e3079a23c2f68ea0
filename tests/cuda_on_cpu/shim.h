// tests/cuda_on_cpu/shim.h - what tests may ask of the shim beside CUDA's own functions.
//
// Environment, read once: SIGHT_SHIM_DEVICES (1; at most 8), SIGHT_SHIM_MIB, memory of each (4096),
// SIGHT_SHIM_PROCESSORS (4).
//
// Threads: any.
#ifndef SIGHT_TESTS_SHIM_H
#define SIGHT_TESTS_SHIM_H

#include <stdbool.h>

#include "cuda_runtime_api.h"

#ifdef __cplusplus
extern "C" {
#endif

// Before the first device is used.
void shim_set_devices(int count);
// Of each device; what is allocated already stays.
void shim_set_memory(size_t bytes);
// Bytes that cudaMalloc has given out on a device.
size_t shim_used_memory(int device);

// After n more calls that work on the device (copies, launches, synchronisation) each gives this error:
// cudaErrorIllegalAddress and the like for good (until shim_mend), cudaErrorMemoryAllocation once. n 0: the next one.
void shim_fail_after(int n, cudaError_t error);
// Of that device alone, until shim_mend: calls on others neither count nor fail. Before shim_fail_after.
void shim_fail_only(int device);
// The next n allocations succeed, then one fails. Negative: no more failures.
void shim_fail_malloc_after(int n);
// Forgets errors, those that stay too.
void shim_mend(void);

// A defect in a kernel (a barrier that not all threads reach, a lane missing in a shuffle...) is printed and
// ends the program. While caught it ends the launch instead, with cudaErrorLaunchFailure for good.
void shim_catch_defects(bool catch_them);
// The last one's sentence since the last call; NULL: none.
const char *shim_take_defect(void);

// Kernel launches, graph launches and blocks run since the program's start.
typedef struct shim_counts {
    long long launches, graph_launches, blocks, copies, waits;
} shim_counts;
shim_counts shim_get_counts(void);

#ifdef __cplusplus
}
#endif

#endif
