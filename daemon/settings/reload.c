#include "daemon/settings/reload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/watch/notify.h"
#include "daemon/models/model_set.h"
#include "daemon/settings/resources.h"

// What was in force before, which requests under way may still point into. What was there from the start is not ours: NULL.
typedef struct retired {
    struct retired *next;
    options options;
    roots *roots;
    fetcher *fetcher;
} retired;

struct reload {
    reload_parts parts;
    retired *old;
    roots *roots; // ours, of those in force; NULL: they are from the start
    fetcher *fetcher;
};

// The others are what sockets and the store were made with.
static const char *const live[] = {
    "max-jobs", "max-running", "max-jobs-per-client", "max-queue-bytes", "max-json-bytes", "max-media", "max-media-bytes",
    "max-source-pixels", "max-pixels", "max-frames", "max-seconds", "max-prompt-tokens", "max-tokens", "drafts",
    "max-request-seconds", "decoder-threads", "allow-paths", "media-root", "grace", "private", "log", "log-format", "metrics",
    "stuck",
    "urls", "url-hosts", "url-private", "url-max-bytes", "url-timeout", "url-redirects", "url-fetches",
    "url-ca",
    // Of models: those that are no longer as they are configured are replaced once nobody uses them.
    "model", "mmproj", "lora", "default-model", "device", "device-memory", "memory", "threads", "simd", "kv", "weights", "cache",
    "exact", "fp8", "context", "rope-factor", "step-rows", "reuse", "reuse-memory", "feature-memory",
};

bool reload_is_live(const char *name)
{
    for (size_t i = 0; i < sizeof live / sizeof *live; i++) {
        if (!strcmp(live[i], name)) return true;
    }
    return false;
}

sight_err reload_create(reload **out, const reload_parts *parts)
{
    reload *r = calloc(1, sizeof *r);
    if (!r) return sight_fail(SIGHT_E_MEMORY, "no memory for settings");
    r->parts = *parts;
    *out = r;
    return SIGHT_OK;
}

void reload_drain(reload *r)
{
    for (retired *old = r->old; old; old = old->next) {
        if (old->fetcher) fetcher_drain(old->fetcher);
    }
}

void reload_sweep(reload *r)
{
    while (r->old) {
        retired *next = r->old->next;
        options_done(&r->old->options);
        roots_destroy(&r->old->roots);
        fetcher_destroy(&r->old->fetcher);
        free(r->old);
        r->old = next;
    }
}

void reload_destroy(reload **pr)
{
    reload *r = *pr;
    if (!r) return;
    reload_sweep(r);
    roots_destroy(&r->roots);
    fetcher_destroy(&r->fetcher);
    free(r);
    *pr = NULL;
}

// ---- applying ----

static void add_name(char *list, size_t size, const char *name)
{
    const size_t n = strlen(list);
    snprintf(list + n, size - n, "%s%s", n ? ", " : "", name);
}

static char *print_sections(const options *o)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f) return NULL;
    model_sections_print(&o->sections, f);
    return fclose(f) ? (free(text), NULL) : text;
}

static bool same_sections(const options *a, const options *b)
{
    char *one = print_sections(a), *other = print_sections(b);
    const bool same = one && other && !strcmp(one, other);
    free(one);
    free(other);
    return same;
}

// Moves what can change into the settings in force; `other` is left with what was there.
static void take_live(options *o, options *other, char *changed, char *waiting, size_t size)
{
    size_t at = 0;
    for (const char *name; (name = options_difference(o, other, &at));) {
        const bool now = reload_is_live(name);
        add_name(now ? changed : waiting, size, name);
        if (now) options_swap(o, other, name);
    }
    if (!same_sections(o, other)) add_name(changed, size, "models and routers");
    const model_sections sections = o->sections;
    o->sections = other->sections;
    other->sections = sections;
    o->limits.drafts = other->limits.drafts; // made of the word
}

static bool differs_in_fetching(const options *a, const options *b)
{
    size_t at = 0;
    for (const char *name; (name = options_difference(a, b, &at));) {
        if (!strncmp(name, "url", 3) || !strcmp(name, "max-queue-bytes") || !strcmp(name, "max-media-bytes")) return true;
    }
    return false;
}

// What reloaded settings need, until it is known that nothing fails.
typedef struct fresh_parts {
    roots *roots;
    fetcher *fetcher;
    model_set set;
} fresh_parts;

// The last steps, which change something: each is taken back when the next one fails.
static sight_err enter(reload *r, const options *next, const fresh_parts *fresh)
{
    sight_err err = scheduler_set_limits(r->parts.queue, &next->queue);
    if (!err) err = monitor_prepare(r->parts.monitor, next);
    if (!err && r->parts.models) err = models_apply(r->parts.models, &fresh->set);
    if (!err) return SIGHT_OK;
    scheduler_set_limits(r->parts.queue, &r->parts.options->queue); // which it had: room is there
    monitor_commit(r->parts.monitor, NULL);
    return err;
}

// Folders that may be named are opened anew, also when their names are the same: what lies there may have changed.
static sight_err prepare(reload *r, options *next, fresh_parts *fresh)
{
    const options *now = r->parts.options;
    sight_err err = options_read(next, r->parts.argc, r->parts.argv);
    next->engine.metrics = now->engine.metrics;
    next->engine.disk = now->engine.disk;
    if (!err) err = gate_check(&next->gate);
    if (!err) err = resources_roots(&fresh->roots, next);
    if (!err && differs_in_fetching(now, next)) err = resources_fetcher(&fresh->fetcher, next);
    if (!err && r->parts.models) err = model_set_make(&fresh->set, next);
    return err ? err : enter(r, next, fresh);
}

// Nothing fails from here on.
static void commit(reload *r, retired *old, const fresh_parts *fresh, char *changed, char *waiting, size_t size)
{
    options *o = r->parts.options;
    const bool refetch = differs_in_fetching(o, &old->options);
    take_live(o, &old->options, changed, waiting, size);
    old->roots = r->roots;
    r->roots = fresh->roots;
    o->limits.roots = fresh->roots;
    if (refetch) {
        old->fetcher = r->fetcher;
        r->fetcher = fresh->fetcher;
        o->fetcher = fresh->fetcher;
        // It borrows the name of a file, also where that is the same as before.
        if (old->options.url_ca && fresh->fetcher && fetcher_rules(fresh->fetcher)->ca_file == old->options.url_ca) {
            options_swap(o, &old->options, "url-ca");
        }
        o->limits.urls = fresh->fetcher ? fetcher_rules(fresh->fetcher) : NULL;
    }
    old->next = r->old;
    r->old = old;
    monitor_commit(r->parts.monitor, o);
    options_apply_log(o);
    if (r->parts.gate) gate_reload(r->parts.gate, r->parts.server);
}

sight_err reload_apply(reload *r, char *changed, char *waiting, size_t size)
{
    fresh_parts fresh = {0};
    *changed = *waiting = 0;
    retired *old = calloc(1, sizeof *old);
    if (!old) return sight_fail(SIGHT_E_MEMORY, "no memory for settings");
    sight_err err = prepare(r, &old->options, &fresh);
    model_set_done(&fresh.set);
    if (!err) {
        commit(r, old, &fresh, changed, waiting, size);
        return SIGHT_OK;
    }
    roots_destroy(&fresh.roots);
    fetcher_destroy(&fresh.fetcher);
    options_done(&old->options);
    free(old);
    return err;
}

void reload_run(reload *r, metrics *m)
{
    char text[96], changed[1024], waiting[1024];
    // CLOCK_MONOTONIC, as sd_notify(3) wants it.
    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)(clock_now_s() * 1e6));
    notify_send(text);
    sight_err err = reload_apply(r, changed, waiting, sizeof changed);
    metrics_add_to(m, METRIC_RELOADS, err ? BY_RESULT_BAD : BY_RESULT_GOOD, 0, 1);
    if (err) {
        const log_field why = LOG_TEXT("error", sight_error());
        log_event(LOG_ERROR, "settings were not reloaded, all stays as it is", &why, 1);
    } else {
        const log_field what = LOG_TEXT("changed", *changed ? changed : "nothing");
        log_event(LOG_INFO, "settings reloaded", &what, 1);
        const log_field later = LOG_TEXT("settings", waiting);
        if (*waiting) log_event(LOG_WARNING, "some settings need a restart to change", &later, 1);
    }
    notify_send("READY=1");
}
