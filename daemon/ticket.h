// daemon/ticket.h - one request on its way through the daemon, and the work done for it by threads.
//
// A ticket belongs to the server thread; while it is JOB_PLANNING or JOB_RUNNING a worker thread
// has its message, task and cancel flag, and speaks through the outbox only.
#ifndef SIGHT_DAEMON_TICKET_H
#define SIGHT_DAEMON_TICKET_H

#include <stdatomic.h>
#include <stdbool.h>

#include "daemon/engine.h"
#include "daemon/media/fetcher.h"
#include "daemon/models/models.h"
#include "daemon/outbox.h"
#include "daemon/pipeline.h"
#include "daemon/watch/record.h"
#include "daemon/request.h"
#include "daemon/media/request_media.h"
#include "daemon/models/router.h"
#include "daemon/runner.h"
#include "daemon/scheduler.h"
#include "daemon/task.h"
#include "ipc/server.h"

// How JSON is written on the wire: no spaces, numbers no finer than anybody measures.
#define TICKET_JSON (JSON_COMPACT | JSON_REAL_PRECISION(9))

typedef enum ticket_why {
    WHY_NOT,
    WHY_CLIENT,
    WHY_TIMEOUT,
    WHY_DEADLINE, // its own
    WHY_LATE,     // it could not be over by then: late_line
    WHY_STOPPING,
    WHY_GONE,
    WHY_LOST // the engine works no more
} ticket_why;

typedef struct ticket {
    job job;
    server_message *message; // the client's bytes; media inside it are used in place
    // The workers' part.
    models *models; // from which the request chooses
    model_use use;
    engine *model;  // that it uses; NULL: none yet. Planned with the first replica, run on any
    bool waits;     // planning has to wait for the model
    route *route;   // NULL: one model was asked for
    bool again;     // another model is to be asked: ticket_next
    bool broken;    // what is to be decided cannot be kept
    const char *about; // what planning failed for: "medium", "model", "right"; NULL: something else
    request_limits limits; // the server's, narrowed by those of who asks
    outbox *outbox;
    metrics *metrics; // may be NULL
    request *asked; // read, while its media are fetched
    fetcher *fetcher; // borrowed; NULL: nothing is fetched
    fetch_work fetch;
    media_files files; // of the request as the model before read it
    task *task; // after planning
    pipeline *pipeline; // while it runs
    atomic_bool cancel;
    atomic_int drawn; // tokens of its answer so far
    double fetch_s;    // when fetching its media began
    double measured_s; // when the engine's memory was last measured
    _Atomic int64_t used_us; // of the engine's time
    sight_err lost; // what engine_status said when it had run, and the sentence
    char lost_line[256];
    // The server's part.
    int64_t serial; // counts the daemon's requests from 1: ids are the clients' own
    record record;  // of what its events said
    int64_t read;   // prompt tokens, of these
    int sampled;    // `drawn` a second ago, at sampled_s, and tokens a second since
    double sampled_s, drawn_per_s;
    ticket_why why;   // it is to end early
    char late_line[320]; // of WHY_LATE, and of WHY_LOST on one of several replicas
    outbox_item *end; // the done or error that a worker has put, to be sent once the worker let go
    bool ended;       // its client has been sent done or error
    bool failed;      // planning reported an error
    double last_sent_s;
    int told_percent; // of preparing its model, -1: none
} ticket;

// Takes over *message (left NULL). SIGHT_E_MEMORY.
sight_err ticket_create(ticket **out, server_message **message, double now_s);
void ticket_destroy(ticket **t); // accepts NULL; leaves NULL

// Says who asks: the ceilings are the server's, or theirs where these are lower.
void ticket_set_who(ticket *t, const identity *who, const request_limits *limits);

// For the worker that plans; arg is a ticket. Puts an error or, for a plan-only request, its done, and then OUTBOX_PLANNED.
// With `waits` the model has to be loaded first: it is to be planned again then. Or puts OUTBOX_WANTS, and is to be called again
// after OUTBOX_FETCHED.
void ticket_plan(void *arg);
// After OUTBOX_WANTS. Puts progress, and OUTBOX_FETCHED or an error and OUTBOX_PLANNED.
void ticket_fetch(ticket *t);
// Lets go of the model that was asked, for the next one of its router; it is to be planned again then.
void ticket_next(ticket *t);
// How many tokens of its prompt that replica of its model has read for an earlier request; below 0: it is not to be had. Of one that
// is planned; for scheduler_ask_kept.
int32_t ticket_kept(void *arg, int replica);
// Before it runs: it has been given to the replica of its job (job.replica).
void ticket_place(ticket *t);
// What its claim to the engine is, for runner_add.
runner_claim ticket_claim(ticket *t);
// For the engine thread (daemon/runner.h). Puts the pipeline's events, and before it gives
// PIPELINE_OVER, as the last it does with the ticket, OUTBOX_RAN.
pipeline_state ticket_step(void *arg, int wait_ms);
// The same for several that answer.
void ticket_answer(void *const *args, pipeline_state *states, double *took_s, int n);

// JSON texts (malloc; NULL: no memory).
char *ticket_error_json(sight_err code, const char *about, const char *line, int retry_after_s); // about NULL: nothing to name; 0: no hint
char *ticket_loading_json(int percent);       // progress
char *ticket_cancelled_json(const ticket *t); // the done of an ask that never ran

#endif
