#include "text/draft_batch.h"

#include "kernels/memory.h"

// Segments of one step at most; more are read in several.
#define STEP_SEGMENTS 64
// On a GPU products of more rows come from other kernels, which round otherwise (kernels/cuda/linear.h): then an answer
// would depend on how many others there are.
#define DEVICE_ROWS 64

typedef struct batch {
    draft *const *drafts;
    draft_batch_heard *heard;
    void *arg;
    segment segments[STEP_SEGMENTS];
    int32_t at[STEP_SEGMENTS]; // which draft each is of
    int32_t n, rows;
} batch;

// of: one of those that the step is for; what was heard by others may have ended them.
static sight_err run_step(draft *of, const segment *s, int32_t n, int32_t rows)
{
    const double start = draft_now_s(of);
    const sight_err err = text_model_step(draft_model(of), s, n);
    if (!err) draft_timed(of, rows, draft_now_s(of) - start);
    return err;
}

// What a step of all of them could not do, or would not for all: each gets a step of its own, so that what one of them
// lacks is that one's alone.
static void run_alone(batch *b, int32_t i)
{
    draft *d = b->drafts[b->at[i]];
    output_row *next = NULL;
    sight_err err = SIGHT_OK;
    do {
        if (!draft_wants(d, &b->segments[i])) return;
        err = run_step(d, &b->segments[i], 1, b->segments[i].n);
    } while (!draft_took(d, &err, &next));
    b->heard(b->arg, b->at[i], err, next);
}

static void run_all(batch *b)
{
    const bool together = b->n > 1 && !run_step(b->drafts[b->at[0]], b->segments, b->n, b->rows);
    for (int32_t i = 0; i < b->n; i++) {
        output_row *next = NULL;
        sight_err err = SIGHT_OK;
        if (!together) {
            run_alone(b, i);
            continue;
        }
        draft_took(b->drafts[b->at[i]], &err, &next);
        b->heard(b->arg, b->at[i], err, next);
    }
    b->n = b->rows = 0;
}

static int64_t most_rows(const draft *d)
{
    const text_model *m = draft_model(d);
    const int64_t most = text_model_max_rows(m);
    return kernels_on_device(text_model_kernels(m)) && most > DEVICE_ROWS ? DEVICE_ROWS : most;
}

void draft_batch_run(draft *const *drafts, int32_t n, draft_batch_heard *heard, void *arg)
{
    batch b = {.drafts = drafts, .heard = heard, .arg = arg};
    for (int32_t i = 0; i < n; i++) {
        segment s;
        if (!draft_wants(drafts[i], &s)) continue;
        if (b.n == STEP_SEGMENTS || b.rows + s.n > most_rows(drafts[i])) run_all(&b);
        b.segments[b.n] = s;
        b.at[b.n++] = i;
        b.rows += s.n;
    }
    run_all(&b);
}
