// What is told of the models.
#include <stdio.h>
#include <string.h>

#include "daemon/models/models_parts.h"

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

// Where each is, and whether it answers.
static json_t *describe_replicas(models *m, const model_entry *e)
{
    json_t *list = json_array();
    for (int i = 0; i < e->on.n; i++) {
        char device[16];
        device_format(device, e->on.at[i].at[0]);
        json_t *own = e->replicas[i] ? m->ops.describe(m->ops.arg, e->replicas[i]) : NULL;
        const char *on = json_string_value(json_object_get(own, "device"));
        const char *state = e->lost[i] ? "lost" : e->replicas[i] ? "loaded" : model_state_name(e->state);
        json_t *o = json_pack("{s:i, s:s, s:s}", "replica", i, "device", on ? on : device, "state", state);
        json_t *memory = json_object_get(own, "memory");
        if (o && memory) json_object_set(o, "memory", memory);
        json_array_append_new(list, o);
        json_decref(own);
    }
    return list;
}

static json_t *describe(models *m, const model_entry *e)
{
    json_t *about = e->state == MODEL_LOADED ? m->ops.describe(m->ops.arg, e->engine)
                                             : json_pack("{s:s}", "model", e->spec.model);
    if (!about) return NULL;
    char device[16];
    device_format(device, e->on.at[0].at[0]);
    json_object_set_new(about, "name", json_string(e->spec.name));
    json_object_set_new(about, "state", json_string(model_state_name(e->state)));
    json_object_set_new(about, "users", json_integer(e->users));
    json_object_set_new(about, "waiting", json_integer(e->waiting));
    json_object_set_new(about, "load", json_string(e->spec.at_start ? "start" : "use"));
    json_object_set_new(about, "unload_after_s", json_real(e->spec.unload_after_s));
    if (!json_object_get(about, "device")) json_object_set_new(about, "device", json_string(device));
    if (e->share) json_object_set_new(about, "share", json_integer(e->share));
    if (e->on.n > 1) json_object_set_new(about, "replicas", describe_replicas(m, e));
    if (e->percent >= 0) json_object_set_new(about, "percent", json_integer(e->percent));
    if (e->state == MODEL_FAILED) {
        json_object_set_new(about, "error", json_string(e->line));
        json_object_set_new(about, "retry_in_s", json_real(e->retry_s > models_now(m) ? e->retry_s - models_now(m) : 0));
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
    const model_entry *e = models_find(m, routed ? r.models[0] : m->set.first);
    *context = e && e->state == MODEL_LOADED ? engine_context(e->engine) : 0;
    pthread_mutex_unlock(&m->lock);
}

model_state models_state(models *m, const char *name)
{
    pthread_mutex_lock(&m->lock);
    const model_entry *e = models_find(m, name);
    const model_state state = e ? e->state : MODEL_NOT_LOADED;
    pthread_mutex_unlock(&m->lock);
    return state;
}

bool models_on_devices(models *m)
{
    bool all = true;
    pthread_mutex_lock(&m->lock);
    for (int i = 0; i < m->n; i++) all &= m->entries[i]->on.at[0].at[0].kind != DEVICE_CPU;
    pthread_mutex_unlock(&m->lock);
    return all;
}
