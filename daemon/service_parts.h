// daemon/service_parts.h - what service.c (messages, reloads, the end) and service_tickets.c (requests on their way) share.
// Threads: the server's, but where it says otherwise.
#ifndef SIGHT_DAEMON_SERVICE_PARTS_H
#define SIGHT_DAEMON_SERVICE_PARTS_H

#include "daemon/admission.h"
#include "daemon/runners.h"
#include "daemon/service.h"
#include "daemon/settings/reload.h"
#include "daemon/ticket.h"
#include "daemon/watch/monitor.h"
#include "daemon/worker.h"

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
    runners *runners;
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

// ---- service_tickets.c ----

// Sends an event to whoever it is for.
void tickets_say(service *s, const server_peer *to, const char *id, sight_event_kind kind, const char *json);
// Answers a message that becomes no ticket. retry_after_s 0: no hint.
void tickets_refuse(service *s, const server_message *m, sight_err code, const char *line, int retry_after_s);
// Tells a ticket to end, because of that; a worker that has it lets go soon.
void tickets_end_early(service *s, ticket *t, ticket_why why);
// The same for all, those that run left out unless also_running.
void tickets_end_all(service *s, ticket_why why, bool also_running);
// Takes what the workers have to say, and sends on what is for clients.
void tickets_hear(service *s);
// Lets go of cancelled tickets that no worker holds.
void tickets_sweep(service *s);
// Gives the planner and the engine what is next.
void tickets_start(service *s);
// Looks after tickets that wait for their model.
void tickets_tend_models(service *s);
// Tells each client where its request stands when that has changed, and that we live when nothing else was said.
void tickets_announce(service *s);
// Ends what is over its time.
void tickets_check_times(service *s);
// For models_create: a model was loaded, or could not be; arg is the service. Any thread.
void tickets_on_models(void *arg);

#endif
