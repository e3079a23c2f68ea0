#include "daemon/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/watch/account.h"
#include "daemon/admission.h"
#include "daemon/watch/monitor.h"
#include "daemon/watch/notify.h"
#include "daemon/settings/reload.h"
#include "daemon/runner.h"
#include "daemon/status.h"
#include "daemon/ticket.h"
#include "daemon/worker.h"

#define ALIVE_S     0.25 // a client hears something at least this often
#define BUSY_MS     100  // the loop's step while there are requests
#define IDLE_MS     1000
#define MAX_AT_ONCE 64   // messages taken in before others get their turn
#define HARD_STOP_S 5.0  // for a cancelled request to end before the daemon ends regardless
// How long running answers wait, at most about, for others' pictures and prompts between two of their steps: a fifth of a second
// with the CPU and a fiftieth on a GPU, less what a step itself takes.
#define SLICES_S        0.1
#define DEVICE_SLICES_S 0.01
#define STUCK_S     60.0 // alike for one that was over its time: a GPU that never comes back

typedef struct service {
    models *models;
    options *o;
    metrics *metrics; // NULL: nothing is counted
    server *server;
    scheduler *queue;
    admission admission;
    identity_table *identities;
    gate *gate;
    outbox *outbox;
    worker *planner;
    runner *runner;
    const service_signals *signals;
    sig_atomic_t reloaded; // how often, of signals->reloads
    reload *reload;
    double start_s, now_s, stop_s; // stop_s: when told to stop; 0: not
    double cancelled_s;            // when stopping ended the running request; 0: not
    bool lost;                     // the engine has failed for good
    char lost_line[256];           // as what
    double alone_s;                // since when a private daemon has had no client
    monitor *monitor;
    const identity *asking; // who sent the message that is being looked at; NULL: not known
    int64_t served, serial; // requests ended, and taken in
} service;

// ---- speaking ----

static void send_text(service *s, const server_peer *to, const char *id, sight_event_kind kind,
                      const char *json)
{
    const size_t size = strlen(json);
    account_sent(s->metrics, size, server_send(s->server, to, id, kind, json, size));
}

static void refuse(service *s, const server_message *m, sight_err code, const char *line,
                   int retry_after_s)
{
    const char *id = m->request.id[0] ? m->request.id : "-";
    char *json = ticket_error_json(code, line, retry_after_s);
    if (json) send_text(s, &m->from, id, SIGHT_ERROR, json);
    free(json);
    account_refused(s->metrics, m, s->asking, code, line);
}

static server_peer peer_of(const ticket *t)
{
    server_peer p = {.size = t->job.client_size};
    memcpy(p.name, t->job.client, p.size);
    return p;
}

// Ends everything that a client has asked for: it is gone, or does not read.
static void drop_client(service *s, const ticket *of, const char *why)
{
    const log_field id = LOG_TEXT("id", of->job.id);
    log_event(LOG_INFO, why, &id, 1);
    for (int i = 0; i < scheduler_count(s->queue); i++) {
        ticket *t = scheduler_get(s->queue, i)->owner;
        if (t->job.client_size != of->job.client_size ||
            memcmp(t->job.client, of->job.client, of->job.client_size)) {
            continue;
        }
        t->why = WHY_GONE;
        t->job.cancelled = true;
        atomic_store(&t->cancel, true);
    }
}

static void send_event(service *s, ticket *t, sight_event_kind kind, const char *json)
{
    if (t->why == WHY_GONE || t->ended) return;
    const server_peer to = peer_of(t);
    const size_t size = strlen(json);
    sight_err err = server_send(s->server, &to, t->job.id, kind, json, size);
    account_sent(s->metrics, size, err);
    t->last_sent_s = s->now_s;
    if (kind == SIGHT_DONE || kind == SIGHT_ERROR) t->ended = true;
    if (err) drop_client(s, t, sight_error());
}

static void send_error(service *s, ticket *t, sight_err code, const char *line)
{
    char *json = ticket_error_json(code, line, 0);
    if (json) send_event(s, t, SIGHT_ERROR, json);
    free(json);
}

// The end of a ticket that was told to end early, in place of whatever the pipeline said.
static void send_early_end(service *s, ticket *t)
{
    char line[160];
    switch (t->why) {
    case WHY_TIMEOUT:
        snprintf(line, sizeof line, "the request took over %g s, the server's limit",
                 s->o->max_request_s);
        send_error(s, t, SIGHT_E_TIMEOUT, line);
        break;
    case WHY_DEADLINE:
        snprintf(line, sizeof line, "the request was not over by its 'deadline_s' of %g s", t->job.deadline_s - t->job.arrived_s);
        send_error(s, t, SIGHT_E_TIMEOUT, line);
        break;
    case WHY_LATE: send_error(s, t, SIGHT_E_TIMEOUT, t->late_line); break;
    case WHY_STOPPING:
        send_error(s, t, SIGHT_E_CANCELLED, "the server was told to stop");
        break;
    case WHY_CLIENT:
        if (t->job.plan_only) {
            send_error(s, t, SIGHT_E_CANCELLED, "the request was cancelled");
        } else {
            char *json = ticket_cancelled_json(t);
            if (json) send_event(s, t, SIGHT_DONE, json);
            free(json);
        }
        break;
    case WHY_LOST: send_error(s, t, SIGHT_E_INTERNAL, s->lost_line); break;
    default: break;
    }
}

// ---- the life of a ticket ----

// Takes the ticket out of the queue and then tells its client: who reads `done` may use the id, and
// the place in the queue, again.
static void finish(service *s, ticket *t)
{
    scheduler_remove(s->queue, &t->job, s->now_s);
    // A limit that cut the answer short is an error, not a result. Of a GPU that has failed all say the same.
    const bool cut = t->why == WHY_TIMEOUT || t->why == WHY_DEADLINE || t->why == WHY_STOPPING || t->why == WHY_LOST;
    if (t->end && !(cut && t->end->event == SIGHT_DONE) && t->why != WHY_LOST) {
        send_event(s, t, t->end->event, t->end->json);
    }
    if (!t->ended) send_early_end(s, t);
    if (!t->ended) send_error(s, t, SIGHT_E_MEMORY, "no memory to report the result");
    account_ended(t, s->metrics, s->now_s);
    s->served++;
    ticket_destroy(&t);
}

static void end_early(service *s, ticket *t, ticket_why why)
{
    if (t->why == WHY_NOT) t->why = why;
    t->job.cancelled = true;
    atomic_store(&t->cancel, true);
}

static void end_all(service *s, ticket_why why, bool also_running)
{
    for (int i = 0; i < scheduler_count(s->queue); i++) {
        job *j = scheduler_get(s->queue, i);
        if (also_running || j->state != JOB_RUNNING) end_early(s, j->owner, why);
    }
}

// A GPU that has failed does not come back within this process: everybody is told, and the daemon ends, to be
// started again.
static void lose_engine(service *s, const ticket *t)
{
    if (s->lost) return;
    s->lost = true;
    s->cancelled_s = s->now_s;
    metrics_add(s->metrics, METRIC_DEVICE_FAULTS, 1);
    memcpy(s->lost_line, t->lost_line, sizeof s->lost_line);
    log_line(LOG_ERROR, "the GPU has failed, %d requests are lost: %s", scheduler_count(s->queue), s->lost_line);
    end_all(s, WHY_LOST, true);
}

// Sends an event on; a last one is kept until the worker has let go of the ticket.
static void forward(service *s, ticket *t, outbox_item **item)
{
    const record *news = &(*item)->news;
    if (news->staged && news->stage == BY_STAGE_READ) {
        const int64_t before = t->read > news->reused ? t->read : news->reused;
        monitor_read(s->monitor, news->done - before);
        t->read = news->done;
    }
    record_merge(&t->record, news);
    if ((*item)->event == SIGHT_DONE || (*item)->event == SIGHT_ERROR) {
        outbox_item_destroy(&t->end);
        t->end = *item;
        *item = NULL;
    } else {
        send_event(s, t, (*item)->event, (*item)->json);
    }
}

static void price(service *s, ticket *t)
{
    t->job.model = t->model;
    t->job.model_bytes = engine_get_memory(t->model).cache_budget;
    if (!admission_price(&s->admission, t, s->queue, s->now_s)) return;
    snprintf(t->late_line, sizeof t->late_line, "%s", sight_error());
    end_early(s, t, WHY_LATE);
}

static void hear_workers(service *s)
{
    for (outbox_item *item; (item = outbox_take(s->outbox));) {
        ticket *t = item->ticket;
        s->now_s = clock_now_s();
        if (item->kind == OUTBOX_MODELS) {
            // tend_models looks at all of them
        } else if (item->kind == OUTBOX_EVENT) {
            forward(s, t, &item);
        } else if (t->again && t->why == WHY_NOT && !t->lost) {
            scheduler_again(s->queue, &t->job);
            ticket_next(t);
        } else if (item->kind == OUTBOX_PLANNED && t->waits) {
            scheduler_awaits_model(s->queue, &t->job);
        } else if (item->kind == OUTBOX_WANTS) {
            t->job.state = JOB_FETCHING;
            ticket_fetch(t);
        } else if (item->kind == OUTBOX_FETCHED) {
            t->job.state = JOB_ARRIVED;
        } else if (item->kind == OUTBOX_RAN || t->failed || t->again || t->job.plan_only) {
            if (t->lost) lose_engine(s, t);
            admission_learn(&s->admission, t, s->queue);
            finish(s, t);
        } else {
            price(s, t);
        }
        outbox_item_destroy(&item);
    }
}

// Lets go of cancelled tickets that no worker holds.
static void sweep(service *s)
{
    for (int i = scheduler_count(s->queue) - 1; i >= 0; i--) {
        job *j = scheduler_get(s->queue, i);
        ticket *t = j->owner;
        if (!j->cancelled) continue;
        const bool dropped = j->state == JOB_FETCHING && fetcher_drop(t->fetcher, &t->fetch);
        if (dropped || j->state <= JOB_LOADING || j->state == JOB_READY) finish(s, t);
    }
}

static void start_work(service *s)
{
    job *j = scheduler_start_planning(s->queue, s->now_s);
    if (j) worker_run(s->planner, ticket_plan, j->owner);
    while ((j = scheduler_start_running(s->queue, s->now_s))) {
        const runner_claim claim = ticket_claim(j->owner);
        if (!runner_add(s->runner, j->owner, &claim)) continue;
        j->state = JOB_READY; // the engine thread does not have it
        end_early(s, j->owner, WHY_NOT);
    }
}

// Of one that waits for its model: whether it is there, or cannot be, or how far it is.
static void tend_loading(service *s, ticket *t)
{
    if (models_take(s->models, &t->use) || t->use.engine) { // planning hears the same
        scheduler_again(s->queue, &t->job);
        return;
    }
    const int percent = models_percent(s->models, &t->use);
    if (percent == t->told_percent) return;
    t->told_percent = percent;
    char *json = percent >= 0 ? ticket_loading_json(percent) : NULL;
    if (json) send_event(s, t, SIGHT_PROGRESS, json);
    free(json);
}

static void tend_models(service *s)
{
    models_tick(s->models);
    for (int i = 0; i < scheduler_count(s->queue); i++) {
        job *j = scheduler_get(s->queue, i);
        if (j->state == JOB_LOADING && !j->cancelled) tend_loading(s, j->owner);
    }
}

// Another thread's call when a model's state has changed: wakes this one.
static void on_models(void *arg)
{
    outbox_put(arg, &(outbox_item){.kind = OUTBOX_MODELS});
}

// Tells each client where its request stands when that has changed, and that we live when nothing
// else was said.
static void announce(service *s)
{
    for (int i = 0; i < scheduler_count(s->queue); i++) {
        job *j = scheduler_get(s->queue, i);
        ticket *t = j->owner;
        const int place = scheduler_place(s->queue, j, s->now_s);
        if (place != j->told_place || j->state != j->told_state) {
            char *json = status_accepted_json(t, place);
            if (json) send_event(s, t, SIGHT_ACCEPTED, json);
            free(json);
            j->told_place = place;
            j->told_state = j->state;
        } else if (s->now_s - t->last_sent_s >= ALIVE_S) {
            send_event(s, t, SIGHT_ALIVE, "{}");
        }
    }
}

static void check_times(service *s)
{
    for (int i = 0; i < scheduler_count(s->queue); i++) {
        ticket *t = scheduler_get(s->queue, i)->owner;
        const double over_s = s->now_s - t->job.arrived_s - s->o->max_request_s;
        if (over_s > 0) end_early(s, t, WHY_TIMEOUT);
        if (t->job.deadline_s > 0 && s->now_s > t->job.deadline_s) end_early(s, t, WHY_DEADLINE);
        if (over_s > STUCK_S && t->job.state == JOB_RUNNING) {
            log_line(LOG_ERROR, "%s did not end in %g s; ending without it", t->job.id, STUCK_S);
            _exit(1); // its threads cannot be waited for
        }
    }
}

// ---- messages ----

// A guess of when the daemon that comes after this one serves.
static int restart_s(const service *s)
{
    const double left_s = s->stop_s > 0 ? s->stop_s + s->o->grace_s - s->now_s : 0;
    return 5 + (left_s > 0 && scheduler_count(s->queue) ? (int)left_s : 0);
}

static void take_request(service *s, server_message **m, identity *who)
{
    const identity_right right = (*m)->request.verb == SIGHT_PLAN ? RIGHT_PLAN : RIGHT_ASK;
    int retry_after_s;
    if (!identity_may(who, right)) {
        refuse(s, *m, identity_refuse(who, right), sight_error(), 0);
        return;
    }
    if (s->stop_s || s->lost) {
        refuse(s, *m, SIGHT_E_BUSY, s->lost ? "the server's GPU has failed" : "the server is stopping", restart_s(s));
        return;
    }
    if (!identity_spend(who, s->now_s, &retry_after_s)) {
        sight_fail(SIGHT_E_BUSY, "'%s' has asked %d times within a minute, its limit; try again in %d s", identity_name(who),
                   identity_limits(who)->requests_per_minute, retry_after_s);
        refuse(s, *m, SIGHT_E_BUSY, sight_error(), retry_after_s);
        return;
    }
    ticket *t;
    if (ticket_create(&t, m, s->now_s)) {
        refuse(s, *m, SIGHT_E_MEMORY, sight_error(), 0);
        return;
    }
    t->models = s->models;
    t->fetcher = s->o->fetcher;
    t->metrics = s->metrics;
    ticket_set_who(t, who, &s->o->limits);
    t->outbox = s->outbox;
    t->serial = s->serial + 1;
    sight_err err = scheduler_add(s->queue, &t->job);
    if (!err) {
        s->serial++;
        account_arrived(t);
        return;
    }
    refuse(s, t->message, err, sight_error(),
           err == SIGHT_E_BUSY ? t->job.retry_after_s : 0);
    ticket_destroy(&t);
}

// Those of that id, over all connections of that identity; whether there were any.
static bool cancel_of(service *s, const identity *whose, const char *id)
{
    bool found = false;
    for (int i = 0; whose && i < scheduler_count(s->queue); i++) {
        job *j = scheduler_get(s->queue, i);
        if (j->who != whose || strcmp(j->id, id)) continue;
        end_early(s, j->owner, WHY_CLIENT);
        found = true;
    }
    return found;
}

static void take_cancel(service *s, const server_message *m, const identity *who)
{
    char id[SIGHT_ID_SIZE], name[IDENTITY_NAME_SIZE];
    sight_err err = status_read_cancel(id, name, m->request.json, m->request.json_size);
    const bool others = !err && *name && strcmp(name, identity_name(who));
    if (others && !identity_may(who, RIGHT_ADMIN)) err = identity_refuse(who, RIGHT_ADMIN);
    if (err) {
        refuse(s, m, err, sight_error(), 0);
        return;
    }
    bool found;
    if (*name) {
        found = cancel_of(s, identity_table_find(s->identities, name), id);
    } else { // this connection's own
        job *j = scheduler_find(s->queue, m->from.name, m->from.size, id);
        if (j) end_early(s, j->owner, WHY_CLIENT);
        found = j != NULL;
    }
    send_text(s, &m->from, m->request.id, SIGHT_DONE, found ? "{\"found\":true}" : "{\"found\":false}");
}

static void take_question(service *s, const server_message *m, const identity *who)
{
    const status_view view = {
        .models = s->models, .options = s->o, .server = s->server, .queue = s->queue,
        .now_s = s->now_s, .uptime_s = s->now_s - s->start_s, .served = s->served,
        .stopping = s->stop_s > 0, .who = who, .monitor = s->monitor, .metrics = s->metrics,
    };
    bool with_metrics = false;
    if (m->request.verb == SIGHT_STATUS) {
        sight_err err = status_read_question(&with_metrics, &view, m->request.json, m->request.json_size);
        if (err) {
            refuse(s, m, err, sight_error(), 0);
            return;
        }
    }
    char *json = m->request.verb == SIGHT_MODELS ? status_models_json(&view)
                                                 : status_json(&view, with_metrics);
    if (json) send_text(s, &m->from, m->request.id, SIGHT_DONE, json);
    else refuse(s, m, SIGHT_E_MEMORY, "no memory for a reply", 0);
    free(json);
}

static void take_message(service *s, server_message **m)
{
    identity *who;
    sight_err err = (*m)->err;
    s->asking = NULL;
    account_message(s->metrics, *m);
    if (err) {
        refuse(s, *m, err, (*m)->line, 0);
        return;
    }
    if ((err = gate_identify(s->gate, &who, *m))) {
        refuse(s, *m, err, sight_error(), 0);
        return;
    }
    s->asking = who;
    switch ((*m)->request.verb) {
    case SIGHT_ASK:
    case SIGHT_PLAN: take_request(s, m, who); break;
    case SIGHT_CANCEL: take_cancel(s, *m, who); break;
    default: take_question(s, *m, who); break;
    }
}

static sight_err take_messages(service *s)
{
    for (int i = 0; i < MAX_AT_ONCE; i++) {
        server_message *m;
        sight_err err = server_receive(s->server, &m);
        if (err || !m) return err;
        take_message(s, &m);
        server_message_destroy(&m);
    }
    return SIGHT_OK;
}

// ---- stopping ----

// Those who wait are told at once; those who run may end within the grace time, which systemd is told to allow.
static void begin_stop(service *s)
{
    char text[64];
    int running = 0;
    s->stop_s = s->now_s;
    for (int i = 0; i < scheduler_count(s->queue); i++) running += scheduler_get(s->queue, i)->state == JOB_RUNNING;
    const log_field fields[] = {LOG_NUMBER("running", running),
                                LOG_NUMBER("waiting", scheduler_count(s->queue) - running),
                                LOG_NUMBER("grace_s", s->o->grace_s)};
    log_event(LOG_INFO, "stopping", fields, sizeof fields / sizeof *fields);
    notify_send("STOPPING=1");
    snprintf(text, sizeof text, "EXTEND_TIMEOUT_USEC=%.0f", (s->o->grace_s + 2 * HARD_STOP_S) * 1e6);
    notify_send(text);
    end_all(s, WHY_STOPPING, false);
}

static void check_reload(service *s)
{
    const sig_atomic_t wanted = s->signals->reloads;
    if (wanted == s->reloaded || s->stop_s) return;
    s->reloaded = wanted;
    reload_run(s->reload, s->metrics);
}

static void check_stop(service *s)
{
    if (s->signals->stops && !s->stop_s) begin_stop(s);
    const bool at_once = s->signals->stops > 1 || (s->stop_s && s->now_s - s->stop_s > s->o->grace_s);
    if (at_once && !s->cancelled_s) {
        s->cancelled_s = s->now_s;
        end_all(s, WHY_STOPPING, true);
    }
}

// A private daemon serves those who are connected; left alone for a while it ends.
static bool is_alone(service *s)
{
    if (!s->o->private_s) return false;
    if (server_connections(s->server) || scheduler_count(s->queue)) s->alone_s = s->now_s;
    return s->now_s - s->alone_s >= s->o->private_s;
}

static bool is_over(service *s)
{
    if (!s->lost && is_alone(s)) return true;
    return (s->stop_s || s->lost) && scheduler_count(s->queue) == 0;
}

static void tell_monitor(service *s)
{
    const pulse_view v = {.queue = s->queue, .connections = server_connections(s->server), .stopping = s->stop_s > 0,
                          .stop_left_s = s->stop_s > 0 ? s->stop_s + s->o->grace_s - s->now_s : 0};
    if (!monitor_turn(s->monitor, &v, s->now_s)) return;
    account_second(s->queue, s->now_s);
}

// What its store on disk has met.
static void tell_store(const service *s)
{
    char *line = s->o->engine.disk ? disk_warning(s->o->engine.disk) : NULL;
    if (line) log_line(LOG_WARNING, "%s", line);
    free(line);
}

// ---- the loop ----

static int wait_ms(const service *s)
{
    if (scheduler_count(s->queue)) return BUSY_MS;
    const int step_ms = gate_step_ms(s->gate);
    return monitor_wait_ms(s->monitor, step_ms >= 0 && step_ms < IDLE_MS ? step_ms : IDLE_MS);
}

static sight_err loop(service *s)
{
    for (;;) {
        sight_err err = server_wait(s->server, outbox_fd(s->outbox), wait_ms(s));
        s->now_s = clock_now_s();
        gate_tend(s->gate, s->server, s->now_s);
        if (!err) err = take_messages(s);
        if (err) return err;
        hear_workers(s);
        check_reload(s);
        check_stop(s);
        check_times(s);
        admission_charge(s->queue);
        tend_models(s);
        sweep(s);
        start_work(s);
        announce(s);
        sweep(s); // what announcing found gone
        if (scheduler_count(s->queue) == 0) {
            identity_table_sweep(s->identities);
            reload_sweep(s->reload);
        }
        tell_monitor(s);
        tell_store(s);
        if (is_over(s)) return s->lost ? sight_fail(SIGHT_E_INTERNAL, "%s", s->lost_line) : SIGHT_OK;
        if (s->cancelled_s && s->now_s - s->cancelled_s > HARD_STOP_S) {
            log_line(LOG_WARNING, "a request did not end in %g s; ending without it", HARD_STOP_S);
            _exit(1); // its threads cannot be waited for
        }
    }
}

static sight_err open_reload(service *s)
{
    const reload_parts parts = {.options = s->o, .argc = s->o->argc, .argv = s->o->argv, .queue = s->queue,
                                .monitor = s->monitor, .gate = s->gate, .server = s->server,
                                .models = s->models};
    return reload_create(&s->reload, &parts);
}

static sight_err open_parts(service *s, const endpoints *at)
{
    sight_err err = scheduler_create(&s->queue, &s->o->queue);
    if (!err) err = identity_table_create(&s->identities);
    if (!err) err = outbox_create(&s->outbox);
    if (!err) models_listen(s->models, on_models, s->outbox);
    if (!err) err = worker_create(&s->planner);
    const bool on_device = models_on_devices(s->models);
    const runner_work work = {.step = ticket_step, .answer = ticket_answer,
                              .slices_s = on_device ? DEVICE_SLICES_S : SLICES_S};
    if (!err) err = runner_create(&s->runner, &work);
    if (!err) runner_measure(s->runner, s->metrics);
    if (!err) err = monitor_create(&s->monitor, s->o, runner_heartbeat(s->runner), s->now_s);
    if (!err) err = gate_open(&s->gate, &s->o->gate, s->identities, s->metrics);
    server_options so = {.endpoints = at->at, .n_endpoints = at->n, .max_message_bytes = s->o->max_message_bytes,
                         .send_queue = s->o->send_queue};
    if (!err) gate_configure(s->gate, &so);
    if (!err) err = server_open(&s->server, &so);
    return err ? err : open_reload(s);
}

static void close_parts(service *s)
{
    for (int i = 0; s->queue && i < scheduler_count(s->queue); i++) {
        ticket *t = scheduler_get(s->queue, i)->owner;
        atomic_store(&t->cancel, true);
    }
    if (s->outbox) outbox_close(s->outbox); // a worker must not wait for somebody to listen
    models_listen(s->models, NULL, NULL);
    monitor_destroy(&s->monitor); // it asks the runner
    worker_destroy(&s->planner);
    if (s->o->fetcher) fetcher_drain(s->o->fetcher);
    if (s->reload) reload_drain(s->reload);
    runner_destroy(&s->runner);
    outbox_destroy(&s->outbox);
    while (s->queue && scheduler_count(s->queue)) {
        ticket *t = scheduler_get(s->queue, 0)->owner;
        scheduler_remove(s->queue, &t->job, s->now_s);
        ticket_destroy(&t);
    }
    scheduler_destroy(&s->queue);
    reload_destroy(&s->reload); // requests may have pointed into what was replaced
    server_close(&s->server); // before the gate, which it asks
    gate_close(&s->gate);
    identity_table_destroy(&s->identities); // after all that knows who asks
}

sight_err service_run(models *all, options *o, const endpoints *at, const service_signals *signals)
{
    service s = {.models = all, .o = o, .metrics = o->engine.metrics, .signals = signals};
    s.start_s = s.now_s = s.alone_s = clock_now_s();
    char first[MODEL_NAME_SIZE];
    int64_t context;
    models_first(all, first, &context);
    sight_err err = open_parts(&s, at);
    if (!err) {
        for (size_t i = 0; i < at->n; i++) log_line(LOG_INFO, "serving '%s' at %s", first, at->at[i]);
        notify_send("READY=1");
        err = loop(&s);
    }
    close_parts(&s);
    return err;
}
