// sight/client.h - libsight: asks a running sightd.
//
// A client is one connection. Requests are started (ask, plan, ...) and their events read with
// sight_client_next; several may be under way at once, told apart by their ids. Every function that
// can fail returns a sight_err; sight_error() is then one sentence about it.
//
// Threads: a client is used by one thread at a time; different clients by different threads at
// will. sight_error() is per thread.
//
//   sight_client *c;
//   if (sight_client_connect(&c, NULL, 2000)) ...sight_error()...
//   char id[SIGHT_ID_SIZE];
//   const char *json = "{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}";
//   sight_client_ask(c, id, json, NULL, 0);
//   for (sight_event e; !sight_client_next(c, &e, -1);) {
//       if (e.kind == SIGHT_DELTA) ...e.json...
//       if (e.kind == SIGHT_DONE || e.kind == SIGHT_ERROR) break;
//   }
//   sight_client_close(&c);
#ifndef SIGHT_CLIENT_H
#define SIGHT_CLIENT_H

#include <stddef.h>

#include "sight/err.h"
#include "sight/protocol.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sight_client sight_client;

// The calling thread's last error sentence, never NULL, valid until its next failing call.
const char *sight_error(void);

// Writes the endpoint used when none is given: the ipc socket of this user's daemon
// ($XDG_RUNTIME_DIR/sightd/sightd.sock; without that variable /run/sightd for root and
// /tmp/sightd-UID for others), or, when no such socket is there, that of the system's service
// (/run/sightd/sightd.sock) if that is. SIGHT_E_ARGUMENT when it does not fit into size.
sight_err sight_default_endpoint(char *out, size_t size);

// Connects and waits until the server answers. endpoint: "ipc:///path" or "tcp://host:port";
// NULL: the default. timeout_ms: how long to wait for a server, -1 forever.
// SIGHT_E_NOT_FOUND   no socket there, within the time
// SIGHT_E_PERMISSION  the socket belongs to somebody else
// SIGHT_E_TIMEOUT     a socket, but no answer
// SIGHT_E_ARGUMENT, SIGHT_E_PROTOCOL, SIGHT_E_MEMORY
sight_err sight_client_connect(sight_client **out, const char *endpoint, int timeout_ms);

// How to connect, for servers with keys and for what is added later. Zeroed fields mean what is said of them; set size always.
typedef struct sight_connect_options {
    size_t size;            // sizeof(sight_connect_options) of the program: fields are only ever added at the end
    const char *endpoint;   // as of sight_client_connect; also "tcp://host:port" of another machine
    int timeout_ms;         // alike; 0: the server must be there
    const char *key_file;   // file of this client's secret key ("NAME.key_secret"); NULL: it has none
    const char *server_key; // the server's public key: a file, or its 40 characters. Needed with key_file, and only then
} sight_connect_options;

// The codes of sight_client_connect, and
// SIGHT_E_PERMISSION   also: the server does not know this key, wants one, or has another key than server_key; the sentence says which
// SIGHT_E_ARGUMENT     also: a file that is no key
sight_err sight_client_open(sight_client **out, const sight_connect_options *options);

// Ends the connection; the server drops this client's requests within a second. Accepts NULL;
// leaves NULL.
void sight_client_close(sight_client **c);

// Bytes of a medium, referred to by a content part's "attachment" (0 is the first). Borrowed for
// the call.
typedef struct sight_part {
    const void *data;
    size_t size;
} sight_part;

// Starts a request; id_out [SIGHT_ID_SIZE] gets its id (NULL: not wanted). json: docs/PROTOCOL.md,
// "The request". What the server finds wrong comes as an error event; here fail only
// SIGHT_E_LIMIT (over the server's size limit), SIGHT_E_MEMORY, SIGHT_E_IO.
sight_err sight_client_ask(sight_client *c, char *id_out, const char *json, const sight_part *parts,
                           size_t n_parts);
// The same request, priced only: ends with a done whose JSON is the plan.
sight_err sight_client_plan(sight_client *c, char *id_out, const char *json,
                            const sight_part *parts, size_t n_parts);
// Asks the server to end one of this client's requests. The request itself ends with a done
// (finish_reason "cancelled"); the cancel's own events are not shown.
sight_err sight_client_cancel(sight_client *c, const char *id);

// One event. Strings belong to the client, valid until its next call.
typedef struct sight_event {
    sight_event_kind kind; // never SIGHT_ALIVE: those are taken care of
    const char *id;        // of the request
    const char *json;      // NUL-terminated
    size_t json_size;
} sight_event;

// Waits for the next event of any request. timeout_ms: 0 looks only, -1 waits forever.
// SIGHT_E_TIMEOUT    nothing came in that time (also when a signal interrupted the wait: a program
//                    that was sent SIGINT gets a chance to cancel)
// SIGHT_E_IO         the server is gone: requests under way are lost
// SIGHT_E_PROTOCOL   what came is not of the protocol
sight_err sight_client_next(sight_client *c, sight_event *out, int timeout_ms);

// Sends a request and waits for its end, keeping other requests' events for sight_client_next.
// *reply (malloc; free it) is the JSON of its done. An error event becomes the returned code and
// sentence. verb: SIGHT_PLAN, SIGHT_MODELS, SIGHT_STATUS. json NULL: {}.
sight_err sight_client_call(sight_client *c, char **reply, sight_verb verb, const char *json,
                            const sight_part *parts, size_t n_parts, int timeout_ms);

// The code of a name on the wire ("media"); SIGHT_E_INTERNAL for a name not in the list.
sight_err sight_err_parse(const char *name);

#ifdef __cplusplus
}
#endif

#endif
