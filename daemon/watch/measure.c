#include "daemon/watch/measure.h"

// Brings a gauge of the engine's model to where this engine's part of it is now.
static void shift(engine *e, metric_id id, int second, double *told, double now)
{
    metrics_shift(engine_metrics(e), id, engine_index(e), second, now - *told);
    *told = now;
}

// The same for a counter.
static void count(engine *e, metric_id id, int second, double *told, double now)
{
    metrics_add_to(engine_metrics(e), id, engine_index(e), second, now - *told);
    *told = now;
}

static void set_memory(engine *e, metric_memory what, int64_t bytes)
{
    shift(e, METRIC_MEMORY_BYTES, what, &engine_measured(e)->memory[what], (double)bytes);
}

typedef struct store {
    metric_cache label;
    int64_t entries, bytes, hits, misses, dropped;
} store;

// Of a store of each engine's own.
static void add_store(engine *e, const store *s)
{
    measured *t = engine_measured(e);
    shift(e, METRIC_CACHE_ENTRIES, s->label, &t->entries[s->label], (double)s->entries);
    shift(e, METRIC_CACHE_BYTES, s->label, &t->bytes[s->label], (double)s->bytes);
    count(e, METRIC_CACHE_HITS, s->label, &t->hits[s->label], (double)s->hits);
    count(e, METRIC_CACHE_MISSES, s->label, &t->misses[s->label], (double)s->misses);
    count(e, METRIC_CACHE_EVICTIONS, s->label, &t->dropped[s->label], (double)s->dropped);
}

// Of one that replicas share: any of them tells the whole.
static void set_store(const engine *e, const store *s)
{
    metrics *m = engine_metrics(e);
    const int i = engine_index(e);
    metrics_set_at(m, METRIC_CACHE_ENTRIES, i, s->label, (double)s->entries);
    metrics_set_at(m, METRIC_CACHE_BYTES, i, s->label, (double)s->bytes);
    metrics_take(m, METRIC_CACHE_HITS, i, s->label, (double)s->hits);
    metrics_take(m, METRIC_CACHE_MISSES, i, s->label, (double)s->misses);
    metrics_take(m, METRIC_CACHE_EVICTIONS, i, s->label, (double)s->dropped);
}

// One folder serves all models: what lies there is told with the first of them, who found what with each.
static void measure_disk(engine *e, disk *d)
{
    const bool first = engine_index(e) == 0 && engine_replica(e) == 0;
    const disk_usage u = disk_get_usage(d);
    store pasts = {.label = BY_CACHE_PREFIX_DISK}, rows = {.label = BY_CACHE_FEATURES_DISK};
    if (first) {
        pasts.entries = u.kind_items[DISK_STATES];
        pasts.bytes = u.kind_bytes[DISK_STATES] + u.kind_bytes[DISK_PAGES];
        pasts.dropped = u.evicted;
        rows.entries = u.kind_items[DISK_ROWS];
        rows.bytes = u.kind_bytes[DISK_ROWS];
    }
    const prefix_disk_usage asked = prefix_disk_get_usage(prefix_store_disk(engine_prefix(e)));
    pasts.hits = asked.hits;
    pasts.misses = asked.misses;
    if (engine_features(e)) {
        const feature_usage found = feature_store_usage(engine_features(e));
        rows.hits = found.disk_hits;
        rows.misses = found.disk_misses;
    }
    add_store(e, &pasts);
    set_store(e, &rows);
}

void measure_engine(engine *e)
{
    if (!engine_metrics(e)) return;
    const engine_memory m = engine_get_memory(e);
    const prefix_store *pasts = engine_prefix(e);
    feature_store *pieces = engine_features(e);
    set_memory(e, BY_MEMORY_WEIGHTS, m.weights);
    set_memory(e, BY_MEMORY_WORKSPACE, m.text_workspace);
    set_memory(e, BY_MEMORY_VISION, m.vision);
    set_memory(e, BY_MEMORY_CACHE_BUDGET, m.cache_budget);
    set_memory(e, BY_MEMORY_BUDGET, m.budget);
    set_memory(e, BY_MEMORY_CACHES, cache_bytes_used(engine_pool(e)));
    metrics_set_at(engine_metrics(e), METRIC_MODEL_LOADED, engine_index(e), 0, 1);
    const device_id on = kernels_device(engine_kernels(e));
    shift(e, METRIC_DEVICE_BYTES, 0, &engine_measured(e)->device,
          on.kind == DEVICE_CPU ? 0 : (double)(m.budget + m.spare));
    if (pasts) {
        const prefix_usage u = prefix_store_usage(pasts);
        set_memory(e, BY_MEMORY_PROMISED, u.promised);
        add_store(e, &(store){BY_CACHE_PREFIX, u.pasts, u.bytes, u.hits, u.misses, u.dropped});
        if (engine_disk(e)) measure_disk(e, engine_disk(e));
    }
    if (pieces) {
        const feature_usage u = feature_store_usage(pieces);
        set_store(e, &(store){BY_CACHE_FEATURES, u.pieces, u.bytes, u.hits, u.misses, u.dropped});
    }
}

void measure_closing(engine *e)
{
    measured *t = engine_measured(e);
    if (!engine_metrics(e)) return;
    for (int i = 0; i < BY_MEMORY_COUNT; i++) shift(e, METRIC_MEMORY_BYTES, i, &t->memory[i], 0);
    shift(e, METRIC_DEVICE_BYTES, 0, &t->device, 0);
    for (int i = 0; i < BY_CACHE_COUNT; i++) {
        shift(e, METRIC_CACHE_ENTRIES, i, &t->entries[i], 0);
        shift(e, METRIC_CACHE_BYTES, i, &t->bytes[i], 0);
    }
}

void measure_unloaded(metrics *m, int index)
{
    metrics_set_at(m, METRIC_MODEL_LOADED, index, 0, 0);
    metrics_set_at(m, METRIC_CACHE_ENTRIES, index, BY_CACHE_FEATURES, 0); // which replicas share
    metrics_set_at(m, METRIC_CACHE_BYTES, index, BY_CACHE_FEATURES, 0);
}
