#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "region.h"
#include "runtime.h"

// Work that waits in a stream, or stands in a graph. One allocation, with what it copies behind it.
typedef enum work_kind { WORK_LAUNCH, WORK_COPY, WORK_SET, WORK_RECORD, WORK_WAIT, WORK_GRAPH, WORK_HOST } work_kind;

typedef struct work {
    work_kind kind;
    struct work *next;
    shim_kernel kernel; // and its arguments in bytes[]
    // copy: rows; from is bytes[] when it was the host's own memory
    void *to;
    const void *from;
    size_t to_pitch, from_pitch, width, height;
    int value;
    struct shim_event *event;
    struct shim_stream *stream; // wait: where it was recorded
    long long ticket;           // of the event's records
    struct shim_graph *graph;
    cudaHostFn_t fn;
    void *arg;
    size_t n_bytes;
    _Alignas(16) unsigned char bytes[];
} work;

struct shim_stream {
    int device;
    bool blocking, running;
    work *head, *tail;
    int n;
    struct shim_graph *capture; // being recorded into
    bool captured_badly;
    bool origin; // of the capture
    struct shim_stream *next;
};

struct shim_event {
    int references; // the caller's, and that of work under way
    bool timing;
    long long asked, done; // records
    struct shim_stream *stream; // of the last record
    struct shim_graph *capture; // the last record was captured
    struct timespec time;
};

struct shim_graph {
    int references; // the caller's, those of runs, of launches under way, of the stream that records
    work *head, *tail;
};

struct shim_graph_run {
    struct shim_graph *graph;
};

#define MAX_WAITING 4096 // work of a stream, then the oldest is done

static struct shim_stream *streams;
static struct shim_stream *defaults[SHIM_MAX_DEVICES];

static cudaError_t run_one(struct shim_stream *s);

// ---- lifetimes ----

static void event_unref(struct shim_event *e)
{
    if (--e->references == 0) free(e);
}

static void work_free(work *w);

static void graph_unref(struct shim_graph *g)
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

static work *work_create(work_kind kind, size_t bytes)
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

// The stream that a handle means; NULL: no memory, or no such stream.
static struct shim_stream *stream_of(cudaStream_t handle)
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
        while (!e && w->event->done < w->ticket) e = run_one(w->stream);
        break;
    case WORK_GRAPH:
        runtime_counts.graph_launches++;
        for (work *node = w->graph->head; node && !e; node = node->next) e = work_run(node);
        break;
    case WORK_HOST: w->fn(w->arg); break;
    }
    return e;
}

// The oldest of a stream's work. It must have some.
static cudaError_t run_one(struct shim_stream *s)
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

static cudaError_t run_all(struct shim_stream *s)
{
    cudaError_t e = cudaSuccess;
    memory_open();
    while (s->head && !e) e = run_one(s);
    memory_close();
    return e;
}

cudaError_t streams_run_all(int device, bool blocking_only)
{
    cudaError_t e = cudaSuccess;
    for (struct shim_stream *s = streams; s && !e; s = s->next) {
        if (s->device == device && (s->blocking || !blocking_only)) e = run_all(s);
    }
    return e;
}

// What the default stream and those that heed it owe each other before new work.
static cudaError_t heed_default(struct shim_stream *s)
{
    if (s == defaults[s->device]) return streams_run_all(s->device, true);
    if (s->blocking && defaults[s->device]) return run_all(defaults[s->device]);
    return cudaSuccess;
}

// Takes w over, NULL included.
static cudaError_t give(struct shim_stream *s, work *w)
{
    if (!w) return cudaErrorMemoryAllocation;
    if (s->capture) {
        append(&s->capture->head, &s->capture->tail, w);
        return cudaSuccess;
    }
    cudaError_t e = heed_default(s);
    if (e) {
        work_free(w);
        return e;
    }
    append(&s->head, &s->tail, w);
    if (++s->n > MAX_WAITING) e = run_one(s);
    return e;
}

// Of an entry that gives work to a stream: locks, and looks for what is wrong already. NULL: *e says what.
static struct shim_stream *begin(cudaStream_t handle, cudaError_t *e)
{
    runtime_lock();
    *e = runtime_check();
    struct shim_stream *s = *e ? NULL : stream_of(handle);
    if (!*e && !s) *e = cudaErrorInvalidResourceHandle;
    return s;
}

static cudaError_t end(cudaError_t e)
{
    runtime_unlock();
    return runtime_error(e);
}

// A call that waits, while the stream is captured: the capture is lost.
static bool captured(struct shim_stream *s)
{
    if (!s->capture) return false;
    s->captured_badly = true;
    return true;
}

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
    struct shim_stream *s = begin(stream, &e);
    if (s && !launch_fits(kernel)) {
        e = cudaErrorInvalidConfiguration;
    } else if (s) {
        work *w = work_create(WORK_LAUNCH, bytes);
        if (w) {
            w->kernel = *kernel;
            memcpy(w->bytes, args, bytes);
        }
        e = give(s, w);
    }
    end(e);
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
        captured(s);
        return cudaErrorStreamCaptureUnsupported;
    }
    cudaError_t e = give(s, copy_work(c, from == MEMORY_HOST && !s->capture));
    if (!e && (wait || into_host)) return run_all(s);
    // Until the copy is done nobody may read what it writes.
    for (size_t y = 0; !e && !s->capture && to == MEMORY_PINNED && y < c->height; y++) {
        region_poison((char *)c->to + y * c->to_pitch, c->width);
    }
    return e;
}

static cudaError_t copy_any(const copy *c, cudaMemcpyKind kind, cudaStream_t stream, bool wait)
{
    cudaError_t e;
    struct shim_stream *s = begin(stream, &e);
    if (s) e = copy_give(s, c, kind, wait);
    return end(e);
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
    const cudaError_t e = give(s, w);
    return e || !wait ? e : run_all(s);
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    cudaError_t e;
    struct shim_stream *s = begin(stream, &e);
    if (s) e = set_give(s, p, value, bytes, false);
    return end(e);
}

cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    cudaError_t e;
    struct shim_stream *s = begin(NULL, &e);
    if (s) e = set_give(s, p, value, bytes, true);
    return end(e);
}

// ---- streams ----

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    runtime_lock();
    cudaError_t e = runtime_check();
    if (!e) *out = stream_create(runtime_device(), !(flags & cudaStreamNonBlocking));
    return end(e ? e : *out ? cudaSuccess : cudaErrorMemoryAllocation);
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
        if (!runtime_check()) e = run_all(s);
        stream_free(s);
    }
    return end(e);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    cudaError_t e;
    struct shim_stream *s = begin(stream, &e);
    runtime_counts.waits++;
    if (s && captured(s)) e = cudaErrorStreamCaptureUnsupported;
    else if (s) e = heed_default(s);
    if (s && !e) e = run_all(s);
    return end(e);
}

cudaError_t cudaDeviceSynchronize(void)
{
    runtime_lock();
    runtime_counts.waits++;
    cudaError_t e = runtime_check();
    if (!e) e = streams_run_all(runtime_device(), false);
    return end(e);
}

cudaError_t cudaDeviceReset(void)
{
    return cudaDeviceSynchronize();
}

// Something gets done whenever somebody looks.
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    cudaError_t e;
    struct shim_stream *s = begin(stream, &e);
    if (s && captured(s)) e = cudaErrorStreamCaptureUnsupported;
    else if (s && s->head) {
        e = run_one(s);
        if (!e && s->head) e = cudaErrorNotReady;
    }
    return end(e);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t fn, void *arg)
{
    cudaError_t e;
    struct shim_stream *s = begin(stream, &e);
    if (s) {
        work *w = work_create(WORK_HOST, 0);
        if (w) {
            w->fn = fn;
            w->arg = arg;
        }
        e = give(s, w);
    }
    return end(e);
}

// ---- events ----

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    runtime_lock();
    cudaError_t e = runtime_check();
    struct shim_event *event = e ? NULL : calloc(1, sizeof *event);
    if (!e && !event) e = cudaErrorMemoryAllocation;
    if (event) {
        event->references = 1;
        event->timing = !(flags & cudaEventDisableTiming);
        *out = event;
    }
    return end(e);
}

cudaError_t cudaEventCreate(cudaEvent_t *out)
{
    return cudaEventCreateWithFlags(out, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    if (!event) return runtime_error(cudaErrorInvalidResourceHandle);
    runtime_lock();
    event_unref(event);
    runtime_unlock();
    return cudaSuccess;
}

static cudaError_t record(struct shim_stream *s, struct shim_event *event)
{
    event->capture = s->capture;
    if (s->capture) return cudaSuccess; // nodes run in the order they were recorded in
    work *w = work_create(WORK_RECORD, 0);
    if (w) {
        w->event = event;
        event->references++;
        w->ticket = ++event->asked;
        event->stream = s;
    }
    return give(s, w);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    cudaError_t e;
    struct shim_stream *s = begin(stream, &e);
    if (s) e = record(s, event);
    return end(e);
}

static bool capture_lives(const struct shim_graph *g)
{
    for (const struct shim_stream *s = streams; s; s = s->next) {
        if (g && s->capture == g) return true;
    }
    return false;
}

static cudaError_t wait_for(struct shim_stream *s, struct shim_event *event)
{
    if (capture_lives(event->capture)) { // the stream joins what records
        if (s->capture == event->capture) return cudaSuccess;
        if (s->capture || s->head) return cudaErrorStreamCaptureUnsupported;
        s->capture = event->capture;
        s->capture->references++;
        return cudaSuccess;
    }
    if (event->done == event->asked || s->capture) return cudaSuccess;
    work *w = work_create(WORK_WAIT, 0);
    if (w) {
        w->event = event;
        event->references++;
        w->ticket = event->asked;
        w->stream = event->stream;
    }
    return give(s, w);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    cudaError_t e;
    struct shim_stream *s = begin(stream, &e);
    if (s) e = wait_for(s, event);
    return end(e);
}

static cudaError_t reach(struct shim_event *event)
{
    cudaError_t e = cudaSuccess;
    while (!e && event->done < event->asked) e = run_one(event->stream);
    return e;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    runtime_lock();
    runtime_counts.waits++;
    cudaError_t e = runtime_check();
    if (!e && capture_lives(event->capture)) e = cudaErrorStreamCaptureUnsupported;
    if (!e) e = reach(event);
    return end(e);
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    runtime_lock();
    cudaError_t e = runtime_check();
    if (!e && event->done < event->asked) e = run_one(event->stream);
    if (!e && event->done < event->asked) e = cudaErrorNotReady;
    return end(e);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    runtime_lock();
    cudaError_t e = runtime_check();
    if (!e && (!from->timing || !to->timing || !from->done || !to->done)) e = cudaErrorInvalidResourceHandle;
    if (!e && (from->done < from->asked || to->done < to->asked)) e = cudaErrorNotReady;
    if (!e) {
        *ms = (float)((double)(to->time.tv_sec - from->time.tv_sec) * 1e3 +
                      (double)(to->time.tv_nsec - from->time.tv_nsec) * 1e-6);
    }
    return end(e);
}

// ---- graphs ----

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    cudaError_t e;
    struct shim_stream *s = begin(stream, &e);
    if (s && (!stream || s->capture)) e = cudaErrorStreamCaptureUnsupported;
    if (s && !e) {
        s->capture = calloc(1, sizeof *s->capture);
        if (!s->capture) e = cudaErrorMemoryAllocation;
        else s->capture->references = 1;
        s->captured_badly = false;
        s->origin = true;
    }
    return end(e);
}

// Streams that joined leave with the one that began.
static void leave(struct shim_graph *g)
{
    for (struct shim_stream *s = streams; s; s = s->next) {
        if (s->capture != g || s->origin) continue;
        s->capture = NULL;
        graph_unref(g);
    }
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    runtime_lock();
    struct shim_stream *s = stream_of(stream);
    cudaError_t e = !s ? cudaErrorInvalidResourceHandle : !s->capture ? cudaErrorInvalidValue : cudaSuccess;
    *out = NULL;
    if (!e) {
        struct shim_graph *g = s->capture;
        leave(g);
        s->capture = NULL;
        s->origin = false;
        if (s->captured_badly) {
            graph_unref(g);
            e = cudaErrorStreamCaptureInvalidated;
        } else {
            *out = g;
        }
    }
    return end(e ? e : runtime_check());
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    runtime_lock();
    struct shim_stream *s = stream_of(stream);
    *status = !s || !s->capture ? cudaStreamCaptureStatusNone
              : s->captured_badly ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
    return end(s ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags)
{
    runtime_lock();
    cudaError_t e = runtime_check();
    struct shim_graph_run *run = e ? NULL : malloc(sizeof *run);
    if (!e && !run) e = cudaErrorMemoryAllocation;
    if (run) {
        run->graph = graph;
        graph->references++;
        *out = run;
    }
    return end(e);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t run, cudaStream_t stream)
{
    cudaError_t e;
    begin(stream, &e);
    return end(e);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t run, cudaStream_t stream)
{
    cudaError_t e;
    struct shim_stream *s = begin(stream, &e);
    if (s) {
        work *w = work_create(WORK_GRAPH, 0);
        if (w) {
            w->graph = run->graph;
            run->graph->references++;
        }
        e = give(s, w);
    }
    return end(e);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t run)
{
    runtime_lock();
    graph_unref(run->graph);
    free(run);
    return end(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    runtime_lock();
    graph_unref(graph);
    return end(cudaSuccess);
}

__attribute__((destructor)) static void forget_defaults(void)
{
    for (int d = 0; d < SHIM_MAX_DEVICES; d++) {
        if (defaults[d]) stream_free(defaults[d]);
        defaults[d] = NULL;
    }
}
