#include "daemon/watch/measure.h"

static void set_memory(const engine *e, metric_memory what, int64_t bytes)
{
    metrics_set_at(engine_metrics(e), METRIC_MEMORY_BYTES, engine_index(e), what, (double)bytes);
}

typedef struct store {
    metric_cache label;
    int64_t entries, bytes, hits, misses, dropped;
} store;

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
    const bool first = engine_index(e) == 0;
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
    set_store(e, &pasts);
    set_store(e, &rows);
}

void measure_engine(engine *e)
{
    if (!engine_metrics(e)) return;
    const engine_memory m = engine_get_memory(e);
    const prefix_store *pasts = engine_prefix(e);
    const feature_store *pieces = engine_features(e);
    set_memory(e, BY_MEMORY_WEIGHTS, m.weights);
    set_memory(e, BY_MEMORY_WORKSPACE, m.text_workspace);
    set_memory(e, BY_MEMORY_VISION, m.vision);
    set_memory(e, BY_MEMORY_CACHE_BUDGET, m.cache_budget);
    set_memory(e, BY_MEMORY_BUDGET, m.budget);
    set_memory(e, BY_MEMORY_CACHES, cache_bytes_used(engine_pool(e)));
    metrics_set_at(engine_metrics(e), METRIC_MODEL_LOADED, engine_index(e), 0, 1);
    const device_id on = kernels_device(engine_kernels(e));
    metrics_set_at(engine_metrics(e), METRIC_DEVICE_BYTES, engine_index(e), 0,
                   on.kind == DEVICE_CPU ? 0 : (double)(m.budget + m.spare));
    if (pasts) {
        const prefix_usage u = prefix_store_usage(pasts);
        set_memory(e, BY_MEMORY_PROMISED, u.promised);
        set_store(e, &(store){BY_CACHE_PREFIX, u.pasts, u.bytes, u.hits, u.misses, u.dropped});
        if (engine_disk(e)) measure_disk(e, engine_disk(e));
    }
    if (pieces) {
        const feature_usage u = feature_store_usage(pieces);
        set_store(e, &(store){BY_CACHE_FEATURES, u.pieces, u.bytes, u.hits, u.misses, u.dropped});
    }
}

void measure_unloaded(metrics *m, int index)
{
    metrics_set_at(m, METRIC_MODEL_LOADED, index, 0, 0);
    for (int i = 0; i < BY_MEMORY_COUNT; i++) metrics_set_at(m, METRIC_MEMORY_BYTES, index, i, 0);
    for (int i = 0; i < BY_CACHE_COUNT; i++) {
        metrics_set_at(m, METRIC_CACHE_ENTRIES, index, i, 0);
        metrics_set_at(m, METRIC_CACHE_BYTES, index, i, 0);
    }
}
