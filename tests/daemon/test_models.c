// The registry of models, with a loader that opens nothing: what it is asked for, in which order, with how much memory.
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

static void on_changed(void *arg)
{
    loader *l = arg;
    pthread_mutex_lock(&l->lock);
    l->changes++;
    pthread_cond_broadcast(&l->turned);
    pthread_mutex_unlock(&l->lock);
}

static sight_err fake_open(void *arg, engine **out, const model_opening *how)
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

static void fake_close(void *arg, engine **e)
{
    loader *l = arg;
    pthread_mutex_lock(&l->lock);
    l->closes++;
    pthread_mutex_unlock(&l->lock);
    free(*e);
    *e = NULL;
}

static json_t *fake_describe(void *arg, const engine *e)
{
    return json_pack("{s:s}", "fake", ((const fake *)(const void *)e)->model);
}

// "cpu", "cuda:N", "cuda:N,M", and replicas of these.
static sight_err fake_devices(void *arg, device_sets *out, const char *word)
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

static sight_err fake_memory(void *arg, int64_t *all, int64_t *left, device_id device)
{
    const loader *l = arg;
    *all = l->all;
    *left = l->free;
    return SIGHT_OK;
}

static double fake_now(void *arg)
{
    loader *l = arg;
    pthread_mutex_lock(&l->lock);
    const double now = l->now;
    pthread_mutex_unlock(&l->lock);
    return now;
}

static void read_set(model_set *set, const char *text)
{
    options o;
    options_set_defaults(&o);
    assert_ok(options_read_text(&o, text, "f"));
    assert_ok(options_check(&o));
    assert_ok(model_set_make(set, &o));
    options_done(&o);
}

static sight_err create(loader *l, const char *text)
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

static void destroy(loader *l)
{
    models_destroy(&l->m);
    assert_int_equal(l->opens - l->closes >= 0, 1);
    pthread_cond_destroy(&l->turned);
    pthread_mutex_destroy(&l->lock);
}

static void set_now(loader *l, double now)
{
    pthread_mutex_lock(&l->lock);
    l->now = now;
    pthread_mutex_unlock(&l->lock);
}

static void hold(loader *l, bool held)
{
    pthread_mutex_lock(&l->lock);
    l->held = held;
    pthread_cond_broadcast(&l->turned);
    pthread_mutex_unlock(&l->lock);
}

static void wait_until_opening(loader *l)
{
    pthread_mutex_lock(&l->lock);
    while (!l->opening) pthread_cond_wait(&l->turned, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

// Until the model is in that state, as the server would: by being told of changes.
static void wait_for(loader *l, const char *name, model_state state)
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
static sight_err use(loader *l, model_use *u, const char *name)
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
#define THREE                                                                                      \
    "[model a]\nmodel = /fake/100\n" ON_USE "unload-after = 60\n[model b]\nmodel = /fake/100\n" ON_USE        \
    "[model c]\nmodel = /fake/bad\n" ON_USE

static void models_are_loaded_when_they_are_used(void **state)
{
    loader l;
    assert_ok(create(&l, THREE));
    assert_ok(models_open_first(l.m));
    assert_int_equal(l.opens, 0);
    model_use a, again, none = {0};
    assert_ok(use(&l, &a, NULL)); // the first one
    assert_string_equal(models_name(&a), "a");
    assert_string_equal(((fake *)(void *)a.engine)->model, "100");
    assert_int_equal(l.given, 1000 * MIB / 3);
    assert_ok(use(&l, &again, "/fake/100")); // by its folder
    assert_ptr_equal(again.engine, a.engine);
    assert_int_equal(l.opens, 1);
    assert_int_equal(models_state(l.m, "b"), MODEL_NOT_LOADED);
    assert_fails(models_begin(l.m, &none, "d"), SIGHT_E_NOT_FOUND, "this server has 'a', 'b', 'c'");
    assert_null(none.entry);
    models_end(l.m, &a);
    models_end(l.m, &again);
    models_end(l.m, &none);
    destroy(&l);
    assert_int_equal(l.closes, 1);
}

static void unused_models_age(void **state)
{
    loader l;
    assert_ok(create(&l, THREE));
    model_use a, b;
    assert_ok(use(&l, &a, "a"));
    assert_ok(use(&l, &b, "b"));
    set_now(&l, 1000);
    models_tick(l.m); // in use
    assert_int_equal(models_state(l.m, "a"), MODEL_LOADED);
    models_end(l.m, &a);
    models_end(l.m, &b);
    set_now(&l, 1059);
    models_tick(l.m); // not yet
    assert_int_equal(models_state(l.m, "a"), MODEL_LOADED);
    set_now(&l, 1061);
    models_tick(l.m);
    wait_for(&l, "a", MODEL_NOT_LOADED);
    assert_int_equal(models_state(l.m, "b"), MODEL_LOADED); // which does not
    assert_ok(use(&l, &a, "a")); // comes back
    assert_int_equal(l.opens, 3);
    models_end(l.m, &a);
    destroy(&l);
}

static void a_failed_one_is_tried_again_after_a_pause(void **state)
{
    loader l;
    assert_ok(create(&l, THREE));
    model_use c, b;
    assert_fails(use(&l, &c, "c"), SIGHT_E_MODEL, "'c' cannot be loaded, it is tried again in 30 s: it is damaged");
    models_end(l.m, &c);
    set_now(&l, 120);
    assert_fails(use(&l, &c, "c"), SIGHT_E_MODEL, "in 10 s");
    models_end(l.m, &c);
    assert_int_equal(l.opens, 1);
    set_now(&l, 131);
    assert_fails(use(&l, &c, "c"), SIGHT_E_MODEL, "in 30 s");
    models_end(l.m, &c);
    assert_int_equal(l.opens, 2);
    assert_ok(use(&l, &b, "b")); // others are not concerned
    models_end(l.m, &b);
    destroy(&l);
}

static void who_asks_while_it_loads_waits_for_the_same(void **state)
{
    loader l;
    assert_ok(create(&l, THREE));
    hold(&l, true);
    model_use first, second, left, other;
    assert_ok(models_begin(l.m, &first, "a"));
    wait_until_opening(&l);
    assert_ok(models_begin(l.m, &second, "a"));
    assert_ok(models_begin(l.m, &left, "a"));
    assert_ok(models_take(l.m, &first));
    assert_null(first.engine);
    assert_int_equal(models_state(l.m, "a"), MODEL_LOADING);
    assert_int_equal(models_percent(l.m, &first), 50);
    models_end(l.m, &left); // cancelled while it loads
    // One that nobody waits for any more is not begun.
    assert_ok(models_begin(l.m, &other, "b"));
    models_end(l.m, &other);
    hold(&l, false);
    wait_for(&l, "a", MODEL_LOADED);
    assert_ok(models_take(l.m, &first));
    assert_ok(models_take(l.m, &second));
    assert_non_null(first.engine);
    assert_ptr_equal(first.engine, second.engine);
    assert_int_equal(models_percent(l.m, &first), -1);
    models_end(l.m, &first);
    models_end(l.m, &second);
    assert_int_equal(l.opens, 1);
    destroy(&l);
}

static void it_ends_while_one_loads(void **state)
{
    loader l;
    assert_ok(create(&l, THREE));
    hold(&l, true);
    model_use a;
    assert_ok(models_begin(l.m, &a, "a"));
    wait_until_opening(&l);
    models_end(l.m, &a);
    destroy(&l); // though held
    assert_int_equal(l.opens, 1);
    assert_int_equal(l.closes, 0);
}

// 1,000 MiB: two of 450 fit, three do not.
#define BIG(name, needs) "[model " name "]\nmodel = /fake/" needs "\n" ON_USE

static void the_one_unused_for_longest_makes_room(void **state)
{
    loader l;
    assert_ok(create(&l, BIG("a", "450") BIG("b", "450") BIG("c", "450")));
    model_use a, b, c;
    assert_ok(use(&l, &a, "a"));
    assert_int_equal(l.given, 1000 * MIB / 3 * 2); // its third was too small
    models_end(l.m, &a);
    assert_ok(use(&l, &b, "b"));
    assert_int_equal(models_state(l.m, "a"), MODEL_NOT_LOADED); // had too much of it
    models_end(l.m, &b);
    destroy(&l);
    assert_ok(create(&l, BIG("a", "300") BIG("b", "300") BIG("c", "600")));
    assert_ok(use(&l, &a, "a"));
    assert_ok(use(&l, &b, "b"));
    models_end(l.m, &b);
    set_now(&l, 200);
    models_end(l.m, &a);
    assert_ok(use(&l, &c, "c"));
    assert_int_equal(models_state(l.m, "b"), MODEL_NOT_LOADED); // left earlier
    assert_int_equal(models_state(l.m, "a"), MODEL_LOADED);
    models_end(l.m, &c);
    destroy(&l);
    assert_ok(create(&l, BIG("a", "300") BIG("b", "1200")));
    assert_fails(use(&l, &b, "b"), SIGHT_E_MEMORY, "it needs 1200 MiB");
    models_end(l.m, &b);
    destroy(&l);
}

static void one_in_use_stays_and_who_waits_for_it_goes_first(void **state)
{
    loader l;
    assert_ok(create(&l, BIG("a", "600") BIG("b", "600")));
    model_use a, b, late;
    assert_ok(use(&l, &a, "a"));
    assert_ok(models_begin(l.m, &b, "b"));
    // The registry has seen that it has to wait when a request that came later is told to.
    for (;;) {
        assert_ok(models_begin(l.m, &late, "a"));
        assert_ok(models_take(l.m, &late));
        if (!late.engine) break;
        models_end(l.m, &late);
    }
    assert_int_equal(models_state(l.m, "a"), MODEL_LOADED);
    models_end(l.m, &a);
    wait_for(&l, "b", MODEL_LOADED);
    assert_ok(models_take(l.m, &late));
    assert_null(late.engine);
    assert_ok(models_take(l.m, &b)); // is not let go for the later one before it was used
    assert_non_null(b.engine);
    models_end(l.m, &b);
    wait_for(&l, "a", MODEL_LOADED);
    assert_ok(models_take(l.m, &late));
    assert_non_null(late.engine);
    models_end(l.m, &late);
    destroy(&l);
}

static void who_gives_up_waiting_for_memory_is_in_nobodys_way(void **state)
{
    loader l;
    assert_ok(create(&l, BIG("a", "600") BIG("b", "600")));
    model_use a, b, late;
    assert_ok(use(&l, &a, "a"));
    assert_ok(models_begin(l.m, &b, "b"));
    models_end(l.m, &b);
    assert_ok(use(&l, &late, "a"));
    models_end(l.m, &late);
    models_end(l.m, &a);
    destroy(&l);
}

static void shares_are_kept_and_must_fit(void **state)
{
    loader l;
    assert_fails(create(&l, "[model a]\nmodel=/fake/1\nmemory = 60%\n[model b]\nmodel=/fake/1\nmemory=500M\n"),
                 SIGHT_E_MEMORY, "come to 1100 MiB (a 600, b 500), 1000 MiB are there");
    destroy(&l);
    assert_fails(create(&l, "memory = 800M\n[model a]\nmodel=/fake/1\nmemory = 100%\n[model b]\nmodel=/fake/1\n"),
                 SIGHT_E_MEMORY, "leave nothing of 800 MiB to 'b'");
    destroy(&l);
    assert_fails(create(&l, "[model a]\nmodel=/fake/1\ndevice=cuda:1\ndevice-memory=60%\n[model b]\nmodel=/fake/1\n"
                            "device=cuda:1\ndevice-memory=41%\n"),
                 SIGHT_E_MEMORY, "shares of the memory of cuda:1 come to");
    destroy(&l);
    assert_ok(create(&l, "[model a]\nmodel=/fake/100\nmemory=40%\n" ON_USE "[model b]\nmodel=/fake/100\n" ON_USE
                         "[model c]\nmodel=/fake/550\n" ON_USE "[model d]\nmodel=/fake/1\ndevice=cuda:0\n" ON_USE));
    model_use a, b, c, d;
    assert_ok(use(&l, &b, "b"));
    assert_int_equal(l.given, 300 * MIB);
    models_end(l.m, &b);
    assert_ok(use(&l, &a, "a"));
    assert_int_equal(l.given, 400 * MIB);
    models_end(l.m, &a);
    assert_ok(use(&l, &c, "c"));
    assert_int_equal(l.given, 600 * MIB); // of 300
    assert_int_equal(models_state(l.m, "a"), MODEL_LOADED); // unused, but it has a share
    assert_int_equal(models_state(l.m, "b"), MODEL_NOT_LOADED);
    assert_ok(use(&l, &d, "d")); // alone on its device: what is free
    assert_int_equal(l.given, 0);
    models_end(l.m, &c);
    models_end(l.m, &d);
    destroy(&l);
}

// One over two GPUs takes a part of each.
static void models_over_several_devices_share_each(void **state)
{
    loader l;
    assert_ok(create(&l, "device-memory = 900M\n[model both]\nmodel=/fake/100\ndevice=cuda:0,1\ndevice-memory=600M\n" ON_USE
                         "[model one]\nmodel=/fake/100\ndevice=cuda:1\n" ON_USE
                         "[model two]\nmodel=/fake/700\ndevice=cuda:0\n" ON_USE));
    model_use both, one, two;
    assert_ok(use(&l, &one, "one"));
    assert_int_equal(l.given, 300 * MIB);
    assert_ok(use(&l, &both, "both"));
    assert_int_equal(l.given, 600 * MIB);
    assert_fails(use(&l, &two, "two"), SIGHT_E_MEMORY, "it needs 700 MiB");
    assert_int_equal(l.given, 300 * MIB);
    models_end(l.m, &one);
    models_end(l.m, &both);
    models_end(l.m, &two);
    destroy(&l);
    assert_fails(create(&l, "[model a]\nmodel=/fake/1\ndevice=cuda:0,1\ndevice-memory=60%\n[model b]\nmodel=/fake/1\n"
                            "device=cuda:1\ndevice-memory=41%\n"),
                 SIGHT_E_MEMORY, "of the memory of cuda:1 come to");
    destroy(&l);
}

static void models_that_start_together_must_fit_together(void **state)
{
    loader l;
    assert_ok(create(&l, "[model a]\nmodel=/fake/600\n[model b]\nmodel=/fake/600\n[model c]\nmodel=/fake/1\n" ON_USE));
    assert_fails(models_open_first(l.m), SIGHT_E_MEMORY, "'b' does not fit beside those loaded before it: it needs 600 MiB");
    destroy(&l);
    assert_ok(create(&l, "[model a]\nmodel=/fake/300\n[model b]\nmodel=/fake/300\n[model c]\nmodel=/fake/1\n" ON_USE));
    assert_ok(models_open_first(l.m));
    assert_int_equal(l.opens, 2);
    destroy(&l);
    assert_ok(create(&l, "[model a]\nmodel=/fake/bad\n"));
    assert_fails(models_open_first(l.m), SIGHT_E_MODEL, "it is damaged");
    destroy(&l);
}

static void another_configuration_is_taken_over(void **state)
{
    loader l;
    assert_ok(create(&l, BIG("a", "100") BIG("b", "100") BIG("c", "100")));
    model_use a, b, c, waits;
    assert_ok(use(&l, &a, "a"));
    assert_ok(use(&l, &b, "b"));
    assert_ok(use(&l, &c, "c"));
    models_end(l.m, &a);
    models_end(l.m, &c);
    const engine *same = b.engine;
    model_set set;
    read_set(&set, "[model b]\nmodel=/fake/100\nload = use\n[model c]\nmodel = /fake/150\nload = use\n"
                   "[model n]\nmodel = /fake/200\nload = use\n[router r]\nmodels = b, c\nrule = confidence 0.5\n");
    assert_ok(models_apply(l.m, &set));
    assert_fails(models_begin(l.m, &waits, "a"), SIGHT_E_NOT_FOUND, "has 'b', 'c', 'n', 'r'");
    model_use again;
    assert_ok(use(&l, &again, "b")); // unchanged, and still in use
    assert_ptr_equal(again.engine, same);
    models_end(l.m, &again);
    assert_ok(use(&l, &c, "c"));
    assert_string_equal(((fake *)(void *)c.engine)->model, "150");
    models_end(l.m, &c);
    router_spec r;
    assert_true(models_router(l.m, &r, "r"));
    assert_false(models_router(l.m, &r, NULL));
    // One of those that are loaded at start is, without a use.
    model_set_done(&set);
    read_set(&set, "[model b]\nmodel=/fake/100\nload = use\n[model n]\nmodel = /fake/200\nload = use\n"
                   "[model s]\nmodel = /fake/50\n");
    assert_ok(models_apply(l.m, &set));
    wait_for(&l, "s", MODEL_LOADED);
    // One that is in use when it goes serves to its end.
    assert_ok(use(&l, &c, "n"));
    model_set_done(&set);
    read_set(&set, "[model b]\nmodel=/fake/100\nload = use\n");
    assert_ok(models_apply(l.m, &set));
    assert_string_equal(((fake *)(void *)c.engine)->model, "200");
    assert_string_equal(models_name(&c), "n");
    models_end(l.m, &c);
    // What does not fit changes nothing.
    model_set_done(&set);
    read_set(&set, "[model x]\nmodel=/fake/1\nmemory = 2000M\n");
    assert_fails(models_apply(l.m, &set), SIGHT_E_MEMORY, "2000 MiB");
    assert_ok(use(&l, &again, "b"));
    assert_ptr_equal(again.engine, same);
    models_end(l.m, &again);
    models_end(l.m, &b);
    model_set_done(&set);
    destroy(&l);
    assert_int_equal(l.opens, l.closes);
}

static void what_there_is_is_told(void **state)
{
    loader l;
    assert_ok(create(&l, THREE "[router r]\nmodels = a, b\nrule = confidence 0.5\n"));
    model_use a, c;
    assert_ok(use(&l, &a, "a"));
    assert_int_equal(use(&l, &c, "c"), SIGHT_E_MODEL);
    models_end(l.m, &c);
    json_t *list = models_describe(l.m), *routers = models_describe_routers(l.m);
    const char *states[] = {"loaded", "not loaded", "failed"};
    assert_int_equal(json_array_size(list), 3);
    for (size_t i = 0; i < 3; i++) {
        const json_t *about = json_array_get(list, i);
        assert_string_equal(json_string_value(json_object_get(about, "state")), states[i]);
    }
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "fake")), "100");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 0), "users")), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 2), "error")), "it is damaged");
    assert_int_equal(json_array_size(routers), 1);
    json_decref(list);
    json_decref(routers);
    models_end(l.m, &a);
    destroy(&l);
}

static void replicas_are_opened_together(void **state)
{
    loader l;
    assert_ok(create(&l, "[model a]\nmodel = /fake/100\nload = use\nunload-after = 60\ndevice = cuda:0/cuda:1\n"
                         "[model b]\nmodel = /fake/100\nload = use\ndevice = cuda:1\n"
                         "[model odd]\nmodel = /fake/odd\nload = use\ndevice = cuda:2/cuda:3\n"));
    model_use a, other;
    assert_ok(use(&l, &a, "a"));
    assert_int_equal(l.opens, 2);
    assert_int_equal(l.given, 500 * MIB); // what is left on the second GPU, of each
    assert_int_equal(models_replicas(l.m, &a), 2);
    assert_ptr_equal(models_replica(l.m, &a, 0), a.engine);
    assert_non_null(models_replica(l.m, &a, 1));
    assert_ptr_not_equal(models_replica(l.m, &a, 1), a.engine);
    assert_null(models_replica(l.m, &a, 2));
    assert_null(models_replica(l.m, &a, -1));
    // None without the others.
    assert_fails(use(&l, &other, "odd"), SIGHT_E_MODEL, "the second is damaged");
    assert_int_equal(l.closes, 1);
    models_end(l.m, &other);
    json_t *list = models_describe(l.m), *first = json_array_get(list, 0);
    assert_int_equal(json_array_size(json_object_get(first, "replicas")), 2);
    assert_null(json_object_get(json_array_get(list, 1), "replicas"));
    json_decref(list);
    models_end(l.m, &a);
    set_now(&l, 1000);
    models_tick(l.m);
    wait_for(&l, "a", MODEL_NOT_LOADED);
    assert_int_equal(l.closes, 3);
    destroy(&l);
}

static void a_lost_replica_is_not_given_out(void **state)
{
    loader l;
    assert_ok(create(&l, "[model a]\nmodel = /fake/100\nload = use\nunload-after = 60\ndevice = cuda:0/cuda:1\n"));
    model_use a;
    bool news;
    assert_ok(use(&l, &a, "a"));
    engine *second = models_replica(l.m, &a, 1);
    assert_int_equal(models_lose(l.m, &a, 0, &news), 1);
    assert_true(news);
    assert_int_equal(models_lose(l.m, &a, 0, &news), 1);
    assert_false(news);
    assert_null(models_replica(l.m, &a, 0));
    assert_ptr_equal(models_replica(l.m, &a, 1), second);
    models_end(l.m, &a);
    // Nor is it opened again.
    set_now(&l, 1000);
    models_tick(l.m);
    wait_for(&l, "a", MODEL_NOT_LOADED);
    l.lone = true;
    assert_ok(use(&l, &a, "a"));
    assert_int_equal(l.opens, 3);
    assert_null(models_replica(l.m, &a, 0));
    assert_ptr_equal(models_replica(l.m, &a, 1), a.engine);
    assert_int_equal(models_lose(l.m, &a, 1, &news), 0);
    models_end(l.m, &a);
    destroy(&l);
}

static void replicas_in_one_memory_divide_it(void **state)
{
    loader l;
    model_use a, b;
    assert_ok(create(&l, "[model a]\nmodel = /fake/100\nload = use\ndevice = cpu/cpu\n"));
    assert_ok(use(&l, &a, "a"));
    assert_int_equal(l.given, 500 * MIB);
    models_end(l.m, &a);
    destroy(&l);
    assert_ok(create(&l, "memory = 1000M\n[model a]\nmodel = /fake/100\nload = use\ndevice = cpu/cpu/cpu\nmemory = 60%\n"
                         "[model b]\nmodel = /fake/100\nload = use\ndevice = cpu\n"));
    assert_ok(use(&l, &a, "a"));
    assert_int_equal(l.given, 200 * MIB);
    assert_ok(use(&l, &b, "b"));
    assert_int_equal(l.given, 400 * MIB); // what is left
    models_end(l.m, &a);
    models_end(l.m, &b);
    destroy(&l);
    assert_fails(create(&l, "memory = 1000M\n[model a]\nmodel = /fake/100\ndevice = cpu/cpu\nmemory = 600M\n"
                            "[model b]\nmodel = /fake/100\ndevice = cpu\nmemory = 500M\n"), SIGHT_E_MEMORY, "a 600, b 500");
    destroy(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_are_loaded_when_they_are_used),
        cmocka_unit_test(unused_models_age),
        cmocka_unit_test(a_failed_one_is_tried_again_after_a_pause),
        cmocka_unit_test(who_asks_while_it_loads_waits_for_the_same),
        cmocka_unit_test(it_ends_while_one_loads),
        cmocka_unit_test(the_one_unused_for_longest_makes_room),
        cmocka_unit_test(one_in_use_stays_and_who_waits_for_it_goes_first),
        cmocka_unit_test(who_gives_up_waiting_for_memory_is_in_nobodys_way),
        cmocka_unit_test(shares_are_kept_and_must_fit),
        cmocka_unit_test(models_over_several_devices_share_each),
        cmocka_unit_test(models_that_start_together_must_fit_together),
        cmocka_unit_test(another_configuration_is_taken_over),
        cmocka_unit_test(what_there_is_is_told),
        cmocka_unit_test(replicas_are_opened_together),
        cmocka_unit_test(a_lost_replica_is_not_given_out),
        cmocka_unit_test(replicas_in_one_memory_divide_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
