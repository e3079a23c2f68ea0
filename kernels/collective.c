#include "kernels/collective.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/backend.h"
#include "kernels/memory.h"
#ifdef SIGHT_CUDA
#include "kernels/cuda/nccl.h"
#endif

struct collective {
    int32_t ranks;
    kernels *k[COLLECTIVE_MAX_RANKS];
    struct cuda_group *group; // kernels/cuda/nccl.h; NULL with CPUs
    float *x[COLLECTIVE_MAX_RANKS]; // what the ranks brought to the call under way
    pthread_mutex_t lock;
    pthread_cond_t all;
    int32_t waiting;
    uint64_t rounds; // how often all were there
    bool fine[COLLECTIVE_MAX_RANKS]; // collective_agree
    bool has_lock, has_all, ended;
};

int32_t collective_ranks(const collective *c)
{
    return c->ranks;
}

const char *collective_relayed(const collective *c)
{
#ifdef SIGHT_CUDA
    if (c->group) return cuda_group_relayed(c->group);
#endif
    return NULL;
}

static sight_err check(kernels *const *k, int32_t ranks)
{
    if (ranks < 1 || ranks > COLLECTIVE_MAX_RANKS) {
        return sight_fail(SIGHT_E_ARGUMENT, "a group of %d, 1 to %d are possible", ranks,
                          COLLECTIVE_MAX_RANKS);
    }
    for (int32_t i = 0; i < ranks; i++) {
        if (kernels_on_device(k[i]) != kernels_on_device(k[0])) {
            return sight_fail(SIGHT_E_ARGUMENT, "a group of CPUs and GPUs");
        }
        for (int32_t j = 0; j < i; j++) {
            const bool same = kernels_on_device(k[i]) && kernels_device(k[i]).index == kernels_device(k[j]).index;
            if (!same && k[i] != k[j]) continue;
            return sight_fail(SIGHT_E_ARGUMENT, "two of a group are on the same device");
        }
    }
    return SIGHT_OK;
}

static sight_err open_group(collective *c, const struct nccl_calls *calls)
{
#ifdef SIGHT_CUDA
    if (kernels_on_device(c->k[0])) return cuda_group_create(&c->group, c->k, c->ranks, calls);
#endif
    return SIGHT_OK;
}

sight_err collective_create(collective **out, kernels *const *k, int32_t ranks)
{
    return collective_create_with(out, k, ranks, NULL);
}

sight_err collective_create_with(collective **out, kernels *const *k, int32_t ranks,
                                 const struct nccl_calls *calls)
{
    sight_err err = check(k, ranks);
    if (err) return err;
    collective *c = calloc(1, sizeof *c);
    if (!c) return sight_fail(SIGHT_E_MEMORY, "no memory for a group of devices");
    c->ranks = ranks;
    memcpy(c->k, k, (size_t)ranks * sizeof *k);
    c->has_lock = pthread_mutex_init(&c->lock, NULL) == 0;
    c->has_all = pthread_cond_init(&c->all, NULL) == 0;
    err = c->has_lock && c->has_all ? open_group(c, calls)
                                    : sight_fail(SIGHT_E_MEMORY, "no memory for a group of devices");
    if (err) collective_destroy(&c);
    else *out = c;
    return err;
}

void collective_destroy(collective **p)
{
    collective *c = *p;
    if (!c) return;
#ifdef SIGHT_CUDA
    cuda_group_destroy(&c->group);
#endif
    if (c->has_all) pthread_cond_destroy(&c->all);
    if (c->has_lock) pthread_mutex_destroy(&c->lock);
    free(c);
    *p = NULL;
}

void collective_end(collective *c)
{
    pthread_mutex_lock(&c->lock);
    c->ended = true;
    pthread_cond_broadcast(&c->all);
    pthread_mutex_unlock(&c->lock);
#ifdef SIGHT_CUDA
    if (c->group) cuda_group_end(c->group);
#endif
}

sight_err collective_status(collective *c, int32_t rank)
{
    pthread_mutex_lock(&c->lock);
    const bool ended = c->ended;
    pthread_mutex_unlock(&c->lock);
    if (ended) return sight_fail(SIGHT_E_INTERNAL, "another device of the group has given up");
#ifdef SIGHT_CUDA
    if (c->group) return cuda_group_status(c->group, rank);
#endif
    return SIGHT_OK;
}

// Waits until all ranks are here. false: one has given up, before all were. What follows such a meeting is
// whole: who was there comes to the next one too (last), whatever happens.
static bool meet(collective *c, bool last)
{
    pthread_mutex_lock(&c->lock);
    const uint64_t round = c->rounds;
    const bool comes = last || !c->ended;
    if (comes && ++c->waiting == c->ranks) {
        c->waiting = 0;
        c->rounds++;
        pthread_cond_broadcast(&c->all);
    }
    while (comes && c->rounds == round && (last || !c->ended)) pthread_cond_wait(&c->all, &c->lock);
    const bool met = c->rounds != round;
    pthread_mutex_unlock(&c->lock);
    return met;
}

bool collective_agree(collective *c, int32_t rank, bool fine)
{
    bool all = true;
    c->fine[rank] = fine;
    if (!meet(c, false)) return false;
    for (int32_t r = 0; r < c->ranks; r++) all &= c->fine[r];
    meet(c, true);
    return all;
}

// ---- with CPUs: each rank works out its share and writes it to all ----

typedef struct add_job {
    collective *c;
    int64_t first;
} add_job;

static void add_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const add_job *j = arg;
    float *const *x = j->c->x;
    for (int64_t i = j->first + begin; i < j->first + end; i++) {
        float sum = x[0][i];
        for (int32_t r = 1; r < j->c->ranks; r++) sum += x[r][i];
        for (int32_t r = 0; r < j->c->ranks; r++) x[r][i] = sum;
    }
}

static void plain_add(collective *c, int32_t rank, float *x, int64_t n)
{
    c->x[rank] = x;
    if (!meet(c, false)) return;
    add_job j = {c, n * rank / c->ranks};
    threads_for(c->k[rank]->pool, n * (rank + 1) / c->ranks - j.first, 4096, add_some, &j);
    meet(c, true);
}

// Each rank copies all parts, in pieces of one row of one rank.
typedef struct gather_job {
    collective *c;
    float *to;
    int64_t width;
} gather_job;

static void gather_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const gather_job *j = arg;
    for (int64_t i = begin; i < end; i++) {
        const int64_t row = i / j->c->ranks, r = i % j->c->ranks;
        memcpy(j->to + i * j->width, j->c->x[r] + row * j->width, (size_t)j->width * sizeof *j->to);
    }
}

static void plain_gather(collective *c, int32_t rank, float *to, const float *part, int64_t n, int64_t width)
{
    c->x[rank] = (float *)part; // only read
    if (!meet(c, false)) return;
    gather_job j = {c, to, width};
    threads_for(c->k[rank]->pool, n * c->ranks, 4, gather_some, &j);
    meet(c, true);
}

static void plain_share(collective *c, int32_t rank, float *x, int64_t n)
{
    c->x[rank] = x;
    if (!meet(c, false)) return;
    if (rank > 0) memcpy(x, c->x[0], (size_t)n * sizeof *x);
    meet(c, true);
}

// ---- either ----

void collective_add(collective *c, int32_t rank, float *x, int64_t n)
{
    assert(rank >= 0 && rank < c->ranks);
    if (n <= 0 || c->ranks == 1) return;
#ifdef SIGHT_CUDA
    if (c->group) {
        cuda_group_add(c->group, rank, x, n);
        return;
    }
#endif
    plain_add(c, rank, x, n);
}

void collective_gather(collective *c, int32_t rank, float *to, float *room, const float *part, int64_t n,
                       int64_t width)
{
    assert(rank >= 0 && rank < c->ranks && width > 0);
    if (n <= 0) return;
#ifdef SIGHT_CUDA
    if (c->group) {
        float *flat = n == 1 ? to : room; // rank by rank, which for one row is what is wanted
        cuda_group_gather(c->group, rank, flat, part, n * width);
        for (int32_t r = 0; r < c->ranks && n > 1; r++) {
            op_copy_rows(c->k[rank], to + r * width, c->ranks * width, room + r * n * width, width, n, width);
        }
        return;
    }
#endif
    plain_gather(c, rank, to, part, n, width);
}

void collective_share(collective *c, int32_t rank, float *x, int64_t n)
{
    assert(rank >= 0 && rank < c->ranks);
    if (n <= 0 || c->ranks == 1) return;
#ifdef SIGHT_CUDA
    if (c->group) {
        cuda_group_share(c->group, rank, x, n);
        return;
    }
#endif
    plain_share(c, rank, x, n);
}

sight_err collective_step_end(collective *c, int32_t rank)
{
#ifdef SIGHT_CUDA
    if (c->group) return cuda_group_step_end(c->group, rank);
#endif
    return kernels_step_end(c->k[rank]);
}
