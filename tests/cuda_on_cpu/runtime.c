#define _GNU_SOURCE
#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "region.h"

typedef struct allocation {
    region memory;
    int device; // -1: the host's, pinned
    struct allocation *next;
} allocation;

typedef struct function {
    const void *kernel;
    size_t shared_bytes;
    struct function *next;
} function;

typedef struct runtime {
    bool configured;
    int devices, processors;
    size_t memory_bytes;
    size_t used[SHIM_MAX_DEVICES];
    allocation *allocations;
    function *functions;
    int open;
    cudaError_t broken;
    int breaks; // the device that fails; -1: all
    int fail_after, malloc_after; // calls left; negative: none
    cudaError_t failure;
} runtime;

static runtime r = {.breaks = -1, .fail_after = -1, .malloc_after = -1};
shim_counts runtime_counts;

static _Thread_local int current_device;
static _Thread_local cudaError_t last_error;

static pthread_mutex_t lock;
static pthread_once_t lock_once = PTHREAD_ONCE_INIT;

static void lock_make(void)
{
    pthread_mutexattr_t how;
    pthread_mutexattr_init(&how);
    pthread_mutexattr_settype(&how, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&lock, &how);
    pthread_mutexattr_destroy(&how);
}

static long from_environment(const char *name, long otherwise, long most)
{
    const char *word = getenv(name);
    if (!word || !*word) return otherwise;
    const long n = strtol(word, NULL, 10);
    return n < 0 ? 0 : n > most ? most : n;
}

void runtime_lock(void)
{
    pthread_once(&lock_once, lock_make);
    pthread_mutex_lock(&lock);
    if (r.configured) return;
    r.configured = true;
    r.devices = (int)from_environment("SIGHT_SHIM_DEVICES", 1, SHIM_MAX_DEVICES);
    r.memory_bytes = (size_t)from_environment("SIGHT_SHIM_MIB", 4096, 1 << 20) << 20;
    r.processors = (int)from_environment("SIGHT_SHIM_PROCESSORS", 4, 1024);
}

void runtime_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

int runtime_device(void)
{
    return current_device;
}

// ---- errors ----

cudaError_t runtime_error(cudaError_t e)
{
    if (e != cudaSuccess && e != cudaErrorNotReady) last_error = e;
    return e;
}

void runtime_break(cudaError_t e)
{
    if (!r.broken) r.broken = e;
}

static bool fails_here(void)
{
    return r.breaks < 0 || r.breaks == current_device;
}

static cudaError_t broken_here(void)
{
    return fails_here() ? r.broken : cudaSuccess;
}

cudaError_t runtime_check(void)
{
    if (!fails_here()) return cudaSuccess;
    if (r.broken) return r.broken;
    if (r.fail_after < 0 || r.fail_after-- > 0) return cudaSuccess;
    const cudaError_t e = r.failure;
    if (e != cudaErrorMemoryAllocation) r.broken = e;
    return e;
}

cudaError_t cudaGetLastError(void)
{
    const cudaError_t e = cudaPeekAtLastError();
    last_error = cudaSuccess;
    return e;
}

cudaError_t cudaPeekAtLastError(void)
{
    runtime_lock();
    const cudaError_t e = broken_here() ? broken_here() : last_error;
    runtime_unlock();
    return e;
}

static const struct {
    cudaError_t error;
    const char *name, *words;
} errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInvalidPitchValue, "cudaErrorInvalidPitchValue", "invalid pitch argument"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorDevicesUnavailable, "cudaErrorDevicesUnavailable", "CUDA-capable device(s) is/are busy or unavailable"},
    {cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources", "too many resources requested for launch"},
    {cudaErrorPeerAccessAlreadyEnabled, "cudaErrorPeerAccessAlreadyEnabled", "peer access is already enabled"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
};

const char *cudaGetErrorName(cudaError_t error)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        if (errors[i].error == error) return errors[i].name;
    }
    return "cudaErrorUnknown";
}

const char *cudaGetErrorString(cudaError_t error)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        if (errors[i].error == error) return errors[i].words;
    }
    return "unknown error";
}

// ---- what tests set ----

void shim_set_devices(int count)
{
    runtime_lock();
    r.devices = count;
    runtime_unlock();
}

void shim_set_memory(size_t bytes)
{
    runtime_lock();
    r.memory_bytes = bytes;
    runtime_unlock();
}

size_t shim_used_memory(int device)
{
    runtime_lock();
    const size_t bytes = r.used[device];
    runtime_unlock();
    return bytes;
}

void shim_fail_after(int n, cudaError_t error)
{
    runtime_lock();
    r.fail_after = n;
    r.failure = error;
    runtime_unlock();
}

void shim_fail_only(int device)
{
    runtime_lock();
    r.breaks = device;
    runtime_unlock();
}

void shim_fail_malloc_after(int n)
{
    runtime_lock();
    r.malloc_after = n;
    runtime_unlock();
}

void shim_mend(void)
{
    runtime_lock();
    r.broken = last_error = cudaSuccess;
    r.fail_after = r.malloc_after = r.breaks = -1;
    runtime_unlock();
}

void shim_catch_defects(bool catch_them)
{
    runtime_lock();
    block_catch_defects(catch_them);
    runtime_unlock();
}

const char *shim_take_defect(void)
{
    static _Thread_local char text[1024];
    runtime_lock();
    char *caught = block_take_defect();
    runtime_unlock();
    if (!caught) return NULL;
    snprintf(text, sizeof text, "%s", caught);
    free(caught);
    return text;
}

shim_counts shim_get_counts(void)
{
    runtime_lock();
    const shim_counts c = runtime_counts;
    runtime_unlock();
    return c;
}

// ---- devices ----

static bool device_known(int device)
{
    runtime_lock();
    const bool known = device >= 0 && device < r.devices;
    runtime_unlock();
    return known;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    runtime_lock();
    *count = r.devices;
    runtime_unlock();
    return runtime_error(*count ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device)
{
    if (!device_known(device)) return runtime_error(cudaErrorInvalidDevice);
    current_device = device;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = current_device;
    return cudaSuccess;
}

cudaError_t cudaSetDeviceFlags(unsigned flags)
{
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int device)
{
    if (!device_known(device)) return runtime_error(cudaErrorInvalidDevice);
    *out = (cudaDeviceProp){
        .name = "CUDA on the CPU (test shim)",
        .totalGlobalMem = r.memory_bytes,
        .sharedMemPerBlock = SHIM_SHARED_BYTES,
        .sharedMemPerBlockOptin = SHIM_MAX_SHARED_BYTES,
        .sharedMemPerMultiprocessor = SHIM_MAX_SHARED_BYTES + 1024,
        .reservedSharedMemPerBlock = 1024,
        .regsPerBlock = 65536,
        .warpSize = SHIM_WARP,
        .maxThreadsPerBlock = SHIM_MAX_THREADS,
        .maxThreadsDim = {1024, 1024, 64},
        .maxGridSize = {2147483647, 65535, 65535},
        .major = 8,
        .minor = 0,
        .multiProcessorCount = r.processors,
        .maxThreadsPerMultiProcessor = 2048,
        .l2CacheSize = 4 << 20,
        .pciBusID = device + 1,
    };
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    if (!device_known(device)) return runtime_error(cudaErrorInvalidDevice);
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = SHIM_MAX_THREADS; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = SHIM_SHARED_BYTES; break;
    case cudaDevAttrWarpSize: *value = SHIM_WARP; break;
    case cudaDevAttrClockRate: *value = 1000000; break;
    case cudaDevAttrMultiProcessorCount: *value = r.processors; break;
    case cudaDevAttrMemoryClockRate: *value = 1000000; break;
    case cudaDevAttrGlobalMemoryBusWidth: *value = 64; break;
    case cudaDevAttrL2CacheSize: *value = 4 << 20; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = 2048; break;
    case cudaDevAttrComputeCapabilityMajor: *value = 8; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = SHIM_MAX_SHARED_BYTES + 1024; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = SHIM_MAX_SHARED_BYTES; break;
    default: return runtime_error(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    runtime_lock();
    const size_t used = r.used[current_device];
    *total = r.memory_bytes;
    *free_bytes = used < r.memory_bytes ? r.memory_bytes - used : 0;
    const cudaError_t e = broken_here();
    runtime_unlock();
    return runtime_error(e);
}

cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer)
{
    if (!device_known(device) || !device_known(peer)) return runtime_error(cudaErrorInvalidDevice);
    *can = device != peer;
    return cudaSuccess;
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags)
{
    return device_known(peer) ? cudaSuccess : runtime_error(cudaErrorInvalidDevice);
}

// ---- memory ----

// Where the pointer to an allocation that contains p stands; to NULL when there is none.
static allocation **find(const void *p)
{
    allocation **at = &r.allocations;
    for (; *at; at = &(*at)->next) {
        const region *m = &(*at)->memory;
        if ((const char *)p >= (const char *)m->data && (const char *)p < (const char *)m->data + m->bytes) break;
    }
    return at;
}

bool memory_kind_of(memory_kind *kind, const void *p, size_t bytes)
{
    const allocation *a = *find(p);
    *kind = !a ? MEMORY_HOST : a->device < 0 ? MEMORY_PINNED : MEMORY_DEVICE;
    return !a || (const char *)p + bytes <= (const char *)a->memory.data + a->memory.bytes;
}

static void allow_all(bool allowed)
{
    for (const allocation *a = r.allocations; a; a = a->next) {
        if (a->device >= 0) region_allow(&a->memory, allowed);
    }
}

void memory_open(void)
{
    if (r.open++ == 0) allow_all(true);
}

void memory_close(void)
{
    if (--r.open == 0) allow_all(false);
}

static cudaError_t allocate(void **out, size_t bytes, int device)
{
    if (broken_here()) return broken_here();
    if (r.malloc_after >= 0 && r.malloc_after-- == 0) return cudaErrorMemoryAllocation;
    if (!bytes) {
        *out = NULL;
        return cudaSuccess;
    }
    if (device >= 0 && (bytes > r.memory_bytes || r.used[device] > r.memory_bytes - bytes)) {
        return cudaErrorMemoryAllocation;
    }
    allocation *a = malloc(sizeof *a);
    if (!a || !region_create(&a->memory, bytes)) {
        free(a);
        return cudaErrorMemoryAllocation;
    }
    a->device = device;
    a->next = r.allocations;
    r.allocations = a;
    if (device >= 0) {
        r.used[device] += bytes;
        region_allow(&a->memory, r.open > 0);
    }
    *out = a->memory.data;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    runtime_lock();
    const cudaError_t e = allocate(out, bytes, current_device);
    runtime_unlock();
    return runtime_error(e);
}

static cudaError_t release(void *p, bool pinned)
{
    allocation **at = find(p), *a = *at;
    if (!a || a->memory.data != p || (a->device < 0) != pinned) return cudaErrorInvalidValue;
    const int devices = a->device < 0 ? r.devices : a->device + 1;
    cudaError_t e = cudaSuccess;
    for (int d = a->device < 0 ? 0 : a->device; d < devices && !e; d++) e = streams_run_all(d, false);
    if (a->device >= 0) r.used[a->device] -= a->memory.bytes;
    *at = a->next;
    region_destroy(&a->memory);
    free(a);
    return e ? e : broken_here();
}

cudaError_t cudaFree(void *p)
{
    if (!p) return cudaSuccess;
    runtime_lock();
    const cudaError_t e = release(p, false);
    runtime_unlock();
    return runtime_error(e);
}

cudaError_t cudaMallocHost(void **out, size_t bytes)
{
    runtime_lock();
    const cudaError_t e = allocate(out, bytes, -1);
    runtime_unlock();
    return runtime_error(e);
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags)
{
    return cudaMallocHost(out, bytes);
}

cudaError_t cudaFreeHost(void *p)
{
    if (!p) return cudaSuccess;
    runtime_lock();
    const cudaError_t e = release(p, true);
    runtime_unlock();
    return runtime_error(e);
}

// Registered memory stays what it is: copies of it behave as those of memory that was not registered.
cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned flags)
{
    return runtime_error(p && bytes ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaHostUnregister(void *p)
{
    return runtime_error(p ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *out, const void *p)
{
    runtime_lock();
    const allocation *a = *find(p);
    *out = (cudaPointerAttributes){0};
    if (a) {
        out->type = a->device < 0 ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
        out->device = a->device < 0 ? 0 : a->device;
        out->devicePointer = (void *)p;
        out->hostPointer = a->device < 0 ? (void *)p : NULL;
    }
    runtime_unlock();
    return cudaSuccess;
}

// ---- kernels ----

static function *function_of(const void *kernel)
{
    function *f = r.functions;
    while (f && f->kernel != kernel) f = f->next;
    return f;
}

size_t runtime_shared_limit(const void *kernel)
{
    const function *f = function_of(kernel);
    return f && f->shared_bytes > SHIM_SHARED_BYTES ? f->shared_bytes : SHIM_SHARED_BYTES;
}

static cudaError_t allow_shared(const void *kernel, int bytes)
{
    if (bytes < 0 || bytes > SHIM_MAX_SHARED_BYTES) return cudaErrorInvalidValue;
    function *f = function_of(kernel);
    if (!f) {
        f = malloc(sizeof *f);
        if (!f) return cudaErrorMemoryAllocation;
        *f = (function){.kernel = kernel, .next = r.functions};
        r.functions = f;
    }
    f->shared_bytes = (size_t)bytes;
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value)
{
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    runtime_lock();
    const cudaError_t e = allow_shared(kernel, value);
    runtime_unlock();
    return runtime_error(e);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *kernel, int threads,
                                                          size_t shared_bytes)
{
    if (threads <= 0 || threads > SHIM_MAX_THREADS) return runtime_error(cudaErrorInvalidValue);
    const int by_threads = 2048 / threads, by_shared = (int)((SHIM_MAX_SHARED_BYTES + 1024) / (shared_bytes + 1024));
    *blocks = by_threads < by_shared ? by_threads : by_shared;
    return cudaSuccess;
}

// The functions' table of a program at its end, and of ASan's leaks.
__attribute__((destructor)) static void forget_functions(void)
{
    while (r.functions) {
        function *f = r.functions;
        r.functions = f->next;
        free(f);
    }
}
