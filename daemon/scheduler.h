// daemon/scheduler.h - whose turn it is: the queue of requests, without any input or output.
//
// Requests are priced (planned) one at a time and run several at a time, as many as memory allows; a plan-only request leaves
// after pricing. Who is next: daemon/fair.h, by the engine's time that was used. Everything is bounded: what is too much is
// refused with how long to wait, which is guessed from the work that is ahead. Times are given by the caller.
// Threads: the server's only.
#ifndef SIGHT_DAEMON_SCHEDULER_H
#define SIGHT_DAEMON_SCHEDULER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "daemon/fair.h"
#include "daemon/access/identity.h"
#include "daemon/replica.h"
#include "sight/protocol.h"

#define SCHEDULER_CLIENT_MAX 255 // bytes of a client's name

typedef enum job_state {
    JOB_ARRIVED,  // waits to be priced
    JOB_LOADING,  // waits for its model, to be priced then
    JOB_PLANNING, // being priced
    JOB_FETCHING, // its media are being fetched; then it waits to be priced again
    JOB_READY,    // priced; waits for the engine
    JOB_RUNNING,
} job_state;

// The word for `accepted` events and `status`.
const char *job_state_name(job_state state);

typedef struct job {
    unsigned char client[SCHEDULER_CLIENT_MAX];
    size_t client_size;
    char id[SIGHT_ID_SIZE];
    const identity *who; // asks, over this connection; its ceilings (identity_limits) count over all of its connections
    bool plan_only;
    size_t bytes; // of its message, held until it is over
    int64_t memory_bytes; // that it takes beside the model, once it is priced
    const void *model;    // which one, once that is known
    int64_t model_bytes;  // for all that run on it, on each replica; one runs whatever it takes. 0: no limit
    int replicas;         // of the model; 0: 1
    int replica;          // that it runs on
    bool for_kept;        // which has kept most of its prompt's beginning
    int32_t prompt;       // tokens
    double token_s;       // of the engine's time, for reading one; 0: nobody knows
    job_state state;
    bool cancelled; // to be let go as soon as whoever works on it lets go
    double arrived_s, started_s;
    // Once it is priced:
    fair_class class;
    double deadline_s; // by when it has to be over; 0: no matter when
    double work_s;     // of the engine's time, that it will take; 0: nobody knows
    double used_s;     // of the engine's time, so far (scheduler_used)
    int retry_after_s; // why it was refused is gone by then, about (scheduler_add)
    long order;            // the scheduler's, as is the account
    fair_account *account;
    int told_place; // last place its client was told, -1: none
    job_state told_state;
    void *owner; // the caller's own part
} job;

typedef struct scheduler_limits {
    int max_jobs;            // in all
    int max_jobs_per_client;
    int64_t max_bytes;       // of all messages held
    int max_running;         // at once, on each replica; 0: 1
} scheduler_limits;

typedef struct scheduler scheduler;

// SIGHT_E_MEMORY.
sight_err scheduler_create(scheduler **out, const scheduler_limits *limits);
void scheduler_destroy(scheduler **s); // accepts NULL; leaves NULL; jobs are the caller's

// Other limits. Those who are in the queue stay in it. SIGHT_E_MEMORY: nothing has changed.
sight_err scheduler_set_limits(scheduler *s, const scheduler_limits *limits);

// Of a request's owner: how many tokens of its prompt a replica of its model has read for an earlier one; below 0: that replica is
// not to be had. Asked only of models with several.
void scheduler_ask_kept(scheduler *s, int32_t (*kept)(void *owner, int replica));

// Adds at the end; the job stays the caller's and must outlive its stay. SIGHT_E_BUSY with how long
// to wait; SIGHT_E_ARGUMENT when the client has an unfinished request of that id; SIGHT_E_MEMORY.
sight_err scheduler_add(scheduler *s, job *j);
// Takes it out, in any state. now_s is for a running job's duration, from which waits are guessed.
void scheduler_remove(scheduler *s, job *j, double now_s);

// The job that should be priced or run now, and marks it PLANNING or RUNNING (on job.replica); NULL: none, or as many
// as may be are already. Cancelled jobs are not started; while the next one of a
// model does not fit into its memory none of that model is.
job *scheduler_start_planning(scheduler *s, double now_s);
job *scheduler_start_running(scheduler *s, double now_s);
// After pricing an ask: it waits for the engine.
void scheduler_planned(scheduler *s, job *j);
// Pricing has to wait for its model; then, or for another model after it ran on one, it is to be priced again.
void scheduler_awaits_model(scheduler *s, job *j);
void scheduler_again(scheduler *s, job *j);

// It has used so much of the engine's time by now, in all.
void scheduler_used(scheduler *s, job *j, double used_s);

// When a priced job will be begun and be over, in seconds from now, if nobody else comes and those that run share the
// engine. false: of one that runs or goes before it, or of itself, nobody knows what it takes.
typedef struct scheduler_forecast {
    double start_s, end_s;
} scheduler_forecast;
bool scheduler_foresee(const scheduler *s, const job *j, scheduler_forecast *out, double now_s);

// Requests in front of this one that it waits for, those being worked on included: asks for an
// ask, those not yet priced for a plan-only request. 0: its turn.
int scheduler_place(const scheduler *s, const job *j, double now_s);
job *scheduler_find(const scheduler *s, const void *client, size_t client_size, const char *id);
int scheduler_count(const scheduler *s);
job *scheduler_get(const scheduler *s, int i); // in order of arrival
int64_t scheduler_bytes(const scheduler *s);
// A guess of when the queue has room again: when the first of those that run is over. Whole seconds, at least 1.
int scheduler_retry_after_s(const scheduler *s);

#endif
