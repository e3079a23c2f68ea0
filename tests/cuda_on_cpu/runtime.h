// tests/cuda_on_cpu/runtime.h - what the shim's halves know of each other: devices and memory, streams and graphs.
#ifndef SIGHT_TESTS_RUNTIME_H
#define SIGHT_TESTS_RUNTIME_H

#include <pthread.h>

#include "block.h"
#include "shim.h"

#ifdef __cplusplus
extern "C" {
#endif

// A launch, run when its stream gets to it. args [bytes] are copied.
void shim_launch(const shim_kernel *kernel, const void *args, size_t bytes, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#define SHIM_MAX_DEVICES 8

// All of the shim's state, and work under way, belongs to who holds this. May be taken twice.
void runtime_lock(void);
void runtime_unlock(void);

int runtime_device(void); // this thread's
// Keeps it as this thread's last error, and gives it back.
cudaError_t runtime_error(cudaError_t e);
// What has gone wrong for good, or a failure that a test asked for now; counts as a call that works on the device.
cudaError_t runtime_check(void);
void runtime_break(cudaError_t e); // for good
extern shim_counts runtime_counts;
// The dynamic shared memory that a kernel may have.
size_t runtime_shared_limit(const void *kernel);

// Between these the memory of devices can be touched. Nests.
void memory_open(void);
void memory_close(void);
typedef enum memory_kind { MEMORY_HOST, MEMORY_PINNED, MEMORY_DEVICE } memory_kind;
// Of [p, p + bytes). false: it begins in a device's memory, and leaves its allocation.
bool memory_kind_of(memory_kind *kind, const void *p, size_t bytes);

// Work of all streams of a device; with blocking_only of those that wait for the default stream.
cudaError_t streams_run_all(int device, bool blocking_only);

#endif
