// text/tool_calls.h - calls as models write them, to names and JSON arguments, while they are written.
//
// Two forms, between <tool_call> and </tool_call>. Qwen3.5's:
//     <function=NAME> <parameter=KEY> VALUE </parameter> ... </function>
// and that of Qwen3 and Qwen3-VL: {"name": "NAME", "arguments": {...}}. A value is what stands between its tags, without the
// line's end after the first and before the last. It becomes JSON of the type that the tool's schema gives the parameter: a
// string, or JSON as written where it is that, else a string.
//
// Threads: one at a time.
#ifndef SIGHT_TEXT_TOOL_CALLS_H
#define SIGHT_TEXT_TOOL_CALLS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

typedef struct tool_calls tool_calls;

// What becomes known. Pieces of arguments, one after another, are one JSON object.
typedef struct tool_sink {
    void (*begins)(void *arg, const char *name);
    void (*arguments)(void *arg, const char *json, size_t n);
    void (*ends)(void *arg);
    // A call that cannot be read: nothing of it was told, or it ends as it stands. text: as written.
    void (*broken)(void *arg, const char *text);
    void *arg;
} tool_sink;

// tools: the request's list, borrowed; entries {"type": "function", "function": {...}} or the function itself. SIGHT_E_MEMORY.
sight_err tool_calls_create(tool_calls **out, const json_t *tools, const tool_sink *sink);
void tool_calls_destroy(tool_calls **t); // accepts NULL; leaves NULL

void tool_calls_open(tool_calls *t);                             // <tool_call> was written
void tool_calls_push(tool_calls *t, const char *text, size_t n); // what follows it
void tool_calls_close(tool_calls *t);                            // </tool_call>, or the answer's end
bool tool_calls_failed(const tool_calls *t);                     // memory ran out

// The function that an entry of tools is or holds.
const json_t *tool_calls_function(const json_t *tool);
// The function of that name among tools; NULL: none.
const json_t *tool_calls_find(const json_t *tools, const char *name);

#endif
