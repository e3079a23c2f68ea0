// sight/protocol.h - the words and numbers of the wire, shared by server and clients.
//
// docs/PROTOCOL.md holds the grammar. A message is a ZeroMQ multipart message:
//
//   to the server:   "SIGHT1", request id, verb, JSON, then binary parts (pictures, clips)
//   to the client:   "SIGHT1", request id, event, JSON
//
// A request ends with exactly one `done` or `error`.
#ifndef SIGHT_PROTOCOL_H
#define SIGHT_PROTOCOL_H

#define SIGHT_PROTOCOL "SIGHT1"

// A request id is chosen by the client, unique among its own unfinished requests: 1..64 bytes of
// ASCII letters, digits, '-', '_' and '.'.
#define SIGHT_ID_MAX  64
#define SIGHT_ID_SIZE (SIGHT_ID_MAX + 1)

// Binary parts in one message, at most; the server may allow fewer.
#define SIGHT_PARTS_MAX 64

typedef enum sight_verb {
    SIGHT_ASK,     // answer a question; JSON is the request
    SIGHT_CANCEL,  // {"id": "..."}: end one of this client's own requests
    SIGHT_PLAN,    // what an ask would take; JSON is the request; nothing is decoded
    SIGHT_MODELS,  // what is loaded and found
    SIGHT_STATUS,  // the server, its queue, its limits
    SIGHT_WATCH,   // cameras: refused by name for now
    SIGHT_UNWATCH,
    SIGHT_VERB_COUNT
} sight_verb;

typedef enum sight_event_kind {
    SIGHT_ACCEPTED, // {"place", "state", ...}: in the queue; again whenever place or state changes
    SIGHT_PROGRESS, // {"stage": "decode" | "encode" | "read", "done", "total"}
    SIGHT_WARNING,  // {"message"}: something to know; the request goes on
    SIGHT_DELTA,    // {"channel": "answer" | "thinking" | "tool", "text"}
    SIGHT_DONE,     // the result; the last event of a request
    SIGHT_ERROR,    // {"code", "message"}; the last event of a request
    SIGHT_ALIVE,    // {}: sent while nothing else is, so that both sides notice a vanished peer
    SIGHT_EVENT_COUNT
} sight_event_kind;

// The words on the wire ("ask", "delta"); NULL outside the list.
const char *sight_verb_name(sight_verb verb);
const char *sight_event_name(sight_event_kind kind);

// The value of a word; the COUNT when it is none of them.
sight_verb sight_verb_parse(const char *word, unsigned long size);
sight_event_kind sight_event_parse(const char *word, unsigned long size);

#endif
