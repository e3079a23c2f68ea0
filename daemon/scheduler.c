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
    int32_t (*kept)(void *owner, int replica); // NULL: nobody knows
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

void scheduler_ask_kept(scheduler *s, int32_t (*kept)(void *owner, int replica))
{
    s->kept = kept;
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

static int replicas_of(const job *j)
{
    return j->replicas > 1 ? j->replicas : 1;
}

static bool runs_on(const job *j, int replica)
{
    return j->state == JOB_RUNNING && j->replica == replica;
}

// When the first of those that run is over; those of a replica share its engine. A queue where none does moves soon.
static double first_end_s(const scheduler *s)
{
    double first = INFINITY;
    for (int replica = 0; replica < REPLICAS_MAX; replica++) {
        double least = INFINITY;
        int n = 0;
        for (int i = 0; i < s->n; i++) {
            if (!runs_on(s->jobs[i], replica)) continue;
            n++;
            least = fmin(least, left_s(s, s->jobs[i]));
        }
        if (n) first = fmin(first, n * least);
    }
    return isfinite(first) ? first : s->mean_s;
}

// What a forecast plays through.
typedef struct play {
    double *left; // [n] over 0: runs; 0: over; below: not begun (PASSED: nor may it be yet)
    int *on;      // [n] the replica
    int n, replicas;
} play;

#define WAITS  -1.0
#define PASSED -2.0

// The next to be begun in a forecast, of those that are priced; n: none.
static int next_of(const scheduler *s, const double *left, double now_s)
{
    int best = s->n;
    for (int i = 0; i < s->n; i++) {
        if (s->jobs[i]->state != JOB_READY || left[i] != WAITS) continue;
        if (best == s->n || goes_before(s, s->jobs[i], s->jobs[best], now_s)) best = i;
    }
    return best;
}

// How many run on a replica, the least that one of them has left, and all of it.
static int count_on(const play *p, int replica, double *least, double *sum)
{
    int n = 0;
    *least = INFINITY;
    *sum = 0;
    for (int i = 0; i < p->n; i++) {
        if (p->left[i] <= 0 || p->on[i] != replica) continue;
        n++;
        *sum += p->left[i];
        *least = fmin(*least, p->left[i]);
    }
    return n;
}

// Takes off what is done until the first of those that run is over; gives how long that is, 0: none runs.
static double run_until_end(play *p)
{
    double took = INFINITY, least, sum;
    for (int r = 0; r < p->replicas; r++) {
        const int n = count_on(p, r, &least, &sum);
        if (n) took = fmin(took, n * least);
    }
    if (!isfinite(took)) return 0;
    for (int r = 0; r < p->replicas; r++) {
        const int n = count_on(p, r, &least, &sum);
        const double done = n && n * least <= took ? least : took / n;
        for (int i = 0; n && i < p->n; i++) {
            if (p->left[i] > 0 && p->on[i] == r) p->left[i] = p->left[i] > done ? p->left[i] - done : 0;
        }
    }
    return took;
}

// Where the job would be begun in a forecast: which has the least to do; -1: as many as may be run everywhere.
static int place_in(const scheduler *s, const play *p, const job *j)
{
    int best = -1;
    double least, sum, best_sum = INFINITY;
    for (int r = 0; r < replicas_of(j); r++) {
        if (count_on(p, r, &least, &sum) >= most_running(s) || sum >= best_sum) continue;
        best = r;
        best_sum = sum;
    }
    return best;
}

// Begins whatever may be; whether the job `of` is among it.
static bool begin_all(const scheduler *s, play *p, int of, double now_s)
{
    bool begun = false;
    for (int i; (i = next_of(s, p->left, now_s)) < s->n;) {
        const int at = place_in(s, p, s->jobs[i]);
        p->left[i] = at < 0 ? PASSED : left_s(s, s->jobs[i]);
        p->on[i] = at;
        begun |= at >= 0 && i == of;
        if (at < 0 && p->replicas == 1) break; // nor may any other
    }
    for (int i = 0; i < p->n; i++) {
        if (p->left[i] == PASSED) p->left[i] = WAITS;
    }
    return begun;
}

static void play_through(const scheduler *s, play *p, const job *j, scheduler_forecast *out, double now_s)
{
    double at = 0;
    int of = s->n;
    for (int i = 0; i < s->n; i++) {
        const bool runs = s->jobs[i]->state == JOB_RUNNING;
        p->left[i] = runs ? left_s(s, s->jobs[i]) : WAITS;
        p->on[i] = s->jobs[i]->replica;
        if (replicas_of(s->jobs[i]) > p->replicas) p->replicas = replicas_of(s->jobs[i]);
        if (s->jobs[i] == j) of = i;
        if (runs && s->jobs[i] == j) out->start_s = 0;
    }
    while (of < s->n && out->end_s < 0) {
        if (begin_all(s, p, of, now_s)) out->start_s = at;
        const double took = run_until_end(p);
        if (took <= 0) return;
        at += took;
        if (p->left[of] == 0) out->end_s = at;
    }
}

bool scheduler_foresee(const scheduler *s, const job *j, scheduler_forecast *out, double now_s)
{
    play p = {.left = malloc(((size_t)s->n + 1) * sizeof *p.left), .on = calloc((size_t)s->n + 1, sizeof *p.on), .n = s->n,
              .replicas = 1};
    scheduler_forecast f = {-1, -1};
    if (p.left && p.on) play_through(s, &p, j, &f, now_s);
    free(p.left);
    free(p.on);
    if (f.start_s < 0 || f.end_s < 0 || j->work_s <= 0) return false;
    *out = f;
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

// Beside those that run on the same replica of the same model.
static bool fits(const scheduler *s, const job *j, int replica)
{
    int64_t bytes = j->memory_bytes;
    bool alone = true;
    for (int i = 0; i < s->n; i++) {
        const job *other = s->jobs[i];
        if (!runs_on(other, replica) || other->model != j->model) continue;
        bytes += other->memory_bytes;
        alone = false;
    }
    return alone || !j->model_bytes || bytes <= j->model_bytes;
}

static replica_view look_at(const scheduler *s, const job *j, int replica)
{
    replica_view v = {.kept = 0};
    for (int i = 0; i < s->n; i++) {
        if (!runs_on(s->jobs[i], replica)) continue;
        v.running++;
        v.left_s += left_s(s, s->jobs[i]);
    }
    v.usable = v.running < most_running(s) && fits(s, j, replica);
    // Which takes a look at the whole prompt: not of one that waits anyway.
    if (v.usable && s->kept && replicas_of(j) > 1) v.kept = s->kept(j->owner, replica);
    v.usable &= v.kept >= 0;
    return v;
}

// Whether it may begin now, and where.
static bool place(const scheduler *s, job *j)
{
    replica_view views[REPLICAS_MAX];
    bool for_kept;
    for (int i = 0; i < replicas_of(j); i++) views[i] = look_at(s, j, i);
    const int at = replica_choose(views, replicas_of(j), j->prompt, j->token_s, &for_kept);
    if (at < 0) return false;
    j->replica = at;
    j->for_kept = for_kept;
    return true;
}

job *scheduler_start_running(scheduler *s, double now_s)
{
    full_models full = {.n = 0};
    job *j;
    while ((j = next_in(s, JOB_READY, &full, now_s)) && !place(s, j)) {
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
