#include "daemon/worker.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct worker {
    pthread_t thread;
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t changed;
    worker_fn *fn; // NULL: nothing to do
    void *arg;
    bool stop;
};

static void *worker_main(void *arg)
{
    worker *w = arg;
    pthread_mutex_lock(&w->mutex);
    for (;;) {
        while (!w->fn && !w->stop) pthread_cond_wait(&w->changed, &w->mutex);
        if (!w->fn) break;
        worker_fn *fn = w->fn;
        void *fn_arg = w->arg;
        w->fn = NULL; // the next one may be handed over as soon as fn has told of its end
        pthread_mutex_unlock(&w->mutex);
        fn(fn_arg);
        pthread_mutex_lock(&w->mutex);
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

sight_err worker_create(worker **out)
{
    worker *w = calloc(1, sizeof *w);
    if (!w) return sight_fail(SIGHT_E_MEMORY, "no memory for a thread");
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->changed, NULL);
    if (pthread_create(&w->thread, NULL, worker_main, w)) {
        pthread_cond_destroy(&w->changed);
        pthread_mutex_destroy(&w->mutex);
        free(w);
        return sight_fail(SIGHT_E_MEMORY, "cannot start a thread");
    }
    *out = w;
    return SIGHT_OK;
}

void worker_destroy(worker **p)
{
    worker *w = *p;
    if (!w) return;
    pthread_mutex_lock(&w->mutex);
    w->stop = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->mutex);
    free(w);
    *p = NULL;
}

void worker_run(worker *w, worker_fn *fn, void *arg)
{
    pthread_mutex_lock(&w->mutex);
    w->fn = fn;
    w->arg = arg;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->mutex);
}
