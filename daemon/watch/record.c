#include "daemon/watch/record.h"

#include <string.h>

// ---- reading events ----

static double number_at(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static int32_t count_at(const json_t *o, const char *key)
{
    return (int32_t)json_integer_value(json_object_get(o, key));
}

// The value of a label that has that word; -1: none.
static int find_value(metric_label label, const json_t *word)
{
    const char *text = json_string_value(word);
    for (int i = 0; text; i++) {
        const char *value = metrics_label_value(label, i);
        if (!value) break;
        if (!strcmp(value, text)) return i;
    }
    return -1;
}

static void read_progress(record *r, const json_t *body)
{
    const int stage = find_value(LABEL_STAGE, json_object_get(body, "stage"));
    if (stage < 0) return;
    r->staged = true;
    r->stage = (metric_stage)stage;
    r->done = json_integer_value(json_object_get(body, "done"));
    r->total = json_integer_value(json_object_get(body, "total"));
    r->per_s = number_at(body, "per_s");
    r->left_s = number_at(body, "left_s");
    r->reused = count_at(body, "reused");
}

static void read_done(record *r, const json_t *body)
{
    const json_t *word = json_object_get(body, "finish_reason"), *usage = json_object_get(body, "usage"),
                 *timings = json_object_get(body, "timings");
    r->ended = true;
    if (!word || !usage) return; // of a plan
    r->asked = true;
    const int reason = find_value(LABEL_REASON, word);
    r->reason = reason < 0 ? BY_REASON_OTHER : (metric_reason)reason;
    r->prompt = count_at(usage, "prompt_tokens");
    r->reused = count_at(usage, "reused_tokens");
    r->visual = count_at(usage, "visual_tokens");
    r->generated = count_at(usage, "completion_tokens");
    r->drafted = count_at(usage, "drafted_tokens");
    r->accepted = count_at(usage, "accepted_tokens");
    r->media_s = number_at(timings, "media_s");
    r->encode_s = number_at(timings, "encode_s");
    r->read_s = number_at(timings, "read_s");
    r->first_s = number_at(timings, "first_token_s");
    r->generate_s = number_at(timings, "generate_s");
    r->work_s = number_at(timings, "total_s");
}

record record_of(sight_event_kind kind, const json_t *body)
{
    record r = {0};
    switch (kind) {
    case SIGHT_PROGRESS: read_progress(&r, body); break;
    case SIGHT_DELTA:
        r.staged = true;
        r.stage = BY_STAGE_GENERATE;
        break;
    case SIGHT_DONE: read_done(&r, body); break;
    case SIGHT_ERROR: {
        const int code = find_value(LABEL_CODE, json_object_get(body, "code"));
        r.ended = true;
        r.code = code < 0 ? SIGHT_E_INTERNAL : (sight_err)code;
        break;
    }
    default: break;
    }
    return r;
}

void record_merge(record *r, const record *news)
{
    if (news->ended) {
        const record before = *r;
        *r = *news;
        r->staged = before.staged;
        r->stage = before.stage;
        r->done = before.done;
        r->total = before.total;
    } else if (news->staged) {
        r->staged = true;
        r->stage = news->stage;
        r->done = news->done;
        r->total = news->total;
        r->per_s = news->per_s;
        r->left_s = news->left_s;
    }
}

// ---- the end ----

static void observe_stage(metrics *m, metric_stage stage, double s)
{
    if (s > 0) metrics_observe_at(m, METRIC_STAGE_SECONDS, stage, 0, s);
}

static void count_tokens(metrics *m, int model, metric_tokens kind, int32_t n)
{
    metrics_add_to(m, METRIC_TOKENS, model, kind, n);
}

void record_count(const record *r, const record_end *e, metrics *m)
{
    metrics_add_to(m, METRIC_REQUESTS, e->verb, e->outcome, 1);
    metrics_observe_at(m, METRIC_REQUEST_SECONDS, e->verb, 0, e->total_s);
    if (e->code) metrics_add_to(m, METRIC_ERRORS, e->code, 0, 1);
    if (e->wait_s >= 0) metrics_observe_at(m, METRIC_WAIT_SECONDS, e->priority, 0, e->wait_s);
    if (!r->asked) return;
    metrics_add_to(m, METRIC_ANSWERS, e->model_index, r->reason, 1);
    count_tokens(m, e->model_index, BY_TOKENS_PROMPT, r->prompt - r->reused);
    count_tokens(m, e->model_index, BY_TOKENS_REUSED, r->reused);
    count_tokens(m, e->model_index, BY_TOKENS_VISUAL, r->visual);
    count_tokens(m, e->model_index, BY_TOKENS_DRAFTED, r->drafted);
    count_tokens(m, e->model_index, BY_TOKENS_ACCEPTED, r->accepted);
    if (r->first_s > 0) {
        metrics_observe_at(m, METRIC_FIRST_TOKEN_SECONDS, e->priority, 0, (e->wait_s > 0 ? e->wait_s : 0) + r->first_s);
    }
    observe_stage(m, BY_STAGE_ENCODE, r->encode_s);
    observe_stage(m, BY_STAGE_READ, r->read_s);
    observe_stage(m, BY_STAGE_GENERATE, r->generate_s);
}

bool record_may_log(sight_err code)
{
    return code == SIGHT_E_MEMORY || code == SIGHT_E_INTERNAL || code == SIGHT_E_MODEL || code == SIGHT_E_BUSY ||
           code == SIGHT_E_TIMEOUT;
}

// A count or time that there is only of some.
static double known(double v)
{
    return v > 0 ? v : NAN;
}

void record_log(const record *r, const record_end *e)
{
    const bool asked = r->asked;
    const log_field fields[] = {
        LOG_TEXT("id", e->id),
        LOG_NUMBER("n", e->serial),
        LOG_TEXT("identity", e->identity && *e->identity ? e->identity : NULL),
        LOG_TEXT("verb", sight_verb_name(e->verb)),
        LOG_TEXT("model", e->model),
        LOG_TEXT("outcome", metrics_label_value(LABEL_OUTCOME, e->outcome)),
        LOG_TEXT("finish", asked ? metrics_label_value(LABEL_REASON, r->reason) : NULL),
        LOG_TEXT("code", e->code ? sight_err_name(e->code) : NULL),
        LOG_TEXT("error", e->code && record_may_log(e->code) ? e->line : NULL),
        LOG_NUMBER("prompt", asked ? r->prompt : NAN),
        LOG_NUMBER("reused", asked ? r->reused : NAN),
        LOG_NUMBER("visual", asked ? r->visual : NAN),
        LOG_NUMBER("generated", asked ? r->generated : NAN),
        LOG_NUMBER("drafted", known(r->drafted)),
        LOG_NUMBER("accepted", known(r->accepted)),
        LOG_NUMBER("bytes", e->bytes),
        LOG_NUMBER("wait_s", e->wait_s >= 0 ? e->wait_s : NAN),
        LOG_NUMBER("media_s", known(r->media_s)),
        LOG_NUMBER("encode_s", known(r->encode_s)),
        LOG_NUMBER("read_s", known(r->read_s)),
        LOG_NUMBER("first_token_s", known(r->first_s)),
        LOG_NUMBER("generate_s", known(r->generate_s)),
        LOG_NUMBER("total_s", e->total_s),
    };
    log_event(LOG_INFO, "request ended", fields, sizeof fields / sizeof *fields);
}
