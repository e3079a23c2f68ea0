#include "kernels/frames.h"

#ifndef SIGHT_CUDA // else kernels/cuda/frames.c has these

sight_err frames_create(frames **out, device_id device)
{
    return sight_fail(SIGHT_E_UNSUPPORTED, "%s", device_without_gpu());
}

sight_err frames_set_shape(frames *f, const frames_shape *shape)
{
    return sight_fail(SIGHT_E_UNSUPPORTED, "%s", device_without_gpu());
}

void frames_destroy(frames **f)
{
}

sight_err frames_take(frames *f, float **rows, int64_t n)
{
    return sight_fail(SIGHT_E_UNSUPPORTED, "%s", device_without_gpu());
}

void frames_give(frames *f, float *rows, kernels *k)
{
}

sight_err frames_add(frames *f, float *rows, const frames_picture *p, int slot, int slots)
{
    return sight_fail(SIGHT_E_UNSUPPORTED, "%s", device_without_gpu());
}

sight_err frames_add_rows(frames *f, float *rows, const float *host, int64_t patches, int slot,
                          int slots)
{
    return sight_fail(SIGHT_E_UNSUPPORTED, "%s", device_without_gpu());
}

void *frames_context(const frames *f)
{
    return NULL;
}

void *frames_stream(const frames *f)
{
    return NULL;
}

#endif
