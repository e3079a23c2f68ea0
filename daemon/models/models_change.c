// Which models there are: entries made, replaced and let go.
#include <stdlib.h>
#include <string.h>

#include "daemon/models/models_parts.h"

// ---- entries ----

void models_entry_destroy(model_entry **p)
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
    if (err) models_entry_destroy(&e);
    else *out = e;
    return err;
}

// One that nobody knows any more. With the lock.
void models_drop_if_gone(models *m, model_entry *e)
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
    models_entry_destroy(&e);
}

model_entry *models_find(models *m, const char *name)
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

void models_destroy_entries(model_entry **entries, int n)
{
    for (int i = 0; entries && i < n; i++) models_entry_destroy(&entries[i]);
    free(entries);
}

static int free_index(const bool *taken)
{
    int i = 0;
    while (i < MODELS_MAX - 1 && taken[i]) i++; // those beyond are counted under the last
    return i;
}

sight_err models_make_entries(models *m, model_entry ***out, const model_set *set)
{
    bool taken[MODELS_MAX] = {false};
    for (int i = 0; i < m->n; i++) taken[m->entries[i]->index] = true;
    model_entry **entries = calloc((size_t)set->n_models + 1, sizeof *entries);
    if (!entries) return sight_fail(SIGHT_E_MEMORY, "no memory for models");
    sight_err err = SIGHT_OK;
    for (int i = 0; i < set->n_models && !err; i++) {
        const model_entry *old = models_find(m, set->models[i].name);
        const int index = old && !strcmp(old->spec.name, set->models[i].name) ? old->index : free_index(taken);
        taken[index] = true;
        err = entry_create(&entries[i], m, &set->models[i], index);
    }
    if (err) models_destroy_entries(entries, set->n_models);
    else *out = entries;
    return err;
}

void models_name_all(models *m)
{
    for (int i = 0; i < m->n; i++) {
        if (!m->entries[i]->leaving) metrics_name_model(m->metrics, m->entries[i]->index, m->entries[i]->spec.name);
    }
}

// ---- another configuration ----

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
            models_entry_destroy(&fresh[i]);
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
    for (int i = count - 1; i >= n; i--) models_drop_if_gone(m, list[i]);
}

static sight_err apply(models *m, const model_set *set)
{
    model_entry **fresh = NULL;
    model_group *groups = NULL;
    int n_groups = 0;
    model_set copy = {0};
    sight_err err = models_make_entries(m, &fresh, set);
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
        models_destroy_entries(fresh, set->n_models);
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
    models_name_all(m);
    return SIGHT_OK;
}

sight_err models_apply(models *m, const model_set *set)
{
    pthread_mutex_lock(&m->lock);
    sight_err err = apply(m, set);
    models_signal(m);
    pthread_mutex_unlock(&m->lock);
    if (!err) models_tell(m);
    return err;
}
