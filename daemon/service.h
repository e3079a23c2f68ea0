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
#include "daemon/endpoints.h"
#include "daemon/models.h"
#include "daemon/options.h"

// Serves the endpoints until *stops (counted up by a signal handler) is not 0 and requests have
// ended, or a private daemon is left alone. 1: the running request has the grace time; 2: it is ended.
// Says READY, STOPPING and WATCHDOG to systemd. Borrows all; takes the endpoints' locks as held.
sight_err service_run(models *all, const options *o, const endpoints *at,
                      const volatile sig_atomic_t *stops);

#endif
