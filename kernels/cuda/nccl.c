// Source of names, types and numbers: the NCCL user guide, "API"; ncclFloat32 is 7 and ncclSum is 0 since 2.0.
#include "kernels/cuda/nccl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "kernels/cuda/device.h"
#include "kernels/cuda/relay.h"

#define MAX_RANKS 16
#define NCCL_FLOAT32 7
#define NCCL_SUM 0
#define PATIENCE_S 1 // for a rank that is in a call while the group ends

struct cuda_group {
    void *library;
    nccl_calls nccl;
    int32_t ranks;
    kernels *k[MAX_RANKS];
    nccl_comm *comms[MAX_RANKS]; // NULL: not made, or ended
    int results[MAX_RANKS];      // NCCL's first one that was not 0, of each rank's calls
    char without[160];           // why there is no NCCL; "": there is
    pthread_mutex_t lock; // of what follows, and of comms
    pthread_cond_t left;  // a rank is no longer inside
    int inside[MAX_RANKS]; // calls under way that use the rank's comm, steps as graphs too
    bool has_lock, has_left, ended;
};

// dlsym gives object pointers; POSIX makes them good for functions.
static bool find(void *library, void *call, const char *name)
{
    void *p = dlsym(library, name);
    *(void **)call = p;
    return p != NULL;
}

static sight_err open_library(cuda_group *g)
{
    nccl_calls *n = &g->nccl;
#ifndef SIGHT_CUDA_SHIM // whose memory and streams NCCL does not know
    g->library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!g->library) snprintf(g->without, sizeof g->without, "%s", dlerror());
#else
    snprintf(g->without, sizeof g->without, "the GPUs are emulated");
#endif
    if (!g->library) {
        *n = *relay_calls();
        return SIGHT_OK;
    }
    if (find(g->library, &n->init_all, "ncclCommInitAll") && find(g->library, &n->destroy, "ncclCommDestroy") &&
        find(g->library, &n->abort, "ncclCommAbort") && find(g->library, &n->all_reduce, "ncclAllReduce") &&
        find(g->library, &n->all_gather, "ncclAllGather") && find(g->library, &n->broadcast, "ncclBroadcast") &&
        find(g->library, &n->error, "ncclGetErrorString")) {
        return SIGHT_OK;
    }
    return sight_fail(SIGHT_E_UNSUPPORTED, "libnccl.so.2 lacks a function: %s", dlerror());
}

sight_err cuda_group_create(cuda_group **out, kernels *const *k, int32_t ranks, const nccl_calls *calls)
{
    int devices[MAX_RANKS];
    if (ranks < 1 || ranks > MAX_RANKS) {
        return sight_fail(SIGHT_E_ARGUMENT, "a group of %d GPUs, 1 to %d are possible", ranks, MAX_RANKS);
    }
    cuda_group *g = calloc(1, sizeof *g);
    if (!g) return sight_fail(SIGHT_E_MEMORY, "no memory for a group of GPUs");
    g->ranks = ranks;
    for (int32_t i = 0; i < ranks; i++) {
        g->k[i] = k[i];
        devices[i] = kernels_device(k[i]).index;
    }
    g->has_lock = pthread_mutex_init(&g->lock, NULL) == 0;
    g->has_left = pthread_cond_init(&g->left, NULL) == 0;
    sight_err err = g->has_lock && g->has_left ? SIGHT_OK
                                               : sight_fail(SIGHT_E_MEMORY, "no memory for a group of GPUs");
    if (calls) g->nccl = *calls;
    else if (!err) err = open_library(g);
    if (!err) {
        const int result = g->nccl.init_all(g->comms, ranks, devices);
        if (result) err = sight_fail(SIGHT_E_INTERNAL, "connecting GPUs: %s", g->nccl.error(result));
    }
    if (err) cuda_group_destroy(&g);
    else *out = g;
    return err;
}

void cuda_group_destroy(cuda_group **p)
{
    cuda_group *g = *p;
    if (!g) return;
    for (int32_t i = 0; i < g->ranks; i++)
        if (g->comms[i]) g->nccl.destroy(g->comms[i]);
    if (g->library) dlclose(g->library);
    if (g->has_left) pthread_cond_destroy(&g->left);
    if (g->has_lock) pthread_mutex_destroy(&g->lock);
    free(g);
    *p = NULL;
}

const char *cuda_group_relayed(const cuda_group *g)
{
    return g->without[0] ? g->without : NULL;
}

// ---- ending while others may be in a call ----

// The rank's comm, which stays until leave. NULL: the group has ended.
static nccl_comm *enter(cuda_group *g, int32_t rank)
{
    pthread_mutex_lock(&g->lock);
    nccl_comm *comm = g->ended ? NULL : g->comms[rank];
    if (comm) g->inside[rank]++;
    pthread_mutex_unlock(&g->lock);
    return comm;
}

static void leave(cuda_group *g, int32_t rank)
{
    pthread_mutex_lock(&g->lock);
    g->inside[rank]--;
    if (g->ended) pthread_cond_broadcast(&g->left);
    pthread_mutex_unlock(&g->lock);
}

// With the lock, which is given up meanwhile.
static void abort_comm(cuda_group *g, int32_t rank)
{
    nccl_comm *comm = g->comms[rank];
    g->comms[rank] = NULL;
    pthread_mutex_unlock(&g->lock);
    g->nccl.abort(comm);
    pthread_mutex_lock(&g->lock);
}

// First those that are in no call: what waits for them ends then, and leaves. A call that does not come back is
// ended as it is, which NCCL allows.
void cuda_group_end(cuda_group *g)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&g->lock);
    const bool first = !g->ended;
    g->ended = true;
    for (int32_t i = 0; first && i < g->ranks; i++) {
        if (g->comms[i] && !g->inside[i]) abort_comm(g, i);
    }
    for (int32_t i = 0; first && i < g->ranks; i++) {
        while (g->comms[i] && g->inside[i] && !pthread_cond_timedwait(&g->left, &g->lock, &until)) continue;
        if (g->comms[i]) abort_comm(g, i);
    }
    pthread_mutex_unlock(&g->lock);
}

// ---- calls: made when a step is launched, or recorded for its graph ----

typedef enum group_kind { GROUP_ADD, GROUP_GATHER, GROUP_SHARE } group_kind;

typedef struct group_args {
    cuda_group *g;
    float *to;
    const float *from;
    int64_t n, rank, kind;
} group_args;

static void launch_call(cudaStream_t stream, const void *args)
{
    const group_args *a = args;
    const nccl_calls *nccl = &a->g->nccl;
    const size_t n = (size_t)a->n;
    nccl_comm *comm = enter(a->g, (int32_t)a->rank);
    if (!comm) return; // told by collective_status
    int result = 0;
    switch ((group_kind)a->kind) {
    case GROUP_ADD: result = nccl->all_reduce(a->from, a->to, n, NCCL_FLOAT32, NCCL_SUM, comm, stream); break;
    case GROUP_GATHER: result = nccl->all_gather(a->from, a->to, n, NCCL_FLOAT32, comm, stream); break;
    case GROUP_SHARE: result = nccl->broadcast(a->from, a->to, n, NCCL_FLOAT32, 0, comm, stream); break;
    }
    leave(a->g, (int32_t)a->rank);
    if (a->g->results[a->rank] == 0) a->g->results[a->rank] = result;
}

static void launch(cuda_group *g, int32_t rank, group_kind kind, float *to, const float *from, int64_t n)
{
    const group_args a = {g, to, from, n, rank, kind};
    cuda_launch(g->k[rank], launch_call, &a, sizeof a);
}

void cuda_group_add(cuda_group *g, int32_t rank, float *x, int64_t n)
{
    launch(g, rank, GROUP_ADD, x, x, n);
}

void cuda_group_gather(cuda_group *g, int32_t rank, float *to, const float *part, int64_t n)
{
    launch(g, rank, GROUP_GATHER, to, part, n);
}

void cuda_group_share(cuda_group *g, int32_t rank, float *x, int64_t n)
{
    launch(g, rank, GROUP_SHARE, x, x, n);
}

sight_err cuda_group_step_end(cuda_group *g, int32_t rank)
{
    kernels *k = g->k[rank];
    const bool entered = enter(g, rank) != NULL;
    if (!entered) cuda_fail(k, SIGHT_E_INTERNAL, "another GPU of the group has given up");
    sight_err err = kernels_step_end(k);
    if (entered) leave(g, rank);
    return err;
}

sight_err cuda_group_status(const cuda_group *g, int32_t rank)
{
    if (g->results[rank] == 0) return SIGHT_OK;
    return sight_fail(SIGHT_E_INTERNAL, "cuda:%d, together with others: %s", kernels_device(g->k[rank]).index,
                      g->nccl.error(g->results[rank]));
}
