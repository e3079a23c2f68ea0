// A GPU's memory as kernels/memory.h has it. Everything goes through the object's stream; host memory of the
// caller may be reused on return, since what is written passes through the pinned ring.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/state.h"
#include "kernels/memory.h"

// ---- guards: where the shim runs under AddressSanitizer, what nobody took may not be touched ----

#if defined(SIGHT_CUDA_SHIM) && defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>

#define RED_ZONE POOL_UNIT // behind what is taken

void cuda_unguard(cuda_heap *heap)
{
    __asan_unpoison_memory_region(heap->base, heap->high);
}

// Read before it is written it is NaN.
static void hand_out(kernels *k, unsigned char *p, size_t bytes)
{
    cuda_heap *heap = k->cuda->heap;
    const size_t whole = (bytes + RED_ZONE + POOL_UNIT - 1) / POOL_UNIT * POOL_UNIT;
    const size_t end = (size_t)(p - heap->base) + whole;
    if (end > heap->high) heap->high = end;
    __asan_unpoison_memory_region(p, bytes);
    __asan_poison_memory_region(p + bytes, whole - bytes);
    if (bytes) cuda_good(k, cudaMemsetAsync(p, 0xff, bytes, k->cuda->stream), "filling memory");
}

// What still uses it runs before it is guarded, unless nothing runs any more. Its size is known by the guard behind
// it.
static void take_back(kernels *k, unsigned char *p)
{
    cuda_heap *heap = k->cuda->heap;
    for (int i = 0; i < CUDA_MAX_BESIDE; i++) {
        if (heap->users[i] && cudaStreamSynchronize(heap->users[i]->stream) != cudaSuccess) return;
    }
    unsigned char *end = __asan_region_is_poisoned(p, heap->bytes - (size_t)(p - heap->base));
    __asan_poison_memory_region(p, (size_t)(end - p));
}
#else
#define RED_ZONE 0

void cuda_unguard(cuda_heap *heap)
{
}

static void hand_out(kernels *k, unsigned char *p, size_t bytes)
{
}

static void take_back(kernels *k, unsigned char *p)
{
}
#endif

// ---- taking and giving ----

// What another object gave back may still be in use by what was asked of it before: this stream waits for that.
static bool wait_for_givers(kernels *k)
{
    struct cuda_device *d = k->cuda;
    for (int i = 0; i < CUDA_MAX_BESIDE; i++) {
        struct cuda_device *other = d->heap->users[i];
        if (!other || other == d || other->frees == d->frees_seen[i]) continue;
        d->frees_seen[i] = other->frees;
        if (!cuda_good(k, cudaEventRecord(other->mark, other->stream), "marking a stream") ||
            !cuda_good(k, cudaStreamWaitEvent(d->stream, other->mark, 0), "waiting for a stream")) {
            return false;
        }
    }
    return true;
}

void *cuda_take(kernels *k, size_t bytes)
{
    cuda_heap *heap = k->cuda->heap;
    uint64_t at;
    if (!cuda_enter(k) || bytes > heap->bytes || !pool_take(heap->pool, &at, bytes + RED_ZONE)) return NULL;
    if (!wait_for_givers(k)) {
        pool_give(heap->pool, at);
        return NULL;
    }
    hand_out(k, heap->base + at, bytes);
    return heap->base + at;
}

static void give_now(kernels *k, unsigned char *p)
{
    take_back(k, p);
    pool_give(k->cuda->heap->pool, (uint64_t)(p - k->cuda->heap->base));
    k->cuda->frees++;
}

// In a step the launches that use it are yet to come.
static bool give_later(cuda_step *s, void *p)
{
    if (s->n_freed == s->freed_room) {
        const size_t room = s->freed_room ? s->freed_room * 2 : 16;
        void **freed = realloc(s->freed, room * sizeof *freed);
        if (!freed) return false;
        s->freed = freed;
        s->freed_room = room;
    }
    s->freed[s->n_freed++] = p;
    return true;
}

void cuda_give(kernels *k, void *p)
{
    if (!p) return;
    if (!k->cuda->step.on) give_now(k, p);
    else if (!give_later(&k->cuda->step, p)) cuda_fail(k, SIGHT_E_MEMORY, "no memory for a step's list");
}

// ---- the table's entries ----

static void *memory_alloc(kernels *k, size_t bytes)
{
    const cuda_heap *heap = k->cuda->heap;
    assert(!cuda_in_step(k));
    if (bytes > heap->bytes || pool_free_bytes(heap->pool) < bytes + heap->spare) return NULL;
    return cuda_take(k, bytes);
}

kernels_room cuda_get_room(const kernels *k)
{
    const cuda_heap *heap = k->cuda->heap;
    const int64_t all = (int64_t)heap->bytes, left = (int64_t)pool_free_bytes(heap->pool);
    const int64_t spare = (int64_t)heap->spare;
    return (kernels_room){all, left > spare ? left - spare : 0};
}

typedef struct copy_args {
    void *to;
    const void *from;
    uint64_t bytes;
} copy_args;

static void launch_copy(cudaStream_t stream, const void *args)
{
    const copy_args *a = args;
    cudaMemcpyAsync(a->to, a->from, a->bytes, cudaMemcpyDeviceToDevice, stream); // asked by cudaGetLastError
}

static void memory_copy(kernels *k, void *to, const void *from, size_t bytes)
{
    const copy_args a = {to, from, bytes};
    cuda_launch(k, launch_copy, &a, sizeof a);
}

typedef struct zero_args {
    void *p;
    uint64_t bytes;
} zero_args;

static void launch_zero(cudaStream_t stream, const void *args)
{
    const zero_args *a = args;
    cudaMemsetAsync(a->p, 0, a->bytes, stream);
}

static void memory_zero(kernels *k, void *p, size_t bytes)
{
    const zero_args a = {p, bytes};
    cuda_launch(k, launch_zero, &a, sizeof a);
}

// In a step it takes its place among the launches: the bytes go with the step's arguments, and are copied from there.
static void write_in_step(kernels *k, void *to, const void *host, size_t bytes)
{
    const void *from = cuda_args(k, host, bytes);
    if (from) memory_copy(k, to, from, bytes);
}

static void memory_write(kernels *k, void *to, const void *host, size_t bytes)
{
    if (cuda_in_step(k)) {
        write_in_step(k, to, host, bytes);
        return;
    }
    if (!cuda_enter(k)) return;
    for (size_t at = 0, n; at < bytes; at += n) {
        n = bytes - at < CUDA_WRITE_BYTES ? bytes - at : CUDA_WRITE_BYTES;
        unsigned char *mine = cuda_ring_take(k, n, NULL);
        if (!mine) return;
        memcpy(mine, (const unsigned char *)host + at, n);
        const cudaError_t e = cudaMemcpyAsync((unsigned char *)to + at, mine, n, cudaMemcpyHostToDevice,
                                              k->cuda->stream);
        if (!cuda_good(k, e, "writing to the GPU")) return;
    }
}

static sight_err memory_status(kernels *k)
{
    return cuda_failed(k) ? sight_fail(k->cuda->err, "%s", k->cuda->error) : SIGHT_OK;
}

static sight_err memory_read(kernels *k, void *host, const void *from, size_t bytes)
{
    assert(!cuda_in_step(k));
    const cudaStream_t stream = k->cuda->stream;
    unsigned char *landing = k->cuda->landing;
    if (!cuda_enter(k)) return memory_status(k);
    if (bytes == 0) cuda_good(k, cudaStreamSynchronize(stream), "waiting for the GPU");
    for (size_t at = 0, n; at < bytes && !cuda_failed(k); at += n) {
        n = bytes - at < CUDA_LANDING_BYTES ? bytes - at : CUDA_LANDING_BYTES;
        const cudaError_t e = cudaMemcpyAsync(landing, (const unsigned char *)from + at, n,
                                              cudaMemcpyDeviceToHost, stream);
        if (cuda_good(k, e, "reading from the GPU") &&
            cuda_good(k, cudaStreamSynchronize(stream), "waiting for the GPU")) {
            memcpy((unsigned char *)host + at, landing, n);
        }
    }
    return memory_status(k);
}

// Streams of one GPU. An error of `before` is told where its own results are asked for.
static void memory_after(kernels *k, kernels *before)
{
    assert(!cuda_in_step(before));
    if (!cuda_enter(k)) return;
    if (cuda_failed(before)) {
        cuda_fail(k, before->cuda->err, "%s", "what this waits for has failed");
        return;
    }
    if (cuda_good(k, cudaEventRecord(before->cuda->mark, before->cuda->stream), "marking a stream")) {
        cuda_good(k, cudaStreamWaitEvent(k->cuda->stream, before->cuda->mark, 0), "waiting for a stream");
    }
}

void memory_cuda_fill(backend_ops *ops)
{
    ops->alloc = memory_alloc;
    ops->free = cuda_give;
    ops->write = memory_write;
    ops->read = memory_read;
    ops->zero = memory_zero;
    ops->copy = memory_copy;
    ops->step_begin = cuda_step_begin;
    ops->step_end = cuda_step_end;
    ops->status = memory_status;
    ops->after = memory_after;
}
