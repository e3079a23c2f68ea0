#define _GNU_SOURCE
#include "base/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define relax() _mm_pause()
#else
#define relax() ((void)0)
#endif

// About 50 us of spinning: longer than the gap between two ops of a step.
#define SPIN_ROUNDS 4000

typedef struct job {
    threads_fn *fn;
    void *arg;
    int64_t n, grain;
} job;

// Each thread starts with its own run of neighbouring pieces, so that what it reads ahead is its
// own; who is done early takes from the runs of the others.
typedef struct worker {
    _Alignas(64) atomic_llong next; // piece of this run not handed out
    int64_t end;
    threads *pool;
    pthread_t thread;
    int index;
} worker;

struct threads {
    int n;
    worker *workers; // [n], the caller is 0
    job job;
    const atomic_bool *stop_flag; // of the work, not of the pool; NULL: none
    // A worker enters (counts itself in `inside`), then looks whether the job is open; the caller
    // closes it, then waits until nobody is inside. So nobody waits for a thread that still sleeps.
    _Alignas(64) atomic_uint generation; // grows with each job
    atomic_bool open;
    _Alignas(64) atomic_int inside;
    atomic_int sleepers;
    atomic_bool stop;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
};

static bool stopped(const threads *t)
{
    return t->stop_flag && atomic_load_explicit(t->stop_flag, memory_order_relaxed);
}

static void take_from(worker *w, const job *j, int index)
{
    while (!stopped(w->pool) && atomic_load_explicit(&w->next, memory_order_relaxed) < w->end) {
        int64_t piece = atomic_fetch_add_explicit(&w->next, 1, memory_order_relaxed);
        if (piece >= w->end) return;
        int64_t begin = piece * j->grain, end = begin + j->grain < j->n ? begin + j->grain : j->n;
        j->fn(j->arg, begin, end, index);
    }
}

static void take_pieces(threads *t, int index)
{
    const job j = t->job;
    for (int i = 0; i < t->n; i++) take_from(&t->workers[(index + i) % t->n], &j, index);
}

// Waits for a generation other than `seen`, or the end.
static void wait_for_job(threads *t, unsigned seen)
{
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (atomic_load_explicit(&t->generation, memory_order_acquire) != seen) return;
        if (atomic_load(&t->stop)) return;
        relax();
    }
    pthread_mutex_lock(&t->mutex);
    atomic_fetch_add(&t->sleepers, 1);
    while (atomic_load(&t->generation) == seen && !atomic_load(&t->stop)) {
        pthread_cond_wait(&t->wake, &t->mutex);
    }
    atomic_fetch_sub(&t->sleepers, 1);
    pthread_mutex_unlock(&t->mutex);
}

static void *worker_main(void *arg)
{
    worker *w = arg;
    threads *t = w->pool;
    unsigned seen = 0;
    for (;;) {
        wait_for_job(t, seen);
        if (atomic_load(&t->stop)) return NULL;
        atomic_fetch_add(&t->inside, 1);
        seen = atomic_load(&t->generation);
        if (atomic_load(&t->open)) take_pieces(t, w->index);
        atomic_fetch_sub(&t->inside, 1);
    }
}

sight_err threads_create(threads **out, int n)
{
    if (n == 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        n = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
        if (n > 256) n = 256;
    }
    if (n < 1 || n > 256) {
        return sight_fail(SIGHT_E_ARGUMENT, "threads is %d, must be 1 to 256", n);
    }
    threads *t = aligned_alloc(64, (sizeof *t + 63) / 64 * 64);
    worker *workers = aligned_alloc(64, (size_t)n * sizeof *workers);
    if (!t || !workers) {
        free(t);
        free(workers);
        return sight_fail(SIGHT_E_MEMORY, "no memory for %d threads", n);
    }
    *t = (threads){.n = 1, .workers = workers};
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->wake, NULL);
    for (int i = 0; i < n; i++) {
        worker *w = &workers[i];
        *w = (worker){.pool = t, .index = i};
        if (i > 0 && pthread_create(&w->thread, NULL, worker_main, w)) {
            threads_destroy(&t);
            return sight_fail(SIGHT_E_MEMORY, "cannot start thread %d of %d", i + 1, n);
        }
        t->n = i + 1;
    }
    *out = t;
    return SIGHT_OK;
}

void threads_destroy(threads **p)
{
    threads *t = *p;
    if (!t) return;
    pthread_mutex_lock(&t->mutex);
    atomic_store(&t->stop, true);
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->mutex);
    for (int i = 1; i < t->n; i++) pthread_join(t->workers[i].thread, NULL);
    pthread_mutex_destroy(&t->mutex);
    pthread_cond_destroy(&t->wake);
    free(t->workers);
    free(t);
    *p = NULL;
}

int threads_count(const threads *t)
{
    return t ? t->n : 1;
}

void threads_set_stop(threads *t, const atomic_bool *flag)
{
    if (t) t->stop_flag = flag;
}

void threads_for(threads *t, int64_t n, int64_t grain, threads_fn *fn, void *arg)
{
    if (n <= 0) return;
    if (grain < 1) grain = 1;
    if (!t || t->n == 1 || n <= grain) {
        for (int64_t begin = 0; begin < n && !(t && stopped(t)); begin += grain) {
            fn(arg, begin, begin + grain < n ? begin + grain : n, 0);
        }
        return;
    }
    t->job = (job){fn, arg, n, grain};
    int64_t pieces = (n + grain - 1) / grain;
    for (int i = 0; i < t->n; i++) {
        atomic_store_explicit(&t->workers[i].next, pieces * i / t->n, memory_order_relaxed);
        t->workers[i].end = pieces * (i + 1) / t->n;
    }
    atomic_store(&t->open, true);
    atomic_fetch_add(&t->generation, 1);
    if (atomic_load(&t->sleepers)) {
        pthread_mutex_lock(&t->mutex);
        pthread_cond_broadcast(&t->wake);
        pthread_mutex_unlock(&t->mutex);
    }
    take_pieces(t, 0);
    atomic_store(&t->open, false);
    // The last pieces of other threads: short, so spin first, then let others run.
    for (int i = 0; atomic_load(&t->inside); i++) {
        if (i < SPIN_ROUNDS) relax();
        else sched_yield();
    }
}
