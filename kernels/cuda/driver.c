// Which GPUs there are. CUDA's runtime is linked statically and looks for the driver when it is first asked:
// without one these say so, and nothing else of CUDA is ever called.
#include <stdio.h>

#include <cuda_runtime_api.h>

#include "kernels/device.h"

static cudaError_t count(int *n)
{
    *n = 0;
    const cudaError_t e = cudaGetDeviceCount(n);
    if (e == cudaSuccess) return e;
    *n = 0;
    cudaGetLastError();
    return e;
}

int device_gpus(void)
{
    int n;
    count(&n);
    return n;
}

const char *device_without_gpu(void)
{
    int n, driver = 0;
    const cudaError_t e = count(&n);
    if (n > 0) return NULL;
    if (e == cudaSuccess || e == cudaErrorNoDevice) return "no GPU was found";
    if (e != cudaErrorInsufficientDriver) return cudaGetErrorString(e);
    const bool none = cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0;
    return none ? "no NVIDIA driver was found" : "the NVIDIA driver is older than this program's CUDA";
}

static sight_err silent(device_id id, cudaError_t e)
{
    cudaGetLastError();
    return sight_fail(SIGHT_E_UNSUPPORTED, "cuda:%d does not answer: %s", id.index, cudaGetErrorString(e));
}

// Leaves the calling thread with the GPU it had.
static cudaError_t free_bytes(int index, size_t *available, size_t *total)
{
    int before = 0;
    cudaError_t e = cudaGetDevice(&before);
    if (e == cudaSuccess) e = cudaSetDevice(index);
    if (e == cudaSuccess) e = cudaMemGetInfo(available, total);
    cudaSetDevice(before);
    return e;
}

sight_err device_describe(device_info *out, device_id id)
{
    struct cudaDeviceProp about;
    size_t available = 0, total = 0;
    if (id.kind != DEVICE_CUDA) return sight_fail(SIGHT_E_UNSUPPORTED, "the processor is no GPU");
    if (device_gpus() == 0) return sight_fail(SIGHT_E_UNSUPPORTED, "%s", device_without_gpu());
    cudaError_t e = cudaGetDeviceProperties(&about, id.index);
    if (e == cudaSuccess) e = free_bytes(id.index, &available, &total);
    if (e != cudaSuccess) return silent(id, e);
    *out = (device_info){.total_bytes = (int64_t)total,
                         .free_bytes = (int64_t)available,
                         .major = about.major,
                         .minor = about.minor,
                         .processors = about.multiProcessorCount};
#ifdef SIGHT_CUDA_SHIM
    out->emulated = true;
#endif
    snprintf(out->name, sizeof out->name, "%.127s", about.name);
    return SIGHT_OK;
}
