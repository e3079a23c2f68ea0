#include "daemon/calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/buf.h"

#define SHOWN 200 // bytes of a call that cannot be read

struct calls {
    tool_calls *reader;
    calls_sink sink;
    json_t *list;
    char id[32];
    char *name;
    buf arguments;
    int index; // of the call under way
    bool failed;
};

// Unlike those of earlier answers in the same conversation.
static void new_id(calls *c)
{
    uint64_t random = 0;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random) random = (uint64_t)(size_t)c;
    snprintf(c->id, sizeof c->id, "call_%016llx", (unsigned long long)(random + (uint64_t)c->index));
}

static void on_begin(void *arg, const char *name)
{
    calls *c = arg;
    c->index = (int)json_array_size(c->list);
    new_id(c);
    free(c->name);
    c->name = strdup(name);
    buf_clear(&c->arguments);
    c->sink.delta(c->sink.arg, json_pack("{s:s, s:i, s:s, s:s}", "channel", "tool", "index", c->index, "id", c->id,
                                         "name", name));
}

static void on_arguments(void *arg, const char *json, size_t n)
{
    calls *c = arg;
    buf_add(&c->arguments, json, n);
    c->sink.delta(c->sink.arg, json_pack("{s:s, s:i, s:s%}", "channel", "tool", "index", c->index, "arguments", json, n));
}

static void on_end(void *arg)
{
    calls *c = arg;
    json_t *call = json_pack("{s:s, s:s, s:{s:s, s:s%}}", "id", c->id, "type", "function", "function", "name",
                             c->name ? c->name : "", "arguments", buf_text(&c->arguments), c->arguments.size);
    if (!call || json_array_append_new(c->list, call)) c->failed = true;
}

static void on_broken(void *arg, const char *text)
{
    calls *c = arg;
    char line[SHOWN + 80];
    snprintf(line, sizeof line, "the model wrote a call that cannot be read: %.*s", SHOWN, text);
    c->sink.warning(c->sink.arg, line);
}

sight_err calls_create(calls **out, const json_t *tools, const calls_sink *sink)
{
    calls *c = calloc(1, sizeof *c);
    const tool_sink reads = {on_begin, on_arguments, on_end, on_broken, c};
    if (!c) return sight_fail(SIGHT_E_MEMORY, "no memory for tool calls");
    c->sink = *sink;
    c->list = json_array();
    buf_init(&c->arguments);
    sight_err err = c->list ? tool_calls_create(&c->reader, tools, &reads)
                            : sight_fail(SIGHT_E_MEMORY, "no memory for tool calls");
    if (err) calls_destroy(&c);
    else *out = c;
    return err;
}

void calls_destroy(calls **pc)
{
    calls *c = *pc;
    if (!c) return;
    tool_calls_destroy(&c->reader);
    json_decref(c->list);
    buf_done(&c->arguments);
    free(c->name);
    free(c);
    *pc = NULL;
}

void calls_border(calls *c, bool opens)
{
    if (opens) tool_calls_open(c->reader);
    else tool_calls_close(c->reader);
}

void calls_text(calls *c, const char *text, size_t n)
{
    tool_calls_push(c->reader, text, n);
}

bool calls_failed(const calls *c)
{
    return c->failed || tool_calls_failed(c->reader) || buf_failed(&c->arguments);
}

json_t *calls_list(const calls *c)
{
    return json_array_size(c->list) ? json_incref(c->list) : NULL;
}

// ---- answers that have to be a call ----

static const char *only_name(const request *q)
{
    if (q->tool_name) return q->tool_name;
    if (json_array_size(q->tools) != 1) return NULL;
    return json_string_value(json_object_get(tool_calls_function(json_array_get(q->tools, 0)), "name"));
}

sight_err calls_opening(token_list *out, const task *t, int32_t tool_open)
{
    if (!t->asked->tool_required || tool_open < 0) return SIGHT_OK;
    const char *name = only_name(t->asked);
    buf text;
    buf_init(&text);
    if (t->calls_in_json) buf_puts(&text, "\n{\"name\": \"");
    else buf_puts(&text, "\n<function=");
    if (name) buf_printf(&text, t->calls_in_json ? "%s\", \"arguments\": " : "%s>\n", name);
    sight_err err = buf_failed(&text) ? sight_fail(SIGHT_E_MEMORY, "no memory for a call")
                                      : token_list_add(out, tool_open);
    if (!err) {
        err = tokenizer_encode(engine_tokenizer(t->model), out, text.data, text.size, TOKENIZER_PLAIN);
    }
    buf_done(&text);
    return err;
}
