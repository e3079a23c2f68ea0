// daemon/models/router.h - a request that goes from model to model until one is sure enough.
//
// What a model answers is kept until it is decided: nothing is sent that might be taken back. Accepted, it is sent as it stands
// and goes on as if nothing had been; else it is dropped, and the next model is asked. The last one's answer is not looked
// at. When the next one cannot answer, one that an earlier model had ended is sent after all.
//
// Threads: one at a time, as the ticket that it belongs to.
#ifndef SIGHT_DAEMON_ROUTER_H
#define SIGHT_DAEMON_ROUTER_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "daemon/models/confidence.h"
#include "daemon/models/model_set.h"
#include "sight/protocol.h"

typedef struct route route;

// Copies spec. SIGHT_E_MEMORY.
sight_err route_create(route **out, const router_spec *spec);
void route_destroy(route **r); // accepts NULL; leaves NULL

const char *route_model(const route *r); // to be asked now
bool route_looks(const route *r);        // at what it says: its confidence is wanted
bool route_gives_up(const route *r);     // on it: it is to be ended, and route_next called
void route_next(route *r);               // only when there is a next one
int route_asked(const route *r);         // models asked before this one

// Sends events on; body is borrowed.
typedef void route_sink(void *arg, sight_event_kind kind, const json_t *body);

// An event of the model. Sent on, kept, or dropped; a `done` that is sent says which models were asked ("routed").
// SIGHT_E_MEMORY: the answer cannot be kept.
sight_err route_event(route *r, sight_event_kind kind, const json_t *body, const confidence *c, route_sink *sink, void *arg);
// After a step of the model: whether enough is known to decide.
void route_look(route *r, const confidence *c, route_sink *sink, void *arg);
// The model cannot be asked, or cannot do what is asked for. false: nobody else is left to ask; an answer that was kept has
// been sent then (*sent), or the error is the request's.
bool route_fails(route *r, sight_err code, const char *line, bool *sent, route_sink *sink, void *arg);

#endif
