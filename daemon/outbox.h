// daemon/outbox.h - what worker threads have to say, waiting for the server thread.
//
// A bounded queue with a file descriptor to wait on: a worker that is far ahead of the server
// waits.
// Threads: outbox_put from any; the rest from the server's.
#ifndef SIGHT_DAEMON_OUTBOX_H
#define SIGHT_DAEMON_OUTBOX_H

#include <stdbool.h>

#include "base/err.h"
#include "daemon/watch/record.h"
#include "sight/protocol.h"

typedef enum outbox_kind {
    OUTBOX_EVENT,   // for the client
    OUTBOX_PLANNED, // pricing has ended
    OUTBOX_WANTS,   // media have to be fetched before it can be priced
    OUTBOX_FETCHED, // they are there
    OUTBOX_RAN,     // running has ended; nothing more comes
    OUTBOX_MODELS,  // the state of a model has changed; of no ticket
} outbox_kind;

typedef struct outbox_item {
    struct outbox_item *next;
    outbox_kind kind;
    void *ticket;
    sight_event_kind event;
    char *json; // malloc; of an event
    record news; // what it says
} outbox_item;

typedef struct outbox outbox;

// SIGHT_E_MEMORY, SIGHT_E_IO.
sight_err outbox_create(outbox **out);
void outbox_destroy(outbox **o); // accepts NULL; leaves NULL
// From now on items are dropped and nobody waits.
void outbox_close(outbox *o);
// Copies the item; takes over json, also when there is no memory to keep an event (false).
bool outbox_put(outbox *o, const outbox_item *item);
// The oldest item, or NULL; outbox_item_destroy it.
outbox_item *outbox_take(outbox *o);
void outbox_item_destroy(outbox_item **item);
// Readable while there may be items; outbox_take resets it.
int outbox_fd(const outbox *o);

#endif
