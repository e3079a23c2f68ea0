#include "daemon/media/fetcher.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/media/curl_library.h"

#define TELL_S 0.1

struct fetcher {
    curl_library lib;
    url_hosts *hosts;
    fetch_rules rules;
    int64_t max_bytes;
    metrics *metrics;
    pthread_t *threads; // [n]
    int32_t n, per_identity;
    pthread_mutex_t mutex; // guards what follows, and the fetcher's part of every work
    pthread_cond_t changed;
    fetch_work *first; // in order of arrival
    int64_t bytes;
    int32_t ending; // works that are told so just now
    bool stop;
};

// One medium being fetched.
typedef struct unit {
    fetcher *of;
    fetch_work *work;
    request_media *medium;
    bool length_known;
} unit;

// ---- the queue, under the mutex ----

// The next medium to be fetched; NULL: none is left.
static request_media *next_medium(fetch_work *w)
{
    for (; w->at < w->asked->n_media; w->at++) {
        request_media *m = &w->asked->media[w->at];
        if (m->url && m->fd < 0) return m;
    }
    return NULL;
}

static int32_t running_of(const fetcher *f, const identity *who)
{
    int32_t n = 0;
    for (const fetch_work *w = f->first; w; w = w->next) n += w->who == who ? w->running : 0;
    return n;
}

// Of those with something left, the one whose identity has the least under way, and of these the first.
static fetch_work *pick(const fetcher *f)
{
    fetch_work *best = NULL;
    int32_t least = f->per_identity;
    for (fetch_work *w = f->first; w; w = w->next) {
        if (!next_medium(w)) continue;
        const int32_t n = running_of(f, w->who);
        if (n >= least) continue;
        least = n;
        best = w;
    }
    return best;
}

static bool take_out(fetcher *f, const fetch_work *w)
{
    for (fetch_work **at = &f->first; *at; at = &(*at)->next) {
        if (*at != w) continue;
        *at = w->next;
        return true;
    }
    return false;
}

static void end_rest(fetch_work *w)
{
    w->at = w->asked->n_media;
}

// ---- on a fetching thread ----

// The length of a medium that just began; 0 is told while that of some is not known.
static void count_length(unit *u, int64_t total)
{
    if (u->length_known || total < 0) return;
    u->length_known = true;
    u->work->n_unknown--;
    u->work->total += total;
}

static sight_err take_bytes(void *arg, int64_t bytes, int64_t total)
{
    unit *u = arg;
    fetcher *f = u->of;
    fetch_work *w = u->work;
    const double now_s = clock_now_s();
    pthread_mutex_lock(&f->mutex);
    const bool fits = bytes <= f->max_bytes - f->bytes;
    if (fits) {
        f->bytes += bytes;
        w->bytes += bytes;
    }
    count_length(u, total);
    const bool tell = fits && now_s - w->told_s >= TELL_S;
    if (tell) w->told_s = now_s;
    const int64_t done = w->bytes, all = w->n_unknown ? 0 : w->total;
    pthread_mutex_unlock(&f->mutex);
    if (!fits) {
        return sight_fail(SIGHT_E_BUSY, "what was fetched for waiting requests takes %lld MiB, the server's limit; try again later",
                          (long long)(f->max_bytes >> 20));
    }
    metrics_add(f->metrics, METRIC_FETCHED_BYTES, (double)bytes);
    if (tell) w->told(w->arg, done, all);
    return SIGHT_OK;
}

static bool is_unwanted(void *arg)
{
    const unit *u = arg;
    return atomic_load(u->work->cancel) || atomic_load(&u->work->failed);
}

static metric_ending ending_of(sight_err err)
{
    switch (err) {
    case SIGHT_OK: return BY_ENDING_DONE;
    case SIGHT_E_TIMEOUT: return BY_ENDING_TIME;
    case SIGHT_E_BUSY:
    case SIGHT_E_LIMIT: return BY_ENDING_MEMORY;
    case SIGHT_E_PERMISSION: return BY_ENDING_REFUSED;
    default: return BY_ENDING_FAILED;
    }
}

static sight_err fetch_medium(unit *u)
{
    const fetcher *f = u->of;
    fetch_rules rules = f->rules;
    if (u->work->max_bytes && u->work->max_bytes < rules.max_bytes) rules.max_bytes = u->work->max_bytes;
    const fetch_watch watch = {is_unwanted, take_bytes, u};
    url_parts at = {0};
    sight_err err = url_parse(&at, u->medium->url);
    if (!err) err = fetch_url(&f->lib, &rules, &u->medium->fd, &at, &watch);
    url_done(&at);
    metrics_add_to(f->metrics, METRIC_FETCHES, ending_of(err), 0, 1);
    return err;
}

// Takes the mutex as held, and gives it back held. The first that goes wrong ends the others that were not begun.
static void fetch_one(fetcher *f, fetch_work *w)
{
    unit u = {.of = f, .work = w, .medium = next_medium(w)};
    w->at++;
    w->running++;
    pthread_mutex_unlock(&f->mutex);
    sight_err err = fetch_medium(&u);
    pthread_mutex_lock(&f->mutex);
    w->running--;
    if (err && !w->err) {
        w->err = err;
        snprintf(w->line, sizeof w->line, "%s", sight_error());
    }
    if (err) {
        atomic_store(&w->failed, true);
        end_rest(w);
    }
    pthread_cond_broadcast(&f->changed); // its identity has one less under way
    if (w->running || next_medium(w)) return;
    take_out(f, w);
    f->ending++;
    pthread_mutex_unlock(&f->mutex);
    w->over(w->arg); // which may free it
    pthread_mutex_lock(&f->mutex);
    f->ending--;
    pthread_cond_broadcast(&f->changed);
}

static void *fetcher_main(void *arg)
{
    fetcher *f = arg;
    pthread_mutex_lock(&f->mutex);
    while (!f->stop) {
        fetch_work *w = pick(f);
        if (w) fetch_one(f, w);
        else pthread_cond_wait(&f->changed, &f->mutex);
    }
    pthread_mutex_unlock(&f->mutex);
    return NULL;
}

// ---- its owner ----

static sight_err start_threads(fetcher *f, int32_t n)
{
    f->threads = calloc((size_t)n, sizeof *f->threads);
    if (!f->threads) return sight_fail(SIGHT_E_MEMORY, "no memory for fetching");
    f->per_identity = (n + 1) / 2;
    for (; f->n < n; f->n++) {
        if (pthread_create(&f->threads[f->n], NULL, fetcher_main, f)) {
            return sight_fail(SIGHT_E_MEMORY, "cannot start a thread for fetching");
        }
    }
    return SIGHT_OK;
}

sight_err fetcher_create(fetcher **out, const fetcher_options *o)
{
    fetcher *f = calloc(1, sizeof *f);
    if (!f) return sight_fail(SIGHT_E_MEMORY, "no memory for fetching");
    pthread_mutex_init(&f->mutex, NULL);
    pthread_cond_init(&f->changed, NULL);
    f->max_bytes = o->max_bytes;
    f->metrics = o->metrics;
    sight_err err = url_hosts_create(&f->hosts, o->hosts, o->n_hosts, "url-hosts");
    f->rules = o->rules;
    f->rules.hosts = f->hosts;
    if (!err) err = curl_library_open(&f->lib);
    if (!err) err = start_threads(f, o->threads);
    if (err) fetcher_destroy(&f);
    else *out = f;
    return err;
}

void fetcher_destroy(fetcher **p)
{
    fetcher *f = *p;
    if (!f) return;
    pthread_mutex_lock(&f->mutex);
    f->stop = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mutex);
    for (int32_t i = 0; i < f->n; i++) pthread_join(f->threads[i], NULL);
    free(f->threads);
    curl_library_close(&f->lib);
    url_hosts_destroy(&f->hosts);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->mutex);
    free(f);
    *p = NULL;
}

void fetcher_drain(fetcher *f)
{
    pthread_mutex_lock(&f->mutex);
    for (fetch_work *w = f->first, *next; w; w = next) {
        next = w->next;
        end_rest(w);
        if (!w->running) take_out(f, w);
    }
    while (f->first || f->ending) pthread_cond_wait(&f->changed, &f->mutex);
    pthread_mutex_unlock(&f->mutex);
}

const fetch_rules *fetcher_rules(const fetcher *f)
{
    return &f->rules;
}

void fetcher_add(fetcher *f, fetch_work *w)
{
    pthread_mutex_lock(&f->mutex);
    w->next = NULL;
    w->at = w->running = w->n_unknown = 0;
    for (int32_t i = 0; i < w->asked->n_media; i++) w->n_unknown += w->asked->media[i].url && w->asked->media[i].fd < 0;
    fetch_work **end = &f->first;
    while (*end) end = &(*end)->next;
    *end = w;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mutex);
}

bool fetcher_drop(fetcher *f, fetch_work *w)
{
    pthread_mutex_lock(&f->mutex);
    bool there = false;
    for (const fetch_work *at = f->first; at && !there; at = at->next) there = at == w;
    if (there) end_rest(w);
    const bool dropped = there && !w->running && take_out(f, w);
    pthread_mutex_unlock(&f->mutex);
    return dropped;
}

void fetcher_forget(fetcher *f, fetch_work *w)
{
    pthread_mutex_lock(&f->mutex);
    f->bytes -= w->bytes;
    w->bytes = 0;
    pthread_mutex_unlock(&f->mutex);
}
