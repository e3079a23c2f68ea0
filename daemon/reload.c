#include "daemon/reload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/notify.h"
#include "daemon/roots.h"

// What was in force before, which requests under way may still point into.
typedef struct retired {
    struct retired *next;
    options options;
    roots *roots; // NULL: the first ones, which are not ours
} retired;

struct reload {
    reload_parts parts;
    retired *old;
    roots *roots; // ours among those in force; NULL: they are from the start
};

// The others are what sockets, models and threads were made with.
static const char *const live[] = {
    "max-jobs", "max-running", "max-jobs-per-client", "max-queue-bytes", "max-json-bytes", "max-media", "max-media-bytes",
    "max-source-pixels", "max-frames", "max-seconds", "max-prompt-tokens", "max-tokens", "drafts", "max-request-seconds",
    "decoder-threads", "allow-paths", "media-root", "grace", "private", "log", "log-format", "metrics", "stuck",
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

void reload_sweep(reload *r)
{
    while (r->old) {
        retired *next = r->old->next;
        options_done(&r->old->options);
        roots_destroy(&r->old->roots);
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
    free(r);
    *pr = NULL;
}

// ---- applying ----

static void add_name(char *list, size_t size, const char *name)
{
    const size_t n = strlen(list);
    snprintf(list + n, size - n, "%s%s", n ? ", " : "", name);
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
    o->limits.drafts = other->limits.drafts; // made of the word
}

// Folders that may be named are opened anew, also when their names are the same: what lies there may have changed.
static sight_err prepare(reload *r, options *next, roots **fresh)
{
    const option_list *given = &next->media_roots;
    sight_err err = options_read(next, r->parts.argc, r->parts.argv);
    if (!err) err = roots_create(fresh, (const char *const *)given->items, given->n, "media-root");
    if (!err) err = gate_check(&next->gate);
    if (!err) err = scheduler_set_limits(r->parts.queue, &next->queue);
    if (!err) {
        err = monitor_change(r->parts.monitor, next);
        if (err) scheduler_set_limits(r->parts.queue, &r->parts.options->queue); // which it had: room is there
    }
    return err;
}

sight_err reload_apply(reload *r, char *changed, char *waiting, size_t size)
{
    options *o = r->parts.options;
    roots *fresh = NULL;
    *changed = *waiting = 0;
    retired *old = calloc(1, sizeof *old);
    if (!old) return sight_fail(SIGHT_E_MEMORY, "no memory for settings");
    sight_err err = prepare(r, &old->options, &fresh);
    if (err) {
        roots_destroy(&fresh);
        options_done(&old->options);
        free(old);
        return err;
    }
    take_live(o, &old->options, changed, waiting, size);
    old->roots = r->roots;
    old->next = r->old;
    r->old = old;
    r->roots = fresh;
    o->limits.roots = fresh;
    options_apply_log(o);
    if (r->parts.gate) gate_reload(r->parts.gate, r->parts.server);
    return SIGHT_OK;
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
