// daemon/calls.h - the calls of an answer: events while they are written, and the list at the end.
//
// Threads: the engine's.
#ifndef SIGHT_DAEMON_CALLS_H
#define SIGHT_DAEMON_CALLS_H

#include <jansson.h>
#include <stdbool.h>

#include "daemon/task.h"
#include "text/tool_calls.h"

typedef struct calls calls;

typedef struct calls_sink {
    void (*delta)(void *arg, json_t *body);           // body is the callee's
    void (*warning)(void *arg, const char *line);
    void *arg;
} calls_sink;

// Borrows tools. SIGHT_E_MEMORY.
sight_err calls_create(calls **out, const json_t *tools, const calls_sink *sink);
void calls_destroy(calls **c); // accepts NULL; leaves NULL

void calls_border(calls *c, bool opens); // <tool_call>, </tool_call>
void calls_text(calls *c, const char *text, size_t n);
bool calls_failed(const calls *c);
// [{"id", "type": "function", "function": {"name", "arguments"}}] so far; a new reference. NULL: there is none.
json_t *calls_list(const calls *c);

// The ids that an answer begins with which has to be a call: of one function, or of any. none: *out stays empty.
sight_err calls_opening(token_list *out, const task *t, int32_t tool_open);

#endif
