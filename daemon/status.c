#include "daemon/status.h"

#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "daemon/media/confining.h"
#include "daemon/watch/overview.h"

#define MAX_CANCEL_BYTES 1024
#define MAX_STATUS_BYTES 1024

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

static void set_integer(json_t *o, const char *key, int64_t v)
{
    json_object_set_new(o, key, json_integer((json_int_t)v));
}

static void set_real(json_t *o, const char *key, double v)
{
    if (v > 0) json_object_set_new(o, key, json_real(v));
}

// What is known once a request is priced: while a worker does that, the task is the worker's.
static void add_price(json_t *o, const ticket *t)
{
    if (!o || t->job.state < JOB_READY || !t->task) return;
    set_integer(o, "prompt_tokens", t->task->prompt.n);
    set_integer(o, "visual_tokens", t->task->prompt.n_visual);
    set_integer(o, "max_tokens", t->task->max_tokens);
}

static void add_progress(json_t *o, ticket *t, double now_s)
{
    const record *r = &t->record;
    json_object_set_new(o, "priority", json_string(fair_class_name(t->job.class)));
    set_integer(o, "memory_bytes", t->job.memory_bytes);
    if (t->job.state != JOB_RUNNING) return;
    if (t->job.replicas > 1) set_integer(o, "replica", t->job.replica);
    set_real(o, "running_s", now_s - t->job.started_s);
    set_real(o, "engine_s", 1e-6 * (double)atomic_load(&t->used_us));
    const int drawn = atomic_load(&t->drawn);
    set_integer(o, "generated_tokens", drawn);
    set_real(o, "tokens_per_s", t->drawn_per_s);
    if (drawn) {
        json_object_set_new(o, "stage", json_string(metrics_label_value(LABEL_STAGE, BY_STAGE_GENERATE)));
    } else if (r->staged) {
        json_object_set_new(o, "stage", json_string(metrics_label_value(LABEL_STAGE, r->stage)));
        set_integer(o, "done", r->done);
        set_integer(o, "total", r->total);
        set_real(o, "per_s", r->per_s);
        set_real(o, "left_s", r->left_s);
    }
}

static json_t *describe_job(const status_view *v, const job *j)
{
    ticket *t = j->owner;
    json_t *o = json_pack("{s:s, s:I, s:s, s:s, s:s, s:i, s:f, s:I}", "id", j->id, "n", (json_int_t)t->serial, "who",
                          identity_name(j->who), "verb", j->plan_only ? "plan" : "ask", "state",
                          job_state_name(j->state), "place", scheduler_place(v->queue, j, v->now_s), "age_s",
                          v->now_s - j->arrived_s, "bytes", (json_int_t)j->bytes);
    // The state first: while a worker plans, the model is the worker's.
    if (o && j->state != JOB_PLANNING && t->model) json_object_set_new(o, "model", json_string(engine_model_name(t->model)));
    if (o && j->state >= JOB_READY) add_progress(o, t, v->now_s);
    add_price(o, t);
    return o;
}

static json_t *describe_jobs(const status_view *v)
{
    json_t *jobs = json_array();
    for (int i = 0; i < scheduler_count(v->queue); i++) {
        const job *j = scheduler_get(v->queue, i);
        if (j->who != v->who && !sees_others(v->who)) continue;
        json_t *o = describe_job(v, j);
        if (o) json_array_append_new(jobs, o);
    }
    return jobs;
}

// How many requests are in each state.
static json_t *count_states(const status_view *v)
{
    int n[BY_STATE_COUNT] = {0};
    json_t *o = json_object();
    for (int i = 0; i < scheduler_count(v->queue); i++) n[scheduler_get(v->queue, i)->state]++;
    for (int i = 0; i < BY_STATE_COUNT; i++) set_integer(o, job_state_name((job_state)i), n[i]);
    return o;
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
    json_t *more = json_pack("{s:i, s:i, s:I, s:b, s:b}", "max_jobs", o->queue.max_jobs,
                             "max_jobs_per_client", o->queue.max_jobs_per_client,
                             "max_queue_bytes", (json_int_t)o->queue.max_bytes, "allow_paths",
                             l->allow_paths, "urls", l->urls != NULL);
    if (out && more) json_object_update(out, more);
    json_decref(more);
    return out;
}

static void add_metrics(json_t *body, const status_view *v)
{
    buf text;
    buf_init(&text);
    metrics_write(v->metrics, &text);
    if (!buf_failed(&text)) json_object_set_new(body, "metrics", json_string(buf_text(&text)));
    buf_done(&text);
}

sight_err status_read_question(bool *with_metrics, const status_view *v, const char *json, size_t size)
{
    json_t *root;
    *with_metrics = false;
    if (size == 0) return SIGHT_OK;
    sight_err err = json_parse(&root, json, size, MAX_STATUS_BYTES, "status", SIGHT_E_ARGUMENT);
    if (err) return err;
    const json_fields f = {root, "status", SIGHT_E_ARGUMENT};
    if (!json_is_object(root)) err = sight_fail(SIGHT_E_ARGUMENT, "status: the request must be an object");
    if (!err) err = json_get_bool(&f, with_metrics, "metrics");
    if (!err && *with_metrics && !sees_others(v->who)) err = identity_refuse(v->who, RIGHT_STATUS);
    json_decref(root);
    return err;
}

char *status_json(const status_view *v, bool with_metrics)
{
    const int n = scheduler_count(v->queue);
    char model[MODEL_NAME_SIZE];
    int64_t context;
    models_first(v->models, model, &context);
    json_t *body = json_pack("{s:s, s:s, s:I, s:f, s:s, s:s, s:I, s:i, s:I, s:I, s:o, s:o}", "version",
                          SIGHT_VERSION, "protocol", SIGHT_PROTOCOL, "pid", (json_int_t)getpid(),
                          "uptime_s", v->uptime_s, "state",
                          v->stopping ? "stopping" : n ? "busy" : "idle", "model",
                          model, "context", (json_int_t)context, "connections",
                          server_connections(v->server), "served", (json_int_t)v->served,
                          "queue_bytes", (json_int_t)scheduler_bytes(v->queue), "requests",
                          describe_jobs(v), "limits", describe_limits(v->options));
    if (body) json_object_set_new(body, "queue", count_states(v));
    if (body) json_object_set_new(body, "decoders", confining_describe(v->options->limits.decoders));
    if (sees_others(v->who)) overview_add(body, v->metrics, v->monitor, v->now_s);
    if (body && with_metrics) add_metrics(body, v);
    return dump(body);
}

char *status_models_json(const status_view *v)
{
    return dump(json_pack("{s:o, s:o}", "models", models_describe(v->models), "routers",
                          models_describe_routers(v->models)));
}

char *status_accepted_json(const ticket *t, int place)
{
    json_t *body = json_pack("{s:i, s:s}", "place", place, "state", job_state_name(t->job.state));
    add_price(body, t);
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
