#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text/template_run.h"

sight_err template_step(trun *r, size_t n)
{
    if (n > TRUN_MAX_STEPS || (r->steps += (int64_t)n) > TRUN_MAX_STEPS) {
        r->steps = TRUN_MAX_STEPS;
        return sight_fail(SIGHT_E_LIMIT, "%s:%d: the template takes over %d steps", r->t->what,
                          r->line, TRUN_MAX_STEPS);
    }
    return SIGHT_OK;
}

sight_err template_deeper(trun *r)
{
    if (++r->depth > TRUN_MAX_DEPTH) {
        return sight_fail(SIGHT_E_LIMIT, "%s:%d: the template nests over %d levels deep",
                          r->t->what, r->line, TRUN_MAX_DEPTH);
    }
    return template_step(r, 1);
}

sight_err template_fail(const trun *r, const char *format, ...)
{
    char problem[512];
    va_list args;
    va_start(args, format);
    vsnprintf(problem, sizeof problem, format, args);
    va_end(args);
    return sight_fail(SIGHT_E_ARGUMENT, "%s:%d: %s", r->t->what, r->line, problem);
}

sight_err template_fail_undefined(const trun *r, const tvalue *v)
{
    int n = v->s.n > 200 ? 200 : (int)v->s.n;
    if (v->owner == T_ABSENT) {
        return template_fail(r, "'%.*s' is undefined", n, n ? v->s.text : "");
    }
    const char *type = tvalue_type(&(tvalue){ .kind = v->owner });
    if (!n) return template_fail(r, "'%s object' has no such element", type);
    return template_fail(r, "'%s object' has no attribute '%.*s'", type, n, v->s.text);
}

void *template_alloc(trun *r, size_t n)
{
    return tarena_alloc(&r->arena, n);
}

sight_err template_no_memory(const trun *r, size_t n)
{
    return tarena_failure(&r->arena, n);
}

void template_add(trun *r, buf *b, tstr s)
{
    if (s.n > TRUN_MAX_OUTPUT - b->size) {
        r->too_long = true;
        return;
    }
    if (s.n) buf_add(b, s.text, s.n);
}

sight_err template_take(trun *r, tvalue *out, buf *b)
{
    sight_err err = SIGHT_OK;
    char *text = NULL;
    if (r->too_long) {
        err = sight_fail(SIGHT_E_LIMIT, "%s:%d: the template writes over %zu MiB", r->t->what,
                         r->line, TRUN_MAX_OUTPUT >> 20);
    } else if (buf_failed(b)) {
        err = sight_fail(SIGHT_E_MEMORY, "no memory for a chat template's text");
    } else if (!(text = template_alloc(r, b->size))) {
        err = template_no_memory(r, b->size);
    } else {
        memcpy(text, buf_text(b), b->size);
        *out = tvalue_str((tstr){ text, b->size });
        err = template_step(r, b->size / 64);
    }
    buf_done(b);
    return err;
}

static sight_err characters(trun *r, tlist *out, tstr s)
{
    size_t count = text_length(s), n, i = 0;
    TRY(template_step(r, count));
    tvalue *items = template_alloc(r, count * sizeof *items);
    if (!items) return template_no_memory(r, count * sizeof *items);
    for (size_t at = 0; at < s.n; at += n) {
        text_char((tstr){ s.text + at, s.n - at }, &n);
        items[i++] = tvalue_str((tstr){ s.text + at, n });
    }
    *out = (tlist){ items, count };
    return SIGHT_OK;
}

sight_err template_iterate(trun *r, tlist *out, const tvalue *v)
{
    switch (v->kind) {
    case T_UNDEFINED: *out = (tlist){ 0 }; return SIGHT_OK;
    case T_LIST:
    case T_TUPLE: *out = v->list; return SIGHT_OK;
    case T_STRING: return characters(r, out, v->s);
    case T_DICT: break;
    default: return template_fail(r, "'%s' object is not iterable", tvalue_type(v));
    }
    tvalue *items = template_alloc(r, v->dict.n * sizeof *items);
    if (!items) return template_no_memory(r, v->dict.n * sizeof *items);
    for (size_t i = 0; i < v->dict.n; i++) items[i] = v->dict.pairs[i].key;
    *out = (tlist){ items, v->dict.n };
    return template_step(r, v->dict.n);
}

sight_err template_push(trun *r, tgrow *g, tvalue v)
{
    if (g->n == g->capacity) {
        size_t capacity = g->capacity ? g->capacity * 2 : 8;
        tvalue *items = template_alloc(r, capacity * sizeof *items);
        if (!items) return template_no_memory(r, capacity * sizeof *items);
        if (g->n) memcpy(items, g->items, g->n * sizeof *items);
        g->items = items;
        g->capacity = capacity;
    }
    g->items[g->n++] = v;
    return template_step(r, 1);
}
