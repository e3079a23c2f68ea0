#include <stdlib.h>
#include <string.h>

#include "daemon/models/models_parts.h"

// ---- devices and shares ----

static bool same_device(device_id a, device_id b)
{
    return a.kind == b.kind && a.index == b.index;
}

model_group *models_group(models *m, device_id device)
{
    for (int i = 0; i < m->n_groups; i++) {
        if (same_device(m->groups[i].device, device)) return &m->groups[i];
    }
    return NULL;
}

static int32_t count_devices(const model_entry *e)
{
    return e->on.n * e->on.at[0].n; // replicas have as many each
}

// The i-th of all replicas' devices, one after the other.
static device_id device_of(const model_entry *e, int32_t i)
{
    return e->on.at[i / e->on.at[0].n].at[i % e->on.at[0].n];
}

int models_times_on(const model_entry *e, device_id device)
{
    int n = 0;
    for (int32_t i = 0; i < count_devices(e); i++) n += same_device(device_of(e, i), device);
    return n;
}

bool models_is_on(const model_entry *e, device_id device)
{
    return models_times_on(e, device) > 0;
}

static bool meet(const model_entry *a, const model_entry *b)
{
    for (int32_t i = 0; i < count_devices(a); i++) {
        if (models_is_on(b, device_of(a, i))) return true;
    }
    return false;
}

model_entry *models_blocked(models *m, const model_entry *e)
{
    for (int32_t i = 0; i < count_devices(e); i++) {
        const model_group *g = models_group(m, device_of(e, i));
        if (g && g->blocked && g->blocked != e && g->blocked->waiting) return g->blocked;
    }
    return NULL;
}

void models_block(models *m, const model_entry *e, model_entry *by)
{
    for (int32_t i = 0; i < count_devices(e); i++) {
        model_group *g = models_group(m, device_of(e, i));
        if (g) g->blocked = by;
    }
}

static double mib(int64_t bytes)
{
    return (double)bytes / (1 << 20);
}

static sight_err open_group(model_group *g, models *m, const model_set *set, device_id device)
{
    int64_t free = 0;
    *g = (model_group){.device = device};
    sight_err err = m->ops.memory(m->ops.arg, &g->all, &free, device);
    if (err) return err;
    const bool cpu = device.kind == DEVICE_CPU;
    g->allowance = cpu                   ? set->memory_bytes
                   : set->device_bytes   ? set->device_bytes
                   : set->device_percent ? g->all / 100 * set->device_percent
                                         : 0;
    g->bounded = g->allowance > 0;
    if (!g->bounded) g->allowance = free;
    return SIGHT_OK;
}

static int64_t share_of(const model_spec *s, const model_group *g)
{
    if (g->device.kind != DEVICE_CPU) {
        return s->device_percent ? g->all / 100 * s->device_percent : s->device_bytes;
    }
    return s->memory_percent ? g->allowance / 100 * s->memory_percent : s->memory_bytes;
}

// Shares must fit together, and leave something to those without one.
static sight_err check_group(const model_group *g, model_entry *const *entries, int n)
{
    char where[40] = "the machine's memory", device[16];
    int64_t sum = 0;
    const model_entry *without = NULL;
    char list[160] = "";
    for (int i = 0; i < n; i++) {
        if (!models_is_on(entries[i], g->device)) continue;
        if (!entries[i]->share) without = entries[i];
        const size_t used = strlen(list);
        if (entries[i]->share) {
            snprintf(list + used, sizeof list - used, "%s%.40s %.0f", used ? ", " : "", entries[i]->spec.name,
                     mib(entries[i]->share) * models_times_on(entries[i], g->device));
        }
        for (int k = models_times_on(entries[i], g->device); k > 0; k--) {
            if (__builtin_add_overflow(sum, entries[i]->share, &sum)) sum = INT64_MAX;
        }
    }
    if (g->device.kind != DEVICE_CPU) {
        device_format(device, g->device);
        snprintf(where, sizeof where, "the memory of %s", device);
    }
    // Of a GPU shares are parts of all that it has; what is free is seen when a model is loaded.
    const int64_t most = g->device.kind == DEVICE_CPU || g->bounded ? g->allowance : g->all;
    if (sum > most) {
        return sight_fail(SIGHT_E_MEMORY, "the models' shares of %s come to %.0f MiB (%s), %.0f MiB are there", where,
                          mib(sum), list, mib(most));
    }
    if (without && sum && most - sum < (1 << 20)) {
        return sight_fail(SIGHT_E_MEMORY, "the models' shares of %s (%s) leave nothing of %.0f MiB to '%s'", where, list,
                          mib(most), without->spec.name);
    }
    return SIGHT_OK;
}

// Those of e's devices that are not there yet.
static sight_err add_groups(models *m, model_entry *e, const model_set *set, model_group *groups, int *n)
{
    sight_err err = SIGHT_OK;
    for (int32_t i = 0; i < count_devices(e) && !err; i++) {
        const device_id device = device_of(e, i);
        int at = 0;
        while (at < *n && !same_device(groups[at].device, device)) at++;
        if (at == *n) err = open_group(&groups[at], m, set, device);
        if (err) break;
        *n += at == *n;
        const int64_t share = share_of(&e->spec, &groups[at]) / models_times_on(e, device);
        if (i == 0 || share < e->share) e->share = share;
    }
    return err;
}

sight_err models_share_out(models *m, model_entry **entries, int n, const model_set *set, model_group **out, int *n_out)
{
    int n_groups = 0, most = 0;
    sight_err err = SIGHT_OK;
    for (int i = 0; i < n && !err; i++) {
        model_entry *e = entries[i];
        if (!e->placed) err = m->ops.devices(m->ops.arg, &e->on, e->spec.device);
        if (!err) most += count_devices(e);
    }
    if (err) return err;
    model_group *groups = calloc((size_t)most + 1, sizeof *groups);
    if (!groups) return sight_fail(SIGHT_E_MEMORY, "no memory for models");
    for (int i = 0; i < n && !err; i++) err = add_groups(m, entries[i], set, groups, &n_groups);
    for (int i = 0; i < n_groups && !err; i++) err = check_group(&groups[i], entries, n);
    if (err) {
        free(groups);
        return err;
    }
    *out = groups;
    *n_out = n_groups;
    return SIGHT_OK;
}

// ---- who gets what ----

static bool holds_memory(const model_entry *e)
{
    return e->state == MODEL_LOADED || e->state == MODEL_LOADING || e->state == MODEL_UNLOADING;
}

// May be let go for others: what has a share keeps it.
static bool gives_way(const model_entry *e)
{
    return e->leaving || !e->share;
}

// What of the group's memory is neither taken nor promised to others than e.
static int64_t room_for(const models *m, const model_entry *e, const model_group *g)
{
    int64_t room = g->allowance;
    for (int i = 0; i < m->n; i++) {
        const model_entry *x = m->entries[i];
        if (x == e || !models_is_on(x, g->device)) continue;
        const int times = models_times_on(x, g->device);
        if (holds_memory(x)) room -= x->budget * times;
        else if (!x->leaving) room -= x->share * times;
    }
    return room;
}

// An equal part of what shares leave.
static int64_t part_of(const models *m, const model_group *g)
{
    int64_t pot = g->allowance;
    int n = 0;
    for (int i = 0; i < m->n; i++) {
        const model_entry *x = m->entries[i];
        if (x->leaving || !models_is_on(x, g->device)) continue;
        pot -= x->share * models_times_on(x, g->device);
        n += !x->share;
    }
    return n ? pot / n : 0;
}

static model_entry *find_victim(const models *m, const model_entry *e, bool *in_use)
{
    model_entry *victim = NULL;
    *in_use = false;
    for (int i = 0; i < m->n; i++) {
        model_entry *x = m->entries[i];
        if (x == e || !gives_way(x) || !holds_memory(x) || !meet(x, e)) continue;
        const bool earlier = x->waiting && x->order < e->order; // those were first
        if (x->state != MODEL_LOADED || x->users || earlier) *in_use = true;
        else if (!victim || x->used_s < victim->used_s) victim = x;
    }
    return victim;
}

static model_offer refuse(model_entry *e, int64_t room)
{
    if (!e->too_small) { // else opening has said what it needs
        e->err = SIGHT_E_MEMORY;
        snprintf(e->line, sizeof e->line, "%.0f MiB are its share, %.0f are left%s", mib(e->share), mib(room > 0 ? room : 0),
                 e->on.n > 1 ? ", for each of its replicas" : "");
    }
    return OFFER_NEVER;
}

model_offer models_offer(models *m, model_entry *e, model_entry **victim)
{
    int64_t room = INT64_MAX, part = INT64_MAX; // of the device with the least
    for (int32_t i = 0; i < count_devices(e); i++) {
        const model_group *g = models_group(m, device_of(e, i));
        const int times = models_times_on(e, g->device);
        const int64_t r = room_for(m, e, g) / times, p = part_of(m, g) / times;
        if (r < room) room = r;
        if (p < part) part = p;
    }
    int64_t budget = e->share;
    // Its part, and twice as much each time that this is not enough.
    if (!e->share) budget = !e->too_small ? part : e->too_small > room / 2 ? room : 2 * e->too_small;
    if (!e->share && budget > room) budget = room;
    if (budget > 0 && budget <= room && budget > e->too_small) {
        e->budget = budget;
        return OFFER_LOAD;
    }
    // What was too small is not going to be more.
    if (e->share && e->too_small) return OFFER_NEVER;
    bool in_use;
    *victim = find_victim(m, e, &in_use);
    if (*victim) return OFFER_EVICT;
    return in_use ? OFFER_WAIT : refuse(e, room);
}

bool models_stands_back(models *m, const model_entry *e, uint64_t order)
{
    const model_entry *first = models_blocked(m, e);
    return first && gives_way(e) && order > first->order;
}

void models_how(models *m, const model_entry *e, model_opening *how)
{
    bool alone = !e->share;
    int64_t most = INT64_MAX;
    for (int32_t i = 0; i < count_devices(e); i++) {
        const model_group *g = models_group(m, device_of(e, i));
        const int times = models_times_on(e, g->device);
        if (g->allowance / times < most) most = g->allowance / times;
        alone &= !g->bounded && times == 1;
        for (int j = 0; j < m->n; j++) alone &= m->entries[j] == e || !models_is_on(m->entries[j], g->device);
    }
    how->bytes = alone ? 0 : e->budget;
    how->last = alone || e->share || e->budget >= most;
}
