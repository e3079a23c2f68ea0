#include "daemon/scheduler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// What a request is taken to last before any has been seen.
#define FIRST_GUESS_S 5.0

struct scheduler {
    scheduler_limits limits;
    job **jobs; // [n], by arrival
    int n;
    int64_t bytes;
    double mean_s; // of the engine's time that requests took, newer ones counting more
    fair *fair;
    long came;
};

const char *job_state_name(job_state state)
{
    static const char *const names[] = {"arrived", "loading", "planning", "fetching", "waiting", "running"};
    return names[state];
}

sight_err scheduler_create(scheduler **out, const scheduler_limits *limits)
{
    scheduler *s = calloc(1, sizeof *s);
    if (s) s->jobs = calloc((size_t)limits->max_jobs + 1, sizeof(job *));
    if (s && s->jobs) fair_create(&s->fair);
    if (!s || !s->fair) {
        scheduler_destroy(&s);
        return sight_fail(SIGHT_E_MEMORY, "no memory for a queue of %d", limits->max_jobs);
    }
    s->limits = *limits;
    s->mean_s = FIRST_GUESS_S;
    *out = s;
    return SIGHT_OK;
}

void scheduler_destroy(scheduler **p)
{
    scheduler *s = *p;
    if (!s) return;
    fair_destroy(&s->fair);
    free(s->jobs);
    free(s);
    *p = NULL;
}

sight_err scheduler_set_limits(scheduler *s, const scheduler_limits *limits)
{
    const int most = limits->max_jobs > s->n ? limits->max_jobs : s->n;
    job **jobs = realloc(s->jobs, ((size_t)most + 1) * sizeof *jobs);
    if (!jobs) return sight_fail(SIGHT_E_MEMORY, "no memory for a queue of %d", limits->max_jobs);
    s->jobs = jobs;
    s->limits = *limits;
    return SIGHT_OK;
}

static bool same_client(const job *j, const void *client, size_t size)
{
    return j->client_size == size && !memcmp(j->client, client, size);
}

job *scheduler_find(const scheduler *s, const void *client, size_t client_size, const char *id)
{
    for (int i = 0; i < s->n; i++) {
        if (same_client(s->jobs[i], client, client_size) && !strcmp(s->jobs[i]->id, id)) {
            return s->jobs[i];
        }
    }
    return NULL;
}

// ---- order ----

static fair_claim claim_of(const job *j)
{
    return (fair_claim){.class = j->class, .since_s = j->arrived_s, .deadline_s = j->deadline_s, .order = j->order,
                        .account = j->account};
}

static bool goes_before(const scheduler *s, const job *a, const job *b, double now_s)
{
    const fair_claim x = claim_of(a), y = claim_of(b);
    return fair_before(s->fair, &x, &y, now_s);
}

// ---- how long ----

// Of the engine's time, that it still takes. What has taken longer than was thought is about to end.
static double left_s(const scheduler *s, const job *j)
{
    const double all = j->work_s > 0 ? j->work_s : s->mean_s, least = 0.05 * all;
    return all - j->used_s > least ? all - j->used_s : least;
}

static int most_running(const scheduler *s)
{
    return s->limits.max_running > 0 ? s->limits.max_running : 1;
}

// When the first of those that run is over, all of which share the engine. A queue where none does moves soon.
static double first_end_s(const scheduler *s)
{
    double least = INFINITY;
    int n = 0;
    for (int i = 0; i < s->n; i++) {
        if (s->jobs[i]->state != JOB_RUNNING) continue;
        n++;
        least = fmin(least, left_s(s, s->jobs[i]));
    }
    return n ? n * least : s->mean_s;
}

// The next to be begun in a forecast, of those that are priced; n: none.
static int next_of(const scheduler *s, const double *left, double now_s)
{
    int best = s->n;
    for (int i = 0; i < s->n; i++) {
        if (s->jobs[i]->state != JOB_READY || left[i] >= 0) continue;
        if (best == s->n || goes_before(s, s->jobs[i], s->jobs[best], now_s)) best = i;
    }
    return best;
}

// Takes off what is done until the first of those that run is over; gives how long that is, 0: none runs.
static double run_until_end(double *left, int n)
{
    double least = INFINITY;
    int running = 0;
    for (int i = 0; i < n; i++) {
        if (left[i] <= 0) continue;
        running++;
        least = fmin(least, left[i]);
    }
    if (!running) return 0;
    for (int i = 0; i < n; i++) {
        if (left[i] > 0) left[i] = left[i] > least ? left[i] - least : 0;
    }
    return running * least;
}

static int count_running(const double *left, int n)
{
    int running = 0;
    for (int i = 0; i < n; i++) running += left[i] > 0;
    return running;
}

bool scheduler_foresee(const scheduler *s, const job *j, scheduler_forecast *out, double now_s)
{
    double *left = malloc(((size_t)s->n + 1) * sizeof *left); // over 0: runs; 0: over; below: not begun
    double at = 0, start = -1, end = -1;
    int of = s->n;
    if (!left) return false;
    for (int i = 0; i < s->n; i++) {
        const bool runs = s->jobs[i]->state == JOB_RUNNING;
        left[i] = runs ? left_s(s, s->jobs[i]) : -1;
        if (s->jobs[i] == j) of = i;
        if (runs && s->jobs[i] == j) start = 0;
    }
    while (of < s->n && end < 0) {
        for (int i; count_running(left, s->n) < most_running(s) && (i = next_of(s, left, now_s)) < s->n;) {
            left[i] = left_s(s, s->jobs[i]);
            if (i == of) start = at;
        }
        const double took = run_until_end(left, s->n);
        if (took <= 0) break;
        at += took;
        if (left[of] == 0) end = at;
    }
    free(left);
    if (start < 0 || end < 0 || j->work_s <= 0) return false;
    *out = (scheduler_forecast){start, end};
    return true;
}

static int whole_s(double wait)
{
    wait = ceil(wait);
    return wait < 1 ? 1 : wait > 3600 ? 3600 : (int)wait;
}

int scheduler_retry_after_s(const scheduler *s)
{
    return whole_s(first_end_s(s));
}

// When the first of those that count against the same limit as j is over.
static int retry_own(const scheduler *s, const job *j, bool of_identity)
{
    double wait = INFINITY;
    for (int i = 0; i < s->n; i++) {
        scheduler_forecast f;
        const job *a = s->jobs[i];
        if (of_identity ? a->who != j->who : !same_client(a, j->client, j->client_size)) continue;
        if (scheduler_foresee(s, a, &f, j->arrived_s)) wait = fmin(wait, f.end_s);
    }
    return isfinite(wait) ? whole_s(wait) : scheduler_retry_after_s(s);
}

// ---- coming and going ----

static sight_err check_identity(const scheduler *s, job *j)
{
    const int most = identity_limits(j->who)->max_jobs;
    int own = 0;
    for (int i = 0; i < s->n; i++) own += s->jobs[i]->who == j->who;
    if (!most || own < most) return SIGHT_OK;
    char who[IDENTITY_NAME_SIZE + 16];
    identity_describe(who, sizeof who, j->who);
    j->retry_after_s = retry_own(s, j, true);
    return sight_fail(SIGHT_E_BUSY, "%s has %d unfinished requests, its limit; try again in about %d s", who, own,
                      j->retry_after_s);
}

static sight_err check_client(const scheduler *s, job *j)
{
    int own = 0;
    for (int i = 0; i < s->n; i++) own += same_client(s->jobs[i], j->client, j->client_size);
    if (own < s->limits.max_jobs_per_client) return SIGHT_OK;
    j->retry_after_s = retry_own(s, j, false);
    return sight_fail(SIGHT_E_BUSY, "this client has %d unfinished requests, the limit; try again in about %d s", own,
                      j->retry_after_s);
}

static sight_err check_room(const scheduler *s, job *j)
{
    j->retry_after_s = scheduler_retry_after_s(s);
    if (s->n >= s->limits.max_jobs) {
        return sight_fail(SIGHT_E_BUSY, "the queue is full with %d requests; try again in about %d s", s->n,
                          j->retry_after_s);
    }
    if (s->bytes + (int64_t)j->bytes <= s->limits.max_bytes) return SIGHT_OK;
    return sight_fail(SIGHT_E_BUSY,
                      "the queue holds %lld MiB and %zu MiB more are over its limit; try again in about %d s",
                      (long long)(s->bytes >> 20), j->bytes >> 20, j->retry_after_s);
}

sight_err scheduler_add(scheduler *s, job *j)
{
    if (scheduler_find(s, j->client, j->client_size, j->id)) {
        return sight_fail(SIGHT_E_ARGUMENT,
                          "the request id '%s' is in use by an unfinished request", j->id);
    }
    sight_err err = check_room(s, j);
    if (!err) err = check_client(s, j);
    if (!err) err = check_identity(s, j);
    if (!err) err = fair_open(s->fair, &j->account, j->who, j->client, j->client_size);
    if (err) return err;
    j->state = JOB_ARRIVED;
    j->order = s->came++;
    j->told_place = -1;
    s->jobs[s->n++] = j;
    s->bytes += (int64_t)j->bytes;
    return SIGHT_OK;
}

void scheduler_remove(scheduler *s, job *j, double now_s)
{
    int i = 0;
    while (i < s->n && s->jobs[i] != j) i++;
    if (i == s->n) return;
    if (j->state == JOB_RUNNING) {
        const double took = j->used_s > 0 ? j->used_s : now_s - j->started_s;
        s->mean_s += 0.3 * (took - s->mean_s);
    }
    fair_close(s->fair, &j->account);
    s->bytes -= (int64_t)j->bytes;
    s->n--;
    memmove(s->jobs + i, s->jobs + i + 1, (size_t)(s->n - i) * sizeof *s->jobs);
}

// Whether as many of this identity run already as may.
static bool has_enough(const scheduler *s, const identity *who)
{
    const int most = identity_limits(who)->max_running;
    int running = 0;
    for (int i = 0; i < s->n; i++) running += s->jobs[i]->state == JOB_RUNNING && s->jobs[i]->who == who;
    return most && running >= most;
}

#define FULL_MAX 64 // models

// Models that have no memory for the next of their requests.
typedef struct full_models {
    const void *model[FULL_MAX];
    int n;
} full_models;

static bool is_full(const full_models *full, const job *j)
{
    for (int i = 0; i < full->n; i++) {
        if (full->model[i] == j->model) return true;
    }
    return false;
}

// Who is next of those in a state, and may be.
static job *next_in(const scheduler *s, job_state state, const full_models *full, double now_s)
{
    job *best = NULL;
    for (int i = 0; i < s->n; i++) {
        job *j = s->jobs[i];
        if (j->state != state || j->cancelled) continue;
        if (state == JOB_READY && (has_enough(s, j->who) || is_full(full, j))) continue;
        if (!best || goes_before(s, j, best, now_s)) best = j;
    }
    return best;
}

job *scheduler_start_planning(scheduler *s, double now_s)
{
    for (int i = 0; i < s->n; i++) {
        if (s->jobs[i]->state == JOB_PLANNING) return NULL;
    }
    job *j = next_in(s, JOB_ARRIVED, NULL, now_s);
    if (j) j->state = JOB_PLANNING;
    return j;
}

// Beside those that run on the same model.
static bool fits(const scheduler *s, const job *j)
{
    int64_t bytes = j->memory_bytes;
    bool alone = true;
    for (int i = 0; i < s->n; i++) {
        const job *other = s->jobs[i];
        if (other->state != JOB_RUNNING || other->model != j->model) continue;
        bytes += other->memory_bytes;
        alone = false;
    }
    return alone || !j->model_bytes || bytes <= j->model_bytes;
}

job *scheduler_start_running(scheduler *s, double now_s)
{
    int running = 0;
    for (int i = 0; i < s->n; i++) running += s->jobs[i]->state == JOB_RUNNING;
    full_models full = {.n = 0};
    if (running >= most_running(s)) return NULL;
    job *j;
    while ((j = next_in(s, JOB_READY, &full, now_s)) && !fits(s, j)) {
        if (full.n == FULL_MAX) return NULL;
        full.model[full.n++] = j->model;
    }
    if (!j) return NULL;
    j->state = JOB_RUNNING;
    j->started_s = now_s;
    return j;
}

void scheduler_planned(scheduler *s, job *j)
{
    j->state = JOB_READY;
}

void scheduler_awaits_model(scheduler *s, job *j)
{
    j->state = JOB_LOADING;
}

void scheduler_again(scheduler *s, job *j)
{
    j->state = JOB_ARRIVED;
}

void scheduler_used(scheduler *s, job *j, double used_s)
{
    fair_charge(s->fair, j->account, used_s - j->used_s);
    if (used_s > j->used_s) j->used_s = used_s;
}

// Of two that wait for the engine and are priced one goes first; else they go in the order in which they came.
static bool is_ahead(const scheduler *s, const job *a, const job *b, double now_s)
{
    if (a->state == JOB_RUNNING) return true;
    if (a->state == JOB_READY && b->state == JOB_READY) return goes_before(s, a, b, now_s);
    return a->order < b->order;
}

int scheduler_place(const scheduler *s, const job *j, double now_s)
{
    int place = 0;
    if (j->state == JOB_RUNNING) return 0;
    for (int i = 0; i < s->n; i++) {
        const job *a = s->jobs[i];
        if (a == j) continue;
        if (j->plan_only) place += a->state < JOB_READY && a->order < j->order;
        else place += !a->plan_only && is_ahead(s, a, j, now_s);
    }
    return place;
}

int scheduler_count(const scheduler *s)
{
    return s->n;
}

job *scheduler_get(const scheduler *s, int i)
{
    return s->jobs[i];
}

int64_t scheduler_bytes(const scheduler *s)
{
    return s->bytes;
}
