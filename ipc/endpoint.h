// ipc/endpoint.h - where a daemon is reached. Threads: any.
#ifndef SIGHT_IPC_ENDPOINT_H
#define SIGHT_IPC_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define ENDPOINT_MAX  256
#define ENDPOINTS_MAX 8 // that one daemon serves

// The socket of this user's daemon, whether or not it exists: RUNTIME_DIRECTORY (set by systemd for
// the service), XDG_RUNTIME_DIR, /run/sightd for root, /tmp/sightd-UID for others.
sight_err endpoint_own(char *out, size_t size);

// The path of an "ipc://" endpoint, NULL for others.
const char *endpoint_path(const char *endpoint);

// Refuses what is not served: other transports than ipc and tcp, tcp beyond the loopback without keys, ipc paths that are relative,
// abstract ('@') or too long for the system. keys: tcp connections are encrypted and their clients known by keys.
// SIGHT_E_ARGUMENT, SIGHT_E_UNSUPPORTED.
sight_err endpoint_check(const char *endpoint, bool keys);

#endif
