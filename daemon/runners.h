// daemon/runners.h - the engine threads of a daemon, one for each replica (daemon/replica.h): a runner each.
//
// The first is there from the beginning; others start when a request is first given to them. All charge the engine's time that
// they spend to the same accounts, so who comes next on one of them depends on what was used on all.
//
// Threads: create, add and destroy one at a time (the server's); the heartbeats any.
#ifndef SIGHT_DAEMON_RUNNERS_H
#define SIGHT_DAEMON_RUNNERS_H

#include "daemon/replica.h"
#include "daemon/runner.h"

typedef struct runners runners;

// work: of each of them; its book, beat and replica are not looked at. m may be NULL. SIGHT_E_MEMORY.
sight_err runners_create(runners **out, const runner_work *work, metrics *m);
void runners_destroy(runners **r); // waits for what is under way; accepts NULL; leaves NULL
// Takes a request in on that replica, below REPLICAS_MAX. SIGHT_E_MEMORY.
sight_err runners_add(runners *r, int replica, void *arg, const runner_claim *claim);
// [REPLICAS_MAX], of those not started too: they rest.
const heartbeat *runners_heartbeats(const runners *r);

#endif
