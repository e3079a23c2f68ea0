#include "text/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf.h"
#include "text/chat_builtin.h"
#include "text/chat_messages.h"
#include "text/template.h"

#define MAX_TEMPLATE ((size_t)1 << 20)
#define MAX_CONFIG   ((size_t)64 << 20) // added tokens are listed there again

// Tokens by their names in tokenizer_config.json, which some templates write out.
static const char *const special_names[] = { "bos_token", "eos_token", "pad_token", "unk_token" };

#define N_SPECIALS (sizeof special_names / sizeof *special_names)

struct chat {
    template *template;
    const tokenizer *tokenizer;
    char *specials[N_SPECIALS]; // NULL: not given
};

// ---- opening ----

static char *path_in(const char *dir, const char *name)
{
    buf b;
    buf_init(&b);
    buf_printf(&b, "%s/%s", dir, name);
    return buf_take(&b);
}

// An optional JSON file; *out stays NULL when there is none.
static sight_err read_optional(json_t **out, const char *dir, const char *name)
{
    char *path = path_in(dir, name);
    if (!path) return sight_fail(SIGHT_E_MEMORY, "no memory for a path");
    sight_err err = json_parse_file(out, path, MAX_CONFIG, SIGHT_E_MODEL);
    free(path);
    return err == SIGHT_E_NOT_FOUND ? SIGHT_OK : err;
}

static sight_err compile_file(template **out, const char *dir)
{
    char *path = path_in(dir, "chat_template.jinja"), *text;
    size_t n;
    if (!path) return sight_fail(SIGHT_E_MEMORY, "no memory for a path");
    sight_err err = file_read(&text, &n, path, MAX_TEMPLATE);
    free(path);
    if (err) return err == SIGHT_E_NOT_FOUND ? SIGHT_OK : err;
    err = template_compile(out, text, n, "chat_template.jinja");
    free(text);
    return err;
}

// chat_template in a JSON file: a string, or a list of them by name, of which "default" counts.
static sight_err compile_field(template **out, const json_t *config, const char *what)
{
    const json_t *field = json_object_get(config, "chat_template"), *entry;
    for (size_t i = 0; json_is_array(field) && i < json_array_size(field); i++) {
        entry = json_array_get(field, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name && strcmp(name, "default") == 0) field = json_object_get(entry, "template");
    }
    if (!field || json_is_null(field)) return SIGHT_OK;
    if (!json_is_string(field))
        return sight_fail(SIGHT_E_MODEL, "%s: chat_template is neither a string nor a list with a "
                                         "default", what);
    return template_compile(out, json_string_value(field), json_string_length(field), what);
}

// A special token's text: a string, or an object with content.
static sight_err read_specials(chat *c, const json_t *config)
{
    for (size_t i = 0; i < N_SPECIALS; i++) {
        const json_t *v = json_object_get(config, special_names[i]);
        if (json_is_object(v)) v = json_object_get(v, "content");
        if (!json_is_string(v)) continue;
        c->specials[i] = strdup(json_string_value(v));
        if (!c->specials[i]) return sight_fail(SIGHT_E_MEMORY, "no memory for special tokens");
    }
    return SIGHT_OK;
}

// A token that the metadata names by its id.
static sight_err read_special(chat *c, size_t i, const gguf *g, const char *key)
{
    int64_t id = -1;
    size_t n;
    sight_err err = gguf_get_int(g, &id, key, 0, INT32_MAX);
    if (err || id < 0 || !tokenizer_has(c->tokenizer, (int32_t)id)) return err;
    const char *text = tokenizer_bytes(c->tokenizer, (int32_t)id, &n);
    c->specials[i] = strndup(text, n);
    return c->specials[i] ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for special tokens");
}

static sight_err open_gguf(chat *c, const char *path)
{
    static const char *const keys[N_SPECIALS] = {
        "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
        "tokenizer.ggml.padding_token_id", "tokenizer.ggml.unknown_token_id"};
    gguf *g = NULL;
    gguf_text text = {0};
    sight_err err = gguf_open(&g, path);
    for (size_t i = 0; i < N_SPECIALS && !err; i++) err = read_special(c, i, g, keys[i]);
    if (!err) err = gguf_get_text(g, &text, "tokenizer.chat_template");
    if (!err && text.n > MAX_TEMPLATE) {
        err = sight_fail(SIGHT_E_LIMIT,
                         "'%s': tokenizer.chat_template has %zu bytes, the limit is %zu", path,
                         text.n, MAX_TEMPLATE);
    }
    if (!err && text.n) {
        err = template_compile(&c->template, text.data, text.n, "tokenizer.chat_template");
    }
    gguf_close(&g);
    return err;
}

static sight_err open_in(chat *c, const char *dir, json_t **tokenizer_config, json_t **separate)
{
    sight_err err = read_optional(tokenizer_config, dir, "tokenizer_config.json");
    if (!err && *tokenizer_config) err = read_specials(c, *tokenizer_config);
    if (!err) err = compile_file(&c->template, dir);
    if (err || c->template) return err;
    err = read_optional(separate, dir, "chat_template.json");
    if (!err && *separate) err = compile_field(&c->template, *separate, "chat_template.json");
    if (err || c->template || !*tokenizer_config) return err;
    return compile_field(&c->template, *tokenizer_config, "tokenizer_config.json");
}

sight_err chat_open(chat **out, const char *dir, const tokenizer *t, bool *built_in)
{
    json_t *tokenizer_config = NULL, *separate = NULL;
    chat *c = calloc(1, sizeof *c);
    if (!c) return sight_fail(SIGHT_E_MEMORY, "no memory for a chat template");
    c->tokenizer = t;
    sight_err err = checkpoint_is_gguf(dir) ? open_gguf(c, dir)
                                            : open_in(c, dir, &tokenizer_config, &separate);
    json_decref(tokenizer_config);
    json_decref(separate);
    bool own = !err && !c->template;
    if (own)
        err = template_compile(&c->template, chat_builtin_template, strlen(chat_builtin_template),
                               "the built-in chat template");
    if (err) {
        chat_close(&c);
        return err;
    }
    *out = c;
    if (built_in) *built_in = own;
    return SIGHT_OK;
}

void chat_close(chat **c)
{
    if (!c || !*c) return;
    template_destroy(&(*c)->template);
    for (size_t i = 0; i < N_SPECIALS; i++) free((*c)->specials[i]);
    free(*c);
    *c = NULL;
}

// ---- rendering ----

// What a template sees beside messages and tools. Nonzero when memory ran out.
static int add_options(json_t *variables, const chat *c, const chat_options *options)
{
    int failed = 0;
    failed |= json_object_set_new(variables, "documents", json_null());
    failed |= json_object_set_new(variables, "add_generation_prompt",
                                  json_boolean(!options->no_generation_prompt));
    failed |= json_object_set_new(variables, "add_vision_id", json_boolean(options->add_vision_id));
    if (options->enable_thinking >= 0)
        failed |= json_object_set_new(variables, "enable_thinking",
                                      json_boolean(options->enable_thinking));
    for (size_t i = 0; i < N_SPECIALS; i++) {
        if (!c->specials[i]) continue;
        failed |= json_object_set_new(variables, special_names[i], json_string(c->specials[i]));
    }
    return failed;
}

static sight_err build_variables(json_t *variables, const chat *c, const json_t *messages,
                                 const json_t *tools, const chat_options *options)
{
    json_t *seen;
    sight_err err = chat_messages(&seen, messages, c->tokenizer);
    if (err) return err;
    int failed = json_object_set_new(variables, "messages", seen);
    err = chat_tools(&seen, tools, c->tokenizer);
    if (err) return err;
    failed |= json_object_set_new(variables, "tools", seen);
    failed |= add_options(variables, c, options);
    return failed ? sight_fail(SIGHT_E_MEMORY, "no memory for a conversation") : SIGHT_OK;
}

sight_err chat_render(const chat *c, char **prompt, size_t *size, const json_t *messages,
                      const json_t *tools, const chat_options *options)
{
    static const chat_options defaults = { .enable_thinking = -1 };
    json_t *variables = json_object();
    if (!variables) return sight_fail(SIGHT_E_MEMORY, "no memory for a conversation");
    sight_err err = build_variables(variables, c, messages, tools, options ? options : &defaults);
    if (!err) err = template_render(c->template, prompt, size, variables);
    json_decref(variables);
    return err;
}

bool chat_prompt_opens_thinking(const char *prompt, size_t size)
{
    static const char open[] = "<think>";
    size_t n = sizeof open - 1;
    while (size > 0 && (prompt[size - 1] == '\n' || prompt[size - 1] == ' ')) size--;
    return size >= n && memcmp(prompt + size - n, open, n) == 0;
}
