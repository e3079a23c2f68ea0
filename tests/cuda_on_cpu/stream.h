// tests/cuda_on_cpu/stream.h - what waits in the shim's streams, for the files of stream_*.
//
// Threads: all of it belongs to who holds runtime_lock.
#ifndef SIGHT_TESTS_STREAM_H
#define SIGHT_TESTS_STREAM_H

#include <stdbool.h>
#include <time.h>

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

// ---- work ----

work *work_create(work_kind kind, size_t bytes); // NULL: no memory
void event_unref(struct shim_event *e);
void graph_unref(struct shim_graph *g); // accepts NULL

// ---- streams ----

// The stream that a handle means; NULL: no memory, or no such stream.
struct shim_stream *stream_of(cudaStream_t handle);
// Of an entry that gives work to a stream: locks, and looks for what is wrong already. NULL: *e says what.
struct shim_stream *stream_begin(cudaStream_t handle, cudaError_t *e);
cudaError_t stream_end(cudaError_t e); // unlocks, and gives e back
// Takes w over, NULL included.
cudaError_t stream_give(struct shim_stream *s, work *w);
// The oldest of a stream's work. It must have some.
cudaError_t stream_run_one(struct shim_stream *s);
cudaError_t stream_run_all(struct shim_stream *s);

// A call that waits, while the stream is captured: the capture is lost.
bool stream_captured(struct shim_stream *s);
// Whether some stream still records into it.
bool stream_capture_lives(const struct shim_graph *g);
// Streams that joined leave with the one that began.
void stream_leave_capture(struct shim_graph *g);

#endif
