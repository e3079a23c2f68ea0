// clients/c/probe.h - whether anybody listens at an endpoint, asked of the system itself, because
// ZeroMQ would wait silently for a server that is not there. Threads: any.
#ifndef SIGHT_CLIENTS_C_PROBE_H
#define SIGHT_CLIENTS_C_PROBE_H

#include "base/err.h"

// SIGHT_E_NOT_FOUND, SIGHT_E_PERMISSION, SIGHT_E_ARGUMENT (no endpoint of ours), SIGHT_E_IO.
sight_err probe_endpoint(const char *endpoint);

#endif
