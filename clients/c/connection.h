// clients/c/connection.h - libsight's socket: frames out, frames in, and whether the server lives.
// Threads: one at a time.
#ifndef SIGHT_CLIENTS_C_CONNECTION_H
#define SIGHT_CLIENTS_C_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>

#include "ipc/key.h"
#include "ipc/wire.h"

typedef struct connection connection;

// The client's pair, and the server's public key, for servers with keys. Z85.
typedef struct connection_keys {
    char public_key[KEY_SIZE], secret_key[KEY_SIZE], server_key[KEY_SIZE];
} connection_keys;

// Looks for a listener at the endpoint for up to timeout_ms (-1: for ever) and connects. keys NULL: without.
// SIGHT_E_NOT_FOUND, SIGHT_E_PERMISSION, SIGHT_E_ARGUMENT, SIGHT_E_MEMORY.
sight_err connection_open(connection **out, const char *endpoint, const connection_keys *keys, int timeout_ms);
void connection_close(connection **c); // accepts NULL; leaves NULL

// SIGHT_E_IO when the server is gone. Here and below SIGHT_E_PERMISSION when it did not agree about keys.
sight_err connection_send(connection *c, const wire_frame *frames, size_t n);

// Waits for one event; *out points into the connection until the next call. SIGHT_E_TIMEOUT (also
// after a signal), SIGHT_E_IO when the server is gone, SIGHT_E_PROTOCOL.
sight_err connection_receive(connection *c, wire_event *out, int timeout_ms);

#endif
