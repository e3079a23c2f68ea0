// Graphs: what a stream was given while it was captured.
#define _GNU_SOURCE
#include <stdlib.h>

#include "stream.h"

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    cudaError_t e;
    struct shim_stream *s = stream_begin(stream, &e);
    if (s && (!stream || s->capture)) e = cudaErrorStreamCaptureUnsupported;
    if (s && !e) {
        s->capture = calloc(1, sizeof *s->capture);
        if (!s->capture) e = cudaErrorMemoryAllocation;
        else s->capture->references = 1;
        s->captured_badly = false;
        s->origin = true;
    }
    return stream_end(e);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    runtime_lock();
    struct shim_stream *s = stream_of(stream);
    cudaError_t e = !s ? cudaErrorInvalidResourceHandle : !s->capture ? cudaErrorInvalidValue : cudaSuccess;
    *out = NULL;
    if (!e) {
        struct shim_graph *g = s->capture;
        stream_leave_capture(g);
        s->capture = NULL;
        s->origin = false;
        if (s->captured_badly) {
            graph_unref(g);
            e = cudaErrorStreamCaptureInvalidated;
        } else {
            *out = g;
        }
    }
    return stream_end(e ? e : runtime_check());
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    runtime_lock();
    struct shim_stream *s = stream_of(stream);
    *status = !s || !s->capture ? cudaStreamCaptureStatusNone
              : s->captured_badly ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
    return stream_end(s ? cudaSuccess : cudaErrorInvalidResourceHandle);
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
    return stream_end(e);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t run, cudaStream_t stream)
{
    cudaError_t e;
    stream_begin(stream, &e);
    return stream_end(e);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t run, cudaStream_t stream)
{
    cudaError_t e;
    struct shim_stream *s = stream_begin(stream, &e);
    if (s) {
        work *w = work_create(WORK_GRAPH, 0);
        if (w) {
            w->graph = run->graph;
            run->graph->references++;
        }
        e = stream_give(s, w);
    }
    return stream_end(e);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t run)
{
    runtime_lock();
    graph_unref(run->graph);
    free(run);
    return stream_end(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    runtime_lock();
    graph_unref(graph);
    return stream_end(cudaSuccess);
}
