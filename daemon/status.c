#include "daemon/status.h"

#include <string.h>
#include <unistd.h>

#include "base/json.h"

#define MAX_CANCEL_BYTES 1024

static char *dump(json_t *body)
{
    char *json = body ? json_dumps(body, TICKET_JSON) : NULL;
    json_decref(body);
    return json;
}

static bool sees_others(const identity *who)
{
    return identity_may(who, RIGHT_STATUS) || identity_may(who, RIGHT_ADMIN);
}

static json_t *describe_jobs(const status_view *v)
{
    json_t *jobs = json_array();
    for (int i = 0; i < scheduler_count(v->queue); i++) {
        const job *j = scheduler_get(v->queue, i);
        if (j->who != v->who && !sees_others(v->who)) continue;
        json_array_append_new(
            jobs, json_pack("{s:s, s:s, s:s, s:s, s:i, s:f, s:I}", "id", j->id, "who", identity_name(j->who), "verb",
                            j->plan_only ? "plan" : "ask", "state", job_state_name(j->state),
                            "place", scheduler_place(v->queue, j, v->now_s), "age_s",
                            v->now_s - j->arrived_s, "bytes", (json_int_t)j->bytes));
    }
    return jobs;
}

static json_t *describe_limits(const options *o)
{
    const request_limits *l = &o->limits;
    json_t *out = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:f, s:i, s:f}", "max_message_bytes",
        (json_int_t)o->max_message_bytes, "max_json_bytes", (json_int_t)l->max_json_bytes,
        "max_media", (json_int_t)l->max_media, "max_media_bytes", (json_int_t)l->max_media_bytes,
        "max_source_pixels", (json_int_t)l->max_source_pixels, "max_pixels",
        (json_int_t)l->max_pixels, "max_frames", l->max_frames, "max_seconds", l->max_seconds,
        "max_tokens", l->max_tokens, "max_request_seconds", o->max_request_s);
    json_t *more = json_pack("{s:i, s:i, s:I, s:b}", "max_jobs", o->queue.max_jobs,
                             "max_jobs_per_client", o->queue.max_jobs_per_client,
                             "max_queue_bytes", (json_int_t)o->queue.max_bytes, "allow_paths",
                             l->allow_paths);
    if (out && more) json_object_update(out, more);
    json_decref(more);
    return out;
}

char *status_json(const status_view *v)
{
    const int n = scheduler_count(v->queue);
    return dump(json_pack("{s:s, s:s, s:I, s:f, s:s, s:s, s:I, s:i, s:I, s:I, s:o, s:o}", "version",
                          SIGHT_VERSION, "protocol", SIGHT_PROTOCOL, "pid", (json_int_t)getpid(),
                          "uptime_s", v->uptime_s, "state",
                          v->stopping ? "stopping" : n ? "busy" : "idle", "model",
                          engine_model_name(v->model), "context",
                          (json_int_t)engine_context(v->model), "connections",
                          server_connections(v->server), "served", (json_int_t)v->served,
                          "queue_bytes", (json_int_t)scheduler_bytes(v->queue), "requests",
                          describe_jobs(v), "limits", describe_limits(v->options)));
}

char *status_models_json(const status_view *v)
{
    return dump(json_pack("{s:[o]}", "models", engine_describe(v->model)));
}

char *status_accepted_json(const ticket *t, int place)
{
    json_t *body = json_pack("{s:i, s:s}", "place", place, "state", job_state_name(t->job.state));
    // While a worker prices it, the task is the worker's.
    if (body && t->task && t->job.state >= JOB_READY) {
        json_object_set_new(body, "prompt_tokens", json_integer(t->task->prompt.n));
        json_object_set_new(body, "visual_tokens", json_integer(t->task->prompt.n_visual));
        json_object_set_new(body, "max_tokens", json_integer(t->task->max_tokens));
    }
    return dump(body);
}

sight_err status_read_cancel(char id[SIGHT_ID_SIZE], char who[IDENTITY_NAME_SIZE], const char *json, size_t size)
{
    json_t *root;
    sight_err err = json_parse(&root, json, size, MAX_CANCEL_BYTES, "cancel", SIGHT_E_ARGUMENT);
    if (err) return err;
    const json_fields f = {root, "cancel", SIGHT_E_ARGUMENT};
    const json_t *value = json_object_get(root, "id");
    const char *text = json_string_value(value), *whose = "";
    if (!text || !wire_id_is_good(text, json_string_length(value))) {
        err = sight_fail(SIGHT_E_ARGUMENT, "cancel: 'id' must name the request to end");
    }
    if (!err) err = json_get_string(&f, &whose, "who");
    if (!err && strlen(whose) >= IDENTITY_NAME_SIZE) err = sight_fail(SIGHT_E_ARGUMENT, "cancel: 'who' is too long a name");
    if (!err) {
        strcpy(id, text);
        strcpy(who, whose);
    }
    json_decref(root);
    return err;
}
