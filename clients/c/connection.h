// clients/c/connection.h - libsight's socket: frames out, frames in, and whether the server lives.
// Threads: one at a time.
#ifndef SIGHT_CLIENTS_C_CONNECTION_H
#define SIGHT_CLIENTS_C_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>

#include "ipc/wire.h"

typedef struct connection connection;

// Looks for a listener at the endpoint for up to timeout_ms (-1: for ever) and connects.
// SIGHT_E_NOT_FOUND, SIGHT_E_PERMISSION, SIGHT_E_ARGUMENT, SIGHT_E_MEMORY.
sight_err connection_open(connection **out, const char *endpoint, int timeout_ms);
void connection_close(connection **c); // accepts NULL; leaves NULL

// SIGHT_E_IO when the server is gone.
sight_err connection_send(connection *c, const wire_frame *frames, size_t n);

// Waits for one event; *out points into the connection until the next call. SIGHT_E_TIMEOUT (also
// after a signal), SIGHT_E_IO when the server is gone, SIGHT_E_PROTOCOL.
sight_err connection_receive(connection *c, wire_event *out, int timeout_ms);

#endif
