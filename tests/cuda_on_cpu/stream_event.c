// Events: records in streams, and who waits for them.
#define _GNU_SOURCE
#include <stdlib.h>

#include "stream.h"

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
    return stream_end(e);
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
    return stream_give(s, w);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    cudaError_t e;
    struct shim_stream *s = stream_begin(stream, &e);
    if (s) e = record(s, event);
    return stream_end(e);
}

static cudaError_t wait_for(struct shim_stream *s, struct shim_event *event)
{
    if (stream_capture_lives(event->capture)) { // the stream joins what records
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
    return stream_give(s, w);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    cudaError_t e;
    struct shim_stream *s = stream_begin(stream, &e);
    if (s) e = wait_for(s, event);
    return stream_end(e);
}

static cudaError_t reach(struct shim_event *event)
{
    cudaError_t e = cudaSuccess;
    while (!e && event->done < event->asked) e = stream_run_one(event->stream);
    return e;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    runtime_lock();
    runtime_counts.waits++;
    cudaError_t e = runtime_check();
    if (!e && stream_capture_lives(event->capture)) e = cudaErrorStreamCaptureUnsupported;
    if (!e) e = reach(event);
    return stream_end(e);
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    runtime_lock();
    cudaError_t e = runtime_check();
    if (!e && event->done < event->asked) e = stream_run_one(event->stream);
    if (!e && event->done < event->asked) e = cudaErrorNotReady;
    return stream_end(e);
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
    return stream_end(e);
}
