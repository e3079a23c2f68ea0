#include "daemon/watch/overview.h"

#include <math.h>

static void set(json_t *o, const char *key, json_t *value)
{
    json_object_set_new(o, key, value);
}

// Without meaning (NaN) it is left out.
static void set_number(json_t *o, const char *key, double v)
{
    if (!isfinite(v)) return;
    set(o, key, v == floor(v) && fabs(v) < 1e15 ? json_integer((json_int_t)v) : json_real(v));
}

static json_t *describe_rates(const pulse_rates *r)
{
    json_t *o = json_pack("{s:i, s:f, s:f, s:f}", "window_s", PULSE_RATE_S, "generated_per_s", r->generated_per_s,
                          "read_per_s", r->read_per_s, "ended_per_s", r->ended_per_s);
    set_number(o, "batch", r->batch > 0 ? r->batch : NAN);
    return o;
}

// Of requests of every priority; NULL: there are none.
static json_t *describe_quantiles(const metrics *m, metric_id id)
{
    json_t *o = json_object();
    for (int p = 0; p < BY_PRIORITY_COUNT; p++) {
        const double n = metrics_get(m, id, p, 0);
        if (n == 0) continue;
        set(o, metrics_label_value(LABEL_PRIORITY, p),
            json_pack("{s:I, s:f, s:f}", "count", (json_int_t)n, "p50", metrics_quantile(m, id, p, 0, .5), "p95",
                      metrics_quantile(m, id, p, 0, .95)));
    }
    return o;
}

static json_t *describe_engine(const metrics *m, const monitor *seen, double now_s)
{
    double turn_s;
    const bool alive = monitor_engine(seen, &turn_s, now_s);
    return json_pack("{s:b, s:f, s:f}", "alive", alive, "turn_s", turn_s, "longest_turn_s",
                     metrics_get(m, METRIC_TURN_LONGEST_SECONDS, 0, 0));
}

// Without any there is only the one.
static json_t *describe_replicas(const metrics *m)
{
    const int n = metrics_replicas(m);
    json_t *list = n > 1 ? json_array() : NULL;
    for (int i = 0; list && i < n; i++) {
        json_array_append_new(list, json_pack("{s:i, s:f, s:f, s:f, s:f}", "replica", i, "running",
                                              metrics_get(m, METRIC_REPLICA_REQUESTS, i, 0), "begun_for_kept",
                                              metrics_get(m, METRIC_REPLICA_BEGUN, i, BY_CHOICE_KEPT), "begun_for_load",
                                              metrics_get(m, METRIC_REPLICA_BEGUN, i, BY_CHOICE_LOAD), "busy_s",
                                              metrics_get(m, METRIC_REPLICA_BUSY, i, 0)));
    }
    return list;
}

static json_t *describe_ended(const metrics *m)
{
    json_t *o = json_object();
    for (int i = 0; i < BY_OUTCOME_COUNT; i++) {
        set_number(o, metrics_label_value(LABEL_OUTCOME, i),
                   metrics_get(m, METRIC_REQUESTS, SIGHT_ASK, i) + metrics_get(m, METRIC_REQUESTS, SIGHT_PLAN, i));
    }
    return o;
}

static double count_refused(const metrics *m)
{
    double n = 0;
    for (int i = 0; i < SIGHT_E_COUNT; i++) n += metrics_get(m, METRIC_REFUSALS, i, 0);
    return n;
}

static json_t *describe_tokens(const metrics *m)
{
    json_t *o = json_object();
    for (int kind = 0; kind < BY_TOKENS_COUNT; kind++) {
        double n = 0;
        for (int i = 0; i < METRICS_MODELS; i++) n += metrics_get(m, METRIC_TOKENS, i, kind);
        set_number(o, metrics_label_value(LABEL_TOKENS, kind), n);
    }
    return o;
}

static json_t *describe_memory(const metrics *m)
{
    json_t *models = json_array();
    for (int i = 0; i < METRICS_MODELS; i++) {
        char name[METRICS_NAME_SIZE];
        if (!metrics_model_name(m, i, name)) continue;
        json_t *o = json_pack("{s:s, s:b}", "model", name, "loaded", metrics_get(m, METRIC_MODEL_LOADED, i, 0) > 0);
        for (int what = 0; what < BY_MEMORY_COUNT; what++) {
            set_number(o, metrics_label_value(LABEL_MEMORY, what), metrics_get(m, METRIC_MEMORY_BYTES, i, what));
        }
        json_array_append_new(models, o);
    }
    json_t *memory = json_pack("{s:o}", "models", models);
    set_number(memory, "resident", metrics_get(m, METRIC_RESIDENT_BYTES, 0, 0));
    return memory;
}

static json_t *describe_store(const metrics *m, const char *model, int i, int cache)
{
    const double hits = metrics_get(m, METRIC_CACHE_HITS, i, cache), misses = metrics_get(m, METRIC_CACHE_MISSES, i, cache),
                 entries = metrics_get(m, METRIC_CACHE_ENTRIES, i, cache);
    if (hits + misses + entries == 0) return NULL;
    json_t *o = json_pack("{s:s, s:s}", "model", model, "store", metrics_label_value(LABEL_CACHE, cache));
    set_number(o, "entries", entries);
    set_number(o, "bytes", metrics_get(m, METRIC_CACHE_BYTES, i, cache));
    set_number(o, "hits", hits);
    set_number(o, "misses", misses);
    set_number(o, "evictions", metrics_get(m, METRIC_CACHE_EVICTIONS, i, cache));
    return o;
}

static json_t *describe_stores(const metrics *m)
{
    json_t *list = json_array();
    for (int i = 0; i < METRICS_MODELS; i++) {
        char name[METRICS_NAME_SIZE];
        if (!metrics_model_name(m, i, name)) continue;
        for (int cache = 0; cache < BY_CACHE_COUNT; cache++) {
            json_t *o = describe_store(m, name, i, cache);
            if (o) json_array_append_new(list, o);
        }
    }
    return list;
}

void overview_add(json_t *body, const metrics *m, const monitor *seen, double now_s)
{
    if (!body || !m || !seen) return;
    const pulse_rates rates = monitor_rates(seen);
    set(body, "rates", describe_rates(&rates));
    set(body, "first_token_s", describe_quantiles(m, METRIC_FIRST_TOKEN_SECONDS));
    set(body, "token_gap_s", describe_quantiles(m, METRIC_TOKEN_GAP_SECONDS));
    set(body, "engine", describe_engine(m, seen, now_s));
    json_t *replicas = describe_replicas(m);
    if (replicas) set(body, "replicas", replicas);
    set(body, "ended", describe_ended(m));
    set_number(body, "refused", count_refused(m));
    set(body, "tokens", describe_tokens(m));
    set(body, "memory", describe_memory(m));
    set(body, "stores", describe_stores(m));
}
