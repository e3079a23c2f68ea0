// Requests on their way through the service: what their clients are told, and what is done for them next.
#include "daemon/service_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/watch/account.h"
#include "daemon/status.h"

#define ALIVE_S     0.25 // a client hears something at least this often
#define STUCK_S     60.0 // alike for one that was over its time: a GPU that never comes back

// ---- speaking ----

void tickets_say(service *s, const server_peer *to, const char *id, sight_event_kind kind,
                      const char *json)
{
    const size_t size = strlen(json);
    account_sent(s->metrics, size, server_send(s->server, to, id, kind, json, size));
}

void tickets_refuse(service *s, const server_message *m, sight_err code, const char *line,
                   int retry_after_s)
{
    const char *id = m->request.id[0] ? m->request.id : "-";
    char *json = ticket_error_json(code, code == SIGHT_E_PERMISSION ? "right" : NULL, line, retry_after_s);
    if (json) tickets_say(s, &m->from, id, SIGHT_ERROR, json);
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
    char *json = ticket_error_json(code, NULL, line, 0);
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
    case WHY_LOST: send_error(s, t, SIGHT_E_INTERNAL, *t->late_line ? t->late_line : s->lost_line); break;
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

void tickets_end_early(service *s, ticket *t, ticket_why why)
{
    if (t->why == WHY_NOT) t->why = why;
    t->job.cancelled = true;
    atomic_store(&t->cancel, true);
}

void tickets_end_all(service *s, ticket_why why, bool also_running)
{
    for (int i = 0; i < scheduler_count(s->queue); i++) {
        job *j = scheduler_get(s->queue, i);
        if (also_running || j->state != JOB_RUNNING) tickets_end_early(s, j->owner, why);
    }
}

// Of several replicas the others go on: who runs on this one is told.
static bool lose_replica(service *s, const ticket *lost)
{
    bool news;
    int running = 0;
    const int left = models_lose(s->models, &lost->use, lost->job.replica, &news);
    if (left == 0) return false;
    for (int i = 0; news && i < scheduler_count(s->queue); i++) {
        ticket *t = scheduler_get(s->queue, i)->owner;
        if (t->job.state != JOB_RUNNING || t->model != lost->model) continue;
        snprintf(t->late_line, sizeof t->late_line, "%s", lost->lost_line);
        tickets_end_early(s, t, WHY_LOST);
        running++;
    }
    if (!news) return true;
    metrics_add(s->metrics, METRIC_DEVICE_FAULTS, 1);
    log_line(LOG_ERROR, "the GPU of replica %d of model '%s' has failed, %d requests are lost, %d replicas go on: %s",
             lost->job.replica, models_name(&lost->use), running, left, lost->lost_line);
    return true;
}

// A GPU that has failed does not come back within this process: everybody is told, and the daemon ends, to be
// started again.
static void lose_engine(service *s, const ticket *t)
{
    if (s->lost || lose_replica(s, t)) return;
    s->lost = true;
    s->cancelled_s = s->now_s;
    metrics_add(s->metrics, METRIC_DEVICE_FAULTS, 1);
    memcpy(s->lost_line, t->lost_line, sizeof s->lost_line);
    log_line(LOG_ERROR, "the GPU has failed, %d requests are lost: %s", scheduler_count(s->queue), s->lost_line);
    tickets_end_all(s, WHY_LOST, true);
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
    t->job.replicas = models_replicas(s->models, &t->use);
    if (!admission_price(&s->admission, t, s->queue, s->now_s)) return;
    snprintf(t->late_line, sizeof t->late_line, "%s", sight_error());
    tickets_end_early(s, t, WHY_LATE);
}

void tickets_hear(service *s)
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
void tickets_sweep(service *s)
{
    for (int i = scheduler_count(s->queue) - 1; i >= 0; i--) {
        job *j = scheduler_get(s->queue, i);
        ticket *t = j->owner;
        if (!j->cancelled) continue;
        const bool dropped = j->state == JOB_FETCHING && fetcher_drop(t->fetcher, &t->fetch);
        if (dropped || j->state <= JOB_LOADING || j->state == JOB_READY) finish(s, t);
    }
}

void tickets_start(service *s)
{
    job *j = scheduler_start_planning(s->queue, s->now_s);
    if (j) worker_run(s->planner, ticket_plan, j->owner);
    while ((j = scheduler_start_running(s->queue, s->now_s))) {
        ticket_place(j->owner);
        const runner_claim claim = ticket_claim(j->owner);
        if (!runners_add(s->runners, j->replica, j->owner, &claim)) {
            account_begun(s->metrics, j);
            continue;
        }
        j->state = JOB_READY; // the engine thread does not have it
        tickets_end_early(s, j->owner, WHY_NOT);
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

void tickets_tend_models(service *s)
{
    models_tick(s->models);
    for (int i = 0; i < scheduler_count(s->queue); i++) {
        job *j = scheduler_get(s->queue, i);
        if (j->state == JOB_LOADING && !j->cancelled) tend_loading(s, j->owner);
    }
}

// Another thread's call when a model's state has changed: wakes this one.
void tickets_on_models(void *arg)
{
    outbox_put(arg, &(outbox_item){.kind = OUTBOX_MODELS});
}

// Tells each client where its request stands when that has changed, and that we live when nothing
// else was said.
void tickets_announce(service *s)
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

void tickets_check_times(service *s)
{
    for (int i = 0; i < scheduler_count(s->queue); i++) {
        ticket *t = scheduler_get(s->queue, i)->owner;
        const double over_s = s->now_s - t->job.arrived_s - s->o->max_request_s;
        if (over_s > 0) tickets_end_early(s, t, WHY_TIMEOUT);
        if (t->job.deadline_s > 0 && s->now_s > t->job.deadline_s) tickets_end_early(s, t, WHY_DEADLINE);
        if (over_s > STUCK_S && t->job.state == JOB_RUNNING) {
            log_line(LOG_ERROR, "%s did not end in %g s; ending without it", t->job.id, STUCK_S);
            _exit(1); // its threads cannot be waited for
        }
    }
}
