// daemon/service.h - the daemon at work: messages in, requests through planner and engine, events
// out, until it is told to stop.
//
// Threads: service_run's own is the server thread; it owns socket, scheduler and tickets and never
// waits for work, so that cancel and status are answered at once. The planner thread reads requests
// and opens media; the engine thread runs the model.
#ifndef SIGHT_DAEMON_SERVICE_H
#define SIGHT_DAEMON_SERVICE_H

#include <signal.h>

#include "base/err.h"
#include "daemon/access/endpoints.h"
#include "daemon/models/models.h"
#include "daemon/settings/options.h"

// What was asked for from outside, counted by signal handlers.
typedef struct service_signals {
    volatile sig_atomic_t stops;   // 1: what runs has the grace time; 2: it is ended
    volatile sig_atomic_t reloads; // the settings are read again
} service_signals;

// Serves the endpoints until it is told to stop and requests have ended, or a private daemon is left alone.
// Says READY, RELOADING, STOPPING and WATCHDOG to systemd. Borrows all, and changes o when it reloads; takes the endpoints'
// locks as held.
sight_err service_run(models *all, options *o, const endpoints *at, const service_signals *signals);

#endif
