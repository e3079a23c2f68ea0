#include "daemon/models/models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "daemon/watch/measure.h"
#include "daemon/models/models_parts.h"

const char *model_state_name(model_state state)
{
    static const char *const names[] = {"not loaded", "loading", "loaded", "failed", "unloading"};
    return state >= 0 && state < MODEL_STATES ? names[state] : "";
}

double models_now(models *m)
{
    return m->ops.now_s(m->ops.arg);
}

// Wakes the registry's thread and whoever waits with it. With the lock.
void models_signal(models *m)
{
    pthread_cond_broadcast(&m->changed);
}

// Without the lock.
void models_tell(models *m)
{
    pthread_mutex_lock(&m->listening);
    if (m->listen) m->listen(m->listen_arg);
    pthread_mutex_unlock(&m->listening);
}

// ---- the registry's thread ----

static void on_progress(void *arg, int percent)
{
    model_entry *e = arg;
    models *m = e->of;
    pthread_mutex_lock(&m->lock);
    e->percent = percent;
    pthread_mutex_unlock(&m->lock);
    models_tell(m);
}

static engine *first_of(engine *const *replicas, int n)
{
    for (int i = 0; i < n; i++) {
        if (replicas[i]) return replicas[i];
    }
    return NULL;
}

// The last first: they have what they share from the first.
static void close_replicas(models *m, engine **replicas, int n)
{
    for (int i = n - 1; i >= 0; i--) {
        if (replicas[i]) m->ops.close(m->ops.arg, &replicas[i]);
    }
}

// All or none, but for those whose device has failed. Without the lock: nobody else changes what is being loaded.
static sight_err open_replicas(models *m, const model_entry *e, model_opening *how, engine **opened)
{
    sight_err err = SIGHT_OK;
    char line[sizeof e->line];
    how->replicas = e->on.n;
    for (int i = 0; i < e->on.n && !err; i++) {
        if (e->lost[i]) continue;
        how->on = &e->on.at[i];
        how->replica = i;
        how->first = first_of(opened, i);
        err = m->ops.open(m->ops.arg, &opened[i], how);
    }
    if (!err && !first_of(opened, e->on.n)) err = sight_fail(SIGHT_E_INTERNAL, "the GPUs of all its replicas have failed");
    if (!err) return SIGHT_OK;
    snprintf(line, sizeof line, "%s", sight_error());
    close_replicas(m, opened, e->on.n);
    return sight_fail(err, "%s", line);
}

// With the lock, which is let go meanwhile.
static void load(models *m, model_entry *e)
{
    bool elsewhere = false;
    model_opening how = {.spec = &e->spec, .index = e->index, .elsewhere = &elsewhere, .progress = on_progress,
                         .progress_arg = e, .stop = &m->stop};
    models_how(m, e, &how);
    e->state = MODEL_LOADING;
    const double began_s = models_now(m);
    pthread_mutex_unlock(&m->lock);
    models_tell(m);
    engine *opened[DEVICE_LIST_MAX] = {NULL};
    char line[sizeof e->line] = "";
    sight_err err = open_replicas(m, e, &how, opened);
    if (err) snprintf(line, sizeof line, "%s", sight_error());
    pthread_mutex_lock(&m->lock);
    e->percent = -1;
    e->err = err;
    memcpy(e->line, line, sizeof e->line);
    e->used_s = models_now(m);
    metrics_observe(m->metrics, METRIC_MODEL_LOAD_SECONDS, e->used_s - began_s);
    if (elsewhere) e->budget = 0; // of the memory that was meant
    if (!err) {
        memcpy(e->replicas, opened, sizeof e->replicas);
        e->engine = first_of(opened, e->on.n);
        e->too_small = 0;
        e->state = MODEL_LOADED;
        e->eager = false;
        metrics_count_replicas(m->metrics, e->on.n);
        metrics_add_to(m->metrics, METRIC_MODEL_LOADS, e->index, 0, 1);
        metrics_set_at(m->metrics, METRIC_MODEL_LOADED, e->index, 0, 1);
        log_line(LOG_INFO, "model '%s': loaded in %.1f s", e->spec.name, e->used_s - began_s);
    } else {
        e->state = MODEL_NOT_LOADED;
        e->too_small = err == SIGHT_E_MEMORY && how.bytes ? e->budget : 0;
    }
}

static void fail(models *m, model_entry *e)
{
    e->state = MODEL_FAILED;
    e->eager = false;
    e->retry_s = models_now(m) + m->pause_s;
    e->too_small = 0;
    if (!m->starting) log_line(LOG_WARNING, "model '%s' cannot be loaded, tried again in %.0f s if asked for: %s", e->spec.name, m->pause_s,
             e->line);
}

static void unload(models *m, model_entry *e)
{
    engine *open[DEVICE_LIST_MAX];
    memcpy(open, e->replicas, sizeof open);
    memset(e->replicas, 0, sizeof e->replicas);
    e->engine = NULL;
    pthread_mutex_unlock(&m->lock);
    models_tell(m);
    close_replicas(m, open, e->on.n);
    pthread_mutex_lock(&m->lock);
    e->state = MODEL_NOT_LOADED;
    metrics_add_to(m->metrics, METRIC_MODEL_UNLOADS, e->index, 0, 1);
    measure_unloaded(m->metrics, e->index);
    models_drop_if_gone(m, e);
}

// Who has waited longest, after `order`, and can be loaded as far as that is known.
static model_entry *next_wanted(const models *m, uint64_t order)
{
    model_entry *first = NULL;
    for (int i = 0; i < m->n; i++) {
        model_entry *e = m->entries[i];
        if (e->state != MODEL_NOT_LOADED || !(e->waiting || e->eager) || e->leaving || e->order <= order) continue;
        if (!first || e->order < first->order) first = e;
    }
    return first;
}

static void begin_unloading(model_entry *e, const char *why)
{
    e->state = MODEL_UNLOADING;
    log_line(LOG_INFO, "model '%s': unloaded, %s", e->spec.name, why);
}

// Brings the one that waits a step nearer. false: nothing can be done for it now.
static bool serve(models *m, model_entry *e)
{
    model_entry *victim = NULL;
    model_offer offer = OFFER_NEVER;
    // An opening that failed for something else than a budget too small has said what it is.
    if (!e->err || e->too_small) offer = models_offer(m, e, &victim);
    if (models_blocked(m, e) && offer != OFFER_LOAD) return false;
    const bool waits = offer == OFFER_WAIT;
    if (waits != e->blocked) models_signal(m);
    e->blocked = waits;
    models_block(m, e, waits ? e : NULL);
    switch (offer) {
    case OFFER_LOAD: load(m, e); return true;
    case OFFER_EVICT: begin_unloading(victim, "to make room"); return true;
    case OFFER_NEVER: fail(m, e); return true;
    default: return false;
    }
}

// With the lock. false: nothing is to be done.
static bool work(models *m)
{
    for (int i = 0; i < m->n; i++) {
        model_entry *e = m->entries[i];
        const bool over = e->leaving && e->state == MODEL_LOADED && !e->users && !e->waiting;
        if (over) begin_unloading(e, "not configured any more");
        if (e->state != MODEL_UNLOADING) continue;
        unload(m, e);
        return true;
    }
    for (model_entry *e = next_wanted(m, 0); e; e = next_wanted(m, e->order)) {
        if (serve(m, e)) return true;
    }
    return false;
}

static void *main_loop(void *arg)
{
    models *m = arg;
    pthread_mutex_lock(&m->lock);
    while (!atomic_load(&m->stop)) {
        if (!work(m)) {
            pthread_cond_wait(&m->changed, &m->lock);
            continue;
        }
        models_signal(m); // for models_open_first
        pthread_mutex_unlock(&m->lock);
        models_tell(m);
        pthread_mutex_lock(&m->lock);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

// ---- from outside ----

sight_err models_create(models **out, const model_set *set, const models_options *o)
{
    models *m = calloc(1, sizeof *m);
    if (!m) return sight_fail(SIGHT_E_MEMORY, "no memory for models");
    m->ops = o->ops;
    m->metrics = o->metrics;
    m->pause_s = o->retry_s;
    pthread_mutex_init(&m->lock, NULL);
    pthread_mutex_init(&m->listening, NULL);
    pthread_cond_init(&m->changed, NULL);
    sight_err err = models_make_entries(m, &m->entries, set);
    if (!err) m->n = set->n_models;
    if (!err) err = models_share_out(m, m->entries, m->n, set, &m->groups, &m->n_groups);
    if (!err) err = model_set_copy(&m->set, set);
    if (!err) models_name_all(m);
    if (!err && pthread_create(&m->thread, NULL, main_loop, m)) {
        err = sight_fail(SIGHT_E_MEMORY, "cannot start a thread");
    }
    m->started = !err;
    if (err) models_destroy(&m);
    else *out = m;
    return err;
}

void models_destroy(models **p)
{
    models *m = *p;
    if (!m) return;
    pthread_mutex_lock(&m->lock);
    atomic_store(&m->stop, true);
    models_signal(m);
    pthread_mutex_unlock(&m->lock);
    if (m->started) pthread_join(m->thread, NULL);
    for (int i = 0; i < m->n; i++) {
        close_replicas(m, m->entries[i]->replicas, m->entries[i]->on.n);
    }
    models_destroy_entries(m->entries, m->n);
    model_set_done(&m->set);
    free(m->groups);
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->listening);
    pthread_mutex_destroy(&m->lock);
    free(m);
    *p = NULL;
}

void models_listen(models *m, void (*changed)(void *arg), void *arg)
{
    pthread_mutex_lock(&m->listening);
    m->listen = changed;
    m->listen_arg = arg;
    pthread_mutex_unlock(&m->listening);
}

// ---- uses ----

static sight_err not_found(models *m, const char *name)
{
    char list[400] = "";
    for (int i = 0; i < m->n + m->set.n_routers; i++) {
        const bool router = i >= m->n;
        if (!router && m->entries[i]->leaving) continue;
        const char *has = router ? m->set.routers[i - m->n].name : m->entries[i]->spec.name;
        const size_t used = strlen(list);
        if (used + strlen(has) + 8 > sizeof list) break;
        snprintf(list + used, sizeof list - used, "%s'%s'", used ? ", " : "", has);
    }
    return sight_fail(SIGHT_E_NOT_FOUND, "there is no model '%.200s'; this server has %s", name, list);
}

sight_err models_begin(models *m, model_use *use, const char *name)
{
    pthread_mutex_lock(&m->lock);
    if (!name) name = m->set.first;
    model_entry *e = models_find(m, name);
    sight_err err = e ? SIGHT_OK : not_found(m, name);
    if (e) {
        *use = (model_use){.entry = e, .order = ++m->orders, .waits = true};
        e->refs++;
        if (!e->waiting++) e->order = use->order;
        models_signal(m);
    }
    pthread_mutex_unlock(&m->lock);
    return err;
}

static sight_err failed(models *m, const model_entry *e)
{
    const double left_s = e->retry_s - models_now(m);
    return sight_fail(e->err, "the model '%s' cannot be loaded, it is tried again in %.0f s: %s", e->spec.name,
                      left_s > 1 ? left_s : 1, e->line);
}

static void stop_waiting(models *m, model_use *use)
{
    model_entry *e = use->entry;
    if (!use->waits) return;
    use->waits = false;
    e->waiting--;
    if (!e->waiting && e->blocked) models_block(m, e, NULL);
    e->blocked &= e->waiting > 0;
}

// With the lock.
static sight_err take(models *m, model_use *use)
{
    model_entry *e = use->entry;
    if (use->engine) return SIGHT_OK;
    if (e->state == MODEL_LOADED && !models_stands_back(m, e, use->order)) {
        stop_waiting(m, use);
        e->users++;
        use->engine = e->engine;
        return SIGHT_OK;
    }
    if (e->state == MODEL_FAILED) {
        if (models_now(m) < e->retry_s) return failed(m, e);
        e->state = MODEL_NOT_LOADED;
        e->err = SIGHT_OK;
        models_signal(m);
    }
    if (e->leaving && e->state != MODEL_LOADING && e->state != MODEL_LOADED) {
        return sight_fail(SIGHT_E_NOT_FOUND, "the model '%s' is not configured any more", e->spec.name);
    }
    return SIGHT_OK;
}

sight_err models_take(models *m, model_use *use)
{
    pthread_mutex_lock(&m->lock);
    sight_err err = take(m, use);
    pthread_mutex_unlock(&m->lock);
    return err;
}

void models_end(models *m, model_use *use)
{
    model_entry *e = use->entry;
    if (!e) return;
    pthread_mutex_lock(&m->lock);
    stop_waiting(m, use);
    if (use->engine) {
        e->users--;
        e->used_s = models_now(m);
    }
    e->refs--;
    *use = (model_use){0};
    models_drop_if_gone(m, e);
    models_signal(m);
    pthread_mutex_unlock(&m->lock);
}

const char *models_name(const model_use *use)
{
    return use->entry ? use->entry->spec.name : "";
}

int models_index(const model_use *use)
{
    return use->entry ? use->entry->index : -1;
}

int models_replicas(models *m, const model_use *use)
{
    pthread_mutex_lock(&m->lock);
    const int n = use->entry ? use->entry->on.n : 1;
    pthread_mutex_unlock(&m->lock);
    return n;
}

engine *models_replica(models *m, const model_use *use, int i)
{
    const model_entry *e = use->entry;
    pthread_mutex_lock(&m->lock);
    engine *found = use->engine && i >= 0 && i < e->on.n && !e->lost[i] ? e->replicas[i] : NULL;
    pthread_mutex_unlock(&m->lock);
    return found;
}

int models_lose(models *m, const model_use *use, int i, bool *news)
{
    model_entry *e = use->entry;
    int left = 0;
    pthread_mutex_lock(&m->lock);
    *news = !e->lost[i];
    e->lost[i] = true;
    for (int k = 0; k < e->on.n; k++) left += e->replicas[k] && !e->lost[k];
    pthread_mutex_unlock(&m->lock);
    return left;
}

int models_percent(models *m, const model_use *use)
{
    pthread_mutex_lock(&m->lock);
    const int percent = use->entry ? use->entry->percent : -1;
    pthread_mutex_unlock(&m->lock);
    return percent;
}

// ---- at start, and now and then ----

// Waits for one. Those that were loaded before it are held, so that it does not take their place.
static sight_err open_one(models *m, model_use *use)
{
    sight_err err;
    pthread_mutex_lock(&m->lock);
    m->starting = true; // what goes wrong is the caller's to tell
    while (!(err = take(m, use)) && !use->engine) {
        if (use->entry->blocked) {
            err = sight_fail(SIGHT_E_MEMORY, "the model '%s' does not fit beside those loaded before it%s%s",
                             use->entry->spec.name, use->entry->line[0] ? ": " : "", use->entry->line);
            break;
        }
        pthread_cond_wait(&m->changed, &m->lock);
    }
    m->starting = false;
    if (err && use->entry->state == MODEL_FAILED) err = sight_fail(use->entry->err, "%s", use->entry->line);
    pthread_mutex_unlock(&m->lock);
    return err;
}

sight_err models_open(models *m, model_use *use, const char *name)
{
    sight_err err = models_begin(m, use, name);
    return err ? err : open_one(m, use);
}

sight_err models_open_first(models *m)
{
    model_use uses[MODELS_MAX] = {{0}};
    sight_err err = SIGHT_OK;
    for (int i = 0; i < m->set.n_models && !err; i++) {
        if (m->set.models[i].at_start) err = models_open(m, &uses[i], m->set.models[i].name);
    }
    char line[256] = "";
    if (err) snprintf(line, sizeof line, "%s", sight_error());
    for (int i = 0; i < MODELS_MAX; i++) models_end(m, &uses[i]);
    return err ? sight_fail(err, "%s", line) : SIGHT_OK;
}

void models_tick(models *m)
{
    char why[64];
    bool any = false;
    pthread_mutex_lock(&m->lock);
    const double now = models_now(m);
    for (int i = 0; i < m->n; i++) {
        model_entry *e = m->entries[i];
        const double after_s = e->spec.unload_after_s;
        if (e->state != MODEL_LOADED || e->users || e->waiting || after_s <= 0 || now - e->used_s < after_s) continue;
        snprintf(why, sizeof why, "not used for %.0f s", now - e->used_s);
        begin_unloading(e, why);
        any = true;
    }
    if (any) models_signal(m);
    pthread_mutex_unlock(&m->lock);
}
