#include "text/template.h"

#include <stdlib.h>
#include <string.h>

#include "text/template_lexer.h"
#include "text/template_parser.h"
#include "text/template_run.h"

#define MAX_SOURCE ((size_t)1 << 20)
#define MAX_TREE   ((size_t)256 << 20)

// The source with every line end as \n and without the last one, as Jinja reads it.
static sight_err keep_source(template *t, tstr *out, const char *text, size_t n)
{
    char *copy = tarena_alloc(&t->arena, n);
    size_t size = 0;
    if (!copy) return tarena_failure(&t->arena, n);
    for (size_t i = 0; i < n; i++) {
        bool pair = text[i] == '\r' && i + 1 < n && text[i + 1] == '\n';
        copy[size++] = text[i] == '\r' ? '\n' : text[i];
        i += pair;
    }
    if (size && copy[size - 1] == '\n') size--;
    *out = (tstr){ copy, size };
    return SIGHT_OK;
}

static sight_err compile(template *t, const char *text, size_t n, const char *what)
{
    tstr source;
    ttokens tokens = { 0 };
    t->arena.max = MAX_TREE;
    t->what = strdup(what);
    if (!t->what) return sight_fail(SIGHT_E_MEMORY, "no memory for %s", what);
    TRY(keep_source(t, &source, text, n));
    sight_err err = template_lex(&tokens, &t->arena, source, t->what);
    if (!err) err = template_parse(t, &tokens);
    free(tokens.items);
    return err;
}

// The line in which the first bytes stand that are not UTF-8, or 0.
static int misencoded_line(const char *text, size_t n)
{
    int line = 1;
    size_t k;
    for (size_t at = 0; at < n; at += k) {
        text_char((tstr){ text + at, n - at }, &k);
        if (k == 1 && (unsigned char)text[at] >= 0x80) return line;
        line += text[at] == '\n';
    }
    return 0;
}

sight_err template_compile(template **out, const char *text, size_t n, const char *what)
{
    if (n > MAX_SOURCE)
        return sight_fail(SIGHT_E_MODEL, "%s: %zu bytes, the limit is %zu", what, n, MAX_SOURCE);
    int line = misencoded_line(text, n);
    if (line) return sight_fail(SIGHT_E_MODEL, "%s:%d: not UTF-8", what, line);
    template *t = calloc(1, sizeof *t);
    if (!t) return sight_fail(SIGHT_E_MEMORY, "no memory for %s", what);
    sight_err err = compile(t, text, n, what);
    if (err) {
        template_destroy(&t);
        return err;
    }
    *out = t;
    return SIGHT_OK;
}

void template_destroy(template **t)
{
    if (!t || !*t) return;
    tarena_free(&(*t)->arena);
    free((*t)->what);
    free(*t);
    *t = NULL;
}

// The names of the template that the variables or the interpreter give a value.
static sight_err bind_globals(trun *r, const json_t *variables)
{
    size_t n = r->t->n_names;
    r->globals = template_alloc(r, n * sizeof *r->globals);
    if (!r->globals) return template_no_memory(r, n * sizeof *r->globals);
    for (size_t i = 0; i < n; i++) {
        tstr name = r->t->names[i];
        const tfunction *f = template_function_find(name);
        const json_t *v = json_object_getn(variables, name.text, name.n);
        if (v) TRY(tvalue_from_json(&r->globals[i], &r->arena, v));
        else if (f) r->globals[i] = (tvalue){ .kind = T_FUNCTION, .function = f };
    }
    return SIGHT_OK;
}

sight_err template_render(const template *t, char **out, size_t *size, const json_t *variables)
{
    buf text;
    buf_init(&text);
    trun r = { .t = t, .arena = { .max = TRUN_MAX_MEMORY }, .out = &text };
    sight_err err = bind_globals(&r, variables);
    if (!err) err = template_statements(&r, t->body);
    tarena_free(&r.arena);
    size_t n = text.size;
    char *taken = err ? NULL : n ? buf_take(&text) : strdup("");
    buf_done(&text);
    if (err) return err;
    if (!taken) return sight_fail(SIGHT_E_MEMORY, "no memory for the prompt of %s", t->what);
    *out = taken;
    *size = n;
    return SIGHT_OK;
}
