#include "daemon/pipeline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "daemon/answer.h"
#include "daemon/batch.h"
#include "daemon/calls.h"
#include "daemon/media/request_media.h"
#include "daemon/stages.h"
#include "ipc/text.h"
#include "text/draft.h"
#include "text/repeat.h"
#include "text/sampler.h"

// Progress of a stage is told at most this often, and at its end.
#define PROGRESS_S 0.1
// Thinking that nobody bounded leaves this part of the answer's tokens, at least and at most so many.
#define ROOM_PART  4
#define ROOM_LEAST 16
#define ROOM_MOST  1024
// Bytes of kept pasts that are copied for the disk with every token.
#define SAVE_BYTES ((int64_t)1 << 20)
// How long a step waits for the decoder when nothing else is to do.
#define TICK_MS 100

struct pipeline {
    task *task;
    const atomic_bool *cancel;
    pipeline_sink *sink;
    void *arg;
    stages *stages; // until the prompt is read
    sequence *seq;
    draft *draft;
    output_row *next; // the logits after the last token of the answer
    int64_t promised; // bytes, by the store of pasts
    stages_reuse reused; // of earlier requests' work
    sampler *sampler;
    answer answer;
    bool answer_ready;
    output_row first; // those after the prompt
    buf text[3];   // by channel, kept when the client wants no stream
    const char *reason; // finish_reason
    int32_t drawn;      // tokens of the answer
    int32_t thought;    // of these, tokens of thinking
    int32_t budget;     // of these, at most
    token_list ending;  // what ends thinking that has used it up
    token_list opening; // what an answer begins with that has to be a call
    const token_list *forced; // one of these, of which forced_at ids stand in the answer; NULL: ids are drawn
    size_t forced_at;
    bool opened;
    calls *calls;       // NULL: no tools
    repeat *circles;    // NULL: nobody looks
    confidence sure;    // where that is asked for
    bool again;         // the answer was begun a second time
    double begin_s, read_s, first_s, end_s; // when each was reached; 0: never
    double reading_s, encoding_s;           // of the engine's, spent on these until read_s
    double told_s, drawn_s; // when progress was last told, and the last token drawn
    pipeline_state state;
    sight_err err; // the error that was reported
};

// ---- events ----

static void report(pipeline *r, sight_event_kind kind, json_t *body)
{
    if (!body) return; // no memory for a progress line is no reason to stop
    r->sink(r->arg, kind, body);
    json_decref(body);
}

static void on_progress(void *arg, const char *stage, int64_t done, int64_t total)
{
    pipeline *r = arg;
    const double now = clock_now_s();
    if (done < total && now - r->told_s < PROGRESS_S) return;
    r->told_s = now;
    json_t *body = json_pack("{s:s, s:I, s:I}", "stage", stage, "done", (json_int_t)done, "total",
                             (json_int_t)total);
    if (body && !strcmp(stage, "read") && stages_rate(r->stages) > 0) {
        json_object_set_new(body, "per_s", json_real(stages_rate(r->stages)));
        json_object_set_new(body, "left_s", json_real(stages_left_s(r->stages)));
        if (r->reused.tokens) json_object_set_new(body, "reused", json_integer(r->reused.tokens));
    }
    report(r, SIGHT_PROGRESS, body);
}

static void on_warning(void *arg, const char *line)
{
    report(arg, SIGHT_WARNING, json_pack("{s:o}", "message", text_json(line)));
}

static void on_text(void *arg, answer_channel channel, const char *text, size_t n)
{
    pipeline *r = arg;
    if (channel == CHANNEL_TOOL && r->calls) {
        calls_text(r->calls, text, n);
        return;
    }
    if (!r->task->asked->stream) {
        buf_add(&r->text[channel], text, n);
        return;
    }
    report(r, SIGHT_DELTA, json_pack("{s:s, s:o}", "channel", answer_channel_name(channel), "text",
                                     json_stringn(text, n)));
}

static void on_call(void *arg, bool opens)
{
    pipeline *r = arg;
    if (r->calls) calls_border(r->calls, opens);
}

static void on_call_delta(void *arg, json_t *body)
{
    pipeline *r = arg;
    if (r->task->asked->stream) report(r, SIGHT_DELTA, body);
    else json_decref(body);
}

static void report_error(pipeline *r, sight_err err)
{
    const char *about = request_media_blame(err); // planning has had all else that could lack
    json_t *body = json_pack("{s:s, s:o}", "code", sight_err_name(err), "message", text_json(sight_error()));
    if (body && about) json_object_set_new(body, "about", json_string(about));
    report(r, SIGHT_ERROR, body);
}

static json_t *timings(const pipeline *r)
{
    const double decode_s = r->first_s ? r->end_s - r->first_s : 0;
    json_t *t = json_pack("{s:f}", "total_s", r->end_s - r->begin_s);
    if (r->read_s) {
        json_object_set_new(t, "media_s", json_real(r->read_s - r->begin_s - r->reading_s));
        json_object_set_new(t, "encode_s", json_real(r->encoding_s));
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

static void report_done(pipeline *r)
{
    const task *t = r->task;
    const int32_t read = r->read_s ? t->prompt.n : 0;
    json_t *usage = json_pack("{s:i, s:i, s:i, s:i, s:i}", "prompt_tokens", read, "reused_tokens",
                              r->reused.tokens, "visual_tokens", r->read_s ? t->prompt.n_visual : 0,
                              "completion_tokens", r->drawn, "total_tokens", read + r->drawn);
    json_object_set_new(usage, "reused_media", json_integer(r->reused.media));
    json_object_set_new(usage, "reused_features", json_integer(r->reused.features));
    const draft_usage drafts = r->draft ? draft_get_usage(r->draft) : (draft_usage){0};
    json_object_set_new(usage, "drafted_tokens", json_integer(drafts.guessed));
    json_object_set_new(usage, "accepted_tokens", json_integer(drafts.right));
    json_t *called = r->calls ? calls_list(r->calls) : NULL;
    if (called && !strcmp(r->reason, "stop")) r->reason = "tool_calls";
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
    if (body && t->asked->confidence) {
        const double sure = confidence_value(&r->sure);
        json_object_set_new(body, "confidence", isfinite(sure) ? json_real(sure) : json_null());
    }
    if (called && body) json_object_set(body, "tool_calls", called);
    json_decref(called);
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

// What ends thinking, and how long it may be.
static sight_err prepare_bounds(pipeline *r)
{
    const task *t = r->task;
    const tokenizer *tokens = engine_tokenizer(t->model);
    int32_t room = t->max_tokens / ROOM_PART;
    if (room < ROOM_LEAST) room = ROOM_LEAST;
    if (room > ROOM_MOST) room = ROOM_MOST;
    r->budget = t->asked->thinking_budget;
    const int32_t most = t->max_tokens > room ? t->max_tokens - room : t->max_tokens / 2;
    if (r->budget < 0 || r->budget > most) r->budget = most;
    sight_err err = SIGHT_OK;
    if (r->answer.think_close >= 0) {
        err = tokenizer_encode(tokens, &r->ending, "\n", 1, TOKENIZER_PLAIN);
        if (!err) err = token_list_add(&r->ending, r->answer.think_close);
        if (!err) err = tokenizer_encode(tokens, &r->ending, "\n\n", 2, TOKENIZER_PLAIN);
    }
    if (!err && t->asked->repetition_guard) err = repeat_create(&r->circles);
    const calls_sink sink = {on_call_delta, on_warning, r};
    if (!err && t->asked->tools) err = calls_create(&r->calls, t->asked->tools, &sink);
    if (!err) err = calls_opening(&r->opening, t, r->answer.tool_open);
    return err;
}

static sight_err prepare(pipeline *r)
{
    task *t = r->task;
    request *q = t->asked;
    const int32_t vocab = engine_config(t->model)->text.vocab;
    const answer_options options = {.opens_thinking = t->opens_thinking,
                                    .tools = q->tools != NULL,
                                    .stop = (const char *const *)q->stop,
                                    .n_stop = q->n_stop,
                                    .call = on_call};
    sight_err err = answer_init(&r->answer, engine_tokenizer(t->model), &options, on_text, r);
    r->answer_ready = true;
    if (!err) err = choose_seed(&q->sampling, q->seed_given);
    q->sampling.scores = q->confidence;
    q->sampling.alike = engine_ends(t->model, &q->sampling.n_alike);
    r->sure = (confidence){.product = request_is_choice(q)};
    if (!err) err = sampler_create(&r->sampler, &q->sampling, vocab, engine_allowed(t->model));
    if (err) return err;
    const bool thinks = r->answer.channel == CHANNEL_THINKING;
    if (t->form) sampler_set_form(r->sampler, t->form, thinks ? r->answer.think_close : -1);
    sampler_see_prompt(r->sampler, t->prompt.ids, (size_t)t->prompt.n);
    sampler_wants(r->sampler, &r->first, sampler_scores(r->sampler));
    err = prepare_bounds(r);
    if (err) return err;
    r->first.ids = malloc((size_t)vocab * sizeof *r->first.ids);
    r->first.logits = malloc((size_t)vocab * sizeof *r->first.logits);
    r->next = &r->first;
    if (r->first.ids && r->first.logits) return SIGHT_OK;
    return sight_fail(SIGHT_E_MEMORY, "no memory for %d logits", vocab);
}

static void force(pipeline *r, const token_list *ids)
{
    r->forced = ids;
    r->forced_at = 0;
}

// Ids that have to come now: the end of thinking that has used up its tokens, a call that was asked for.
static void choose_forced(pipeline *r)
{
    const answer_channel channel = r->answer.channel;
    if (channel == CHANNEL_THINKING && r->thought >= r->budget && r->ending.n) {
        force(r, &r->ending);
    } else if (channel == CHANNEL_ANSWER && r->opening.n && !r->opened) {
        force(r, &r->opening);
        r->opened = true;
    }
}

static sight_err draw_id(pipeline *r, int32_t *id)
{
    if (!r->task->asked->confidence) return sampler_next_of(r->sampler, id, NULL, r->next);
    float logprob;
    sight_err err = sampler_next_of(r->sampler, id, &logprob, r->next);
    if (!err && r->answer.channel != CHANNEL_THINKING) confidence_add(&r->sure, logprob, sampler_choices(r->sampler));
    return err;
}

static sight_err next_id(pipeline *r, int32_t *id)
{
    if (!r->forced) choose_forced(r);
    r->thought += r->answer.channel == CHANNEL_THINKING;
    if (!r->forced) return draw_id(r, id);
    *id = r->forced->ids[r->forced_at++];
    if (r->forced_at == r->forced->n) r->forced = NULL;
    sampler_take(r->sampler, *id);
    return SIGHT_OK;
}

static void count_token(pipeline *r)
{
    metrics *m = engine_metrics(r->task->model);
    const double now = clock_now_s();
    if (r->drawn == 0) r->first_s = now;
    else metrics_observe_at(m, METRIC_TOKEN_GAP_SECONDS, r->task->asked->priority, 0, now - r->drawn_s);
    metrics_add_to(m, METRIC_TOKENS, engine_index(r->task->model), BY_TOKENS_GENERATED, 1);
    r->drawn_s = now;
    r->drawn++;
}

// Draws a token. Where the logits after it are to be read, r->next is NULL then.
static sight_err generate(pipeline *r, bool *over, int32_t together)
{
    const int32_t most = r->task->max_tokens;
    int32_t id;
    sight_err err = next_id(r, &id);
    if (err) return err;
    count_token(r);
    if (r->circles && repeat_push(r->circles, id)) {
        r->reason = "repetition";
        *over = true;
        answer_push(&r->answer, id);
        return SIGHT_OK;
    }
    if (engine_is_eos(r->task->model, id) || answer_push(&r->answer, id)) {
        r->reason = "stop";
        *over = true;
        return SIGHT_OK;
    }
    if (r->drawn == most) {
        r->reason = "length";
        *over = true;
    }
    const int32_t position = r->task->prompt.next_position + r->drawn - 1;
    if (!*over) err = draft_take(r->draft, &r->next, id, position, most - r->drawn, together);
    if (!err && (answer_failed(&r->answer) || (r->calls && calls_failed(r->calls)))) {
        err = sight_fail(SIGHT_E_MEMORY, "no memory for the answer");
    }
    return err;
}

// ---- the whole ----

static sight_err begin_rows(void *arg, const segment *s, int64_t left)
{
    return draft_read_begin(((pipeline *)arg)->draft, s, left);
}

static sight_err read_rows(void *arg, double most_ops, bool *done)
{
    return draft_read_run(((pipeline *)arg)->draft, most_ops, done);
}

// What the request may take of the pool, guesses included, is promised to it.
static sight_err prepare_drafts(pipeline *r)
{
    engine *model = r->task->model;
    const draft_options o = {.depth = r->task->asked->drafts, .cancel = r->cancel};
    prefix_store *kept = engine_prefix(model);
    if (kept) {
        r->promised = r->task->memory_bytes + (o.depth ? cache_bytes(engine_pool(model), 0) : 0);
        prefix_store_promise(kept, r->promised);
    }
    return draft_create(&r->draft, engine_text(model), stages_sequence(r->stages), r->sampler, &o);
}

static sight_err begin_reading(pipeline *r)
{
    const stages_options o = {.watch = {.cancel = r->cancel, .progress = on_progress,
                                        .warning = on_warning, .arg = r},
                              .reuse = true,
                              .last = &r->first,
                              .begin = begin_rows,
                              .run = read_rows,
                              .read_arg = r};
    sight_err err = stages_create(&r->stages, r->task, &o);
    if (err) return err;
    return prepare_drafts(r);
}

static void end_reading(pipeline *r)
{
    r->seq = stages_take_sequence(r->stages);
    r->reading_s = stages_read_s(r->stages);
    r->encoding_s = stages_encode_s(r->stages);
    r->reused = stages_reused(r->stages);
    r->read_s = clock_now_s();
    stages_destroy(&r->stages);
}

static sight_err begin(pipeline *r)
{
    size_t i;
    json_t *line;
    r->begin_s = clock_now_s();
    json_array_foreach(r->task->asked->warnings, i, line) on_warning(r, json_string_value(line));
    sight_err err = prepare(r);
    return err ? err : begin_reading(r);
}

static sight_err read_slice(pipeline *r, int wait_ms)
{
    stages_state state;
    sight_err err = stages_step(r->stages, &state, wait_ms);
    if (err) return err;
    if (state == STAGES_READ) end_reading(r);
    r->state = state == STAGES_READ      ? PIPELINE_ANSWERING
               : state == STAGES_WAITING ? PIPELINE_WAITING
                                         : PIPELINE_READING;
    return SIGHT_OK;
}

// Gives back what it held of the model, so that this is free once the end is heard of.
static void release(pipeline *r)
{
    prefix_store_work(engine_prefix(r->task->model), 0); // nobody may come for a while
    draft_destroy(&r->draft);
    stages_destroy(&r->stages);
    sequence_drop(&r->seq);
    if (r->promised) prefix_store_release(engine_prefix(r->task->model), r->promised);
    r->promised = 0;
}

static void forget_answer(pipeline *r)
{
    release(r);
    sampler_destroy(&r->sampler);
    if (r->answer_ready) answer_done(&r->answer);
    r->answer_ready = false;
    for (int i = 0; i < 3; i++) buf_done(&r->text[i]);
    free(r->first.ids);
    free(r->first.logits);
    r->first = (output_row){0};
    token_list_done(&r->ending);
    token_list_done(&r->opening);
    calls_destroy(&r->calls);
    repeat_destroy(&r->circles);
}

// Once more at another temperature: the prompt's past is kept, so this begins with the answer.
static sight_err begin_again(pipeline *r)
{
    on_warning(r, "the answer went round in circles and was begun again");
    forget_answer(r);
    r->again = true;
    r->task->asked->sampling.temperature = r->task->asked->repetition_retry;
    r->drawn = r->thought = 0;
    r->forced = NULL;
    r->opened = false;
    r->reason = NULL;
    r->read_s = r->first_s = 0;
    r->state = PIPELINE_READING;
    sight_err err = prepare(r);
    return err ? err : begin_reading(r);
}

// Draws tokens as far as there are logits; *wants: those after the last are to be read.
static sight_err draw(pipeline *r, int32_t together, bool *wants)
{
    bool over = false;
    sight_err err = SIGHT_OK;
    while (!err && !over && r->next) err = generate(r, &over, together);
    *wants = !err && !over;
    const bool circles = over && r->reason && !strcmp(r->reason, "repetition");
    if (circles && !r->again && !isnan(r->task->asked->repetition_retry)) return begin_again(r);
    if (over) r->state = PIPELINE_OVER;
    return err;
}

static void end(pipeline *r, sight_err err)
{
    r->state = PIPELINE_OVER;
    r->end_s = clock_now_s();
    if (err && atomic_load(r->cancel)) {
        r->reason = "cancelled"; // whatever else went wrong: nobody waits for it
        err = SIGHT_OK;
    }
    r->err = err;
    if (!err && r->answer_ready) answer_finish(&r->answer);
    if (err) report_error(r, err);
    else report_done(r);
    release(r);
}

sight_err pipeline_create(pipeline **out, task *t, const atomic_bool *cancel, pipeline_sink *sink,
                          void *arg)
{
    pipeline *r = calloc(1, sizeof *r);
    if (!r) return sight_fail(SIGHT_E_MEMORY, "no memory for a request");
    *r = (pipeline){.task = t, .cancel = cancel, .sink = sink, .arg = arg,
                    .state = PIPELINE_READING};
    *out = r;
    return SIGHT_OK;
}

void pipeline_destroy(pipeline **pr)
{
    pipeline *r = *pr;
    if (!r) return;
    forget_answer(r);
    free(r);
    *pr = NULL;
}

// After a piece of work: what went wrong, or that all is done, is the end.
static pipeline_state settle(pipeline *r, sight_err err)
{
    if (err || r->state == PIPELINE_OVER) end(r, err);
    return r->state;
}

draft *pipeline_draw(pipeline *r, int32_t together)
{
    prefix_store_work(engine_prefix(r->task->model), SAVE_BYTES);
    bool wants = false;
    if (r->state != PIPELINE_ANSWERING) return NULL;
    kernels *k = engine_kernels(r->task->model);
    kernels_set_stop(k, r->cancel);
    sight_err err = atomic_load(r->cancel) ? SIGHT_E_CANCELLED : draw(r, together, &wants);
    kernels_set_stop(k, NULL);
    settle(r, err);
    return wants && r->state == PIPELINE_ANSWERING ? r->draft : NULL;
}

pipeline_state pipeline_hear(pipeline *r, sight_err err, output_row *next)
{
    r->next = next;
    return settle(r, err || !atomic_load(r->cancel) ? err : SIGHT_E_CANCELLED);
}

const atomic_bool *pipeline_cancel(const pipeline *r)
{
    return r->cancel;
}

engine *pipeline_engine(const pipeline *r)
{
    return r->task->model;
}

pipeline_state pipeline_state_of(const pipeline *r)
{
    return r->state;
}

pipeline_state pipeline_step(pipeline *r, int wait_ms)
{
    if (r->state == PIPELINE_OVER) return PIPELINE_OVER;
    if (r->state == PIPELINE_ANSWERING) {
        batch_answer(&r, NULL, 1);
        return r->state;
    }
    kernels *k = engine_kernels(r->task->model);
    kernels_set_stop(k, r->cancel);
    sight_err err = atomic_load(r->cancel) ? SIGHT_E_CANCELLED : !r->begin_s ? begin(r) : read_slice(r, wait_ms);
    kernels_set_stop(k, NULL);
    return settle(r, err);
}

confidence pipeline_confidence(const pipeline *r)
{
    return r->sure;
}

int32_t pipeline_drawn(const pipeline *r)
{
    return r->drawn;
}

sight_err pipeline_error(const pipeline *r)
{
    return r->err;
}

sight_err pipeline_run(task *t, const atomic_bool *cancel, pipeline_sink *sink, void *arg)
{
    pipeline *r;
    sight_err err = pipeline_create(&r, t, cancel, sink, arg);
    if (err) return err;
    while (pipeline_step(r, TICK_MS) != PIPELINE_OVER) continue;
    err = r->err;
    pipeline_destroy(&r);
    return err;
}
