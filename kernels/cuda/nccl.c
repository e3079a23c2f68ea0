// Source of names, types and numbers: the NCCL user guide, "API"; ncclFloat32 is 7 and ncclSum is 0 since 2.0.
#include "kernels/cuda/nccl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

#include "kernels/cuda/device.h"

#define MAX_RANKS 16
#define NCCL_FLOAT32 7
#define NCCL_SUM 0

struct cuda_group {
    void *library;
    nccl_calls nccl;
    int32_t ranks;
    kernels *k[MAX_RANKS];
    nccl_comm *comms[MAX_RANKS]; // NULL: not made, or ended
    int results[MAX_RANKS];      // NCCL's first one that was not 0, of each rank's calls
    pthread_mutex_t lock; // of ended
    bool has_lock, ended;
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
    g->library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!g->library) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "a model over several GPUs needs NCCL: %s", dlerror());
    }
    if (find(g->library, &n->init_all, "ncclCommInitAll") && find(g->library, &n->destroy, "ncclCommDestroy") &&
        find(g->library, &n->abort, "ncclCommAbort") && find(g->library, &n->all_reduce, "ncclAllReduce") &&
        find(g->library, &n->all_gather, "ncclAllGather") && find(g->library, &n->error, "ncclGetErrorString")) {
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
    sight_err err = g->has_lock ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for a group of GPUs");
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
    if (g->has_lock) pthread_mutex_destroy(&g->lock);
    free(g);
    *p = NULL;
}

void cuda_group_end(cuda_group *g)
{
    pthread_mutex_lock(&g->lock);
    for (int32_t i = 0; i < g->ranks && !g->ended; i++) {
        if (g->comms[i]) g->nccl.abort(g->comms[i]);
        g->comms[i] = NULL;
    }
    g->ended = true;
    pthread_mutex_unlock(&g->lock);
}

// ---- calls ----

typedef struct group_args {
    nccl_comm *comm;
    const nccl_calls *nccl;
    int *result;
    float *to;
    const float *from;
    int64_t n;
} group_args;

static void keep(int *first, int result)
{
    if (*first == 0) *first = result;
}

static void launch_add(cudaStream_t stream, const void *args)
{
    const group_args *a = args;
    keep(a->result, a->nccl->all_reduce(a->from, a->to, (size_t)a->n, NCCL_FLOAT32, NCCL_SUM, a->comm, stream));
}

static void launch_gather(cudaStream_t stream, const void *args)
{
    const group_args *a = args;
    keep(a->result, a->nccl->all_gather(a->from, a->to, (size_t)a->n, NCCL_FLOAT32, a->comm, stream));
}

static void launch(cuda_group *g, int32_t rank, cuda_launcher *launcher, float *to, const float *from, int64_t n)
{
    pthread_mutex_lock(&g->lock);
    nccl_comm *comm = g->comms[rank];
    pthread_mutex_unlock(&g->lock);
    if (!comm) {
        cuda_fail(g->k[rank], SIGHT_E_INTERNAL, "another GPU of the group has given up");
        return;
    }
    const group_args a = {comm, &g->nccl, &g->results[rank], to, from, n};
    cuda_launch(g->k[rank], launcher, &a, sizeof a);
}

void cuda_group_add(cuda_group *g, int32_t rank, float *x, int64_t n)
{
    launch(g, rank, launch_add, x, x, n);
}

void cuda_group_gather(cuda_group *g, int32_t rank, float *to, const float *part, int64_t n)
{
    launch(g, rank, launch_gather, to, part, n);
}

sight_err cuda_group_status(const cuda_group *g, int32_t rank)
{
    if (g->results[rank] == 0) return SIGHT_OK;
    return sight_fail(SIGHT_E_INTERNAL, "cuda:%d, together with others: %s", kernels_device(g->k[rank]).index,
                      g->nccl.error(g->results[rank]));
}
