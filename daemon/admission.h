// daemon/admission.h - what a priced request will take of the engine, and whether that can be in time.
//
// Rates are kept by model (daemon/estimate.h) and learnt from requests that have ended.
// Threads: the server's.
#ifndef SIGHT_DAEMON_ADMISSION_H
#define SIGHT_DAEMON_ADMISSION_H

#include "base/err.h"
#include "daemon/estimate.h"
#include "daemon/watch/metrics.h"
#include "daemon/scheduler.h"
#include "daemon/ticket.h"

// Zeroed: nothing is known.
typedef struct admission {
    estimate models[METRICS_MODELS]; // by engine_index
} admission;

// Fills what its job says of a ticket that has been planned, and makes it wait for the engine (scheduler_planned).
// SIGHT_E_TIMEOUT: it cannot be over by its deadline, with the estimate; it is to be let go then.
sight_err admission_price(const admission *a, ticket *t, scheduler *s, double now_s);
// An ask that ran has ended: what it took is learnt, and counted for who asked.
void admission_learn(admission *a, ticket *t, scheduler *s);
// Brings the engine's time that running requests have used to the scheduler.
void admission_charge(scheduler *s);

#endif
