#include "daemon/service_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/watch/account.h"
#include "daemon/watch/notify.h"
#include "daemon/status.h"

#define BUSY_MS     100  // the loop's step while there are requests
#define IDLE_MS     1000
#define MAX_AT_ONCE 64   // messages taken in before others get their turn
#define HARD_STOP_S 5.0  // for a cancelled request to end before the daemon ends regardless
// How long running answers wait, at most about, for others' pictures and prompts between two of their steps: a fifth of a second
// with the CPU and a fiftieth on a GPU, less what a step itself takes.
#define SLICES_S        0.1
#define DEVICE_SLICES_S 0.01

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
        tickets_refuse(s, *m, identity_refuse(who, right), sight_error(), 0);
        return;
    }
    if (s->stop_s || s->lost) {
        tickets_refuse(s, *m, SIGHT_E_BUSY, s->lost ? "the server's GPU has failed" : "the server is stopping", restart_s(s));
        return;
    }
    if (!identity_spend(who, s->now_s, &retry_after_s)) {
        sight_fail(SIGHT_E_BUSY, "'%s' has asked %d times within a minute, its limit; try again in %d s", identity_name(who),
                   identity_limits(who)->requests_per_minute, retry_after_s);
        tickets_refuse(s, *m, SIGHT_E_BUSY, sight_error(), retry_after_s);
        return;
    }
    ticket *t;
    if (ticket_create(&t, m, s->now_s)) {
        tickets_refuse(s, *m, SIGHT_E_MEMORY, sight_error(), 0);
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
    tickets_refuse(s, t->message, err, sight_error(),
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
        tickets_end_early(s, j->owner, WHY_CLIENT);
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
        tickets_refuse(s, m, err, sight_error(), 0);
        return;
    }
    bool found;
    if (*name) {
        found = cancel_of(s, identity_table_find(s->identities, name), id);
    } else { // this connection's own
        job *j = scheduler_find(s->queue, m->from.name, m->from.size, id);
        if (j) tickets_end_early(s, j->owner, WHY_CLIENT);
        found = j != NULL;
    }
    tickets_say(s, &m->from, m->request.id, SIGHT_DONE, found ? "{\"found\":true}" : "{\"found\":false}");
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
            tickets_refuse(s, m, err, sight_error(), 0);
            return;
        }
    }
    char *json = m->request.verb == SIGHT_MODELS ? status_models_json(&view)
                                                 : status_json(&view, with_metrics);
    if (json) tickets_say(s, &m->from, m->request.id, SIGHT_DONE, json);
    else tickets_refuse(s, m, SIGHT_E_MEMORY, "no memory for a reply", 0);
    free(json);
}

static void take_message(service *s, server_message **m)
{
    identity *who;
    sight_err err = (*m)->err;
    s->asking = NULL;
    account_message(s->metrics, *m);
    if (err) {
        tickets_refuse(s, *m, err, (*m)->line, 0);
        return;
    }
    if ((err = gate_identify(s->gate, &who, *m))) {
        tickets_refuse(s, *m, err, sight_error(), 0);
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
    tickets_end_all(s, WHY_STOPPING, false);
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
        tickets_end_all(s, WHY_STOPPING, true);
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
        tickets_hear(s);
        check_reload(s);
        check_stop(s);
        tickets_check_times(s);
        admission_charge(s->queue);
        tickets_tend_models(s);
        tickets_sweep(s);
        tickets_start(s);
        tickets_announce(s);
        tickets_sweep(s); // what announcing found gone
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
    if (!err) models_listen(s->models, tickets_on_models, s->outbox);
    if (!err) err = worker_create(&s->planner);
    const bool on_device = models_on_devices(s->models);
    const runner_work work = {.step = ticket_step, .answer = ticket_answer,
                              .slices_s = on_device ? DEVICE_SLICES_S : SLICES_S};
    if (!err) err = runners_create(&s->runners, &work, s->metrics);
    if (!err) scheduler_ask_kept(s->queue, ticket_kept);
    if (!err) err = monitor_create(&s->monitor, s->o, runners_heartbeats(s->runners), s->now_s);
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
    runners_destroy(&s->runners);
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
