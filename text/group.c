#include "text/group.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/job.h"
#include "text/model_parts.h"

typedef enum job_kind { JOB_CREATE, JOB_STEP, JOB_MTP, JOB_REWIND, JOB_TAKE, JOB_SLICE, JOB_END } job_kind;

typedef struct rank_state {
    text_group *g;
    int32_t rank;
    kernels *k;
    text_model *m;
    pthread_t thread;
    bool started;
    segment *segments; // [room], the job's with the rank's sequences
    sight_err err;     // of the last job
    bool by_others;    // err only says that another rank could not
    char text[256];
} rank_state;

struct text_group {
    int32_t ranks;
    collective *sums;
    rank_state at[SPLIT_MAX_RANKS];
    const checkpoint *c;
    int64_t max_rows;
    int32_t room; // of every rank's segments

    pthread_mutex_t lock; // of what follows
    pthread_cond_t changed;
    bool has_lock, has_changed;
    uint64_t jobs;   // given out
    int32_t pending; // ranks that are still at the last one
    job_kind kind;
    int32_t n;
    mtp_segment mtp;
    sequence *seq;
    text_job *job;
    double most_ops;
    const atomic_bool *stop;
    sight_err failed; // for good
    char why[256];
};

// ---- a job, on the thread of its rank ----

static bool is_final(const rank_state *r, job_kind kind, sight_err err)
{
    if (!err || kind == JOB_CREATE) return false;
    return kind == JOB_REWIND || kind == JOB_SLICE ? err != SIGHT_E_ARGUMENT : r->m->agreed;
}

static void fail(text_group *g, sight_err err, const char *why)
{
    pthread_mutex_lock(&g->lock);
    if (!g->failed) snprintf(g->why, sizeof g->why, "%s", why);
    if (!g->failed) g->failed = err;
    pthread_mutex_unlock(&g->lock);
    collective_end(g->sums);
}

static void note(rank_state *r, job_kind kind, sight_err err)
{
    r->err = err;
    r->by_others = err && r->m && r->m->by_others;
    snprintf(r->text, sizeof r->text, "%s", err ? sight_error() : "");
    if (is_final(r, kind, err)) fail(r->g, err, r->text);
}

// What the others' hosts have no use for is left out.
static void lay_out(rank_state *r, const segment *segments, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        segment *s = &r->segments[i];
        *s = segments[i];
        s->seq = sequence_of_rank(segments[i].seq, r->rank);
        s->features = NULL;
        s->hidden = NULL;
    }
}

static sight_err run_mtp(rank_state *r)
{
    mtp_segment s = r->g->mtp;
    s.seq = sequence_of_rank(s.seq, r->rank);
    s.hidden = s.next_features = NULL;
    s.hidden_out = NULL;
    return text_model_mtp(r->m, &s);
}

static void work(rank_state *r, job_kind kind)
{
    text_group *g = r->g;
    sight_err err = SIGHT_OK;
    bool done;
    if (r->m) r->m->agreed = r->m->by_others = false;
    kernels_set_stop(r->k, g->stop);
    switch (kind) {
    case JOB_CREATE: err = text_model_create_split(&r->m, g->c, r->k, g->max_rows, g->sums, r->rank); break;
    case JOB_STEP: err = text_model_step(r->m, r->segments, g->n); break;
    case JOB_MTP: err = run_mtp(r); break;
    case JOB_TAKE: err = job_begin_rank(g->job, r->rank, r->segments); break;
    case JOB_SLICE: err = job_run_rank(g->job, r->rank, g->most_ops, &done); break;
    case JOB_REWIND: err = text_model_rewind(r->m, sequence_of_rank(g->seq, r->rank), g->n); break;
    case JOB_END: break;
    }
    kernels_set_stop(r->k, NULL);
    // The first rank may wait for this one's device, so what goes wrong there is to be known here.
    if (!err && r->m) err = kernels_read(r->k, NULL, NULL, 0);
    note(r, kind, err);
    if (r->m) r->m->follows = true;
}

static void *run_rank(void *arg)
{
    rank_state *r = arg;
    text_group *g = r->g;
    uint64_t done = 0;
    pthread_mutex_lock(&g->lock);
    for (bool more = true; more; done++) {
        while (g->jobs == done) pthread_cond_wait(&g->changed, &g->lock);
        const job_kind kind = g->kind;
        pthread_mutex_unlock(&g->lock);
        work(r, kind);
        more = kind != JOB_END;
        pthread_mutex_lock(&g->lock);
        if (--g->pending == 0) pthread_cond_broadcast(&g->changed);
    }
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

// ---- a job, seen from the first rank ----

static void give_out(text_group *g, job_kind kind)
{
    text_model *m = g->at[0].m;
    if (m) m->agreed = m->by_others = false;
    // Asked for by setting it: a job is stopped where the first rank's is.
    g->stop = kernels_set_stop(g->at[0].k, NULL);
    kernels_set_stop(g->at[0].k, g->stop);
    pthread_mutex_lock(&g->lock);
    g->kind = kind;
    g->jobs++;
    for (int32_t i = 1; i < g->ranks; i++) g->pending += g->at[i].started;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static sight_err told(const text_group *g)
{
    return sight_fail(g->failed, "%s", g->why);
}

// The failure of all; else that of the rank which had one of its own.
static sight_err settle(text_group *g, job_kind kind, sight_err err)
{
    note(&g->at[0], kind, err);
    pthread_mutex_lock(&g->lock);
    while (g->pending > 0) pthread_cond_wait(&g->changed, &g->lock);
    const bool failed = g->failed != SIGHT_OK;
    pthread_mutex_unlock(&g->lock);
    if (failed) return told(g);
    const rank_state *first = NULL;
    for (int32_t i = 0; i < g->ranks; i++) {
        const rank_state *r = &g->at[i];
        if (r->err && (!first || (first->by_others && !r->by_others))) first = r;
    }
    return first ? sight_fail(first->err, "%s", first->text) : SIGHT_OK;
}

static sight_err make_room(text_group *g, int32_t n)
{
    if (n <= g->room) return SIGHT_OK;
    for (int32_t i = 1; i < g->ranks; i++) {
        segment *grown = realloc(g->at[i].segments, (size_t)n * sizeof *grown);
        if (!grown) return sight_fail(SIGHT_E_MEMORY, "no memory for a step of %d segments", n);
        g->at[i].segments = grown;
    }
    g->room = n;
    return SIGHT_OK;
}

sight_err group_step(text_group *g, const segment *segments, int32_t n)
{
    sight_err err = g->failed ? told(g) : make_room(g, n);
    if (err) return err;
    for (int32_t i = 1; i < g->ranks; i++) lay_out(&g->at[i], segments, n);
    g->n = n;
    give_out(g, JOB_STEP);
    return settle(g, JOB_STEP, model_step_rank(g->at[0].m, segments, n));
}

sight_err group_mtp(text_group *g, const mtp_segment *s)
{
    if (g->failed) return told(g);
    g->mtp = *s;
    give_out(g, JOB_MTP);
    return settle(g, JOB_MTP, model_mtp_rank(g->at[0].m, s));
}

sight_err group_rewind(text_group *g, sequence *seq, int32_t n)
{
    if (g->failed) return told(g);
    g->seq = seq;
    g->n = n;
    give_out(g, JOB_REWIND);
    return settle(g, JOB_REWIND, model_rewind_rank(g->at[0].m, seq, n));
}

text_model *group_model(const text_group *g, int32_t rank)
{
    return rank < g->ranks ? g->at[rank].m : NULL;
}

sight_err group_job_begin(text_group *g, text_job *j, const segment *s)
{
    sight_err err = g->failed ? told(g) : make_room(g, 1);
    if (err) return err;
    for (int32_t i = 1; i < g->ranks; i++) lay_out(&g->at[i], s, 1);
    g->job = j;
    give_out(g, JOB_TAKE);
    return settle(g, JOB_TAKE, job_begin_rank(j, 0, s));
}

sight_err group_job_run(text_group *g, text_job *j, double most_ops, bool *done)
{
    if (g->failed) return told(g);
    g->job = j;
    g->most_ops = most_ops;
    give_out(g, JOB_SLICE);
    return settle(g, JOB_SLICE, job_run_rank(j, 0, most_ops, done));
}

sight_err group_status(text_group *g)
{
    if (g->failed) return told(g);
    sight_err err = SIGHT_OK;
    for (int32_t i = 0; i < g->ranks && !err; i++) err = kernels_status(g->at[i].k);
    return err;
}

// ---- the object ----

void group_destroy(text_group **pg)
{
    text_group *g = *pg;
    if (!g) return;
    if (g->has_lock && g->has_changed) give_out(g, JOB_END);
    for (int32_t i = 1; i < g->ranks; i++) {
        rank_state *r = &g->at[i];
        if (r->started) pthread_join(r->thread, NULL);
        text_model_destroy(&r->m);
        free(r->segments);
    }
    collective_destroy(&g->sums);
    if (g->has_changed) pthread_cond_destroy(&g->changed);
    if (g->has_lock) pthread_mutex_destroy(&g->lock);
    free(g);
    *pg = NULL;
}

static sight_err start(text_group *g)
{
    for (int32_t i = 1; i < g->ranks; i++) {
        rank_state *r = &g->at[i];
        r->started = pthread_create(&r->thread, NULL, run_rank, r) == 0;
        if (!r->started) return sight_fail(SIGHT_E_MEMORY, "cannot start a thread for a device of the model");
    }
    return SIGHT_OK;
}

static sight_err create_models(text_group *g)
{
    rank_state *first = &g->at[0];
    give_out(g, JOB_CREATE);
    sight_err err = text_model_create_split(&first->m, g->c, first->k, g->max_rows, g->sums, 0);
    return settle(g, JOB_CREATE, err);
}

sight_err text_group_create(text_model **out, const checkpoint *c, kernels *const *k, int32_t ranks, int64_t max_rows)
{
    sight_err err = split_check(&checkpoint_config(c)->text, ranks);
    if (err) return err;
    assert(ranks > 1);
    text_group *g = calloc(1, sizeof *g);
    if (!g) return sight_fail(SIGHT_E_MEMORY, "no memory for a model over %d devices", ranks);
    g->ranks = ranks;
    g->c = c;
    g->max_rows = max_rows;
    for (int32_t i = 0; i < ranks; i++) g->at[i] = (rank_state){.g = g, .rank = i, .k = k[i]};
    g->has_lock = pthread_mutex_init(&g->lock, NULL) == 0;
    g->has_changed = pthread_cond_init(&g->changed, NULL) == 0;
    if (!g->has_lock || !g->has_changed) err = sight_fail(SIGHT_E_MEMORY, "no memory for a model over %d devices", ranks);
    if (!err) err = collective_create(&g->sums, k, ranks);
    if (!err) err = start(g);
    if (!err) err = create_models(g);
    if (err) {
        text_model_destroy(&g->at[0].m);
        group_destroy(&g);
        return err;
    }
    g->at[0].m->lead = g;
    *out = g->at[0].m;
    return SIGHT_OK;
}

sight_err text_group_pool(cache_pool **out, const text_model *m, const cache_options *options)
{
    const text_group *g = m->lead;
    cache_options o = *options;
    o.k = m->k;
    if (!g) return cache_pool_create(out, text_model_config(m), &o);
    const text_config *configs[SPLIT_MAX_RANKS];
    kernels *k[SPLIT_MAX_RANKS];
    for (int32_t i = 0; i < g->ranks; i++) {
        configs[i] = text_model_config(g->at[i].m);
        k[i] = g->at[i].k;
    }
    return cache_pool_create_ranks(out, configs, k, g->ranks, options);
}

int32_t text_group_ranks(const text_model *m)
{
    return m->lead ? m->lead->ranks : 1;
}

const char *text_group_relayed(const text_model *m)
{
    return m->lead ? collective_relayed(m->lead->sums) : NULL;
}
