#include "kernels/cuda/relay.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RANKS 16

enum { RELAY_GOOD, RELAY_ENDED, RELAY_MEMORY, RELAY_COPY };

// What the ranks share; the last of them frees it.
typedef struct relay {
    pthread_mutex_t lock;
    pthread_cond_t all;
    int n, users, waiting;
    uint64_t rounds; // how often all were there
    bool ended;
    const float *brought[MAX_RANKS];
} relay;

struct nccl_comm {
    relay *r;
    int rank;
    bool inside; // a call is under way
    float *mine, *made; // pinned [room]
    size_t room;
};

// ---- the object ----

static void leave_relay(nccl_comm *c)
{
    relay *r = c->r;
    pthread_mutex_lock(&r->lock);
    const bool last = --r->users == 0;
    pthread_mutex_unlock(&r->lock);
    if (c->mine) cudaFreeHost(c->mine);
    if (c->made) cudaFreeHost(c->made);
    free(c);
    if (!last) return;
    pthread_cond_destroy(&r->all);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

static int relay_init_all(nccl_comm **comms, int n, const int *devices)
{
    relay *r = calloc(1, sizeof *r);
    if (!r || n < 1 || n > MAX_RANKS) {
        free(r);
        return RELAY_MEMORY;
    }
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->all, NULL);
    r->n = r->users = n;
    bool good = true;
    for (int i = 0; i < n; i++) {
        comms[i] = calloc(1, sizeof **comms);
        if (comms[i]) *comms[i] = (nccl_comm){.r = r, .rank = i};
        else good = false;
    }
    if (good) return RELAY_GOOD;
    for (int i = 0; i < n; i++) {
        if (!comms[i]) r->users--;
    }
    if (r->users == 0) {
        pthread_cond_destroy(&r->all);
        pthread_mutex_destroy(&r->lock);
        free(r);
    }
    for (int i = 0; i < n; i++) {
        if (comms[i]) leave_relay(comms[i]);
        comms[i] = NULL;
    }
    return RELAY_MEMORY;
}

static int relay_destroy(nccl_comm *c)
{
    leave_relay(c);
    return RELAY_GOOD;
}

static int relay_abort(nccl_comm *c)
{
    relay *r = c->r;
    pthread_mutex_lock(&r->lock);
    r->ended = true;
    pthread_cond_broadcast(&r->all);
    while (c->inside) pthread_cond_wait(&r->all, &r->lock);
    pthread_mutex_unlock(&r->lock);
    leave_relay(c);
    return RELAY_GOOD;
}

static const char *relay_error(int result)
{
    switch (result) {
    case RELAY_ENDED: return "another GPU of the group has given up";
    case RELAY_MEMORY: return "no pinned memory for sums by way of the host";
    default: return "a copy between GPU and host has failed";
    }
}

// ---- a call ----

static void set_inside(nccl_comm *c, bool inside)
{
    relay *r = c->r;
    pthread_mutex_lock(&r->lock);
    c->inside = inside;
    if (!inside) pthread_cond_broadcast(&r->all);
    pthread_mutex_unlock(&r->lock);
}

// Waits for all ranks. After a first meeting all come to the second (last), whatever happens.
static bool meet(relay *r, bool last)
{
    pthread_mutex_lock(&r->lock);
    const uint64_t round = r->rounds;
    const bool comes = last || !r->ended;
    if (comes && ++r->waiting == r->n) {
        r->waiting = 0;
        r->rounds++;
        pthread_cond_broadcast(&r->all);
    }
    while (comes && r->rounds == round && (last || !r->ended)) pthread_cond_wait(&r->all, &r->lock);
    const bool met = r->rounds != round;
    pthread_mutex_unlock(&r->lock);
    return met;
}

static bool make_room(nccl_comm *c, size_t n)
{
    if (n <= c->room) return true;
    if (c->mine) cudaFreeHost(c->mine);
    if (c->made) cudaFreeHost(c->made);
    c->mine = c->made = NULL;
    c->room = 0;
    if (cudaMallocHost((void **)&c->mine, n * sizeof *c->mine) ||
        cudaMallocHost((void **)&c->made, n * sizeof *c->made)) {
        return false;
    }
    c->room = n;
    return true;
}

// What happens between two meetings of the ranks; made [all] is what goes to `to` then, where there is any.
typedef struct relay_call {
    const void *from;
    void *to;
    size_t n, all;
    bool brings; // this rank has something to show
    void (*make)(const nccl_comm *c, float *made, size_t n);
} relay_call;

// In a recording nothing can be waited for: that spoils it on purpose, and no graph comes of the step.
static bool recorded(cudaStream_t stream)
{
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    if (!cudaStreamIsCapturing(stream, &status) && status == cudaStreamCaptureStatusNone) return false;
    cudaStreamSynchronize(stream);
    return true;
}

static int run(nccl_comm *c, const relay_call *call, cudaStream_t stream)
{
    // What the last call left on the stream is over when the stream has been waited for.
    if (cudaStreamSynchronize(stream)) return RELAY_COPY;
    if (!make_room(c, call->all > call->n ? call->all : call->n)) return RELAY_MEMORY;
    const size_t bytes = call->n * sizeof(float);
    if (call->brings && (cudaMemcpyAsync(c->mine, call->from, bytes, cudaMemcpyDeviceToHost, stream) ||
                         cudaStreamSynchronize(stream))) {
        return RELAY_COPY;
    }
    pthread_mutex_lock(&c->r->lock);
    c->r->brought[c->rank] = c->mine;
    pthread_mutex_unlock(&c->r->lock);
    if (!meet(c->r, false)) return RELAY_ENDED;
    if (call->make) call->make(c, c->made, call->n);
    meet(c->r, true);
    if (!call->make) return RELAY_GOOD;
    return cudaMemcpyAsync(call->to, c->made, call->all * sizeof(float), cudaMemcpyHostToDevice, stream) ? RELAY_COPY
                                                                                                         : RELAY_GOOD;
}

static int call_of(nccl_comm *c, const relay_call *call, cudaStream_t stream)
{
    if (recorded(stream)) return RELAY_GOOD;
    set_inside(c, true);
    const int result = run(c, call, stream);
    set_inside(c, false);
    return result;
}

// ---- what is made of what was brought ----

static void make_sum(const nccl_comm *c, float *made, size_t n)
{
    const float *const *brought = c->r->brought;
    for (size_t i = 0; i < n; i++) {
        float sum = brought[0][i];
        for (int r = 1; r < c->r->n; r++) sum += brought[r][i];
        made[i] = sum;
    }
}

static void make_all(const nccl_comm *c, float *made, size_t n)
{
    for (int r = 0; r < c->r->n; r++) memcpy(made + (size_t)r * n, c->r->brought[r], n * sizeof *made);
}

static void make_first(const nccl_comm *c, float *made, size_t n)
{
    memcpy(made, c->r->brought[0], n * sizeof *made);
}

static int relay_all_reduce(const void *from, void *to, size_t n, int type, int op, nccl_comm *c, cudaStream_t stream)
{
    const relay_call call = {.from = from, .to = to, .n = n, .all = n, .brings = true, .make = make_sum};
    return call_of(c, &call, stream);
}

static int relay_all_gather(const void *from, void *to, size_t n, int type, nccl_comm *c, cudaStream_t stream)
{
    const relay_call call = {.from = from, .to = to, .n = n, .all = n * (size_t)c->r->n, .brings = true,
                             .make = make_all};
    return call_of(c, &call, stream);
}

// root is the first rank.
static int relay_broadcast(const void *from, void *to, size_t n, int type, int root, nccl_comm *c, cudaStream_t stream)
{
    const relay_call call = {.from = from, .to = to, .n = n, .all = n, .brings = c->rank == 0,
                             .make = c->rank == 0 ? NULL : make_first};
    return call_of(c, &call, stream);
}

const nccl_calls *relay_calls(void)
{
    static const nccl_calls calls = {.init_all = relay_init_all,
                                     .destroy = relay_destroy,
                                     .abort = relay_abort,
                                     .all_reduce = relay_all_reduce,
                                     .all_gather = relay_all_gather,
                                     .broadcast = relay_broadcast,
                                     .error = relay_error};
    return &calls;
}
