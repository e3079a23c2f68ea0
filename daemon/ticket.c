#include "daemon/ticket.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/batch.h"
#include "daemon/watch/measure.h"
#include "daemon/media/request_media.h"
#include "ipc/text.h"

// How often the engine's memory is measured while it works.
#define MEASURE_S 0.5

sight_err ticket_create(ticket **out, server_message **message, double now_s)
{
    ticket *t = calloc(1, sizeof *t);
    if (!t) return sight_fail(SIGHT_E_MEMORY, "no memory for a request");
    const server_message *m = *message;
    memcpy(t->job.client, m->from.name, m->from.size);
    t->job.client_size = m->from.size;
    memcpy(t->job.id, m->request.id, sizeof t->job.id);
    t->job.plan_only = m->request.verb == SIGHT_PLAN;
    t->job.bytes = m->bytes;
    t->job.arrived_s = now_s;
    t->job.owner = t;
    t->last_sent_s = now_s;
    t->told_percent = -1;
    t->message = *message;
    *message = NULL;
    *out = t;
    return SIGHT_OK;
}

void ticket_set_who(ticket *t, const identity *who, const request_limits *limits)
{
    const identity_terms *own = identity_limits(who);
    t->job.who = who;
    t->limits = *limits;
    if (own->max_tokens && own->max_tokens < limits->max_tokens) t->limits.max_tokens = own->max_tokens;
    if (own->max_media_bytes && own->max_media_bytes < limits->max_media_bytes) {
        t->limits.max_media_bytes = own->max_media_bytes;
    }
    // With no folder set, those who can read what this process reads may name that, and nobody else anything.
    if (limits->roots && roots_count(limits->roots) == 0 && identity_is_self(who)) t->limits.roots = NULL;
}

void ticket_destroy(ticket **p)
{
    ticket *t = *p;
    if (!t) return;
    pipeline_destroy(&t->pipeline);
    task_destroy(&t->task); // before the message that it points into
    request_destroy(&t->asked);
    media_files_done(&t->files);
    if (t->fetcher) fetcher_forget(t->fetcher, &t->fetch);
    models_end(t->models, &t->use);
    route_destroy(&t->route);
    server_message_destroy(&t->message);
    outbox_item_destroy(&t->end);
    free(t);
    *p = NULL;
}

static json_t *describe_error(sight_err code, const char *about, const char *line, int retry_after_s)
{
    json_t *body = json_pack("{s:s, s:o}", "code", sight_err_name(code), "message",
                             text_json(line));
    if (body && about) json_object_set_new(body, "about", json_string(about));
    if (body && retry_after_s) {
        json_object_set_new(body, "retry_after_s", json_integer(retry_after_s));
    }
    return body;
}

char *ticket_error_json(sight_err code, const char *about, const char *line, int retry_after_s)
{
    json_t *body = describe_error(code, about, line, retry_after_s);
    char *json = body ? json_dumps(body, TICKET_JSON) : NULL;
    json_decref(body);
    return json;
}

char *ticket_cancelled_json(const ticket *t)
{
    json_t *body = json_pack(
        "{s:s, s:s, s:{s:i, s:i, s:i, s:i}, s:{s:f}}", "model", models_name(&t->use),
        "finish_reason", "cancelled", "usage", "prompt_tokens", 0, "visual_tokens", 0,
        "completion_tokens", 0, "total_tokens", 0, "timings", "total_s", 0.0);
    char *json = body ? json_dumps(body, TICKET_JSON) : NULL;
    json_decref(body);
    return json;
}

char *ticket_loading_json(int percent)
{
    json_t *body = json_pack("{s:s, s:i, s:i}", "stage", "load", "done", percent, "total", 100);
    char *json = body ? json_dumps(body, TICKET_JSON) : NULL;
    json_decref(body);
    return json;
}

// ---- on worker threads ----

// body: an event's; NULL: of another kind, or there was no memory for it, and the server notices a missing end.
static void put(ticket *t, outbox_kind kind, sight_event_kind event, const json_t *body)
{
    outbox_item item = {.kind = kind, .ticket = t, .event = event};
    if (kind == OUTBOX_EVENT) {
        if (body) item.json = json_dumps(body, TICKET_JSON);
        if (!item.json) return;
        item.news = record_of(event, body);
    }
    outbox_put(t->outbox, &item);
}

static void send_body(void *arg, sight_event_kind kind, const json_t *body)
{
    put(arg, OUTBOX_EVENT, kind, body);
}

static void on_event(void *arg, sight_event_kind kind, const json_t *body)
{
    ticket *t = arg;
    if (!t->route) {
        send_body(t, kind, body);
        return;
    }
    const confidence sure = pipeline_confidence(t->pipeline);
    if (t->broken || !route_event(t->route, kind, body, &sure, send_body, t)) return;
    t->broken = true;
    atomic_store(&t->cancel, true);
    json_t *error = describe_error(SIGHT_E_MEMORY, NULL, sight_error(), 0);
    send_body(t, SIGHT_ERROR, error);
    json_decref(error);
}

// Below the folders of who asks, where they have their own, else below the server's.
static sight_err open_files(ticket *t, request *asked)
{
    const identity_terms *own = identity_limits(t->job.who);
    request_limits limits = t->limits;
    roots *below = NULL;
    sight_err err = SIGHT_OK;
    if (own->n_roots) {
        err = roots_create(&below, (const char *const *)own->roots, own->n_roots, "the key's roots");
        limits.roots = below;
    }
    if (!err) err = request_open_media(asked, &limits);
    roots_destroy(&below);
    return err;
}

// Begins the use of the model that is asked for, or whose turn it is among a router's.
static sight_err begin_use(ticket *t, const char *name)
{
    router_spec spec;
    sight_err err = SIGHT_OK;
    if (!t->route && models_router(t->models, &spec, name)) err = route_create(&t->route, &spec);
    if (!err) err = models_begin(t->models, &t->use, t->route ? route_model(t->route) : name);
    return err;
}

// The model, if it is there.
static sight_err choose_model(void *arg, const char *name, const generation_config **defaults)
{
    ticket *t = arg;
    sight_err err = t->use.entry ? SIGHT_OK : begin_use(t, name);
    if (!err) err = models_take(t->models, &t->use);
    if (err) t->about = "model";
    if (err) return err;
    t->model = t->use.engine;
    t->waits = !t->model;
    if (t->waits) return SIGHT_E_BUSY; // ends the reading; nobody is told
    *defaults = &engine_config(t->model)->generation;
    if (t->route && route_asked(t->route)) metrics_add_to(engine_metrics(t->model), METRIC_ROUTED, engine_index(t->model), 0, 1);
    return SIGHT_OK;
}

// The first time; the second its media have been fetched.
static sight_err read_request(ticket *t)
{
    if (t->asked) return SIGHT_OK;
    const wire_request *w = &t->message->request;
    request_part parts[SIGHT_PARTS_MAX];
    for (size_t i = 0; i < w->n_parts; i++) {
        parts[i] = (request_part){w->parts[i].data, w->parts[i].size};
    }
    const request_source source = {.json = w->json, .size = w->json_size, .parts = parts,
                                   .n_parts = w->n_parts, .who = t->job.who, .choose = choose_model,
                                   .choose_arg = t};
    t->waits = false;
    sight_err err = request_parse(&t->asked, &source, &t->limits, NULL);
    if (err == SIGHT_E_PERMISSION && !t->about) t->about = "right";
    if (!err) {
        free(t->asked->model); // was chosen
        t->asked->model = NULL;
        t->asked->confidence |= t->route && route_looks(t->route);
        t->asked->cancel = &t->cancel;
        request_take_files(t->asked, &t->files);
        err = open_files(t, t->asked);
        t->about = request_media_blame(err);
    }
    return err;
}

static void put_error(ticket *t, sight_err err, const char *line)
{
    t->failed = true;
    if (err == SIGHT_E_CANCELLED && atomic_load(&t->cancel)) return; // whoever cancelled it says how it ends
    json_t *body = describe_error(err, t->about, line, 0);
    put(t, OUTBOX_EVENT, SIGHT_ERROR, body);
    json_decref(body);
}

// It cannot be done, or not by this model.
static void fail_plan(ticket *t, sight_err err)
{
    char line[512];
    bool sent = false;
    snprintf(line, sizeof line, "%s", sight_error());
    t->again = t->route && route_fails(t->route, err, line, &sent, send_body, t);
    t->failed = !t->again;
    if (!t->again && !sent) put_error(t, err, line);
}

void ticket_plan(void *arg)
{
    ticket *t = arg;
    t->about = NULL;
    sight_err err = read_request(t);
    if (!err && request_wants_fetching(t->asked)) {
        put(t, OUTBOX_WANTS, SIGHT_ALIVE, NULL);
        return;
    }
    if (!err) {
        err = task_create(&t->task, t->model, &t->asked, &t->limits);
        t->about = request_media_blame(err);
    }
    if (err && !t->waits) {
        fail_plan(t, err);
    } else if (!err && t->job.plan_only) {
        json_t *plan = task_describe(t->task);
        put(t, OUTBOX_EVENT, SIGHT_DONE, plan);
        json_decref(plan);
    }
    put(t, OUTBOX_PLANNED, SIGHT_ALIVE, NULL);
}

static void tell_fetching(void *arg, int64_t done, int64_t total)
{
    json_t *body = json_pack("{s:s, s:I, s:I}", "stage", "fetch", "done", (json_int_t)done, "total", (json_int_t)total);
    if (body) put(arg, OUTBOX_EVENT, SIGHT_PROGRESS, body);
    json_decref(body);
}

static void end_fetching(void *arg)
{
    ticket *t = arg;
    metrics_observe_at(t->metrics, METRIC_STAGE_SECONDS, BY_STAGE_FETCH, 0, clock_now_s() - t->fetch_s);
    t->about = request_media_blame(t->fetch.err);
    if (t->fetch.err) put_error(t, t->fetch.err, t->fetch.line);
    put(t, t->fetch.err ? OUTBOX_PLANNED : OUTBOX_FETCHED, SIGHT_ALIVE, NULL);
}

void ticket_fetch(ticket *t)
{
    fetcher_forget(t->fetcher, &t->fetch);
    t->fetch = (fetch_work){.asked = t->asked, .who = t->job.who, .cancel = &t->cancel, .max_bytes = t->limits.max_media_bytes,
                            .told = tell_fetching, .over = end_fetching, .arg = t};
    t->fetch_s = clock_now_s();
    fetcher_add(t->fetcher, &t->fetch);
}

static void measure(ticket *t, bool over)
{
    const double now = clock_now_s();
    if (!over && now - t->measured_s < MEASURE_S) return;
    t->measured_s = now;
    measure_engine(t->model);
}

// After a step: once all is over, or another model is to be asked, the server is told.
static pipeline_state settle(ticket *t, pipeline_state state)
{
    if (t->route && t->pipeline && state != PIPELINE_OVER) {
        const confidence sure = pipeline_confidence(t->pipeline);
        route_look(t->route, &sure, send_body, t);
        if (route_gives_up(t->route)) state = PIPELINE_OVER;
    }
    t->again = t->route && route_gives_up(t->route);
    measure(t, state == PIPELINE_OVER);
    if (t->pipeline) atomic_store(&t->drawn, pipeline_drawn(t->pipeline));
    if (state != PIPELINE_OVER) return state;
    pipeline_destroy(&t->pipeline);
    t->lost = engine_status(t->model);
    if (t->lost) snprintf(t->lost_line, sizeof t->lost_line, "%s", sight_error());
    put(t, OUTBOX_RAN, SIGHT_ALIVE, NULL);
    return PIPELINE_OVER;
}

pipeline_state ticket_step(void *arg, int wait_ms)
{
    ticket *t = arg;
    // Without memory even to begin it is over; the server notices.
    if (!t->pipeline && pipeline_create(&t->pipeline, t->task, &t->cancel, on_event, t)) return settle(t, PIPELINE_OVER);
    return settle(t, pipeline_step(t->pipeline, wait_ms));
}

void ticket_answer(void *const *args, pipeline_state *states, double *took_s, int n)
{
    pipeline *p[RUNNER_TOGETHER] = {NULL};
    for (int i = 0; i < n; i++) p[i] = ((ticket *)args[i])->pipeline;
    batch_answer(p, took_s, n);
    for (int i = 0; i < n; i++) states[i] = settle(args[i], pipeline_state_of(p[i]));
}

void ticket_next(ticket *t)
{
    const request *read = t->task ? t->task->asked : t->asked;
    if (read) request_keep_files(&t->files, read);
    task_destroy(&t->task);
    request_destroy(&t->asked);
    models_end(t->models, &t->use);
    t->model = NULL;
    route_next(t->route);
    t->again = false;
    t->read = 0;
    t->told_percent = -1;
    atomic_store(&t->drawn, 0);
}

int32_t ticket_kept(void *arg, int replica)
{
    ticket *t = arg;
    const task *k = t->task;
    const engine *e = models_replica(t->models, &t->use, replica);
    if (!e) return -1;
    const prefix_prompt p = {k->prompt.ids, k->prompt.n, k->places, k->asked->n_media, k->asked->who};
    return engine_prefix(e) ? prefix_store_longest(engine_prefix(e), &p) : 0;
}

void ticket_place(ticket *t)
{
    if (t->job.replicas < 2) return;
    t->model = models_replica(t->models, &t->use, t->job.replica);
    t->task->model = t->model;
}

runner_claim ticket_claim(ticket *t)
{
    const request *q = t->task->asked;
    return (runner_claim){.class = q->priority, .since_s = t->job.arrived_s, .deadline_s = t->job.deadline_s,
                          .who = t->job.who, .client = t->job.client, .client_size = t->job.client_size,
                          .used_us = &t->used_us};
}
