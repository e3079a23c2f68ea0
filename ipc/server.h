// ipc/server.h - the daemon's ROUTER socket: messages in, events out, nothing decided.
//
// Threads: one, that of server_open.
#ifndef SIGHT_IPC_SERVER_H
#define SIGHT_IPC_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "ipc/wire.h"

typedef struct server server;

typedef struct server_options {
    const char *endpoint;
    int64_t max_message_bytes; // all frames together; more is refused with a sentence
    int send_queue;            // events kept for a client that reads slowly
} server_options;

// Binds; an ipc socket is made with mode 0600. Take the endpoint's lock before: a socket file that
// is left over is replaced. SIGHT_E_BUSY (address in use), SIGHT_E_PERMISSION, SIGHT_E_IO,
// SIGHT_E_MEMORY.
sight_err server_open(server **out, const server_options *options);
void server_close(server **s); // accepts NULL; leaves NULL; removes the socket file

// Who sent a message: a name that the socket gave to the connection.
typedef struct server_peer {
    unsigned char name[255];
    size_t size;
} server_peer;

// One message, held until server_message_destroy; request's pointers are into it.
typedef struct server_message {
    server_peer from;
    wire_request request;
    sight_err err;   // from wire_read_request, or SIGHT_E_LIMIT; request.id may be ""
    char line[512];  // its sentence
    size_t bytes;
    int64_t uid;     // of the process that sent it over an ipc socket; -1: it came over a network
    struct server_frames *frames;
} server_message;

// Takes the next message without waiting; *out NULL: none. SIGHT_E_MEMORY, SIGHT_E_IO.
sight_err server_receive(server *s, server_message **out);
void server_message_destroy(server_message **m); // accepts NULL; leaves NULL; any thread

// Sends without waiting. SIGHT_E_NOT_FOUND: that client is gone. SIGHT_E_BUSY: it does not read,
// and send_queue events wait for it already.
sight_err server_send(server *s, const server_peer *to, const char *id, sight_event_kind kind,
                      const char *json, size_t json_size);

// Waits until a message, wake_fd or a connection's coming or going, at most timeout_ms.
sight_err server_wait(server *s, int wake_fd, int timeout_ms);

// Connections now open.
int server_connections(const server *s);
// The largest frame that reaches server_receive; larger ones end the connection.
int64_t server_frame_limit(const server *s);

#endif
