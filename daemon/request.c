#include "daemon/request.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "daemon/media/request_media.h"
#include "text/tool_calls.h"

#define MAX_MESSAGES 4096

request_limits request_limits_default(void)
{
    return (request_limits){
        .max_json_bytes = (int64_t)64 << 20,
        .max_media = 64,
        .max_media_bytes = (int64_t)256 << 20,
        .max_source_pixels = (int64_t)256 << 20,
        .max_pixels = (int64_t)512 << 20,
        .max_frames = 768,
        .max_seconds = 86400,
        .max_tokens = 32768,
        .drafts = DRAFT_AUTO,
        .allow_paths = true,
    };
}

// ---- sampling ----

static sight_err read_seed(request *q, const json_fields *f)
{
    int64_t seed = 0;
    sight_err err = json_get_int(f, &seed, "seed", INT64_MIN, INT64_MAX);
    if (err) return err;
    const json_t *given = json_object_get(f->object, "seed");
    q->seed_given = given && !json_is_null(given);
    q->sampling.seed = (uint64_t)seed;
    return SIGHT_OK;
}

static sight_err read_max_tokens(request *q, const json_fields *f, const request_limits *limits)
{
    sight_err err = json_get_int32(f, &q->max_tokens, "max_tokens", 1, limits->max_tokens);
    if (err) return err;
    return json_get_int32(f, &q->max_tokens, "max_completion_tokens", 1, limits->max_tokens);
}

static sight_err read_bounds_of_thought(request *q, const json_fields *f, const request_limits *limits)
{
    q->thinking_budget = -1;
    q->repetition_guard = true;
    q->repetition_retry = NAN;
    sight_err err = json_get_int32(f, &q->thinking_budget, "thinking_budget", 0, limits->max_tokens);
    if (!err) err = json_get_bool(f, &q->repetition_guard, "repetition_guard");
    if (!err) err = json_get_double(f, &q->repetition_retry, "repetition_retry", 0, 100);
    if (!err && !isnan(q->repetition_retry) && q->stream) {
        err = sight_fail(SIGHT_E_ARGUMENT, "request: 'repetition_retry' needs 'stream' false: what was sent cannot be "
                         "taken back");
    }
    return err;
}

static sight_err read_drafts(request *q, const json_fields *f, const request_limits *limits)
{
    const json_t *given = json_object_get(f->object, "drafts");
    q->drafts = limits->drafts;
    if (json_is_string(given)) {
        return draft_parse(&q->drafts, json_string_value(given), "request: 'drafts'");
    }
    return json_get_int32(f, &q->drafts, "drafts", 0, DRAFT_MAX);
}

#define DEADLINE_LEAST_S 0.001
#define DEADLINE_MOST_S  86400.0

// How urgent it is, and by when it has to be over.
static sight_err read_urgency(request *q, const json_fields *f)
{
    const json_t *given = json_object_get(f->object, "priority");
    const char *word = json_string_value(given);
    if (given && !json_is_null(given) && (!word || !fair_class_parse(&q->priority, word))) {
        return sight_fail(SIGHT_E_ARGUMENT, "request: 'priority' must be interactive, camera or batch");
    }
    const fair_class most = (fair_class)identity_limits(q->who)->priority;
    if (q->priority < most) {
        if (word) {
            request_warn(q, "priority is %s instead of %s: who asks gets no more", fair_class_name(most),
                         fair_class_name(q->priority));
        }
        q->priority = most;
    }
    return json_get_double(f, &q->deadline_s, "deadline_s", DEADLINE_LEAST_S, DEADLINE_MOST_S);
}

static sight_err read_sampling(request *q, const json_fields *f, const generation_config *g)
{
    sampler_options *s = &q->sampling;
    *s = (sampler_options){
        .temperature = g->do_sample ? g->temperature : 0,
        .top_k = g->top_k,
        .top_p = g->top_p,
        .min_p = g->min_p,
        .presence_penalty = g->presence_penalty,
        .frequency_penalty = g->frequency_penalty,
        .repetition_penalty = g->repetition_penalty > 0 ? g->repetition_penalty : 1,
    };
    sight_err err = json_get_double(f, &s->temperature, "temperature", 0, 100);
    if (!err) err = json_get_double(f, &s->top_p, "top_p", 1e-6, 1);
    if (!err) err = json_get_int32(f, &s->top_k, "top_k", -1, INT32_MAX);
    if (!err) err = json_get_double(f, &s->min_p, "min_p", 0, 0.999999);
    if (!err) err = json_get_double(f, &s->presence_penalty, "presence_penalty", -2, 2);
    if (!err) err = json_get_double(f, &s->frequency_penalty, "frequency_penalty", -2, 2);
    if (!err) err = json_get_double(f, &s->repetition_penalty, "repetition_penalty", 0.01, 100);
    if (s->top_k < 0) s->top_k = 0; // -1 is off for other servers
    return err ? err : read_seed(q, f);
}

// ---- stop strings ----

static sight_err add_stop(request *q, const json_t *value)
{
    if (!json_is_string(value)) {
        return sight_fail(SIGHT_E_ARGUMENT,
                          "request: 'stop' must be a string or a list of strings");
    }
    size_t n = json_string_length(value);
    if (n == 0 || n > STOP_MAX_BYTES || n != strlen(json_string_value(value))) {
        return sight_fail(SIGHT_E_ARGUMENT,
                          "request: a 'stop' string has %zu bytes, must be 1 to %d without NUL", n,
                          STOP_MAX_BYTES);
    }
    if (q->n_stop == STOP_MAX_STRINGS) {
        return sight_fail(SIGHT_E_LIMIT, "request: 'stop' has more than %d strings",
                          STOP_MAX_STRINGS);
    }
    q->stop[q->n_stop] = strdup(json_string_value(value));
    if (!q->stop[q->n_stop]) return sight_fail(SIGHT_E_MEMORY, "request: no memory for 'stop'");
    q->n_stop++;
    return SIGHT_OK;
}

static sight_err read_stop(request *q, const json_t *root)
{
    const json_t *given = json_object_get(root, "stop");
    if (!given || json_is_null(given)) return SIGHT_OK;
    if (!json_is_array(given)) return add_stop(q, given);
    for (size_t i = 0; i < json_array_size(given); i++) {
        sight_err err = add_stop(q, json_array_get(given, i));
        if (err) return err;
    }
    return SIGHT_OK;
}

// ---- messages ----

static sight_err read_part(request_reader *r, json_t *part, const char *where)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    if (!type) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s must be an object with a 'type' string", where);
    }
    if (request_is_media_type(type)) return request_read_media(r, part, where);
    if (strcmp(type, "text")) {
        return sight_fail(SIGHT_E_ARGUMENT, // a template's own words, then what would be right
                          "%s: Unexpected item type in content. '%.40s' is none of text, image, "
                          "video, image_url, video_url",
                          where, type);
    }
    if (!json_is_string(json_object_get(part, "text"))) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s: 'text' must be a string", where);
    }
    static const char *const known[] = {"type", "text", NULL};
    request_warn_unknown(r->out, part, where, known);
    return SIGHT_OK;
}

static sight_err read_message(request_reader *r, json_t *message, size_t i)
{
    char where[80];
    snprintf(where, sizeof where, "messages[%zu]", i);
    if (!json_is_string(json_object_get(message, "role"))) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s must be an object with a 'role' string", where);
    }
    static const char *const known[] = {"role", "content", "name", "tool_calls", "tool_call_id",
                                        "reasoning_content", NULL};
    request_warn_unknown(r->out, message, where, known);
    json_t *content = json_object_get(message, "content");
    if (!content || json_is_null(content) || json_is_string(content)) return SIGHT_OK;
    if (!json_is_array(content)) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s: 'content' must be a string or a list of parts",
                          where);
    }
    for (size_t k = 0; k < json_array_size(content); k++) {
        snprintf(where, sizeof where, "messages[%zu].content[%zu]", i, k);
        sight_err err = read_part(r, json_array_get(content, k), where);
        if (err) return err;
    }
    return SIGHT_OK;
}

static sight_err read_messages(request_reader *r, const json_t *root)
{
    json_t *messages = json_object_get(root, "messages");
    if (!json_is_array(messages)) {
        return sight_fail(SIGHT_E_ARGUMENT, "request: 'messages' must be a list of at least one");
    }
    if (json_array_size(messages) == 0) {
        return sight_fail(SIGHT_E_ARGUMENT, "request: Cannot apply chat template to an empty "
                          "conversation. Provide at least one message.");
    }
    if (json_array_size(messages) > MAX_MESSAGES) {
        return sight_fail(SIGHT_E_LIMIT, "request: %zu messages, the limit is %d",
                          json_array_size(messages), MAX_MESSAGES);
    }
    r->out->messages = json_incref(messages);
    r->out->media = calloc((size_t)r->limits->max_media + 1, sizeof *r->out->media);
    if (!r->out->media) return sight_fail(SIGHT_E_MEMORY, "request: no memory");
    for (size_t i = 0; i < json_array_size(messages); i++) {
        sight_err err = read_message(r, json_array_get(messages, i), i);
        if (err) return err;
    }
    return SIGHT_OK;
}

// ---- the rest ----

static sight_err read_tools(request *q, const json_t *root)
{
    json_t *tools = json_object_get(root, "tools");
    if (!tools || json_is_null(tools)) return SIGHT_OK;
    if (!json_is_array(tools)) {
        return sight_fail(SIGHT_E_ARGUMENT, "request: 'tools' must be a list of objects");
    }
    for (size_t i = 0; i < json_array_size(tools); i++) {
        if (!json_is_object(json_array_get(tools, i))) {
            return sight_fail(SIGHT_E_ARGUMENT, "request: 'tools' must be a list of objects");
        }
    }
    if (json_array_size(tools)) q->tools = json_incref(tools);
    return SIGHT_OK;
}

// "auto", "none", "required", or {"type": "function", "function": {"name": ...}}.
static sight_err read_tool_choice(request *q, const json_t *root)
{
    const json_t *choice = json_object_get(root, "tool_choice");
    const char *word = json_string_value(choice);
    const char *name = json_string_value(json_object_get(json_object_get(choice, "function"), "name"));
    if (!choice || json_is_null(choice) || (word && !strcmp(word, "auto"))) return SIGHT_OK;
    if (word && !strcmp(word, "none")) {
        json_decref(q->tools);
        q->tools = NULL;
        return SIGHT_OK;
    }
    if (!name && (!word || strcmp(word, "required"))) {
        return sight_fail(SIGHT_E_ARGUMENT, "request: 'tool_choice' must be auto, none, required, or an object with a "
                          "'function' that has a 'name'");
    }
    if (!q->tools) return sight_fail(SIGHT_E_ARGUMENT, "request: 'tool_choice' asks for a call, and there are no 'tools'");
    if (name && !tool_calls_find(q->tools, name)) {
        return sight_fail(SIGHT_E_ARGUMENT, "request: 'tool_choice' names '%.100s', which 'tools' does not have", name);
    }
    q->tool_required = true;
    q->tool_name = name ? strdup(name) : NULL;
    return name && !q->tool_name ? sight_fail(SIGHT_E_MEMORY, "request: no memory") : SIGHT_OK;
}

static sight_err read_chat(request *q, const json_fields *f)
{
    q->chat = (chat_options){.enable_thinking = -1};
    const json_t *given = json_object_get(f->object, "enable_thinking");
    bool thinking = false;
    sight_err err = json_get_bool(f, &thinking, "enable_thinking");
    if (!err && given && !json_is_null(given)) q->chat.enable_thinking = thinking;
    if (!err) err = json_get_bool(f, &q->chat.add_vision_id, "add_vision_id");
    q->stream = true;
    if (!err) err = json_get_bool(f, &q->stream, "stream");
    return err;
}

static sight_err read_format(request *q, const json_t *root)
{
    json_t *format = json_object_get(root, "response_format");
    if (!format || json_is_null(format)) return SIGHT_OK;
    const char *type = json_string_value(json_object_get(format, "type"));
    if (!type) {
        return sight_fail(SIGHT_E_ARGUMENT,
                          "request: 'response_format' must be an object with a 'type' string");
    }
    if (strcmp(type, "text")) q->format = json_incref(format);
    if (q->format && q->tool_required) {
        return sight_fail(SIGHT_E_ARGUMENT, "request: 'tool_choice' asks for a call, 'response_format' for something else");
    }
    return SIGHT_OK;
}

// Fields that would change the answer and that this build cannot honour: silence would be a lie.
static sight_err refuse_unsupported(const json_t *root)
{
    const json_t *n = json_object_get(root, "n");
    if (n && !json_is_null(n) && json_integer_value(n) != 1) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "request: 'n' can only be 1: one answer a request");
    }
    return SIGHT_OK;
}

static sight_err read_model(request *q, const json_fields *f)
{
    const char *model = NULL;
    sight_err err = json_get_string(f, &model, "model");
    if (err || !model) return err;
    q->model = strdup(model);
    return q->model ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "request: no memory");
}

static sight_err read_base_dir(request_reader *r, const json_fields *f)
{
    r->base_dir = r->source->base_dir;
    sight_err err = json_get_string(f, &r->base_dir, "base_dir");
    if (!err && r->base_dir && r->base_dir != r->source->base_dir && r->base_dir[0] != '/') {
        err = sight_fail(SIGHT_E_ARGUMENT, "request: 'base_dir' must be an absolute path");
    }
    return err;
}

static sight_err read_all(request_reader *r, const json_t *root, const generation_config *defaults)
{
    static const char *const known[] = {
        "model", "messages", "tools", "tool_choice", "enable_thinking", "add_vision_id", "temperature", "top_p",
        "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "seed",
        "stop", "drafts", "max_tokens", "max_completion_tokens", "stream", "base_dir", "response_format", "n",
        "thinking_budget", "repetition_guard", "repetition_retry", "priority", "deadline_s", "confidence", NULL};
    const json_fields f = {root, "request", SIGHT_E_ARGUMENT};
    request *q = r->out;
    sight_err err = read_model(q, &f);
    if (!err) err = refuse_unsupported(root);
    if (!err && r->source->choose) err = r->source->choose(r->source->choose_arg, q->model, &defaults);
    if (!err) err = read_sampling(q, &f, defaults);
    if (!err) err = read_max_tokens(q, &f, r->limits);
    if (!err) err = read_drafts(q, &f, r->limits);
    if (!err) err = read_urgency(q, &f);
    if (!err) err = json_get_bool(&f, &q->confidence, "confidence");
    if (!err) err = read_stop(q, root);
    if (!err) err = read_chat(q, &f);
    if (!err) err = read_bounds_of_thought(q, &f, r->limits);
    if (!err) err = read_tools(q, root);
    if (!err) err = read_tool_choice(q, root);
    if (!err) err = read_format(q, root);
    if (!err) err = read_base_dir(r, &f);
    if (!err) err = read_messages(r, root);
    if (!err) request_warn_unknown(q, root, "request", known);
    return err;
}

// A file may hold the request under "request", beside what is expected of it. Takes and gives a
// reference.
static json_t *unwrap(json_t *root, const request_source *source)
{
    json_t *inner = json_object_get(root, "request");
    if (!source->base_dir || !json_is_object(inner) || json_object_get(root, "messages")) {
        return root;
    }
    json_incref(inner);
    json_decref(root);
    return inner;
}

sight_err request_parse(request **out, const request_source *source, const request_limits *limits,
                        const generation_config *defaults)
{
    json_t *root = NULL;
    sight_err err = json_parse(&root, source->json, source->size, (size_t)limits->max_json_bytes,
                               "request", SIGHT_E_ARGUMENT);
    if (err) return err;
    request *q = calloc(1, sizeof *q);
    if (q) q->warnings = json_array();
    root = unwrap(root, source);
    if (!json_is_object(root)) {
        err = sight_fail(SIGHT_E_ARGUMENT, "request: must be a JSON object");
    } else if (!q || !q->warnings) {
        err = sight_fail(SIGHT_E_MEMORY, "request: no memory");
    } else {
        request_reader r = {.source = source, .limits = limits, .out = q};
        q->who = source->who;
        err = read_all(&r, root, defaults);
    }
    json_decref(root);
    if (err) request_destroy(&q);
    else *out = q;
    return err;
}

bool request_is_choice(const request *r)
{
    const char *type = json_string_value(json_object_get(r->format, "type"));
    return type && !strcmp(type, "choice");
}

void request_destroy(request **p)
{
    request *q = *p;
    if (!q) return;
    for (int32_t i = 0; i < q->n_media; i++) {
        if (q->media[i].fd >= 0) close(q->media[i].fd);
        free(q->media[i].path);
        free(q->media[i].url);
        free(q->media[i].owned);
    }
    for (size_t i = 0; i < q->n_stop; i++) free(q->stop[i]);
    free(q->media);
    free(q->tool_name);
    free(q->model);
    json_decref(q->messages);
    json_decref(q->tools);
    json_decref(q->format);
    json_decref(q->warnings);
    free(q);
    *p = NULL;
}
