#include "daemon/batch.h"

#include "base/clock.h"
#include "text/draft_batch.h"

// Those that want rows of one engine.
typedef struct group {
    draft *drafts[BATCH_MAX];
    pipeline *of[BATCH_MAX];
    int at[BATCH_MAX]; // which of the callers' each is
    int32_t rows[BATCH_MAX];
    int n;
} group;

static void hear(void *arg, int32_t i, sight_err err, output_row *next)
{
    pipeline_hear(((group *)arg)->of[i], err, next);
}

static int32_t count_of(pipeline *const *p, int n, const engine *e)
{
    int32_t together = 0;
    for (int i = 0; i < n; i++) together += pipeline_engine(p[i]) == e;
    return together;
}

// An answer alone ends within an op when it is cancelled; of several, the others go on.
static void run(group *g, engine *e, double *took_s)
{
    if (g->n == 0) return;
    kernels *k = engine_kernels(e);
    const double start = clock_now_s();
    int32_t rows = 0;
    for (int i = 0; i < g->n; i++) {
        segment s;
        g->rows[i] = draft_wants(g->drafts[i], &s) ? s.n : 0;
        rows += g->rows[i];
    }
    if (g->n == 1) kernels_set_stop(k, pipeline_cancel(g->of[0]));
    draft_batch_run(g->drafts, g->n, hear, g);
    kernels_set_stop(k, NULL);
    const double seconds = clock_now_s() - start;
    for (int i = 0; took_s && i < g->n; i++) took_s[g->at[i]] += seconds * g->rows[i] / rows;
    metrics *m = engine_metrics(e);
    metrics_observe(m, METRIC_STEP_SEQUENCES, g->n);
    metrics_observe(m, METRIC_STEP_ROWS, rows);
}

// Draws for those of one engine, and marks them done.
static void answer_of(pipeline *const *p, bool *done, double *took_s, int n, engine *e)
{
    const int32_t together = count_of(p, n, e);
    group g = {.n = 0};
    for (int i = 0; i < n; i++) {
        if (pipeline_engine(p[i]) != e) continue;
        const double start = clock_now_s();
        done[i] = true;
        g.drafts[g.n] = pipeline_draw(p[i], together);
        if (took_s) took_s[i] = clock_now_s() - start;
        if (!g.drafts[g.n]) continue;
        g.of[g.n] = p[i];
        g.at[g.n++] = i;
    }
    run(&g, e, took_s);
}

void batch_answer(pipeline *const *p, double *took_s, int n)
{
    bool done[BATCH_MAX] = {false};
    for (int i = 0; i < n; i++) {
        if (!done[i]) answer_of(p, done, took_s, n, pipeline_engine(p[i]));
    }
}
