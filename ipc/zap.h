// ipc/zap.h - the voice that says whose keys are welcome (RFC 27, ZAP), asked by libzmq during each handshake with keys.
//
// czmq has such a voice, zauth: a thread of its own with a copy of the folder of keys, which says yes or no. Here the answer must also
// bring along which key asked, with every message and as rights change while connections live, and must change with the very list that
// the daemon looks at. So the requests of libzmq are answered on the server's own thread, from its own list: no copy, no lock, no
// second library with its own signal handlers and process-wide state.
//
// Threads: one, that of zap_open.
#ifndef SIGHT_IPC_ZAP_H
#define SIGHT_IPC_ZAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "ipc/key.h"

// The domain that sockets with keys give as ZMQ_ZAP_DOMAIN.
#define ZAP_DOMAIN "sightd"

// Whether a connection with that public key (Z85) may be made.
typedef bool zap_accepts(void *arg, const char *public_key);

typedef struct zap zap;

// Before any socket with keys is bound. The User-Id of an accepted connection's messages is its public key.
// SIGHT_E_MEMORY, SIGHT_E_IO.
sight_err zap_open(zap **out, void *context, zap_accepts *accepts, void *arg);
void zap_close(zap **z); // after those sockets; accepts NULL; leaves NULL

void *zap_socket(const zap *z); // to be polled for input
void zap_serve(zap *z);         // answers what waits

// How many were let in and how many turned away so far, and the key and address of the last of these, "" before the first.
typedef struct zap_tally {
    int64_t accepted, refused;
    char key[KEY_SIZE], address[64];
} zap_tally;

const zap_tally *zap_count(const zap *z);

#endif
