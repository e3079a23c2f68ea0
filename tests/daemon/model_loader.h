// tests/daemon/model_loader.h - the registry of models with a loader that opens nothing: it notes what it is asked for, in which order, with
// how much memory.
#ifndef TESTS_DAEMON_MODEL_LOADER_H
#define TESTS_DAEMON_MODEL_LOADER_H

#include "support/test.h"

#include <pthread.h>

#include "daemon/models/models.h"
#include "daemon/settings/options.h"

#define MIB ((int64_t)1 << 20)

// A model is called by what it needs: "/fake/300" fails with less than 300 MiB; "/fake/bad" fails always, "/fake/odd" as the
// second of replicas.
typedef struct loader {
    pthread_mutex_t lock;
    pthread_cond_t turned;
    double now;
    int64_t all, free; // of any device
    bool held;         // an opening waits
    bool opening;      // and one does
    bool lone;         // what is opened is the only one left of its replicas
    int opens, closes, changes;
    int64_t given; // bytes, to the last one
    char opened[64];
    models *m;
} loader;

// Stands for an engine.
typedef struct fake {
    char model[64];
} fake;

static inline void on_changed(void *arg)
{
    loader *l = arg;
    pthread_mutex_lock(&l->lock);
    l->changes++;
    pthread_cond_broadcast(&l->turned);
    pthread_mutex_unlock(&l->lock);
}

static inline sight_err fake_open(void *arg, engine **out, const model_opening *how)
{
    loader *l = arg;
    const char *what = strrchr(how->spec->model, '/') + 1;
    how->progress(how->progress_arg, 50);
    pthread_mutex_lock(&l->lock);
    l->opening = true;
    pthread_cond_broadcast(&l->turned);
    while (l->held && !atomic_load(how->stop)) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_nsec = (t.tv_nsec + 2000000) % 1000000000; // the flag has no signal
        pthread_cond_timedwait(&l->turned, &l->lock, &t);
    }
    l->opening = false;
    l->opens++;
    l->given = how->bytes;
    snprintf(l->opened, sizeof l->opened, "%s", how->spec->name);
    pthread_mutex_unlock(&l->lock);
    if (atomic_load(how->stop)) return sight_fail(SIGHT_E_CANCELLED, "stopped");
    if (!strcmp(what, "odd") && how->replica == 1) return sight_fail(SIGHT_E_MODEL, "the second is damaged");
    if ((how->first != NULL) != (how->replica > 0 && !l->lone)) return sight_fail(SIGHT_E_INTERNAL, "which is first?");
    if (!strcmp(what, "bad")) return sight_fail(SIGHT_E_MODEL, "it is damaged");
    const int64_t needs = atoll(what) * MIB;
    if (how->bytes && how->bytes < needs) return sight_fail(SIGHT_E_MEMORY, "it needs %s MiB", what);
    fake *f = calloc(1, sizeof *f);
    if (!f) return sight_fail(SIGHT_E_MEMORY, "no memory");
    snprintf(f->model, sizeof f->model, "%s", what);
    *out = (engine *)(void *)f;
    return SIGHT_OK;
}

static inline void fake_close(void *arg, engine **e)
{
    loader *l = arg;
    pthread_mutex_lock(&l->lock);
    l->closes++;
    pthread_mutex_unlock(&l->lock);
    free(*e);
    *e = NULL;
}

static inline json_t *fake_describe(void *arg, const engine *e)
{
    return json_pack("{s:s}", "fake", ((const fake *)(const void *)e)->model);
}

// "cpu", "cuda:N", "cuda:N,M", and replicas of these.
static inline sight_err fake_devices(void *arg, device_sets *out, const char *word)
{
    *out = (device_sets){.n = 0};
    for (const char *at = word ? word : "auto"; at; at = strchr(at, '/') ? strchr(at, '/') + 1 : NULL) {
        device_list *one = &out->at[out->n++];
        *one = (device_list){.n = 1};
        if (strncmp(at, "cuda:", 5)) continue;
        one->at[0] = (device_id){DEVICE_CUDA, at[5] - '0'};
        if (at[6] == ',') one->at[one->n++] = (device_id){DEVICE_CUDA, at[7] - '0'};
    }
    return SIGHT_OK;
}

static inline sight_err fake_memory(void *arg, int64_t *all, int64_t *left, device_id device)
{
    const loader *l = arg;
    *all = l->all;
    *left = l->free;
    return SIGHT_OK;
}

static inline double fake_now(void *arg)
{
    loader *l = arg;
    pthread_mutex_lock(&l->lock);
    const double now = l->now;
    pthread_mutex_unlock(&l->lock);
    return now;
}

static inline void read_set(model_set *set, const char *text)
{
    options o;
    options_set_defaults(&o);
    assert_ok(options_read_text(&o, text, "f"));
    assert_ok(options_check(&o));
    assert_ok(model_set_make(set, &o));
    options_done(&o);
}

static inline sight_err create(loader *l, const char *text)
{
    *l = (loader){.all = 1000 * MIB, .free = 1000 * MIB, .now = 100};
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->turned, NULL);
    model_set set;
    read_set(&set, text);
    const models_options o = {.retry_s = 30, .ops = {fake_open, fake_close, fake_describe, fake_devices, fake_memory,
                                                     fake_now, l}};
    sight_err err = models_create(&l->m, &set, &o);
    model_set_done(&set);
    if (!err) models_listen(l->m, on_changed, l);
    return err;
}

static inline void destroy(loader *l)
{
    models_destroy(&l->m);
    assert_int_equal(l->opens - l->closes >= 0, 1);
    pthread_cond_destroy(&l->turned);
    pthread_mutex_destroy(&l->lock);
}

static inline void set_now(loader *l, double now)
{
    pthread_mutex_lock(&l->lock);
    l->now = now;
    pthread_mutex_unlock(&l->lock);
}

static inline void hold(loader *l, bool held)
{
    pthread_mutex_lock(&l->lock);
    l->held = held;
    pthread_cond_broadcast(&l->turned);
    pthread_mutex_unlock(&l->lock);
}

static inline void wait_until_opening(loader *l)
{
    pthread_mutex_lock(&l->lock);
    while (!l->opening) pthread_cond_wait(&l->turned, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

// Until the model is in that state, as the server would: by being told of changes.
static inline void wait_for(loader *l, const char *name, model_state state)
{
    for (;;) {
        pthread_mutex_lock(&l->lock);
        const int seen = l->changes;
        pthread_mutex_unlock(&l->lock);
        if (models_state(l->m, name) == state) return;
        pthread_mutex_lock(&l->lock);
        while (l->changes == seen) pthread_cond_wait(&l->turned, &l->lock);
        pthread_mutex_unlock(&l->lock);
    }
}

// Begins a use and waits for its end or its engine.
static inline sight_err use(loader *l, model_use *u, const char *name)
{
    sight_err err = models_begin(l->m, u, name);
    while (!err) {
        pthread_mutex_lock(&l->lock);
        const int seen = l->changes;
        pthread_mutex_unlock(&l->lock);
        err = models_take(l->m, u);
        if (err || u->engine) break;
        pthread_mutex_lock(&l->lock);
        while (l->changes == seen) pthread_cond_wait(&l->turned, &l->lock);
        pthread_mutex_unlock(&l->lock);
    }
    return err;
}

#define ON_USE "load = use\n"
#define BIG(name, needs) "[model " name "]\nmodel = /fake/" needs "\n" ON_USE

#endif
