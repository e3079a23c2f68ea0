#include "daemon/admission.h"

#include "daemon/engine.h"

// Its place among the models.
static int index_of(const ticket *t)
{
    const int i = engine_index(t->model);
    return i >= 0 && i < METRICS_MODELS ? i : METRICS_MODELS - 1;
}

static estimate_work work_of(const ticket *t)
{
    const task *k = t->task;
    return (estimate_work){.read = k->prompt.n, .encoded = k->prompt.n_visual, .answer = k->max_tokens};
}

static sight_err refuse(const estimate *e, const estimate_work *w, double start_s, double work_s, double asked_s)
{
    return sight_fail(SIGHT_E_TIMEOUT,
                      "the request would be over in about %.1f s (%.1f s until its turn, then %d tokens to read at %.0f a "
                      "second, %d of pictures and clips, and about %.0f to answer at %.1f a second), its 'deadline_s' is %g",
                      start_s + work_s, start_s, w->read, estimate_per_s(&e->read), w->encoded, estimate_length(e, w),
                      estimate_per_s(&e->answer), asked_s);
}

// Only what is sure is refused: that it has the engine to itself from its turn on, and, where pasts are used again at all, that
// all of its prompt is one.
static sight_err check_deadline(const estimate *e, const ticket *t, const scheduler *s, double now_s)
{
    const job *j = &t->job;
    const double left_s = j->deadline_s - now_s;
    estimate_work w = work_of(t);
    scheduler_forecast f;
    if (j->deadline_s <= 0) return SIGHT_OK;
    if (left_s <= 0) {
        return sight_fail(SIGHT_E_TIMEOUT, "'deadline_s' was %g, and %.1f s were over when the request had been opened",
                          t->task->asked->deadline_s, now_s - j->arrived_s);
    }
    if (estimate_reuses(e)) w.read = w.encoded = 0;
    const double work_s = estimate_seconds(e, &w);
    if (work_s <= 0 || !scheduler_foresee(s, j, &f, now_s) || f.start_s + work_s <= left_s) return SIGHT_OK;
    return refuse(e, &w, f.start_s, work_s, t->task->asked->deadline_s);
}

sight_err admission_price(const admission *a, ticket *t, scheduler *s, double now_s)
{
    const estimate *e = &a->models[index_of(t)];
    const request *q = t->task->asked;
    const estimate_work w = work_of(t);
    job *j = &t->job;
    j->memory_bytes = t->task->memory_bytes;
    j->class = q->priority;
    j->deadline_s = q->deadline_s > 0 ? j->arrived_s + q->deadline_s : 0;
    j->work_s = estimate_seconds(e, &w);
    j->prompt = w.read;
    j->token_s = estimate_per_s(&e->read) > 0 ? 1 / estimate_per_s(&e->read) : 0;
    scheduler_planned(s, j);
    return check_deadline(e, t, s, now_s);
}

static double used_s(const ticket *t)
{
    return 1e-6 * (double)atomic_load(&t->used_us);
}

void admission_learn(admission *a, ticket *t, scheduler *s)
{
    const record *r = &t->record;
    scheduler_used(s, &t->job, used_s(t));
    if (!t->task || !r->asked || r->code) return;
    const bool whole = r->reason == BY_REASON_STOP || r->reason == BY_REASON_TOOL_CALLS;
    const estimate_work did = {.read = r->prompt - r->reused, .encoded = r->encode_s > 0 ? r->visual : 0,
                               .answer = r->generated};
    estimate_learn(&a->models[index_of(t)], &did, r->reused, used_s(t), r->read_s, r->encode_s, whole);
}

void admission_charge(scheduler *s)
{
    for (int i = 0; i < scheduler_count(s); i++) {
        job *j = scheduler_get(s, i);
        if (j->state != JOB_RUNNING) continue;
        scheduler_used(s, j, used_s(j->owner));
    }
}
