// ipc/port.h - one ROUTER socket at one endpoint, what it knows of those who are connected, and how a connection is ended.
//
// Threads: one, that of port_open.
#ifndef SIGHT_IPC_PORT_H
#define SIGHT_IPC_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <zmq.h>

#include "base/err.h"
#include "ipc/endpoint.h"
#include "ipc/key.h"
#include "ipc/zap.h"

typedef struct port_options {
    int64_t frame_limit;
    int send_queue;
    mode_t socket_mode; // of an ipc socket
    bool set_group;     // give it to this group
    gid_t group;
    const char *secret_key; // of the server, for tcp: then only those with keys connect. NULL: anybody
} port_options;

// What is known of a connection that has sent something.
typedef struct port_peer {
    char key[KEY_SIZE]; // "": nothing
    ino_t inode;        // of its socket: a number of a file is soon another's, an inode is not
} port_peer;

typedef struct port {
    void *router, *monitor;
    char endpoint[ENDPOINT_MAX];
    bool bound, keyed;
    int connections;
    int64_t opened; // of them, so far
    port_peer *peers; // [n_peers], by the number of the connection's file
    size_t n_peers;
} port;

// Binds. number: of this port among those of the context. *out is good for port_close also after a failure.
// SIGHT_E_BUSY (address in use), SIGHT_E_PERMISSION, SIGHT_E_IO, SIGHT_E_MEMORY.
sight_err port_open(port *out, void *context, int number, const char *endpoint, const port_options *options);
void port_close(port *p); // removes an ipc socket's file

// The code and line for zmq_errno after `doing`.
sight_err port_fail(const port *p, const char *doing);

// Takes in that connections came and went.
void port_hear_monitor(port *p);

// Who sent a frame that came over this port: the uid of the process at the other end of an ipc socket (-1: not known), and the
// public key of a connection with keys ("": none), which is remembered for port_recheck.
int64_t port_read_uid(const port *p, zmq_msg_t *frame);
void port_read_key(port *p, char key[KEY_SIZE], zmq_msg_t *frame);

// Ends the connections whose keys are not accepted any more. Those that have never sent anything are not known; they are found with
// their first message. Gives their number.
int port_recheck(port *p, zap_accepts *accepts, void *arg);

#endif
