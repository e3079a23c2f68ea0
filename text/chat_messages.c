#include "text/chat_messages.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "text/marks.h"

// How much of a text is kept from becoming tokens.
typedef enum guard {
    GUARD_TEXT,      // no added token, not even one that the template's text begins
    GUARD_ASSISTANT, // the same for special tokens only: templates look for </think> in it
    GUARD_NAMES      // no added token inside; a beginning stays as it is, for templates compare
                     // names: a role "tool" is also the rest of "<tool"
} guard;

static sight_err no_memory(void)
{
    return sight_fail(SIGHT_E_MEMORY, "no memory for a conversation");
}

// Puts a new value into an object or array, or fails when there is none.
static sight_err put(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new_nocheck(object, key, value) ? no_memory() : SIGHT_OK;
}

static sight_err append(json_t *array, json_t *value)
{
    return json_array_append_new(array, value) ? no_memory() : SIGHT_OK;
}

static void guard_text(buf *out, const char *text, size_t n, const tokenizer *t, guard g)
{
    if (g != GUARD_NAMES) {
        marks_add(out, text, n, t, g == GUARD_ASSISTANT);
        return;
    }
    // Behind a character that no token has, a text is not taken for the rest of one.
    buf whole, marked;
    buf_init(&whole);
    buf_init(&marked);
    buf_putc(&whole, '\1');
    buf_add(&whole, text, n);
    marks_add(&marked, buf_text(&whole), whole.size, t, false);
    if (buf_failed(&whole) || buf_failed(&marked)) out->failed = true;
    else buf_add(out, marked.data + 1, marked.size - 1);
    buf_done(&whole);
    buf_done(&marked);
}

static sight_err guarded_string(json_t **out, const json_t *s, const tokenizer *t, guard g)
{
    buf b;
    buf_init(&b);
    guard_text(&b, json_string_value(s), json_string_length(s), t, g);
    *out = buf_failed(&b) ? NULL : json_stringn_nocheck(buf_text(&b), b.size);
    buf_done(&b);
    return *out ? SIGHT_OK : no_memory();
}

static sight_err guarded(json_t **out, const json_t *v, const tokenizer *t, guard g);

static sight_err guarded_array(json_t *out, const json_t *v, const tokenizer *t, guard g)
{
    for (size_t i = 0; i < json_array_size(v); i++) {
        json_t *item;
        sight_err err = guarded(&item, json_array_get(v, i), t, g);
        if (!err) err = append(out, item);
        if (err) return err;
    }
    return SIGHT_OK;
}

static sight_err put_guarded_key(json_t *out, const char *key, json_t *value, const tokenizer *t,
                                 guard g)
{
    buf b;
    buf_init(&b);
    guard_text(&b, key, strlen(key), t, g);
    sight_err err = SIGHT_OK;
    if (buf_failed(&b)) {
        json_decref(value);
        err = no_memory();
    } else {
        err = put(out, buf_text(&b), value);
    }
    buf_done(&b);
    return err;
}

static sight_err guarded_object(json_t *out, json_t *v, const tokenizer *t, guard g)
{
    const char *key;
    json_t *value, *copy;
    json_object_foreach(v, key, value)
    {
        sight_err err = guarded(&copy, value, t, g);
        if (!err) err = put_guarded_key(out, key, copy, t, g);
        if (err) return err;
    }
    return SIGHT_OK;
}

// A deep copy in which every string and every object's key is guarded.
static sight_err guarded(json_t **out, const json_t *v, const tokenizer *t, guard g)
{
    if (json_is_string(v)) return guarded_string(out, v, t, g);
    json_t *copy = json_is_array(v) ? json_array() : json_is_object(v) ? json_object()
                                                                       : json_deep_copy(v);
    if (!copy) return no_memory();
    sight_err err = SIGHT_OK;
    if (json_is_array(v)) err = guarded_array(copy, v, t, g);
    else if (json_is_object(v)) err = guarded_object(copy, (json_t *)v, t, g); // foreach: no const
    if (err) json_decref(copy);
    else *out = copy;
    return err;
}

// ---- content ----

// "image", "video" or NULL: a part's kind by its type or, without one, by its field.
static const char *medium(const json_t *part)
{
    static const char *const names[][2] = { { "image", "image" },
                                            { "image_url", "image" },
                                            { "video", "video" },
                                            { "video_url", "video" } };
    const char *type = json_string_value(json_object_get(part, "type"));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (type ? strcmp(type, names[i][0]) == 0 : json_object_get(part, names[i][0]) != NULL)
            return names[i][1];
    }
    return NULL;
}

static sight_err copy_part(json_t **out, const json_t *part, const tokenizer *t, guard g,
                           const char *where)
{
    if (!json_is_object(part))
        return sight_fail(SIGHT_E_ARGUMENT, "%s must be an object with a type", where);
    const char *kind = medium(part);
    if (kind) {
        // Templates ask for the key alone; what it holds is not theirs.
        *out = json_pack("{s:s, s:b}", "type", kind, kind, 1);
        return *out ? SIGHT_OK : no_memory();
    }
    const json_t *text = json_object_get(part, "text");
    if (text && !json_is_string(text))
        return sight_fail(SIGHT_E_ARGUMENT, "%s: 'text' must be a string", where);
    json_t *safe = NULL;
    sight_err err = guarded(out, part, t, GUARD_NAMES);
    if (err || !text) return err;
    err = guarded_string(&safe, text, t, g);
    if (!err) err = put(*out, "text", safe);
    if (err) json_decref(*out);
    return err;
}

static sight_err copy_parts(json_t *out, const json_t *content, const tokenizer *t, guard g,
                            const char *where)
{
    char at[160];
    for (size_t i = 0; i < json_array_size(content); i++) {
        json_t *part;
        snprintf(at, sizeof at, "%s[%zu]", where, i);
        sight_err err = copy_part(&part, json_array_get(content, i), t, g, at);
        if (!err) err = append(out, part);
        if (err) return err;
    }
    return SIGHT_OK;
}

static sight_err copy_content(json_t **out, const json_t *content, const tokenizer *t, guard g,
                              const char *where)
{
    char at[128];
    snprintf(at, sizeof at, "%s.content", where);
    if (!json_is_array(content)) return guarded(out, content, t, g);
    json_t *parts = json_array();
    if (!parts) return no_memory();
    sight_err err = copy_parts(parts, content, t, g, at);
    if (err) json_decref(parts);
    else *out = parts;
    return err;
}

// ---- tool calls ----

// Arguments are an object, also when a client gives its JSON text.
static sight_err copy_arguments(json_t **out, const json_t *arguments, const tokenizer *t,
                                const char *where)
{
    json_error_t e;
    json_t *parsed = NULL;
    if (json_is_string(arguments)) {
        parsed = json_loadb(json_string_value(arguments), json_string_length(arguments),
                            JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
        if (!json_is_object(parsed)) {
            json_decref(parsed);
            return sight_fail(SIGHT_E_ARGUMENT, "%s: 'arguments' is not a JSON object", where);
        }
        arguments = parsed;
    }
    sight_err err = guarded(out, arguments, t, GUARD_TEXT);
    json_decref(parsed);
    return err;
}

// A call, or the function inside of one.
static sight_err copy_function(json_t **out, const json_t *call, const tokenizer *t,
                               const char *where)
{
    const json_t *arguments = json_object_get(call, "arguments");
    json_t *copy = NULL, *safe = NULL;
    sight_err err = guarded(&copy, call, t, GUARD_NAMES);
    if (!err && arguments && !json_is_null(arguments)) {
        err = copy_arguments(&safe, arguments, t, where);
        if (!err) err = put(copy, "arguments", safe);
    } else if (!err && arguments) {
        json_object_del(copy, "arguments");
    }
    if (err) json_decref(copy);
    else *out = copy;
    return err;
}

static sight_err copy_call(json_t **out, const json_t *call, const tokenizer *t, const char *where)
{
    const json_t *function = json_object_get(call, "function");
    const json_t *named = function ? function : call;
    if (!json_is_object(named) || !json_is_string(json_object_get(named, "name")))
        return sight_fail(SIGHT_E_ARGUMENT, "%s must be an object with the function's name", where);
    if (!function) return copy_function(out, call, t, where);
    json_t *copy = NULL, *inner = NULL;
    sight_err err = guarded(&copy, call, t, GUARD_NAMES);
    if (!err) err = copy_function(&inner, function, t, where);
    if (!err) err = put(copy, "function", inner);
    if (err) json_decref(copy);
    else *out = copy;
    return err;
}

static sight_err copy_calls(json_t **out, const json_t *calls, const tokenizer *t,
                            const char *where)
{
    char at[160];
    if (json_is_null(calls)) {
        *out = json_null();
        return SIGHT_OK;
    }
    if (!json_is_array(calls))
        return sight_fail(SIGHT_E_ARGUMENT, "%s: 'tool_calls' must be an array", where);
    json_t *copy = json_array(), *call;
    sight_err err = copy ? SIGHT_OK : no_memory();
    for (size_t i = 0; i < json_array_size(calls) && !err; i++) {
        snprintf(at, sizeof at, "%s.tool_calls[%zu]", where, i);
        err = copy_call(&call, json_array_get(calls, i), t, at);
        if (!err) err = append(copy, call);
    }
    if (err) json_decref(copy);
    else *out = copy;
    return err;
}

// ---- messages ----

// The names under which clients send an assistant's reasoning; templates read the first.
static const char *const reasoning_names[] = { "reasoning_content", "thinking", "reasoning" };

static sight_err add_reasoning(json_t *out, const json_t *message, const tokenizer *t)
{
    for (size_t i = 0; i < sizeof reasoning_names / sizeof *reasoning_names; i++) {
        const json_t *v = json_object_get(message, reasoning_names[i]);
        json_t *copy;
        if (!v || json_is_null(v)) continue;
        sight_err err = guarded(&copy, v, t, GUARD_TEXT);
        return err ? err : put(out, reasoning_names[0], copy);
    }
    return SIGHT_OK;
}

static sight_err add_field(json_t *out, const char *key, const json_t *value, const tokenizer *t,
                           bool assistant, const char *where)
{
    json_t *copy;
    sight_err err;
    if (strcmp(key, "content") == 0) {
        err = copy_content(&copy, value, t, assistant ? GUARD_ASSISTANT : GUARD_TEXT, where);
    } else if (strcmp(key, "tool_calls") == 0) {
        err = copy_calls(&copy, value, t, where);
    } else {
        err = guarded(&copy, value, t, GUARD_NAMES);
    }
    return err ? err : put_guarded_key(out, key, copy, t, GUARD_NAMES);
}

static sight_err copy_message(json_t *out, json_t *message, const tokenizer *t, const char *where)
{
    const char *role = json_string_value(json_object_get(message, "role")), *key;
    if (!role) return sight_fail(SIGHT_E_ARGUMENT, "%s must be an object with a role", where);
    bool assistant = strcmp(role, "assistant") == 0;
    json_t *value;
    json_object_foreach(message, key, value)
    {
        sight_err err = add_field(out, key, value, t, assistant, where);
        if (err) return err;
    }
    return add_reasoning(out, message, t);
}

static sight_err copy_all(json_t *out, const json_t *messages, const tokenizer *t)
{
    char where[64];
    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *copy = json_object();
        if (append(out, copy)) return no_memory();
        snprintf(where, sizeof where, "messages[%zu]", i);
        sight_err err = copy_message(copy, json_array_get(messages, i), t, where);
        if (err) return err;
    }
    return SIGHT_OK;
}

sight_err chat_messages(json_t **out, const json_t *messages, const tokenizer *t)
{
    if (!json_is_array(messages))
        return sight_fail(SIGHT_E_ARGUMENT, "'messages' must be an array");
    if (json_array_size(messages) == 0)
        return sight_fail(SIGHT_E_ARGUMENT, "Cannot apply chat template to an empty conversation. "
                                            "Provide at least one message.");
    json_t *copy = json_array();
    if (!copy) return no_memory();
    sight_err err = copy_all(copy, messages, t);
    if (err) json_decref(copy);
    else *out = copy;
    return err;
}

sight_err chat_tools(json_t **out, const json_t *tools, const tokenizer *t)
{
    if (!tools || json_is_null(tools)) {
        *out = json_null();
        return SIGHT_OK;
    }
    if (!json_is_array(tools)) return sight_fail(SIGHT_E_ARGUMENT, "'tools' must be an array");
    return guarded(out, tools, t, GUARD_NAMES);
}
