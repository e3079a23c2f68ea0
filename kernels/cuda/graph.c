// Steps as graphs. A step's launches are noted; when it ends, a list that was seen before is run as the graph
// made of it. A list seen for the first time is launched one by one: many are never seen again, and what
// kernels and libraries do once (loading code, choosing forms) must not happen while a graph is recorded.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/state.h"
#include "kernels/memory.h"

typedef struct noted {
    cuda_launcher *launcher;
    uint64_t bytes; // of the arguments that follow
} noted;

_Static_assert(sizeof(noted) == 16, "arguments stay aligned to 16 bytes");

// ---- noting ----

static bool has_room(kernels *k, size_t bytes)
{
    cuda_step *s = &k->cuda->step;
    if (s->bytes + bytes <= s->room) return true;
    const size_t room = s->room ? s->room * 2 : (size_t)1 << 16;
    unsigned char *list = realloc(s->list, room);
    if (!list) {
        cuda_fail(k, SIGHT_E_MEMORY, "no memory for a step's list");
        return false;
    }
    s->list = list;
    s->room = room;
    return true;
}

void cuda_note(kernels *k, cuda_launcher *launcher, const void *args, size_t bytes)
{
    cuda_step *s = &k->cuda->step;
    const size_t padded = (bytes + 15) & ~(size_t)15;
    if (!has_room(k, sizeof(noted) + padded)) return;
    const noted head = {launcher, bytes};
    unsigned char *at = s->list + s->bytes;
    memcpy(at, &head, sizeof head);
    memset(at + sizeof head + bytes, 0, padded - bytes);
    memcpy(at + sizeof head, args, bytes);
    s->bytes += sizeof head + padded;
}

// ---- steps seen before ----

// Eight bytes at a time; a list is compared as a whole besides.
static uint64_t hash_of(const unsigned char *list, size_t bytes)
{
    uint64_t h = 0x9e3779b97f4a7c15u ^ bytes;
    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t word;
        memcpy(&word, list + i, 8);
        h = (h ^ word) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    return h;
}

static cuda_graph *find(cuda_step *s, uint64_t hash)
{
    for (int i = 0; i < CUDA_MAX_GRAPHS; i++) {
        cuda_graph *g = &s->graphs[i];
        if (g->list && g->hash == hash && g->bytes == s->bytes && !memcmp(g->list, s->list, s->bytes)) return g;
    }
    return NULL;
}

static void forget(kernels *k, cuda_graph *g)
{
    if (g->exec) {
        cudaStreamSynchronize(k->cuda->stream); // it may be running
        cudaGraphExecDestroy(g->exec);
    }
    free(g->list);
    *g = (cuda_graph){0};
}

// Keeps the list in place of that which was not used for longest. Without memory it is not kept.
static void keep(kernels *k, uint64_t hash)
{
    cuda_step *s = &k->cuda->step;
    unsigned char *list = malloc(s->bytes);
    if (!list) return;
    cuda_graph *oldest = &s->graphs[0];
    for (int i = 0; i < CUDA_MAX_GRAPHS; i++) {
        if (s->graphs[i].last_used < oldest->last_used) oldest = &s->graphs[i];
    }
    forget(k, oldest);
    memcpy(list, s->list, s->bytes);
    *oldest = (cuda_graph){.hash = hash, .last_used = s->steps, .list = list, .bytes = s->bytes};
}

// ---- running ----

// The first error of a launcher, or success.
static cudaError_t play(kernels *k)
{
    const cuda_step *s = &k->cuda->step;
    for (size_t at = 0; at < s->bytes;) {
        noted head;
        memcpy(&head, s->list + at, sizeof head);
        head.launcher(k->cuda->stream, s->list + at + sizeof head);
        const cudaError_t e = cudaGetLastError();
        if (e != cudaSuccess) return e;
        at += sizeof head + ((head.bytes + 15) & ~(uint64_t)15);
    }
    return cudaSuccess;
}

// NULL: no graph can be made of it. Nothing has run then, and no error stays.
static cudaGraph_t record(kernels *k)
{
    cudaGraph_t graph = NULL;
    const cudaStream_t stream = k->cuda->stream;
    if (cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess) {
        cudaGetLastError();
        return NULL;
    }
    const cudaError_t played = play(k), ended = cudaStreamEndCapture(stream, &graph);
    if (played == cudaSuccess && ended == cudaSuccess) return graph;
    cudaGetLastError();
    if (graph) cudaGraphDestroy(graph);
    return NULL;
}

static void make_graph(kernels *k, cuda_graph *g)
{
    cudaGraph_t graph = record(k);
    g->refused = true;
    if (!graph) return;
    if (cudaGraphInstantiate(&g->exec, graph, 0) == cudaSuccess) {
        g->refused = false;
        k->cuda->step.graphs_made++;
    } else {
        g->exec = NULL;
        cudaGetLastError();
    }
    cudaGraphDestroy(graph);
}

static void run(kernels *k)
{
    cuda_step *s = &k->cuda->step;
    const uint64_t hash = hash_of(s->list, s->bytes);
    cuda_graph *g = find(s, hash);
    s->steps++;
    if (g) g->last_used = s->steps;
    if (g && !g->exec && !g->refused) make_graph(k, g);
    if (g && g->exec) {
        cuda_good(k, cudaGraphLaunch(g->exec, k->cuda->stream), "starting a step");
        return;
    }
    if (!g) keep(k, hash);
    cuda_good(k, play(k), "starting a step's kernels");
}

// ---- begin and end ----

void cuda_step_begin(kernels *k)
{
    cuda_step *s = &k->cuda->step;
    assert(!s->on);
    if (k->profile || cuda_failed(k)) return; // op by op, each with its time
    if (k->cuda->ring.used && !cuda_ring_turn(k)) return;
    s->bytes = 0;
    s->on = true;
}

static bool send_args(kernels *k)
{
    const struct cuda_device *d = k->cuda;
    const cuda_ring *r = &d->ring;
    if (!cuda_enter(k)) return false;
    if (!r->used) return true;
    const cudaError_t e = cudaMemcpyAsync(d->step.args, r->host + (size_t)r->part * CUDA_MAX_STEP_ARGS,
                                          r->used, cudaMemcpyHostToDevice, d->stream);
    return cuda_good(k, e, "copying a step's arguments");
}

sight_err cuda_step_end(kernels *k)
{
    cuda_step *s = &k->cuda->step;
    if (s->on) {
        if (send_args(k) && s->bytes) run(k);
        s->on = false;
        for (size_t i = 0; i < s->n_freed; i++) cuda_give(k, s->freed[i]);
        s->n_freed = 0;
    }
    return kernels_status(k);
}

void cuda_step_done(kernels *k)
{
    cuda_step *s = &k->cuda->step;
    for (int i = 0; i < CUDA_MAX_GRAPHS; i++) {
        if (s->graphs[i].list) forget(k, &s->graphs[i]);
    }
    s->on = false;
    for (size_t i = 0; i < s->n_freed; i++) cuda_give(k, s->freed[i]);
    free(s->freed);
    free(s->list);
}
