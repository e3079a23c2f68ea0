#include "kernels/cuda/device.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/state.h"
#include "kernels/memory.h"

// Without a number of bytes: what is left for the driver, its modules, and libraries.
#define RESERVE_BYTES ((int64_t)512 << 20)
#define RESERVE_PART  64 // of all memory, besides
// For scratch, which ops need when everything else is taken.
#define SPARE_BYTES   ((int64_t)768 << 20) // products: 440 MiB; attention and the delta rule 64 each; a second stream
#define SPARE_PART    16
// Of a small one more, for scratch is needed at any size: products then go in smaller pieces (cuda_piece_bytes).
#define SMALL_SPARE_BYTES ((int64_t)512 << 20)
#define SMALL_SPARE_PART  8
#define PIECES_OF_SPARE   12 // that both streams' products, and what else needs scratch, take together
#define MIN_BYTES     ((int64_t)64 << 20)

// ---- errors ----

static void keep_error(struct cuda_device *d, sight_err code, const char *format, va_list args)
{
    if (d->err) return;
    d->err = code;
    const int n = snprintf(d->error, sizeof d->error, "cuda:%d: ", d->index);
    vsnprintf(d->error + n, sizeof d->error - (size_t)n, format, args);
}

void cuda_fail(kernels *k, sight_err code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    keep_error(k->cuda, code, format, args);
    va_end(args);
}

bool cuda_good(kernels *k, cudaError_t e, const char *what)
{
    if (e == cudaSuccess) return true;
    const sight_err code = e == cudaErrorMemoryAllocation ? SIGHT_E_MEMORY : SIGHT_E_INTERNAL;
    cuda_fail(k, code, "%s: %s", what, cudaGetErrorString(e));
    return false;
}

bool cuda_failed(const kernels *k)
{
    return k->cuda->err != SIGHT_OK;
}

bool cuda_enter(kernels *k)
{
    return !cuda_failed(k) && cuda_good(k, cudaSetDevice(k->cuda->index), "choosing the GPU");
}

// ---- small things ----

const cuda_chip *cuda_get_chip(const kernels *k)
{
    return &k->cuda->chip;
}

cudaStream_t cuda_stream(const kernels *k)
{
    return k->cuda->stream;
}

bool cuda_in_step(const kernels *k)
{
    return k->cuda->step.on;
}

cuda_kept *cuda_keep(kernels *k, int area)
{
    assert(area >= 0 && area < CUDA_KEPT);
    return &k->cuda->kept[area];
}

// ---- launches and what they need ----

// The flag of kernels_set_stop is not looked at: what was launched runs to its end, and callers cut long work into
// pieces between which they look themselves.
void cuda_launch(kernels *k, cuda_launcher *launcher, const void *args, size_t bytes)
{
    assert(bytes <= CUDA_MAX_ARGS);
    if (k->cuda->step.on) { // no call of CUDA: the host's time per op is a part of every step's
        if (!cuda_failed(k)) cuda_note(k, launcher, args, bytes);
        return;
    }
    if (!cuda_enter(k)) return;
    launcher(k->cuda->stream, args);
    cuda_good(k, cudaGetLastError(), "starting a kernel");
}

bool cuda_ring_turn(kernels *k)
{
    cuda_ring *r = &k->cuda->ring;
    if (!cuda_enter(k) ||
        !cuda_good(k, cudaEventRecord(r->done[r->part], k->cuda->stream), "marking the stream")) {
        return false;
    }
    r->waits[r->part] = true;
    r->part = (r->part + 1) % CUDA_RING_PARTS;
    r->used = 0;
    if (r->waits[r->part] && !cuda_good(k, cudaEventSynchronize(r->done[r->part]), "waiting for the stream")) {
        return false;
    }
    r->waits[r->part] = false;
    return true;
}

unsigned char *cuda_ring_take(kernels *k, size_t bytes, unsigned char **device)
{
    cuda_ring *r = &k->cuda->ring;
    const size_t padded = (bytes + 15) & ~(size_t)15;
    assert(padded <= CUDA_MAX_STEP_ARGS);
    if (r->used + padded > CUDA_MAX_STEP_ARGS) {
        if (k->cuda->step.on) {
            cuda_fail(k, SIGHT_E_LIMIT, "a step's arguments are over %zu MiB", CUDA_MAX_STEP_ARGS >> 20);
            return NULL;
        }
        if (!cuda_ring_turn(k)) return NULL;
    }
    const size_t at = (size_t)r->part * CUDA_MAX_STEP_ARGS + r->used;
    if (device) *device = k->cuda->step.on ? k->cuda->step.args + r->used : r->device + at;
    r->used += padded;
    return r->host + at;
}

const void *cuda_args(kernels *k, const void *host, size_t bytes)
{
    if (k->cuda->step.on ? cuda_failed(k) : !cuda_enter(k)) return NULL;
    if (bytes > CUDA_MAX_STEP_ARGS) {
        cuda_fail(k, SIGHT_E_LIMIT, "arguments of %zu bytes, at most %zu are possible", bytes,
                  CUDA_MAX_STEP_ARGS);
        return NULL;
    }
    unsigned char *device = NULL, *mine = cuda_ring_take(k, bytes, &device);
    if (!mine) return NULL;
    if (bytes) memcpy(mine, host, bytes);
    if (k->cuda->step.on || bytes == 0) return device; // a step's go together, before its launches
    const cudaError_t e = cudaMemcpyAsync(device, mine, bytes, cudaMemcpyHostToDevice, k->cuda->stream);
    return cuda_good(k, e, "copying arguments") ? device : NULL;
}

void *cuda_scratch(kernels *k, int slot, size_t bytes)
{
    struct cuda_device *d = k->cuda;
    assert(slot >= 0 && slot < CUDA_SCRATCH_SLOTS);
    if (cuda_failed(k)) return NULL;
    if (d->scratch[slot] && bytes <= d->scratch_bytes[slot]) return d->scratch[slot];
    cuda_give(k, d->scratch[slot]); // first, so that it may grow where it is
    const size_t room = bytes + bytes / 4;
    d->scratch_bytes[slot] = room;
    d->scratch[slot] = cuda_take(k, room);
    if (!d->scratch[slot]) {
        d->scratch_bytes[slot] = bytes;
        d->scratch[slot] = cuda_take(k, bytes);
    }
    if (!d->scratch[slot]) {
        cuda_fail(k, SIGHT_E_MEMORY, "no memory for %.1f MiB of scratch", (double)bytes / (1 << 20));
    }
    return d->scratch[slot];
}

// ---- opening ----

static sight_err told(const struct cuda_device *d)
{
    return sight_fail(d->err, "%s", d->error);
}

static int attribute(kernels *k, enum cudaDeviceAttr which)
{
    int value = 0;
    cuda_good(k, cudaDeviceGetAttribute(&value, which, k->cuda->index), "asking the GPU what it has");
    return value;
}

static sight_err read_chip(kernels *k)
{
    cuda_chip *c = &k->cuda->chip;
    c->major = attribute(k, cudaDevAttrComputeCapabilityMajor);
    c->minor = attribute(k, cudaDevAttrComputeCapabilityMinor);
    c->processors = attribute(k, cudaDevAttrMultiProcessorCount);
    c->shared_bytes = (size_t)attribute(k, cudaDevAttrMaxSharedMemoryPerBlockOptin);
    c->l2_bytes = (size_t)attribute(k, cudaDevAttrL2CacheSize);
#ifdef SIGHT_CUDA_SHIM
    c->emulated = true;
#endif
    if (cuda_failed(k)) return told(k->cuda);
    if (c->major < DEVICE_MIN_MAJOR) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "cuda:%d has compute capability %d.%d, at least %d.0 is needed",
                          k->cuda->index, c->major, c->minor, DEVICE_MIN_MAJOR);
    }
    return SIGHT_OK;
}

static sight_err no_memory(const struct cuda_device *d, int64_t bytes, int64_t available)
{
    return sight_fail(SIGHT_E_MEMORY, "cuda:%d has %lld MiB of memory free, %lld MiB are needed", d->index,
                      (long long)(available >> 20), (long long)(bytes >> 20));
}

// Where no number was given, a little less is tried: others may take memory meanwhile, and not all that is called
// free is to be had in one piece. *bytes is what was had.
static cudaError_t take_block(unsigned char **base, int64_t *bytes, bool exactly)
{
    cudaError_t e = cudaMalloc((void **)base, (size_t)*bytes);
    for (int i = 0; i < 8 && e == cudaErrorMemoryAllocation && !exactly && *bytes > 2 * MIN_BYTES; i++) {
        cudaGetLastError();
        *bytes = *bytes / 16 * 15 / (int64_t)POOL_UNIT * (int64_t)POOL_UNIT;
        e = cudaMalloc((void **)base, (size_t)*bytes);
    }
    return e;
}

static int64_t spare_of(int64_t bytes)
{
    const int64_t small = bytes / SMALL_SPARE_PART < SMALL_SPARE_BYTES ? bytes / SMALL_SPARE_PART : SMALL_SPARE_BYTES;
    const int64_t usual = bytes / SPARE_PART < SPARE_BYTES ? bytes / SPARE_PART : SPARE_BYTES;
    return usual > small ? usual : small;
}

int64_t cuda_piece_bytes(const kernels *k)
{
    return (int64_t)k->cuda->heap->spare / PIECES_OF_SPARE;
}

// One block for everything that is ever allocated here.
static sight_err open_heap(kernels *k, int64_t bytes)
{
    struct cuda_device *d = k->cuda;
    size_t available = 0, total = 0;
    if (!cuda_good(k, cudaMemGetInfo(&available, &total), "asking for free memory")) return told(d);
    const int64_t room = (int64_t)available - RESERVE_BYTES - (int64_t)(total / RESERVE_PART);
    const bool exactly = bytes > 0;
    if (!exactly) bytes = room;
    bytes = bytes / (int64_t)POOL_UNIT * (int64_t)POOL_UNIT;
    if (bytes < MIN_BYTES) return no_memory(d, MIN_BYTES, bytes < 0 ? 0 : bytes);
    d->heap = calloc(1, sizeof *d->heap);
    if (!d->heap) return sight_fail(SIGHT_E_MEMORY, "no memory for the kernels");
    d->heap->users[0] = d;
    const cudaError_t e = take_block(&d->heap->base, &bytes, exactly);
    d->heap->bytes = (size_t)bytes;
    d->heap->spare = (size_t)spare_of(bytes);
    if (e != cudaSuccess) {
        d->heap->base = NULL;
        cudaGetLastError(); // it is told here, and not again
        if (e == cudaErrorMemoryAllocation) return no_memory(d, bytes, (int64_t)available);
        cuda_good(k, e, "allocating memory");
        return told(d);
    }
    return pool_create(&d->heap->pool, (uint64_t)bytes);
}

// Stream, events, rings: what each object has of its own. The object that was first goes first on the chip too.
static sight_err open_own(kernels *k, bool first)
{
    struct cuda_device *d = k->cuda;
    const unsigned untimed = cudaEventDisableTiming;
    const size_t ring = CUDA_RING_PARTS * CUDA_MAX_STEP_ARGS;
    bool good = cuda_good(k, cudaStreamCreateWithPriority(&d->stream, cudaStreamNonBlocking, first ? -1 : 0),
                          "making a stream") &&
                cuda_good(k, cudaEventCreateWithFlags(&d->mark, untimed), "making an event") &&
                cuda_good(k, cudaMallocHost((void **)&d->ring.host, ring), "allocating pinned memory") &&
                cuda_good(k, cudaMallocHost((void **)&d->landing, CUDA_LANDING_BYTES),
                          "allocating pinned memory");
    for (int i = 0; good && i < CUDA_RING_PARTS; i++) {
        good = cuda_good(k, cudaEventCreateWithFlags(&d->ring.done[i], untimed), "making an event");
    }
    if (!good) return told(d);
    d->ring.device = cuda_take(k, ring);
    d->step.args = cuda_take(k, CUDA_MAX_STEP_ARGS);
    if (!d->ring.device || !d->step.args) {
        return sight_fail(SIGHT_E_MEMORY, "no memory on cuda:%d for %zu MiB of arguments", d->index,
                          (ring + CUDA_MAX_STEP_ARGS) >> 20);
    }
    return SIGHT_OK;
}

// No entry of the CPU stays: those that a GPU does not have (inner loops, looks of the output layer) are NULL.
static void fill_table(backend_ops *ops)
{
    *ops = (backend_ops){0};
    memory_cuda_fill(ops);
    parts_cuda_fill(ops);
    linear_cuda_fill(ops);
    rows_cuda_fill(ops);
    attention_cuda_fill(ops);
    delta_cuda_fill(ops);
    pick_cuda_fill(ops);
}

static sight_err open_object(kernels *k, int index)
{
    k->cuda = calloc(1, sizeof *k->cuda);
    if (!k->cuda) return sight_fail(SIGHT_E_MEMORY, "no memory for the kernels");
    k->cuda->index = index;
    if (!cuda_enter(k)) return told(k->cuda);
    return SIGHT_OK;
}

sight_err cuda_open(kernels *k, const kernels_options *options)
{
    const int index = options->device.index;
    if (device_gpus() == 0) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "device cuda:%d: %s", index, device_without_gpu());
    }
    if (index < 0 || index >= device_gpus()) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "there is no cuda:%d, the last one here is cuda:%d", index,
                          device_gpus() - 1);
    }
    sight_err err = open_object(k, index);
    if (!err) err = read_chip(k);
    if (!err) err = open_heap(k, options->device_bytes);
    if (!err) err = open_own(k, true);
    if (!err) fill_table(&k->ops);
    return err;
}

sight_err cuda_open_beside(kernels *k, kernels *first)
{
    sight_err err = open_object(k, first->cuda->index);
    if (err) return err;
    struct cuda_device *d = k->cuda;
    cuda_heap *heap = first->cuda->heap;
    while (d->place < CUDA_MAX_BESIDE && heap->users[d->place]) d->place++;
    if (d->place == CUDA_MAX_BESIDE) {
        return sight_fail(SIGHT_E_LIMIT, "cuda:%d: at most %d objects beside each other", d->index,
                          CUDA_MAX_BESIDE);
    }
    d->chip = first->cuda->chip;
    d->heap = heap;
    heap->users[d->place] = d;
    return open_own(k, false);
}

// ---- closing: of a lost device too, so that errors do not matter ----

static void close_own(kernels *k)
{
    struct cuda_device *d = k->cuda;
    for (int i = 0; i < CUDA_KEPT; i++) {
        if (d->kept[i].p) d->kept[i].done(d->kept[i].p);
    }
    cuda_step_done(k);
    if (d->heap) {
        for (int i = 0; i < CUDA_SCRATCH_SLOTS; i++) cuda_give(k, d->scratch[i]);
        cuda_give(k, d->ring.device);
        cuda_give(k, d->step.args);
    }
    for (int i = 0; i < CUDA_RING_PARTS; i++) {
        if (d->ring.done[i]) cudaEventDestroy(d->ring.done[i]);
    }
    if (d->mark) cudaEventDestroy(d->mark);
    if (d->ring.host) cudaFreeHost(d->ring.host);
    if (d->landing) cudaFreeHost(d->landing);
    if (d->stream) cudaStreamDestroy(d->stream);
}

// The last one ends it.
static void leave_heap(struct cuda_device *d)
{
    cuda_heap *heap = d->heap;
    if (!heap) return;
    bool others = false;
    heap->users[d->place] = NULL;
    for (int i = 0; i < CUDA_MAX_BESIDE; i++) {
        if (!heap->users[i]) continue;
        heap->users[i]->frees_seen[d->place] = 0; // whoever takes the place counts from 0
        others = true;
    }
    if (others) return;
    if (heap->base) {
        cuda_unguard(heap);
        cudaFree(heap->base);
    }
    pool_destroy(&heap->pool);
    free(heap);
}

void cuda_close(kernels *k)
{
    struct cuda_device *d = k->cuda;
    if (!d) return;
    cudaSetDevice(d->index);
    if (d->stream) cudaStreamSynchronize(d->stream);
    close_own(k);
    leave_heap(d);
    cudaGetLastError();
    free(d);
    k->cuda = NULL;
}
