#include "daemon/task.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "daemon/media/feed.h"
#include "daemon/media/feed_frames.h"
#include "daemon/form.h"
#include "daemon/media/request_media.h"
#include "daemon/media/task_media.h"
#include "ipc/text.h"
#include "kernels/memory.h"
#include "text/marks.h"

// An answer's length when the request names none.
#define DEFAULT_MAX_TOKENS 2048

// ---- the model asked for ----

static sight_err check_model(const engine *e, const request *q)
{
    if (!q->model || !strcmp(q->model, engine_model_name(e)) ||
        !strcmp(q->model, engine_model_dir(e))) {
        return SIGHT_OK;
    }
    return sight_fail(SIGHT_E_NOT_FOUND, "the model '%.200s' is not loaded; this server has '%s'",
                      q->model, engine_model_name(e));
}

// ---- media ----

static sight_err open_media(task *t, const request_limits *limits)
{
    const model_config *config = engine_config(t->model);
    const request *q = t->asked;
    if (q->n_media && !config->has_vision) {
        return sight_fail(SIGHT_E_UNSUPPORTED,
                          "'%s' is a text model: it takes no pictures or clips",
                          engine_model_name(t->model));
    }
    t->media = calloc((size_t)q->n_media + 1, sizeof *t->media);
    if (!t->media) return sight_fail(SIGHT_E_MEMORY, "no memory for %d media", q->n_media);
    const prefix_store *kept = engine_prefix(t->model);
    const uint8_t *key = kept ? prefix_store_key(kept) : NULL;
    int64_t tokens = 0;
    sight_err opened = request_open_media(t->asked, limits);
    if (opened) return opened;
    for (int32_t i = 0; i < q->n_media; i++) {
        if (q->cancel && atomic_load(q->cancel)) {
            return sight_fail(SIGHT_E_CANCELLED, "the request was cancelled");
        }
        sight_err err = task_media_open(&t->media[i], q, i, config, limits, key);
        if (err) return err;
        tokens += t->media[i].plan.tokens;
        if (tokens >= engine_context(t->model)) {
            return sight_fail(SIGHT_E_LIMIT,
                              "pictures and clips take %lld tokens or more, the context has %lld; "
                              "ask for fewer frames, a shorter part or smaller 'max_pixels'",
                              (long long)tokens, (long long)engine_context(t->model));
        }
    }
    return SIGHT_OK;
}

// ---- the prompt ----

// Templates refuse a role without saying which.
static sight_err name_strange_role(sight_err err, const json_t *messages)
{
    static const char *const usual[] = {"system", "user", "assistant", "tool"};
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *message = json_array_get(messages, i);
        const char *role = json_string_value(json_object_get(message, "role"));
        bool found = false;
        for (int k = 0; role && k < 4 && !found; k++) found = !strcmp(role, usual[k]);
        if (!found) {
            return sight_fail_in(err, "messages[%zu] has the role '%.40s'", i, role ? role : "");
        }
    }
    return err;
}

static sight_err render(char **text, size_t *size, const engine *e, const request *q)
{
    if (!engine_chat(e)) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "made-up weights have no tokenizer to ask with");
    }
    sight_err err = chat_render(engine_chat(e), text, size, q->messages, q->tools, &q->chat);
    return err == SIGHT_E_ARGUMENT ? name_strange_role(err, q->messages) : err;
}

static sight_err build_prompt(task *t)
{
    char *text;
    size_t size;
    sight_err err = render(&text, &size, t->model, t->asked);
    if (err) return err;
    t->opens_thinking = chat_prompt_opens_thinking(text, size);
    t->calls_in_json = !strstr(text, "<function=");
    const model_config *config = engine_config(t->model);
    const int32_t n = t->asked->n_media, merge = config->has_vision ? config->vision.merge : 1;
    prompt_media *media = calloc((size_t)n + 1, sizeof *media);
    if (!media) {
        free(text);
        return sight_fail(SIGHT_E_MEMORY, "no memory for a prompt");
    }
    for (int32_t i = 0; i < n; i++) {
        const vision_grid *g = &t->media[i].plan.grid;
        media[i] = (prompt_media){.video = t->media[i].is_video, .t = g->t, .h = g->h / merge,
                                  .w = g->w / merge, .times_s = t->media[i].pair_times};
    }
    err = prompt_build(&t->prompt, engine_tokenizer(t->model), text, size, media, n, config);
    free(media);
    free(text);
    return err;
}

// Feature rows come in the order of media.
static sight_err find_places(task *t)
{
    const int32_t n = t->asked->n_media;
    const prompt *p = &t->prompt;
    t->places = calloc((size_t)n + 1, sizeof *t->places);
    if (!t->places) return sight_fail(SIGHT_E_MEMORY, "no memory for a prompt");
    int32_t at = 0;
    for (int32_t i = 0; i < n; i++) {
        prefix_medium *m = &t->places[i];
        while (at < p->n && !p->visual[at]) at++;
        m->first = at;
        for (int64_t left = t->media[i].plan.tokens; at < p->n && left > 0; at++) {
            left -= p->visual[at];
        }
        m->end = at;
        memcpy(m->hash, t->media[i].hash, sizeof m->hash);
    }
    return SIGHT_OK;
}

// The prompt and at least one token of answer must fit.
static sight_err bound_tokens(task *t, const request_limits *limits)
{
    const int64_t context = engine_context(t->model), n = t->prompt.n;
    const int64_t most = limits->max_prompt_tokens && limits->max_prompt_tokens < context
                             ? limits->max_prompt_tokens : context - 1;
    if (n > most) {
        return sight_fail(SIGHT_E_LIMIT,
                          "the prompt has %lld tokens (%d of them pictures and clips), the limit "
                          "is %lld", (long long)n, t->prompt.n_visual, (long long)most);
    }
    const int32_t asked = t->asked->max_tokens;
    int64_t want = asked ? asked : DEFAULT_MAX_TOKENS;
    if (want > limits->max_tokens) want = limits->max_tokens;
    if (want > context - n) {
        want = context - n;
        if (asked) {
            request_warn(t->asked, "max_tokens is %lld instead of %d: the context ends there",
                         (long long)want, asked);
        }
    }
    t->max_tokens = (int32_t)want;
    return SIGHT_OK;
}

// ---- memory ----

// A piece's patches, what the tower takes, and the features that wait to be read. Of a GPU's memory that is planned,
// patches and frames take none.
static int64_t vision_bytes(const task *t)
{
    const bool on_gpu = kernels_on_device(engine_kernels(t->model));
    const model_config *c = engine_config(t->model);
    const int64_t square = (int64_t)c->vision.merge * c->vision.merge;
    const int64_t row = (1 + c->vision.n_deepstack) * (int64_t)c->vision.out_hidden * 4;
    int64_t peak = 0;
    for (int32_t i = 0; i < t->asked->n_media; i++) {
        vision_grid piece = t->media[i].plan.grid;
        piece.t = feed_pairs(t, &t->media[i]);
        const int64_t patches = (int64_t)piece.t * piece.h * piece.w;
        int64_t bytes = tower_workspace_bytes(engine_tower(t->model), &piece);
        if (!on_gpu) {
            bytes += FEED_PIECES * patches * preprocess_row_size(&c->vision) * 4;
            bytes += (int64_t)t->media[i].width * t->media[i].height * 3; // the frame as decoded
        }
        bytes += (patches / square + text_model_max_rows(engine_text(t->model))) * row;
        if (bytes > peak) peak = bytes;
    }
    return peak;
}

static sight_err check_memory(task *t)
{
    if (!engine_pool(t->model)) return SIGHT_OK;
    const engine_memory m = engine_get_memory(t->model);
    const int64_t cache = cache_bytes(engine_pool(t->model), (int64_t)t->prompt.n + t->max_tokens);
    t->state_bytes = m.states;
    t->kv_bytes = cache - m.states;
    if (t->asked->n_media) t->vision_bytes = vision_bytes(t);
    t->memory_bytes = cache + t->vision_bytes;
    const int64_t most = m.cache_budget + m.reserved;
    if (cache <= m.cache_budget && t->memory_bytes <= most) return SIGHT_OK;
    return sight_fail(SIGHT_E_MEMORY,
                      "the request needs %lld MiB beside the model (keys and values %lld, states "
                      "%lld, vision %lld), %lld MiB are allowed; ask for fewer frames or smaller "
                      "'max_pixels'", (long long)(t->memory_bytes >> 20),
                      (long long)(t->kv_bytes >> 20), (long long)(t->state_bytes >> 20),
                      (long long)(t->vision_bytes >> 20), (long long)(most >> 20));
}

sight_err task_create(task **out, engine *model, request **asked, const request_limits *limits)
{
    task *t = calloc(1, sizeof *t);
    if (!t) return sight_fail(SIGHT_E_MEMORY, "no memory for a request");
    t->model = model;
    t->asked = *asked;
    sight_err err = check_model(model, t->asked);
    if (!err) err = open_media(t, limits);
    if (!err) err = build_prompt(t);
    if (!err && t->asked->format) {
        err = form_create(&t->form, model, t->asked->format, t->opens_thinking);
    }
    if (!err) err = find_places(t);
    if (!err) err = bound_tokens(t, limits);
    if (!err) err = check_memory(t);
    if (err) {
        if (t->media) {
            for (int32_t i = 0; i < t->asked->n_media; i++) task_media_done(&t->media[i]);
        }
        free(t->media);
        t->media = NULL;
        t->asked = NULL; // stays the caller's
        task_destroy(&t);
        return err;
    }
    *asked = NULL;
    *out = t;
    return SIGHT_OK;
}

void task_destroy(task **p)
{
    task *t = *p;
    if (!t) return;
    for (int32_t i = 0; t->media && i < t->asked->n_media; i++) task_media_done(&t->media[i]);
    free(t->media);
    free(t->places);
    prompt_done(&t->prompt);
    grammar_destroy(&t->form);
    request_destroy(&t->asked);
    free(t);
    *p = NULL;
}

static json_t *describe_memory(const task *t)
{
    const engine_memory m = engine_get_memory(t->model);
    const int64_t total = m.weights + m.text_workspace + t->memory_bytes;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "weights", (json_int_t)m.weights,
                     "workspace", (json_int_t)m.text_workspace, "kv", (json_int_t)t->kv_bytes,
                     "states", (json_int_t)t->state_bytes, "vision", (json_int_t)t->vision_bytes,
                     "total", (json_int_t)total, "allowed", (json_int_t)m.budget);
}

// What is known of damage before anything is decoded. (A request that runs hears of it from the
// decoder.)
static void add_losses(json_t *warnings, const task *t)
{
    for (int32_t i = 0; i < t->asked->n_media; i++) {
        char *line = NULL;
        if (!t->media[i].clip || video_losses(t->media[i].clip, &line) || !line) continue;
        json_array_append_new(warnings, text_json(line));
        free(line);
    }
}

static json_t *describe_medium(const task *t, const task_media *m)
{
    json_t *about = task_media_describe(m);
    const device_id cpu = {DEVICE_CPU, 0};
    bool on_gpu = false;
    if (about && m->clip && engine_kernels(t->model)) {
        const device_id device = kernels_device(engine_kernels(t->model));
        char name[16];
        on_gpu = feed_frames_decodes(m, device);
        device_format(name, on_gpu ? device : cpu);
        json_object_set_new(about, "decoded_on", json_string(name));
    }
    if (about) json_object_set_new(about, "confined", json_boolean(m->decoders && !on_gpu));
    return about;
}

json_t *task_describe(const task *t)
{
    json_t *media = json_array();
    for (int32_t i = 0; i < t->asked->n_media; i++) {
        json_array_append_new(media, describe_medium(t, &t->media[i]));
    }
    json_t *plan = json_pack("{s:s, s:i, s:i, s:i, s:I, s:I, s:o, s:o}", "model",
                             engine_model_name(t->model), "prompt_tokens", t->prompt.n,
                             "visual_tokens", t->prompt.n_visual, "max_tokens", t->max_tokens,
                             "context", (json_int_t)engine_context(t->model), "memory_bytes",
                             (json_int_t)t->memory_bytes, "media", media, "warnings",
                             json_copy(t->asked->warnings));
    if (plan) json_object_set_new(plan, "memory", describe_memory(t));
    if (plan) add_losses(json_object_get(plan, "warnings"), t);
    return plan;
}

sight_err task_prompt_text(char **out, size_t *size, const engine *model, const request *asked)
{
    char *text;
    size_t n;
    sight_err err = render(&text, &n, model, asked);
    if (err) return err;
    buf plain;
    buf_init(&plain);
    marks_remove(&plain, text, n);
    free(text);
    if (buf_failed(&plain) || !buf_reserve(&plain, 1)) {
        buf_done(&plain);
        return sight_fail(SIGHT_E_MEMORY, "no memory for a prompt");
    }
    *size = plain.size;
    *out = buf_take(&plain);
    return SIGHT_OK;
}
