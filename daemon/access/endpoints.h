// daemon/access/endpoints.h - where this daemon is reached: one endpoint or several, each held by one daemon. Threads: one.
#ifndef SIGHT_DAEMON_ENDPOINTS_H
#define SIGHT_DAEMON_ENDPOINTS_H

#include "base/err.h"
#include "daemon/settings/settings.h"
#include "ipc/endpoint.h"
#include "ipc/lock.h"

typedef struct endpoints {
    const char *at[ENDPOINTS_MAX]; // into the list, or own
    size_t n;
    char own[ENDPOINT_MAX];
    endpoint_lock locks[ENDPOINTS_MAX];
} endpoints;

// Those given (borrowed), checked; with none this user's own. keys: see endpoint_check. SIGHT_E_ARGUMENT, SIGHT_E_UNSUPPORTED.
sight_err endpoints_choose(endpoints *out, const option_list *given, bool keys);
// Takes their locks. open_to: see endpoint_lock_take. Those of endpoint_lock_take.
sight_err endpoints_lock(endpoints *e, unsigned open_to);
void endpoints_release(endpoints *e); // accepts a zeroed one

#endif
