#include "daemon/watch/account.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"

void account_message(metrics *m, const server_message *message)
{
    metrics_add(m, METRIC_RECEIVED_BYTES, (double)message->bytes);
    if (!message->err) metrics_add_to(m, METRIC_MESSAGES, message->request.verb, 0, 1);
}

void account_refused(metrics *m, const server_message *message, const identity *who, sight_err code, const char *line)
{
    metrics_add_to(m, METRIC_REFUSALS, code, 0, 1);
    const char *id = message->request.id[0] ? message->request.id : "-";
    const log_field fields[] = {
        LOG_TEXT("id", id),
        LOG_TEXT("identity", who ? identity_name(who) : NULL),
        LOG_TEXT("verb", message->err ? NULL : sight_verb_name(message->request.verb)),
        LOG_TEXT("code", sight_err_name(code)),
        LOG_TEXT("error", record_may_log(code) ? line : NULL),
        LOG_NUMBER("bytes", message->bytes),
    };
    log_event(LOG_INFO, "request refused", fields, sizeof fields / sizeof *fields);
}

void account_arrived(const ticket *t)
{
    const log_field fields[] = {
        LOG_TEXT("id", t->job.id),
        LOG_NUMBER("n", t->serial),
        LOG_TEXT("identity", t->job.who ? identity_name(t->job.who) : NULL),
        LOG_TEXT("verb", t->job.plan_only ? "plan" : "ask"),
        LOG_NUMBER("bytes", t->job.bytes),
    };
    log_event(LOG_DEBUG, "request taken in", fields, sizeof fields / sizeof *fields);
}

void account_begun(metrics *m, const job *j)
{
    metrics_add_to(m, METRIC_REPLICA_BEGUN, j->replica, j->for_kept ? BY_CHOICE_KEPT : BY_CHOICE_LOAD, 1);
}

void account_sent(metrics *m, size_t bytes, sight_err err)
{
    if (err == SIGHT_E_BUSY) metrics_add(m, METRIC_SLOW_READERS, 1);
    if (err) return;
    metrics_add(m, METRIC_EVENTS, 1);
    metrics_add(m, METRIC_SENT_BYTES, (double)bytes);
}

void account_second(const scheduler *queue, double now_s)
{
    for (int i = 0; i < scheduler_count(queue); i++) {
        ticket *t = scheduler_get(queue, i)->owner;
        const int drawn = atomic_load(&t->drawn);
        const double s = now_s - t->sampled_s;
        t->drawn_per_s = t->sampled_s > 0 && s > 0 && drawn >= t->sampled ? (drawn - t->sampled) / s : 0;
        t->sampled = drawn;
        t->sampled_s = now_s;
    }
}

static metric_outcome outcome_of(const ticket *t)
{
    const record *r = &t->record;
    switch (t->why) {
    case WHY_GONE: return BY_OUTCOME_GONE;
    case WHY_TIMEOUT:
    case WHY_DEADLINE:
    case WHY_LATE: return BY_OUTCOME_TIMEOUT;
    case WHY_STOPPING: return BY_OUTCOME_STOPPED;
    case WHY_CLIENT: return r->asked && r->reason != BY_REASON_CANCELLED ? BY_OUTCOME_DONE : BY_OUTCOME_CANCELLED;
    case WHY_LOST: return BY_OUTCOME_ERROR;
    default: break;
    }
    if (!r->ended || r->code) return BY_OUTCOME_ERROR;
    return r->asked && r->reason == BY_REASON_CANCELLED ? BY_OUTCOME_CANCELLED : BY_OUTCOME_DONE;
}

// What its client was told, when that was an error.
static sight_err code_of(const ticket *t, metric_outcome outcome)
{
    switch (outcome) {
    case BY_OUTCOME_TIMEOUT: return SIGHT_E_TIMEOUT;
    case BY_OUTCOME_ERROR:
        if (t->why == WHY_LOST) return SIGHT_E_INTERNAL;
        return t->record.ended ? t->record.code : SIGHT_E_MEMORY;
    default: return SIGHT_OK;
    }
}

// The sentence of the error that it ended with.
static void read_sentence(char *out, size_t size, const ticket *t)
{
    json_t *body = t->end && t->end->event == SIGHT_ERROR ? json_loads(t->end->json, 0, NULL) : NULL;
    const char *text = json_string_value(json_object_get(body, "message"));
    snprintf(out, size, "%s", text ? text : "");
    json_decref(body);
}

void account_ended(const ticket *t, metrics *m, double now_s)
{
    char line[512] = "";
    const bool begun = t->job.started_s > 0;
    record_end e = {.id = t->job.id,
                    .identity = t->job.who ? identity_name(t->job.who) : NULL,
                    .model = t->model ? engine_model_name(t->model) : NULL,
                    .serial = t->serial,
                    .verb = t->job.plan_only ? SIGHT_PLAN : SIGHT_ASK,
                    .priority = (int)t->job.class,
                    .model_index = t->model ? engine_index(t->model) : 0,
                    .outcome = outcome_of(t),
                    .wait_s = begun ? t->job.started_s - t->job.arrived_s : -1,
                    .total_s = now_s - t->job.arrived_s,
                    .bytes = t->job.bytes};
    e.code = code_of(t, e.outcome);
    if (record_may_log(e.code)) read_sentence(line, sizeof line, t);
    e.line = *line ? line : NULL;
    record_count(&t->record, &e, m);
    record_log(&t->record, &e);
}
