#include "daemon/stages.h"

#include <stdlib.h>

// How often a stage that waits looks at its cancel flag.
#define TICK_MS 100

static void tell(const stage_watch *w, const char *stage, int64_t done, int64_t total)
{
    if (w->progress) w->progress(w->arg, stage, done, total);
}

static sight_err check_cancel(const stage_watch *w)
{
    if (!w->cancel || !atomic_load(w->cancel)) return SIGHT_OK;
    return sight_fail(SIGHT_E_CANCELLED, "the request was cancelled");
}

// ---- encode ----

typedef struct encoder {
    features *out;
    const task *task;
    const stage_watch *watch;
    feed *feed;
    int64_t *first_row;   // [n_media]: of each medium's features
    int64_t pairs, total; // encoded, and in all
    int32_t told_frames, total_frames;
} encoder;

static sight_err features_create(features *f, const task *t)
{
    const vision_config *v = &engine_config(t->model)->vision;
    f->n = t->prompt.n_visual;
    f->width = v->out_hidden;
    f->levels = v->n_deepstack;
    const size_t bytes = (size_t)(f->n * f->width + 1) * sizeof(float);
    f->rows = malloc(bytes);
    bool good = f->rows != NULL;
    for (int32_t i = 0; i < f->levels && good; i++) {
        good = (f->deepstack[i] = malloc(bytes)) != NULL;
    }
    if (good) return SIGHT_OK;
    return sight_fail(SIGHT_E_MEMORY, "no memory for %lld rows of features", (long long)f->n);
}

void features_done(features *f)
{
    free(f->rows);
    for (int32_t i = 0; i < CONFIG_MAX_DEEPSTACK; i++) free(f->deepstack[i]);
    *f = (features){0};
}

static sight_err encode_piece(encoder *e, const feed_piece *p)
{
    const model_config *c = engine_config(e->task->model);
    vision_grid grid = e->task->media[p->media].plan.grid;
    const int64_t per_pair = (int64_t)grid.h * grid.w / (c->vision.merge * c->vision.merge);
    const int64_t at = (e->first_row[p->media] + p->first_pair * per_pair) * e->out->width;
    float *deepstack[CONFIG_MAX_DEEPSTACK];
    for (int32_t i = 0; i < e->out->levels; i++) deepstack[i] = e->out->deepstack[i] + at;
    grid.t = p->n_pairs;
    tower_job *job = NULL;
    sight_err err = tower_job_create(&job, engine_tower(e->task->model), p->patches, &grid,
                                     e->out->rows + at, deepstack);
    for (bool done = false; !err && !done;) {
        err = check_cancel(e->watch);
        if (!err) err = tower_job_run(job, 1, &done);
    }
    tower_job_destroy(&job);
    return err;
}

static void tell_decoded(encoder *e)
{
    const int32_t frames = feed_frames(e->feed);
    if (frames != e->told_frames) tell(e->watch, "decode", frames, e->total_frames);
    e->told_frames = frames;
    for (char *line; (line = feed_warning(e->feed));) {
        if (e->watch->warning) e->watch->warning(e->watch->arg, line);
        free(line);
    }
}

static sight_err encode_all(encoder *e)
{
    for (;;) {
        feed_piece piece = {0};
        sight_err err = feed_next(e->feed, &piece, TICK_MS);
        tell_decoded(e);
        if (err == SIGHT_E_TIMEOUT) {
            err = check_cancel(e->watch);
            if (err) return err;
            continue;
        }
        if (err || !piece.n_pairs) return err;
        if (e->watch->piece) e->watch->piece(e->watch->arg, &piece);
        err = encode_piece(e, &piece);
        free(piece.patches);
        if (err) return err;
        e->pairs += piece.n_pairs;
        tell(e->watch, "encode", e->pairs, e->total);
    }
}

static void count_work(encoder *e)
{
    int64_t row = 0;
    for (int32_t i = 0; i < e->task->asked->n_media; i++) {
        const task_media *m = &e->task->media[i];
        e->first_row[i] = row;
        row += m->plan.tokens;
        e->total += m->plan.grid.t;
        e->total_frames += m->is_video ? m->n_frames : 1;
    }
}

sight_err stages_encode(features *out, const task *t, const stage_watch *watch)
{
    static const atomic_bool never;
    if (t->asked->n_media == 0) return SIGHT_OK;
    encoder e = {.out = out, .task = t, .watch = watch};
    e.first_row = calloc((size_t)t->asked->n_media, sizeof *e.first_row);
    if (!e.first_row) return sight_fail(SIGHT_E_MEMORY, "no memory for encoding");
    count_work(&e);
    sight_err err = features_create(out, t);
    if (!err) err = feed_open(&e.feed, t, watch->cancel ? watch->cancel : &never);
    if (!err) err = encode_all(&e);
    feed_close(&e.feed);
    free(e.first_row);
    return err;
}

// ---- read ----

static int64_t count_visual(const prompt *p, int64_t begin, int64_t end)
{
    int64_t n = 0;
    for (int64_t i = begin; i < end; i++) n += p->visual[i];
    return n;
}

sight_err stages_read(sequence *seq, const read_outputs *out, const task *t, const features *f,
                      const stage_watch *watch)
{
    const prompt *p = &t->prompt;
    const model_config *c = engine_config(t->model);
    const int64_t most = text_model_max_rows(engine_text(t->model));
    int64_t visual = 0; // feature rows read
    for (int64_t at = 0; at < p->n;) {
        sight_err err = check_cancel(watch);
        if (err) return err;
        const int64_t n = p->n - at < most ? p->n - at : most;
        const float *deepstack[CONFIG_MAX_DEEPSTACK];
        for (int32_t i = 0; i < f->levels; i++) deepstack[i] = f->deepstack[i] + visual * f->width;
        segment s = {.seq = seq,
                     .n = (int32_t)n,
                     .ids = p->ids + at,
                     .positions = p->positions + at,
                     .position_stride = p->n};
        if (f->n) {
            s.visual = p->visual + at;
            s.features = f->rows + visual * f->width;
            s.deepstack = f->levels ? deepstack : NULL;
        }
        if (out->hidden) s.hidden = out->hidden + at * c->text.hidden;
        if (out->logits) {
            s.n_logits = (int32_t)n;
            s.logits = out->logits + at * c->text.vocab;
        } else if (at + n == p->n) {
            s.n_logits = 1;
            s.logits = out->last_logits;
        }
        err = text_model_step(engine_text(t->model), &s, 1);
        if (err) return err;
        visual += count_visual(p, at, at + n);
        at += n;
        tell(watch, "read", at, p->n);
    }
    return SIGHT_OK;
}
