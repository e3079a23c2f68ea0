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
    double mean_s; // of how long requests ran, newer ones counting more
};

const char *job_state_name(job_state state)
{
    static const char *const names[] = {"arrived", "planning", "waiting", "running"};
    return names[state];
}

sight_err scheduler_create(scheduler **out, const scheduler_limits *limits)
{
    scheduler *s = calloc(1, sizeof *s);
    if (s) s->jobs = calloc((size_t)limits->max_jobs + 1, sizeof(job *));
    if (!s || !s->jobs) {
        free(s);
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
    free(s->jobs);
    free(s);
    *p = NULL;
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

int scheduler_retry_after_s(const scheduler *s)
{
    // The first to finish makes room.
    double wait = ceil(s->mean_s);
    return wait < 1 ? 1 : wait > 3600 ? 3600 : (int)wait;
}

// An identity's own ceiling, over all of its connections.
static sight_err check_identity(const scheduler *s, const job *j, int wait)
{
    const int most = identity_limits(j->who)->max_jobs;
    int own = 0;
    for (int i = 0; i < s->n; i++) own += s->jobs[i]->who == j->who;
    if (!most || own < most) return SIGHT_OK;
    char who[IDENTITY_NAME_SIZE + 16];
    identity_describe(who, sizeof who, j->who);
    return sight_fail(SIGHT_E_BUSY, "%s has %d unfinished requests, its limit; try again in about %d s", who, own, wait);
}

sight_err scheduler_add(scheduler *s, job *j)
{
    if (scheduler_find(s, j->client, j->client_size, j->id)) {
        return sight_fail(SIGHT_E_ARGUMENT,
                          "the request id '%s' is in use by an unfinished request", j->id);
    }
    int own = 0;
    for (int i = 0; i < s->n; i++) own += same_client(s->jobs[i], j->client, j->client_size);
    const int wait = scheduler_retry_after_s(s);
    if (s->n >= s->limits.max_jobs) {
        return sight_fail(SIGHT_E_BUSY,
                          "the queue is full with %d requests; try again in about %d s", s->n, wait);
    }
    if (own >= s->limits.max_jobs_per_client) {
        return sight_fail(SIGHT_E_BUSY,
                          "this client has %d unfinished requests, the limit; try again in about "
                          "%d s", own, wait);
    }
    sight_err err = check_identity(s, j, wait);
    if (err) return err;
    if (s->bytes + (int64_t)j->bytes > s->limits.max_bytes) {
        return sight_fail(SIGHT_E_BUSY,
                          "the queue holds %lld MiB and %zu MiB more are over its limit; try again "
                          "in about %d s", (long long)(s->bytes >> 20), j->bytes >> 20, wait);
    }
    j->state = JOB_ARRIVED;
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
    if (j->state == JOB_RUNNING) s->mean_s += 0.3 * (now_s - j->started_s - s->mean_s);
    s->bytes -= (int64_t)j->bytes;
    s->n--;
    memmove(s->jobs + i, s->jobs + i + 1, (size_t)(s->n - i) * sizeof *s->jobs);
}

// The first job in that state that is not cancelled.
static job *first_in(const scheduler *s, job_state state)
{
    for (int i = 0; i < s->n; i++) {
        if (s->jobs[i]->state == state && !s->jobs[i]->cancelled) return s->jobs[i];
    }
    return NULL;
}

job *scheduler_start_planning(scheduler *s)
{
    for (int i = 0; i < s->n; i++) {
        if (s->jobs[i]->state == JOB_PLANNING) return NULL;
    }
    job *j = first_in(s, JOB_ARRIVED);
    if (j) j->state = JOB_PLANNING;
    return j;
}

// Whether as many of this identity run already as may.
static bool has_enough(const scheduler *s, const identity *who)
{
    const int most = identity_limits(who)->max_running;
    int running = 0;
    for (int i = 0; i < s->n; i++) running += s->jobs[i]->state == JOB_RUNNING && s->jobs[i]->who == who;
    return most && running >= most;
}

// The first that waits for the engine and may have it.
static job *first_ready(const scheduler *s)
{
    for (int i = 0; i < s->n; i++) {
        job *j = s->jobs[i];
        if (j->state == JOB_READY && !j->cancelled && !has_enough(s, j->who)) return j;
    }
    return NULL;
}

job *scheduler_start_running(scheduler *s, double now_s)
{
    int running = 0;
    int64_t bytes = 0;
    for (int i = 0; i < s->n; i++) {
        if (s->jobs[i]->state != JOB_RUNNING) continue;
        running++;
        bytes += s->jobs[i]->memory_bytes;
    }
    job *j = first_ready(s);
    if (!j) return NULL;
    const int most = s->limits.max_running > 0 ? s->limits.max_running : 1;
    const int64_t room = s->limits.memory_bytes;
    if (running >= most || (running && room && bytes + j->memory_bytes > room)) return NULL;
    j->state = JOB_RUNNING;
    j->started_s = now_s;
    return j;
}

void scheduler_planned(scheduler *s, job *j)
{
    j->state = JOB_READY;
}

int scheduler_place(const scheduler *s, const job *j)
{
    int place = 0;
    if (j->state == JOB_RUNNING) return 0;
    for (int i = 0; i < s->n && s->jobs[i] != j; i++) {
        const bool priced = s->jobs[i]->state >= JOB_READY;
        place += j->plan_only ? !priced : !s->jobs[i]->plan_only;
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
