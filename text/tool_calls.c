#include "text/tool_calls.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

typedef enum call_state {
    CALL_NONE,  // between calls
    CALL_BEGIN, // its form is not known yet
    CALL_BODY,  // between parameters
    CALL_VALUE, // inside one
    CALL_JSON,  // {"name": ...}: read at the end
    CALL_OVER,  // what follows is no part of it
} call_state;

struct tool_calls {
    const json_t *tools;
    tool_sink sink;
    call_state state;
    buf text;  // of the call
    size_t at; // so much of it is read
    const json_t *properties; // of the function's parameters
    char *key; // of the value under way
    bool named, has_arguments;
};

sight_err tool_calls_create(tool_calls **out, const json_t *tools, const tool_sink *sink)
{
    tool_calls *t = calloc(1, sizeof *t);
    if (!t) return sight_fail(SIGHT_E_MEMORY, "no memory for tool calls");
    t->tools = tools;
    t->sink = *sink;
    buf_init(&t->text);
    *out = t;
    return SIGHT_OK;
}

void tool_calls_destroy(tool_calls **pt)
{
    tool_calls *t = *pt;
    if (!t) return;
    buf_done(&t->text);
    free(t->key);
    free(t);
    *pt = NULL;
}

bool tool_calls_failed(const tool_calls *t)
{
    return buf_failed(&t->text);
}

const json_t *tool_calls_function(const json_t *tool)
{
    const json_t *inner = json_object_get(tool, "function");
    return json_is_object(inner) ? inner : tool;
}

const json_t *tool_calls_find(const json_t *tools, const char *name)
{
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *function = tool_calls_function(json_array_get(tools, i));
        const char *its = json_string_value(json_object_get(function, "name"));
        if (its && !strcmp(its, name)) return function;
    }
    return NULL;
}

// ---- telling ----

static void begin_call(tool_calls *t, const char *name)
{
    const json_t *parameters = json_object_get(tool_calls_find(t->tools, name), "parameters");
    t->properties = json_object_get(parameters, "properties");
    t->named = true;
    t->sink.begins(t->sink.arg, name);
}

static void tell(tool_calls *t, const char *json)
{
    t->sink.arguments(t->sink.arg, json, strlen(json));
}

// Whether the schema has that type for the parameter, alone or in a list.
static bool has_type(const json_t *schema, const char *type)
{
    const json_t *given = json_object_get(schema, "type");
    if (json_is_string(given)) return !strcmp(json_string_value(given), type);
    for (size_t i = 0; i < json_array_size(given); i++) {
        const char *one = json_string_value(json_array_get(given, i));
        if (one && !strcmp(one, type)) return true;
    }
    return false;
}

// Text as the parameter's type wants it.
static json_t *typed(const json_t *schema, const char *text, size_t n)
{
    json_t *value = has_type(schema, "string") ? NULL : json_loadb(text, n, JSON_DECODE_ANY, NULL);
    // Without a schema words are strings, and so are numbers that a string was wanted for.
    if (!value) value = json_stringn(text, n);
    return value;
}

static void tell_value(tool_calls *t, const char *text, size_t n)
{
    json_t *value = typed(json_object_get(t->properties, t->key), text, n), *key = json_string(t->key);
    char *json = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    char *name = key ? json_dumps(key, JSON_ENCODE_ANY) : NULL;
    if (json && name) {
        tell(t, t->has_arguments ? ", " : "{");
        tell(t, name);
        tell(t, ": ");
        tell(t, json);
        t->has_arguments = true;
    }
    free(json);
    free(name);
    json_decref(value);
    json_decref(key);
}

static void end_call(tool_calls *t)
{
    if (!t->named) return;
    tell(t, t->has_arguments ? "}" : "{}");
    t->sink.ends(t->sink.arg);
    t->named = false;
}

// ---- reading ----

static void skip_space(tool_calls *t)
{
    while (t->at < t->text.size && isspace((unsigned char)t->text.data[t->at])) t->at++;
}

// Whether the rest begins with that word. *more: it may yet.
static bool begins_with(const tool_calls *t, const char *word, bool *more)
{
    const size_t n = strlen(word), left = t->text.size - t->at;
    const bool same = !memcmp(buf_text(&t->text) + t->at, word, left < n ? left : n);
    *more |= same && left < n;
    return same && left >= n;
}

// "<what=NAME>" at the front: NAME (malloc). NULL: it is not whole yet, or (*more false) something else.
static char *take_tag(tool_calls *t, const char *open, bool *more)
{
    if (!begins_with(t, open, more)) return NULL;
    const char *from = t->text.data + t->at + strlen(open);
    const char *end = strchr(from, '>');
    *more |= !end;
    if (!end) return NULL;
    t->at = (size_t)(end + 1 - t->text.data);
    while (end > from && isspace((unsigned char)end[-1])) end--;
    while (from < end && isspace((unsigned char)*from)) from++;
    return strndup(from, (size_t)(end - from));
}

static bool read_begin(tool_calls *t)
{
    bool more = false;
    skip_space(t);
    if (t->at == t->text.size) return false;
    if (t->text.data[t->at] == '{') {
        t->state = CALL_JSON;
        return false;
    }
    char *name = take_tag(t, "<function=", &more);
    if (name) {
        begin_call(t, name);
        t->state = CALL_BODY;
    } else if (!more) {
        t->state = CALL_OVER; // told as broken at the end
    }
    free(name);
    return t->state == CALL_BODY;
}

static bool read_body(tool_calls *t)
{
    bool more = false;
    skip_space(t);
    if (t->at == t->text.size) return false;
    if (begins_with(t, "</function>", &more)) {
        t->state = CALL_OVER;
        return false;
    }
    char *key = take_tag(t, "<parameter=", &more);
    if (key) {
        free(t->key);
        t->key = key;
        t->state = CALL_VALUE;
        return true;
    }
    if (!more) t->at++; // words that belong nowhere
    return !more;
}

static bool read_value(tool_calls *t)
{
    const char *from = buf_text(&t->text) + t->at, *end = strstr(from, "</parameter>");
    if (!end) return false;
    t->at = (size_t)(end - t->text.data) + strlen("</parameter>");
    if (*from == '\n' && from < end) from++;
    if (end > from && end[-1] == '\n') end--;
    tell_value(t, from, (size_t)(end - from));
    t->state = CALL_BODY;
    return true;
}

void tool_calls_open(tool_calls *t)
{
    if (t->state != CALL_NONE) tool_calls_close(t);
    buf_clear(&t->text);
    t->at = 0;
    t->named = t->has_arguments = false;
    t->state = CALL_BEGIN;
}

void tool_calls_push(tool_calls *t, const char *text, size_t n)
{
    if (t->state == CALL_NONE) return;
    buf_add(&t->text, text, n);
    if (buf_failed(&t->text)) return;
    for (bool goes_on = true; goes_on;) {
        goes_on = t->state == CALL_BEGIN   ? read_begin(t)
                  : t->state == CALL_BODY  ? read_body(t)
                  : t->state == CALL_VALUE ? read_value(t)
                                           : false;
    }
}

// {"name": ..., "arguments": {...}}; false: it is not that.
static bool read_json(tool_calls *t)
{
    json_t *call = json_loadb(t->text.data + t->at, t->text.size - t->at, JSON_DISABLE_EOF_CHECK, NULL);
    const char *name = json_string_value(json_object_get(call, "name"));
    const json_t *given = json_object_get(call, "arguments");
    if (!given) given = json_object_get(call, "parameters");
    char *json = json_is_object(given) ? json_dumps(given, JSON_COMPACT) : NULL;
    const bool good = name && (json || !given);
    if (good) {
        begin_call(t, name);
        tell(t, json ? json : "{}");
        t->sink.ends(t->sink.arg);
        t->named = false;
    }
    free(json);
    json_decref(call);
    return good;
}

void tool_calls_close(tool_calls *t)
{
    if (t->state == CALL_NONE) return;
    const bool json = t->state == CALL_JSON && read_json(t);
    const bool cut = t->state == CALL_VALUE; // its last value has no end: it is left out
    if (!json && (!t->named || cut)) t->sink.broken(t->sink.arg, buf_text(&t->text));
    end_call(t);
    t->state = CALL_NONE;
}
