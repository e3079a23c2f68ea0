// How soon a question about a clip starts to be answered: the first one, another one, and one without any clip. The
// prompts are made of ids as templates would make them, so made-up weights will do.
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "clients/cli/bench.h"
#include "daemon/stages.h"
#include "daemon/media/task_media.h"

#define BEFORE   14 // tokens: a turn's beginning
#define TIME     7  // of a frame pair's time, before its features
#define QUESTION 20
#define ROUNDS   3  // the shortest counts

// A task of one clip, or of none; its prompt's ids are its own.
typedef struct bench_task {
    task t;
    prefix_medium place;
    task_media medium;
} bench_task;

static int32_t prompt_size(const task *t)
{
    const vision_plan *p = t->asked->n_media ? &t->media[0].plan : NULL;
    return BEFORE + QUESTION + (p ? (int32_t)p->tokens + p->grid.t * (TIME + 1) : 0);
}

static void add_ids(prompt *p, int32_t n, int32_t first)
{
    for (int32_t i = 0; i < n; i++) p->ids[p->n++] = first + i;
}

static void add_clip(bench_task *b)
{
    prompt *p = &b->t.prompt;
    const vision_plan *plan = &b->medium.plan;
    const int32_t rows = (int32_t)(plan->tokens / plan->grid.t), pad = engine_config(b->t.model)->video_token;
    for (int32_t pair = 0; pair < plan->grid.t; pair++) {
        add_ids(p, TIME, 200 + pair % 10);
        if (pair == 0) b->place.first = p->n;
        for (int32_t i = 0; i < rows; i++, p->n++) {
            p->ids[p->n] = pad;
            p->visual[p->n] = 1;
        }
        b->place.end = p->n;
        add_ids(p, 1, 300);
    }
    p->n_visual = (int32_t)plan->tokens;
    memcpy(b->place.hash, b->medium.hash, sizeof b->place.hash);
}

static sight_err write_prompt(bench_task *b, int32_t question)
{
    prompt *p = &b->t.prompt;
    const int32_t n = prompt_size(&b->t);
    p->ids = calloc((size_t)n, sizeof *p->ids);
    p->positions = calloc(3 * (size_t)n, sizeof *p->positions);
    p->visual = calloc((size_t)n, 1);
    if (!p->ids || !p->positions || !p->visual) return sight_fail(SIGHT_E_MEMORY, "no memory for a prompt");
    if (n >= engine_context(b->t.model)) {
        return sight_fail(SIGHT_E_LIMIT, "the clip takes %d tokens, the context has %lld", n,
                          (long long)engine_context(b->t.model));
    }
    add_ids(p, BEFORE, 100);
    if (b->t.asked->n_media) add_clip(b);
    add_ids(p, QUESTION, 1000 + 40 * question);
    for (int32_t i = 0; i < 3 * n; i++) p->positions[i] = i % n;
    p->next_position = n;
    return SIGHT_OK;
}

static sight_err ask_for(request **out, engine *e, const char *path, const request_limits *limits)
{
    json_t *body = path ? json_pack("{s:[{s:s, s:[{s:s, s:s}]}]}", "messages", "role", "user", "content", "type", "video",
                                    "video", path)
                        : json_pack("{s:[{s:s, s:s}]}", "messages", "role", "user", "content", "x");
    char *json = body ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    if (!json) return sight_fail(SIGHT_E_MEMORY, "no memory for a request");
    const request_source source = {.json = json, .size = strlen(json)};
    sight_err err = request_parse(out, &source, limits, &engine_config(e)->generation);
    free(json);
    return err;
}

static void bench_task_done(bench_task *b)
{
    task_media_done(&b->medium);
    prompt_done(&b->t.prompt);
    request_destroy(&b->t.asked);
}

// path NULL: without a clip.
static sight_err bench_task_init(bench_task *b, engine *e, const char *path, int32_t question)
{
    const request_limits limits = request_limits_default();
    *b = (bench_task){.t.model = e};
    sight_err err = ask_for(&b->t.asked, e, path, &limits);
    if (err) return err;
    b->t.media = &b->medium;
    b->t.places = &b->place;
    if (path) {
        b->t.asked->media[0].fd = open(path, O_RDONLY | O_CLOEXEC);
        err = task_media_open(&b->medium, b->t.asked, 0, engine_config(e), &limits, prefix_store_key(engine_prefix(e)));
    }
    return err ? err : write_prompt(b, question);
}

// From the request to the logits of the first token.
static sight_err time_question(double *seconds, stages_reuse *spared, engine *e, const char *path, int32_t question)
{
    bench_task b;
    stages *s = NULL;
    output_row row = {.logits = malloc((size_t)engine_config(e)->text.vocab * sizeof(float))};
    if (!row.logits) return sight_fail(SIGHT_E_MEMORY, "no memory for logits");
    const stages_options o = {.reuse = true, .last = &row};
    const double start = clock_now_s();
    sight_err err = bench_task_init(&b, e, path, question);
    if (!err) err = stages_create(&s, &b.t, &o);
    if (!err) err = stages_run(s);
    if (!err) *seconds = clock_now_s() - start;
    if (!err) *spared = stages_reused(s);
    stages_destroy(&s);
    bench_task_done(&b);
    free(row.logits);
    return err;
}

sight_err bench_clip(engine *e, bench_result *out, const char *path)
{
    char real[PATH_MAX];
    double s = 0, ignored;
    stages_reuse spared;
    if (!realpath(path, real)) return sight_fail(SIGHT_E_NOT_FOUND, "'%s': there is no such file", path);
    sight_err err = time_question(&ignored, &spared, e, NULL, 0); // warms what only answers touch
    if (!err) err = time_question(&out->clip_first_s, &spared, e, real, 0);
    for (int32_t i = 1; i <= ROUNDS && !err; i++) {
        err = time_question(&s, &spared, e, NULL, i);
        if (!err && (i == 1 || s < out->text_question_s)) out->text_question_s = s;
        if (!err) err = time_question(&s, &spared, e, real, i);
        if (!err && (i == 1 || s < out->clip_again_s)) out->clip_again_s = s;
    }
    if (!err) out->clip_reused_tokens = spared.tokens;
    return err;
}
