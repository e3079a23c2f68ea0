// Launches and copies, given to streams.
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "region.h"
#include "stream.h"

// ---- launches ----

static bool launch_fits(const shim_kernel *k)
{
    const unsigned long long threads = (unsigned long long)k->block.x * k->block.y * k->block.z;
    const size_t limit = runtime_shared_limit(k->address);
    const char *wrong = NULL;
    if (threads == 0 || threads > SHIM_MAX_THREADS || k->block.x > 1024 || k->block.y > 1024 || k->block.z > 64) {
        wrong = "has that many threads in a block";
    } else if (!k->grid.x || !k->grid.y || !k->grid.z || k->grid.x > 2147483647u || k->grid.y > 65535 ||
               k->grid.z > 65535) {
        wrong = "has such a grid";
    } else if (k->shared_bytes > limit) {
        wrong = "has that much shared memory";
    }
    if (!wrong) return true;
    fprintf(stderr, "cuda_on_cpu: kernel %s of %s:%d cannot be launched: no GPU %s "
            "(grid %u,%u,%u, block %u,%u,%u, %zu bytes of shared memory, at most %zu)\n",
            k->name, k->file, k->line, wrong, k->grid.x, k->grid.y, k->grid.z, k->block.x, k->block.y, k->block.z,
            k->shared_bytes, limit);
    return false;
}

void shim_launch(const shim_kernel *kernel, const void *args, size_t bytes, cudaStream_t stream)
{
    cudaError_t e;
    struct shim_stream *s = stream_begin(stream, &e);
    if (s && !launch_fits(kernel)) {
        e = cudaErrorInvalidConfiguration;
    } else if (s) {
        work *w = work_create(WORK_LAUNCH, bytes);
        if (w) {
            w->kernel = *kernel;
            memcpy(w->bytes, args, bytes);
        }
        e = stream_give(s, w);
    }
    stream_end(e);
}

// ---- copies ----

typedef struct copy {
    void *to;
    const void *from;
    size_t to_pitch, from_pitch, width, height;
} copy;

static bool direction_holds(cudaMemcpyKind kind, memory_kind to, memory_kind from)
{
    switch (kind) {
    case cudaMemcpyHostToHost: return to != MEMORY_DEVICE && from != MEMORY_DEVICE;
    case cudaMemcpyHostToDevice: return to == MEMORY_DEVICE && from != MEMORY_DEVICE;
    case cudaMemcpyDeviceToHost: return to != MEMORY_DEVICE && from == MEMORY_DEVICE;
    case cudaMemcpyDeviceToDevice: return to == MEMORY_DEVICE && from == MEMORY_DEVICE;
    case cudaMemcpyDefault: return true;
    }
    return false;
}

// Host memory that is not pinned is read before the call returns.
static work *copy_work(const copy *c, bool stage)
{
    work *w = work_create(WORK_COPY, stage ? c->width * c->height : 0);
    if (!w) return NULL;
    w->to = c->to;
    w->to_pitch = c->to_pitch;
    w->width = c->width;
    w->height = c->height;
    w->from = stage ? NULL : c->from;
    w->from_pitch = stage ? c->width : c->from_pitch;
    for (size_t y = 0; stage && y < c->height; y++) {
        memcpy(w->bytes + y * c->width, (const char *)c->from + y * c->from_pitch, c->width);
    }
    return w;
}

static cudaError_t copy_give(struct shim_stream *s, const copy *c, cudaMemcpyKind kind, bool wait)
{
    memory_kind to, from;
    if (!c->width || !c->height) return cudaSuccess;
    if (c->width > c->to_pitch || c->width > c->from_pitch) return cudaErrorInvalidPitchValue;
    if (!memory_kind_of(&to, c->to, (c->height - 1) * c->to_pitch + c->width) ||
        !memory_kind_of(&from, c->from, (c->height - 1) * c->from_pitch + c->width)) {
        fprintf(stderr, "cuda_on_cpu: a copy of %zu x %zu bytes leaves its allocation\n", c->height, c->width);
        return cudaErrorInvalidValue;
    }
    if (!direction_holds(kind, to, from)) return cudaErrorInvalidMemcpyDirection;
    const bool into_host = to == MEMORY_HOST && from == MEMORY_DEVICE;
    if (s->capture && (wait || into_host)) {
        stream_captured(s);
        return cudaErrorStreamCaptureUnsupported;
    }
    cudaError_t e = stream_give(s, copy_work(c, from == MEMORY_HOST && !s->capture));
    if (!e && (wait || into_host)) return stream_run_all(s);
    // Until the copy is done nobody may read what it writes.
    for (size_t y = 0; !e && !s->capture && to == MEMORY_PINNED && y < c->height; y++) {
        region_poison((char *)c->to + y * c->to_pitch, c->width);
    }
    return e;
}

static cudaError_t copy_any(const copy *c, cudaMemcpyKind kind, cudaStream_t stream, bool wait)
{
    cudaError_t e;
    struct shim_stream *s = stream_begin(stream, &e);
    if (s) e = copy_give(s, c, kind, wait);
    return stream_end(e);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    return copy_any(&(copy){to, from, bytes, bytes, bytes, 1}, kind, NULL, true);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    return copy_any(&(copy){to, from, bytes, bytes, bytes, 1}, kind, stream, false);
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t stream)
{
    return copy_any(&(copy){to, from, to_pitch, from_pitch, width, height}, kind, stream, false);
}

cudaError_t cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device,
                                size_t bytes, cudaStream_t stream)
{
    return copy_any(&(copy){to, from, bytes, bytes, bytes, 1}, cudaMemcpyDeviceToDevice, stream, false);
}

static cudaError_t set_give(struct shim_stream *s, void *p, int value, size_t bytes, bool wait)
{
    memory_kind kind;
    if (!bytes) return cudaSuccess;
    if (!memory_kind_of(&kind, p, bytes) || kind != MEMORY_DEVICE) return cudaErrorInvalidValue;
    work *w = work_create(WORK_SET, 0);
    if (w) {
        w->to = p;
        w->value = value;
        w->width = bytes;
    }
    const cudaError_t e = stream_give(s, w);
    return e || !wait ? e : stream_run_all(s);
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    cudaError_t e;
    struct shim_stream *s = stream_begin(stream, &e);
    if (s) e = set_give(s, p, value, bytes, false);
    return stream_end(e);
}

cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    cudaError_t e;
    struct shim_stream *s = stream_begin(NULL, &e);
    if (s) e = set_give(s, p, value, bytes, true);
    return stream_end(e);
}
