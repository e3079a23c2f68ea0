#define _GNU_SOURCE
#include "stream.h"

#include <stdlib.h>
#include <string.h>

#define MAX_WAITING 4096 // work of a stream, then the oldest is done

static struct shim_stream *streams;
static struct shim_stream *defaults[SHIM_MAX_DEVICES];

// ---- lifetimes ----

void event_unref(struct shim_event *e)
{
    if (--e->references == 0) free(e);
}

static void work_free(work *w);

void graph_unref(struct shim_graph *g)
{
    if (!g || --g->references) return;
    while (g->head) {
        work *w = g->head;
        g->head = w->next;
        work_free(w);
    }
    free(g);
}

static void work_free(work *w)
{
    if (w->event) event_unref(w->event);
    if (w->graph) graph_unref(w->graph);
    free(w);
}

work *work_create(work_kind kind, size_t bytes)
{
    work *w = calloc(1, sizeof *w + bytes);
    if (!w) return NULL;
    w->kind = kind;
    w->n_bytes = bytes;
    return w;
}

static void append(work **head, work **tail, work *w)
{
    if (*head) (*tail)->next = w;
    else *head = w;
    *tail = w;
}

static struct shim_stream *stream_create(int device, bool blocking)
{
    struct shim_stream *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->device = device;
    s->blocking = blocking;
    s->next = streams;
    streams = s;
    return s;
}

struct shim_stream *stream_of(cudaStream_t handle)
{
    if (!handle || handle == cudaStreamLegacy) {
        struct shim_stream **s = &defaults[runtime_device()];
        if (!*s) *s = stream_create(runtime_device(), true);
        return *s;
    }
    for (struct shim_stream *s = streams; s; s = s->next) {
        if (s == handle) return s;
    }
    return NULL;
}

// ---- doing it ----

static void copy_rows(const work *w)
{
    const char *from = w->from ? w->from : (const char *)w->bytes;
    for (size_t y = 0; y < w->height; y++) {
        memcpy((char *)w->to + y * w->to_pitch, from + y * w->from_pitch, w->width);
    }
    runtime_counts.copies++;
}

static cudaError_t launch_run(const work *w)
{
    runtime_counts.launches++;
    runtime_counts.blocks += (long long)w->kernel.grid.x * w->kernel.grid.y * w->kernel.grid.z;
    return block_run_all(&w->kernel, w->bytes) ? cudaSuccess : cudaErrorLaunchFailure;
}

static cudaError_t work_run(work *w)
{
    cudaError_t e = cudaSuccess;
    switch (w->kind) {
    case WORK_LAUNCH: return launch_run(w);
    case WORK_COPY: copy_rows(w); break;
    case WORK_SET: memset(w->to, w->value, w->width); break;
    case WORK_RECORD:
        w->event->done = w->ticket;
        clock_gettime(CLOCK_MONOTONIC, &w->event->time);
        break;
    case WORK_WAIT:
        while (!e && w->event->done < w->ticket) e = stream_run_one(w->stream);
        break;
    case WORK_GRAPH:
        runtime_counts.graph_launches++;
        for (work *node = w->graph->head; node && !e; node = node->next) e = work_run(node);
        break;
    case WORK_HOST: w->fn(w->arg); break;
    }
    return e;
}

cudaError_t stream_run_one(struct shim_stream *s)
{
    work *w = s->head;
    if (!w) {
        block_report("a stream waits for an event that is never recorded");
        return cudaErrorUnknown;
    }
    memory_open();
    const cudaError_t e = work_run(w);
    memory_close();
    s->head = w->next;
    s->n--;
    work_free(w);
    if (e) runtime_break(e);
    return e;
}

cudaError_t stream_run_all(struct shim_stream *s)
{
    cudaError_t e = cudaSuccess;
    memory_open();
    while (s->head && !e) e = stream_run_one(s);
    memory_close();
    return e;
}

cudaError_t streams_run_all(int device, bool blocking_only)
{
    cudaError_t e = cudaSuccess;
    for (struct shim_stream *s = streams; s && !e; s = s->next) {
        if (s->device == device && (s->blocking || !blocking_only)) e = stream_run_all(s);
    }
    return e;
}

// What the default stream and those that heed it owe each other before new work.
static cudaError_t stream_heed_default(struct shim_stream *s)
{
    if (s == defaults[s->device]) return streams_run_all(s->device, true);
    if (s->blocking && defaults[s->device]) return stream_run_all(defaults[s->device]);
    return cudaSuccess;
}

cudaError_t stream_give(struct shim_stream *s, work *w)
{
    if (!w) return cudaErrorMemoryAllocation;
    if (s->capture) {
        append(&s->capture->head, &s->capture->tail, w);
        return cudaSuccess;
    }
    cudaError_t e = stream_heed_default(s);
    if (e) {
        work_free(w);
        return e;
    }
    append(&s->head, &s->tail, w);
    if (++s->n > MAX_WAITING) e = stream_run_one(s);
    return e;
}

struct shim_stream *stream_begin(cudaStream_t handle, cudaError_t *e)
{
    runtime_lock();
    *e = runtime_check();
    struct shim_stream *s = *e ? NULL : stream_of(handle);
    if (!*e && !s) *e = cudaErrorInvalidResourceHandle;
    return s;
}

cudaError_t stream_end(cudaError_t e)
{
    runtime_unlock();
    return runtime_error(e);
}

bool stream_captured(struct shim_stream *s)
{
    if (!s->capture) return false;
    s->captured_badly = true;
    return true;
}

bool stream_capture_lives(const struct shim_graph *g)
{
    for (const struct shim_stream *s = streams; s; s = s->next) {
        if (g && s->capture == g) return true;
    }
    return false;
}

void stream_leave_capture(struct shim_graph *g)
{
    for (struct shim_stream *s = streams; s; s = s->next) {
        if (s->capture != g || s->origin) continue;
        s->capture = NULL;
        graph_unref(g);
    }
}

// ---- streams ----

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    runtime_lock();
    cudaError_t e = runtime_check();
    if (!e) *out = stream_create(runtime_device(), !(flags & cudaStreamNonBlocking));
    return stream_end(e ? e : *out ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaStreamCreate(cudaStream_t *out)
{
    return cudaStreamCreateWithFlags(out, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int priority)
{
    return cudaStreamCreateWithFlags(out, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

// Work that did not happen, after an error, goes unseen.
static void stream_free(struct shim_stream *s)
{
    struct shim_stream **at = &streams;
    while (*at != s) at = &(*at)->next;
    *at = s->next;
    while (s->head) {
        work *w = s->head;
        s->head = w->next;
        work_free(w);
    }
    graph_unref(s->capture);
    free(s);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    runtime_lock();
    struct shim_stream *s = stream ? stream_of(stream) : NULL;
    cudaError_t e = s ? cudaSuccess : cudaErrorInvalidResourceHandle;
    if (s) {
        if (!runtime_check()) e = stream_run_all(s);
        stream_free(s);
    }
    return stream_end(e);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    cudaError_t e;
    struct shim_stream *s = stream_begin(stream, &e);
    runtime_counts.waits++;
    if (s && stream_captured(s)) e = cudaErrorStreamCaptureUnsupported;
    else if (s) e = stream_heed_default(s);
    if (s && !e) e = stream_run_all(s);
    return stream_end(e);
}

cudaError_t cudaDeviceSynchronize(void)
{
    runtime_lock();
    runtime_counts.waits++;
    cudaError_t e = runtime_check();
    if (!e) e = streams_run_all(runtime_device(), false);
    return stream_end(e);
}

cudaError_t cudaDeviceReset(void)
{
    return cudaDeviceSynchronize();
}

// Something gets done whenever somebody looks.
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    cudaError_t e;
    struct shim_stream *s = stream_begin(stream, &e);
    if (s && stream_captured(s)) e = cudaErrorStreamCaptureUnsupported;
    else if (s && s->head) {
        e = stream_run_one(s);
        if (!e && s->head) e = cudaErrorNotReady;
    }
    return stream_end(e);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t fn, void *arg)
{
    cudaError_t e;
    struct shim_stream *s = stream_begin(stream, &e);
    if (s) {
        work *w = work_create(WORK_HOST, 0);
        if (w) {
            w->fn = fn;
            w->arg = arg;
        }
        e = stream_give(s, w);
    }
    return stream_end(e);
}

__attribute__((destructor)) static void forget_defaults(void)
{
    for (int d = 0; d < SHIM_MAX_DEVICES; d++) {
        if (defaults[d]) stream_free(defaults[d]);
        defaults[d] = NULL;
    }
}
