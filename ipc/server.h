// ipc/server.h - the daemon's ROUTER sockets, one an endpoint: messages in, events out, nothing decided.
//
// With a secret key of the server, tcp endpoints are served to those whose keys are accepted (CURVE); without, to anybody. ipc ones
// are served to those whom the file's mode lets in.
// Threads: one, that of server_open.
#ifndef SIGHT_IPC_SERVER_H
#define SIGHT_IPC_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "ipc/endpoint.h"
#include "ipc/key.h"
#include "ipc/wire.h"
#include "ipc/zap.h"

typedef struct server server;

typedef struct server_options {
    const char *const *endpoints;
    size_t n_endpoints;        // 1..ENDPOINTS_MAX
    int64_t max_message_bytes; // all frames together; more is refused with a sentence
    int send_queue;            // events kept for a client that reads slowly
    mode_t socket_mode;        // of ipc sockets; 0: 0600
    bool set_group;            // they are given to this group
    gid_t group;
    const char *secret_key;    // of the server (Z85), for tcp; NULL: tcp is open
    zap_accepts *accepts;      // with it: whose keys are welcome
    void *accepts_arg;
} server_options;

// Binds. Take the endpoints' locks before: a socket file that is left over is replaced. SIGHT_E_BUSY (address in use),
// SIGHT_E_PERMISSION, SIGHT_E_IO, SIGHT_E_MEMORY.
sight_err server_open(server **out, const server_options *options);
void server_close(server **s); // accepts NULL; leaves NULL; removes the socket files

// Who sent a message: the number of the endpoint, then the name that its socket gave to the connection.
typedef struct server_peer {
    unsigned char name[256];
    size_t size;
} server_peer;

// One message, held until server_message_destroy; request's pointers are into it.
typedef struct server_message {
    server_peer from;
    wire_request request;
    sight_err err;      // from wire_read_request, or SIGHT_E_LIMIT; request.id may be ""
    char line[512];     // its sentence
    size_t bytes;
    bool local;         // it came over an ipc socket,
    int64_t uid;        // from a process of this user; -1: the system does not say
    char key[KEY_SIZE]; // public key of who sent it; "": it came without
    struct server_frames *frames;
} server_message;

// Takes the next message without waiting; *out NULL: none. SIGHT_E_MEMORY, SIGHT_E_IO.
sight_err server_receive(server *s, server_message **out);
void server_message_destroy(server_message **m); // accepts NULL; leaves NULL; any thread

// Sends without waiting. SIGHT_E_NOT_FOUND: that client is gone. SIGHT_E_BUSY: it does not read,
// and send_queue events wait for it already.
sight_err server_send(server *s, const server_peer *to, const char *id, sight_event_kind kind,
                      const char *json, size_t json_size);

// Waits until a message, wake_fd or a connection's coming or going, at most timeout_ms. Handshakes are answered meanwhile.
sight_err server_wait(server *s, int wake_fd, int timeout_ms);

// Ends the connections whose keys are accepted no more; gives their number.
int server_recheck(server *s);
// Who was let in and turned away by their key. NULL: there are no keys.
const zap_tally *server_key_tally(const server *s);
// Connections so far over ipc (local) or over tcp without keys.
int64_t server_opened(const server *s, bool local);

// Connections now open.
int server_connections(const server *s);
// The largest frame that reaches server_receive; larger ones end the connection.
int64_t server_frame_limit(const server *s);

#endif
