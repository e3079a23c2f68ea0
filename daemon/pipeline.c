#include "daemon/pipeline.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "daemon/answer.h"
#include "daemon/stages.h"
#include "ipc/text.h"
#include "text/sampler.h"

// Progress of a stage is told at most this often, and at its end.
#define PROGRESS_S 0.1

typedef struct run {
    task *task;
    const atomic_bool *cancel;
    pipeline_sink *sink;
    void *arg;
    stages *stages; // until the prompt is read
    sequence *seq;
    bool promised;  // memory, by the store of pasts
    int32_t reused; // tokens that were read for an earlier request
    sampler *sampler;
    answer answer;
    bool answer_ready;
    float *logits; // [vocab]
    buf text[3];   // by channel, kept when the client wants no stream
    const char *reason; // finish_reason
    int32_t drawn;      // tokens of the answer
    double begin_s, read_s, first_s, end_s; // when each was reached; 0: never
    double reading_s;                       // spent on reading, of the time until read_s
    double told_s;
} run;

// ---- events ----

static void report(run *r, sight_event_kind kind, json_t *body)
{
    if (!body) return; // no memory for a progress line is no reason to stop
    r->sink(r->arg, kind, body);
    json_decref(body);
}

static void on_progress(void *arg, const char *stage, int64_t done, int64_t total)
{
    run *r = arg;
    const double now = clock_now_s();
    if (done < total && now - r->told_s < PROGRESS_S) return;
    r->told_s = now;
    report(r, SIGHT_PROGRESS, json_pack("{s:s, s:I, s:I}", "stage", stage, "done",
                                        (json_int_t)done, "total", (json_int_t)total));
}

static void on_warning(void *arg, const char *line)
{
    report(arg, SIGHT_WARNING, json_pack("{s:o}", "message", text_json(line)));
}

static void on_text(void *arg, answer_channel channel, const char *text, size_t n)
{
    run *r = arg;
    if (!r->task->asked->stream) {
        buf_add(&r->text[channel], text, n);
        return;
    }
    report(r, SIGHT_DELTA, json_pack("{s:s, s:o}", "channel", answer_channel_name(channel), "text",
                                     json_stringn(text, n)));
}

static void report_error(run *r, sight_err err)
{
    report(r, SIGHT_ERROR, json_pack("{s:s, s:o}", "code", sight_err_name(err), "message",
                                     text_json(sight_error())));
}

static json_t *timings(const run *r)
{
    const double decode_s = r->first_s ? r->end_s - r->first_s : 0;
    json_t *t = json_pack("{s:f}", "total_s", r->end_s - r->begin_s);
    if (r->read_s) {
        json_object_set_new(t, "media_s", json_real(r->read_s - r->begin_s - r->reading_s));
        json_object_set_new(t, "read_s", json_real(r->reading_s));
    }
    if (r->first_s) {
        json_object_set_new(t, "first_token_s", json_real(r->first_s - r->begin_s));
        json_object_set_new(t, "generate_s", json_real(decode_s));
    }
    if (r->drawn > 1 && decode_s > 0) {
        json_object_set_new(t, "tokens_per_s", json_real((r->drawn - 1) / decode_s));
    }
    return t;
}

static void report_done(run *r)
{
    const task *t = r->task;
    const int32_t read = r->read_s ? t->prompt.n : 0;
    json_t *usage = json_pack("{s:i, s:i, s:i, s:i, s:i}", "prompt_tokens", read, "reused_tokens",
                              r->reused, "visual_tokens", r->read_s ? t->prompt.n_visual : 0,
                              "completion_tokens", r->drawn, "total_tokens", read + r->drawn);
    json_t *body = json_pack("{s:s, s:s, s:o, s:o}", "model", engine_model_name(t->model),
                             "finish_reason", r->reason, "usage", usage, "timings", timings(r));
    if (body && t->asked->sampling.temperature > 0) {
        json_object_set_new(body, "seed", json_integer((json_int_t)t->asked->sampling.seed));
    }
    for (int i = 0; body && !t->asked->stream && i < 3; i++) {
        const char *text = buf_text(&r->text[i]);
        if (i && !*text) continue;
        json_object_set_new(body, answer_channel_name((answer_channel)i),
                            json_stringn(text, r->text[i].size));
    }
    report(r, SIGHT_DONE, body);
}

// ---- drawing tokens ----

static sight_err choose_seed(sampler_options *s, bool given)
{
    if (given || s->temperature == 0) return SIGHT_OK;
    uint32_t seed;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) {
        return sight_fail(SIGHT_E_INTERNAL, "the system gives no random numbers");
    }
    s->seed = seed;
    return SIGHT_OK;
}

static sight_err prepare(run *r)
{
    task *t = r->task;
    request *q = t->asked;
    const int32_t vocab = engine_config(t->model)->text.vocab;
    const answer_options options = {.opens_thinking = t->opens_thinking,
                                    .tools = q->tools != NULL,
                                    .stop = (const char *const *)q->stop,
                                    .n_stop = q->n_stop};
    sight_err err = answer_init(&r->answer, engine_tokenizer(t->model), &options, on_text, r);
    r->answer_ready = true;
    if (!err) err = choose_seed(&q->sampling, q->seed_given);
    if (!err) err = sampler_create(&r->sampler, &q->sampling, vocab, engine_allowed(t->model));
    if (err) return err;
    sampler_see_prompt(r->sampler, t->prompt.ids, (size_t)t->prompt.n);
    r->logits = malloc((size_t)vocab * sizeof *r->logits);
    if (!r->logits) return sight_fail(SIGHT_E_MEMORY, "no memory for %d logits", vocab);
    return SIGHT_OK;
}

// Runs the step that reads token `id`, the i-th of the answer, and leaves the next logits.
static sight_err advance(run *r, int32_t id, int32_t i)
{
    const int32_t position = r->task->prompt.next_position + i;
    const int32_t positions[3] = {position, position, position};
    const segment s = {.seq = r->seq, .n = 1, .ids = &id, .positions = positions,
                       .position_stride = 1, .n_logits = 1, .logits = r->logits};
    return text_model_step(engine_text(r->task->model), &s, 1);
}

static sight_err generate(run *r)
{
    const int32_t most = r->task->max_tokens;
    r->reason = "length";
    for (int32_t i = 0; i < most; i++) {
        int32_t id;
        if (atomic_load(r->cancel)) return SIGHT_E_CANCELLED;
        sight_err err = sampler_next(r->sampler, &id, NULL, r->logits);
        if (err) return err;
        if (i == 0) r->first_s = clock_now_s();
        r->drawn++;
        if (engine_is_eos(r->task->model, id) || answer_push(&r->answer, id)) {
            r->reason = "stop";
            return SIGHT_OK;
        }
        err = i + 1 < most ? advance(r, id, i) : SIGHT_OK;
        if (err) return err;
        if (answer_failed(&r->answer)) {
            return sight_fail(SIGHT_E_MEMORY, "no memory for the answer");
        }
    }
    return SIGHT_OK;
}

// ---- the whole ----

static sight_err read_prompt(run *r)
{
    const stages_options o = {.watch = {.cancel = r->cancel, .progress = on_progress,
                                        .warning = on_warning, .arg = r},
                              .reuse = true,
                              .last_logits = r->logits};
    sight_err err = stages_create(&r->stages, r->task, &o);
    if (err) return err;
    r->reused = stages_reused(r->stages);
    prefix_store *kept = engine_prefix(r->task->model);
    if (kept) prefix_store_promise(kept, r->task->memory_bytes);
    r->promised = kept != NULL;
    err = stages_run(r->stages);
    if (err) return err;
    r->seq = stages_take_sequence(r->stages);
    r->reading_s = stages_read_s(r->stages);
    r->read_s = clock_now_s();
    stages_destroy(&r->stages);
    return SIGHT_OK;
}

static sight_err run_stages(run *r)
{
    sight_err err = prepare(r);
    if (!err) err = read_prompt(r);
    return err ? err : generate(r);
}

static void release(run *r)
{
    stages_destroy(&r->stages);
    sequence_drop(&r->seq);
    if (r->promised) {
        prefix_store_release(engine_prefix(r->task->model), r->task->memory_bytes);
    }
    sampler_destroy(&r->sampler);
    if (r->answer_ready) answer_done(&r->answer);
    for (int i = 0; i < 3; i++) buf_done(&r->text[i]);
    free(r->logits);
}

sight_err pipeline_run(task *t, const atomic_bool *cancel, pipeline_sink *sink, void *arg)
{
    run r = {.task = t, .cancel = cancel, .sink = sink, .arg = arg, .begin_s = clock_now_s()};
    size_t i;
    json_t *line;
    json_array_foreach(t->asked->warnings, i, line) on_warning(&r, json_string_value(line));
    kernels_set_stop(engine_kernels(t->model), cancel);
    sight_err err = run_stages(&r);
    kernels_set_stop(engine_kernels(t->model), NULL);
    r.end_s = clock_now_s();
    if (err && atomic_load(cancel)) {
        r.reason = "cancelled"; // whatever else went wrong: nobody waits for it
        err = SIGHT_OK;
    }
    if (!err && r.answer_ready) answer_finish(&r.answer);
    if (err) report_error(&r, err);
    else report_done(&r);
    release(&r);
    return err;
}
