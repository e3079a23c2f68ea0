#include "daemon/models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "daemon/measure.h"
#include "daemon/models_parts.h"

const char *model_state_name(model_state state)
{
    static const char *const names[] = {"not loaded", "loading", "loaded", "failed", "unloading"};
    return state >= 0 && state < MODEL_STATES ? names[state] : "";
}

static double now_s(models *m)
{
    return m->ops.now_s(m->ops.arg);
}

// Wakes the registry's thread and whoever waits with it. With the lock.
static void signal_all(models *m)
{
    pthread_cond_broadcast(&m->changed);
}

// Without the lock.
static void tell(models *m)
{
    pthread_mutex_lock(&m->listening);
    if (m->listen) m->listen(m->listen_arg);
    pthread_mutex_unlock(&m->listening);
}

// ---- entries ----

static void entry_destroy(model_entry **p)
{
    model_entry *e = *p;
    if (!e) return;
    model_spec_done(&e->spec);
    free(e->dir);
    free(e);
    *p = NULL;
}

static sight_err entry_create(model_entry **out, models *m, const model_spec *spec, int index)
{
    model_entry *e = calloc(1, sizeof *e);
    if (!e) return sight_fail(SIGHT_E_MEMORY, "no memory for models");
    e->of = m;
    e->index = index;
    e->percent = -1;
    sight_err err = model_spec_copy(&e->spec, spec);
    char *name = NULL;
    // What is not there yet may come; loading it says so if not.
    if (!err && engine_find_model(&e->dir, &name, e->spec.model)) e->dir = NULL;
    free(name);
    if (err) entry_destroy(&e);
    else *out = e;
    return err;
}

// One that nobody knows any more. With the lock.
static void drop_if_gone(models *m, model_entry *e)
{
    if (!e->leaving || e->refs || e->state == MODEL_LOADED || e->state == MODEL_LOADING || e->state == MODEL_UNLOADING) {
        return;
    }
    for (int i = 0; i < m->n; i++) {
        if (m->entries[i] != e) continue;
        memmove(m->entries + i, m->entries + i + 1, (size_t)(m->n - i - 1) * sizeof *m->entries);
        m->n--;
        break;
    }
    for (int i = 0; i < m->n_groups; i++) {
        if (m->groups[i].blocked == e) m->groups[i].blocked = NULL;
    }
    entry_destroy(&e);
}

static model_entry *find(models *m, const char *name)
{
    for (int i = 0; i < m->n; i++) {
        model_entry *e = m->entries[i];
        if (!e->leaving && !strcmp(e->spec.name, name)) return e;
    }
    for (int i = 0; i < m->n; i++) {
        model_entry *e = m->entries[i];
        if (!e->leaving && ((e->dir && !strcmp(e->dir, name)) || !strcmp(e->spec.model, name))) return e;
    }
    return NULL;
}

// ---- the registry's thread ----

static void on_progress(void *arg, int percent)
{
    model_entry *e = arg;
    models *m = e->of;
    pthread_mutex_lock(&m->lock);
    e->percent = percent;
    pthread_mutex_unlock(&m->lock);
    tell(m);
}

// With the lock, which is let go meanwhile.
static void load(models *m, model_entry *e)
{
    bool elsewhere = false;
    model_opening how = {.spec = &e->spec, .index = e->index, .elsewhere = &elsewhere, .progress = on_progress,
                         .progress_arg = e, .stop = &m->stop};
    models_how(m, e, &how);
    e->state = MODEL_LOADING;
    const double began_s = now_s(m);
    pthread_mutex_unlock(&m->lock);
    tell(m);
    engine *opened = NULL;
    char line[sizeof e->line] = "";
    sight_err err = m->ops.open(m->ops.arg, &opened, &how);
    if (err) snprintf(line, sizeof line, "%s", sight_error());
    pthread_mutex_lock(&m->lock);
    e->percent = -1;
    e->err = err;
    memcpy(e->line, line, sizeof e->line);
    e->used_s = now_s(m);
    metrics_observe(m->metrics, METRIC_MODEL_LOAD_SECONDS, e->used_s - began_s);
    if (elsewhere) e->budget = 0; // of the memory that was meant
    if (!err) {
        e->engine = opened;
        e->too_small = 0;
        e->state = MODEL_LOADED;
        e->eager = false;
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
    e->retry_s = now_s(m) + m->pause_s;
    e->too_small = 0;
    if (!m->starting) log_line(LOG_WARNING, "model '%s' cannot be loaded, tried again in %.0f s if asked for: %s", e->spec.name, m->pause_s,
             e->line);
}

static void unload(models *m, model_entry *e)
{
    engine *open = e->engine;
    e->engine = NULL;
    pthread_mutex_unlock(&m->lock);
    tell(m);
    m->ops.close(m->ops.arg, &open);
    pthread_mutex_lock(&m->lock);
    e->state = MODEL_NOT_LOADED;
    metrics_add_to(m->metrics, METRIC_MODEL_UNLOADS, e->index, 0, 1);
    measure_unloaded(m->metrics, e->index);
    drop_if_gone(m, e);
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
    if (waits != e->blocked) signal_all(m);
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
        signal_all(m); // for models_open_first
        pthread_mutex_unlock(&m->lock);
        tell(m);
        pthread_mutex_lock(&m->lock);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

// ---- from outside ----

static void destroy_entries(model_entry **entries, int n)
{
    for (int i = 0; entries && i < n; i++) entry_destroy(&entries[i]);
    free(entries);
}

static int free_index(const bool *taken)
{
    int i = 0;
    while (i < MODELS_MAX - 1 && taken[i]) i++; // those beyond are counted under the last
    return i;
}

// Entries of a set that `has` does not have alike; *same[i] is the one that it has.
static sight_err make_entries(models *m, model_entry ***out, const model_set *set)
{
    bool taken[MODELS_MAX] = {false};
    for (int i = 0; i < m->n; i++) taken[m->entries[i]->index] = true;
    model_entry **entries = calloc((size_t)set->n_models + 1, sizeof *entries);
    if (!entries) return sight_fail(SIGHT_E_MEMORY, "no memory for models");
    sight_err err = SIGHT_OK;
    for (int i = 0; i < set->n_models && !err; i++) {
        const model_entry *old = find(m, set->models[i].name);
        const int index = old && !strcmp(old->spec.name, set->models[i].name) ? old->index : free_index(taken);
        taken[index] = true;
        err = entry_create(&entries[i], m, &set->models[i], index);
    }
    if (err) destroy_entries(entries, set->n_models);
    else *out = entries;
    return err;
}

static void name_models(models *m)
{
    for (int i = 0; i < m->n; i++) {
        if (!m->entries[i]->leaving) metrics_name_model(m->metrics, m->entries[i]->index, m->entries[i]->spec.name);
    }
}

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
    sight_err err = make_entries(m, &m->entries, set);
    if (!err) m->n = set->n_models;
    if (!err) err = models_share_out(m, m->entries, m->n, set, &m->groups, &m->n_groups);
    if (!err) err = model_set_copy(&m->set, set);
    if (!err) name_models(m);
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
    signal_all(m);
    pthread_mutex_unlock(&m->lock);
    if (m->started) pthread_join(m->thread, NULL);
    for (int i = 0; i < m->n; i++) {
        if (m->entries[i]->engine) m->ops.close(m->ops.arg, &m->entries[i]->engine);
    }
    destroy_entries(m->entries, m->n);
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
    model_entry *e = find(m, name);
    sight_err err = e ? SIGHT_OK : not_found(m, name);
    if (e) {
        *use = (model_use){.entry = e, .order = ++m->orders, .waits = true};
        e->refs++;
        if (!e->waiting++) e->order = use->order;
        signal_all(m);
    }
    pthread_mutex_unlock(&m->lock);
    return err;
}

static sight_err failed(models *m, const model_entry *e)
{
    const double left_s = e->retry_s - now_s(m);
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
        if (now_s(m) < e->retry_s) return failed(m, e);
        e->state = MODEL_NOT_LOADED;
        e->err = SIGHT_OK;
        signal_all(m);
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
        e->used_s = now_s(m);
    }
    e->refs--;
    *use = (model_use){0};
    drop_if_gone(m, e);
    signal_all(m);
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

int models_percent(models *m, const model_use *use)
{
    pthread_mutex_lock(&m->lock);
    const int percent = use->entry ? use->entry->percent : -1;
    pthread_mutex_unlock(&m->lock);
    return percent;
}

bool models_router(models *m, router_spec *out, const char *name)
{
    pthread_mutex_lock(&m->lock);
    const router_spec *found = NULL;
    if (!name) name = m->set.first;
    for (int i = 0; i < m->set.n_routers; i++) {
        if (!strcmp(m->set.routers[i].name, name)) found = &m->set.routers[i];
    }
    if (found) *out = *found;
    pthread_mutex_unlock(&m->lock);
    return found;
}

// ---- at start, now and then, and when settings change ----

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
    const double now = now_s(m);
    for (int i = 0; i < m->n; i++) {
        model_entry *e = m->entries[i];
        const double after_s = e->spec.unload_after_s;
        if (e->state != MODEL_LOADED || e->users || e->waiting || after_s <= 0 || now - e->used_s < after_s) continue;
        snprintf(why, sizeof why, "not used for %.0f s", now - e->used_s);
        begin_unloading(e, why);
        any = true;
    }
    if (any) signal_all(m);
    pthread_mutex_unlock(&m->lock);
}

// The entry that a new one would only repeat; NULL: none. With the lock.
static model_entry *unchanged(models *m, const model_entry *fresh)
{
    for (int i = 0; i < m->n; i++) {
        model_entry *e = m->entries[i];
        if (!e->leaving && !strcmp(e->spec.name, fresh->spec.name) && !strcmp(e->spec.key, fresh->spec.key)) return e;
    }
    return NULL;
}

static void begin_eagerly(models *m, model_entry *e)
{
    e->eager = true;
    e->order = ++m->orders;
}

// Puts the fresh entries [n] in the place of those that they are not alike to. With the lock; nothing fails.
static void replace(models *m, model_entry **list, model_entry **fresh, int n)
{
    int count = 0;
    for (int i = 0; i < n; i++) {
        model_entry *old = unchanged(m, fresh[i]);
        if (old) {
            old->share = fresh[i]->share;
            entry_destroy(&fresh[i]);
        } else if (fresh[i]->spec.at_start) begin_eagerly(m, fresh[i]);
        list[count++] = old ? old : fresh[i];
    }
    for (int i = 0; i < m->n; i++) {
        bool kept = false;
        for (int j = 0; j < n; j++) kept |= list[j] == m->entries[i];
        if (kept) continue;
        m->entries[i]->leaving = true;
        list[count++] = m->entries[i];
    }
    free(m->entries);
    m->entries = list;
    m->n = count;
    for (int i = count - 1; i >= n; i--) drop_if_gone(m, list[i]);
}

static sight_err apply(models *m, const model_set *set)
{
    model_entry **fresh = NULL;
    model_group *groups = NULL;
    int n_groups = 0;
    model_set copy = {0};
    sight_err err = make_entries(m, &fresh, set);
    for (int i = 0; i < set->n_models && !err; i++) {
        const model_entry *old = unchanged(m, fresh[i]);
        if (!old) continue;
        fresh[i]->placed = true; // where it is, whatever auto would choose now
        fresh[i]->on = old->on;
    }
    if (!err) err = models_share_out(m, fresh, set->n_models, set, &groups, &n_groups);
    if (!err) err = model_set_copy(&copy, set);
    model_entry **list = err ? NULL : calloc((size_t)(m->n + set->n_models) + 1, sizeof *list);
    if (!err && !list) err = sight_fail(SIGHT_E_MEMORY, "no memory for models");
    if (err) {
        destroy_entries(fresh, set->n_models);
        free(groups);
        model_set_done(&copy);
        return err;
    }
    replace(m, list, fresh, set->n_models);
    free(fresh);
    free(m->groups);
    m->groups = groups;
    m->n_groups = n_groups;
    for (int i = 0; i < m->n; i++) m->entries[i]->blocked = false; // seen anew
    model_set_done(&m->set);
    m->set = copy;
    name_models(m);
    return SIGHT_OK;
}

sight_err models_apply(models *m, const model_set *set)
{
    pthread_mutex_lock(&m->lock);
    sight_err err = apply(m, set);
    signal_all(m);
    pthread_mutex_unlock(&m->lock);
    if (!err) tell(m);
    return err;
}

// ---- telling ----

static json_t *describe(models *m, const model_entry *e)
{
    json_t *about = e->state == MODEL_LOADED ? m->ops.describe(m->ops.arg, e->engine)
                                             : json_pack("{s:s}", "model", e->spec.model);
    if (!about) return NULL;
    char device[16];
    device_format(device, e->on.at[0]);
    json_object_set_new(about, "name", json_string(e->spec.name));
    json_object_set_new(about, "state", json_string(model_state_name(e->state)));
    json_object_set_new(about, "users", json_integer(e->users));
    json_object_set_new(about, "waiting", json_integer(e->waiting));
    json_object_set_new(about, "load", json_string(e->spec.at_start ? "start" : "use"));
    json_object_set_new(about, "unload_after_s", json_real(e->spec.unload_after_s));
    if (!json_object_get(about, "device")) json_object_set_new(about, "device", json_string(device));
    if (e->share) json_object_set_new(about, "share", json_integer(e->share));
    if (e->percent >= 0) json_object_set_new(about, "percent", json_integer(e->percent));
    if (e->state == MODEL_FAILED) {
        json_object_set_new(about, "error", json_string(e->line));
        json_object_set_new(about, "retry_in_s", json_real(e->retry_s > now_s(m) ? e->retry_s - now_s(m) : 0));
    }
    return about;
}

json_t *models_describe(models *m)
{
    json_t *list = json_array();
    pthread_mutex_lock(&m->lock);
    for (int i = 0; list && i < m->n; i++) {
        if (m->entries[i]->leaving) continue;
        if (json_array_append_new(list, describe(m, m->entries[i]))) {
            json_decref(list);
            list = NULL;
        }
    }
    pthread_mutex_unlock(&m->lock);
    return list;
}

json_t *models_describe_one(models *m, const model_use *use)
{
    pthread_mutex_lock(&m->lock);
    json_t *about = use->entry ? describe(m, use->entry) : NULL;
    pthread_mutex_unlock(&m->lock);
    return about;
}

json_t *models_describe_routers(models *m)
{
    json_t *list = json_array();
    pthread_mutex_lock(&m->lock);
    for (int i = 0; list && i < m->set.n_routers; i++) {
        const router_spec *r = &m->set.routers[i];
        json_t *names = json_array();
        for (int j = 0; j < r->n_models; j++) json_array_append_new(names, json_string(r->models[j]));
        json_array_append_new(list, json_pack("{s:s, s:o, s:f, s:i}", "name", r->name, "models", names, "confidence",
                                              r->confidence, "max_first_tokens", r->first_tokens));
    }
    pthread_mutex_unlock(&m->lock);
    return list;
}

void models_first(models *m, char name[MODEL_NAME_SIZE], int64_t *context)
{
    router_spec r;
    const bool routed = models_router(m, &r, NULL);
    pthread_mutex_lock(&m->lock);
    snprintf(name, MODEL_NAME_SIZE, "%s", m->set.first);
    const model_entry *e = find(m, routed ? r.models[0] : m->set.first);
    *context = e && e->state == MODEL_LOADED ? engine_context(e->engine) : 0;
    pthread_mutex_unlock(&m->lock);
}

model_state models_state(models *m, const char *name)
{
    pthread_mutex_lock(&m->lock);
    const model_entry *e = find(m, name);
    const model_state state = e ? e->state : MODEL_NOT_LOADED;
    pthread_mutex_unlock(&m->lock);
    return state;
}

bool models_on_devices(models *m)
{
    bool all = true;
    pthread_mutex_lock(&m->lock);
    for (int i = 0; i < m->n; i++) all &= m->entries[i]->on.at[0].kind != DEVICE_CPU;
    pthread_mutex_unlock(&m->lock);
    return all;
}
