// ipc/wire.h - frames to structs and back, without sockets.
//
// The frames here are those after a ROUTER's routing id. Everything that comes from outside is
// checked in this file, so that it can be fuzzed alone. Threads: any.
#ifndef SIGHT_IPC_WIRE_H
#define SIGHT_IPC_WIRE_H

#include <stddef.h>

#include "base/err.h"
#include "sight/protocol.h"

typedef struct wire_frame {
    const void *data;
    size_t size;
} wire_frame;

// A message to the server. Pointers are into the frames.
typedef struct wire_request {
    char id[SIGHT_ID_SIZE];
    sight_verb verb;
    const char *json; // not NUL-terminated
    size_t json_size;
    const wire_frame *parts;
    size_t n_parts;
} wire_request;

// SIGHT_E_PROTOCOL with what is wrong; out->id is set as soon as it is known to be good (""
// before), so that the refusal can carry it. SIGHT_E_UNSUPPORTED: a verb of the protocol that this build
// lacks.
sight_err wire_read_request(wire_request *out, const wire_frame *frames, size_t n);

// A message to the client.
typedef struct wire_event {
    char id[SIGHT_ID_SIZE];
    sight_event_kind kind;
    const char *json;
    size_t json_size;
} wire_event;

// SIGHT_E_PROTOCOL.
sight_err wire_read_event(wire_event *out, const wire_frame *frames, size_t n);

// Fills the first four frames of a message; they point at the arguments.
#define WIRE_HEAD_FRAMES 4
void wire_write_request(wire_frame out[WIRE_HEAD_FRAMES], const char *id, sight_verb verb,
                        const char *json, size_t json_size);
void wire_write_event(wire_frame out[WIRE_HEAD_FRAMES], const char *id, sight_event_kind kind,
                      const char *json, size_t json_size);

// Whether id may be a request's: 1..64 of letters, digits, '-', '_', '.'.
int wire_id_is_good(const char *id, size_t size);

#endif
