// Statements, and the scopes of names: a loop's turn, a macro's call and a with block have their
// own; an if has not. A macro sees the scope it stands in, as it is when called.
#include <stdlib.h>
#include <string.h>

#include "text/template_run.h"

tvalue template_lookup(const trun *r, int name)
{
    for (const tscope *s = r->scope; s; s = s->parent) {
        for (const tvar *v = s->vars; v; v = v->next) {
            if (v->name == name) return v->value;
        }
    }
    return r->globals[name];
}

static sight_err assign(trun *r, int name, tvalue value)
{
    if (!r->scope) {
        r->globals[name] = value;
        return SIGHT_OK;
    }
    for (tvar *v = r->scope->vars; v; v = v->next) {
        if (v->name != name) continue;
        v->value = value;
        return SIGHT_OK;
    }
    tvar *v = template_alloc(r, sizeof *v);
    if (!v) return template_no_memory(r, sizeof *v);
    *v = (tvar){ name, value, r->scope->vars };
    r->scope->vars = v;
    return SIGHT_OK;
}

static sight_err new_scope(trun *r, tscope **out, tscope *parent)
{
    tscope *s = template_alloc(r, sizeof *s);
    if (!s) return template_no_memory(r, sizeof *s);
    s->parent = parent;
    *out = s;
    return SIGHT_OK;
}

// ---- set ----

static sight_err namespace_set(trun *r, tnamespace *ns, tstr field, tvalue value)
{
    for (size_t i = 0; i < ns->n; i++) {
        if (!tstr_equal(ns->pairs[i].key.s, field)) continue;
        ns->pairs[i].value = value;
        return SIGHT_OK;
    }
    if (ns->n == ns->capacity) {
        size_t capacity = ns->capacity ? ns->capacity * 2 : 8;
        tpair *pairs = template_alloc(r, capacity * sizeof *pairs);
        if (!pairs) return template_no_memory(r, capacity * sizeof *pairs);
        if (ns->n) memcpy(pairs, ns->pairs, ns->n * sizeof *pairs);
        ns->pairs = pairs;
        ns->capacity = capacity;
    }
    ns->pairs[ns->n++] = (tpair){ tvalue_str(field), value };
    return template_step(r, 1);
}

static sight_err assign_target(trun *r, const tnode *target, const tvalue *value);

static sight_err assign_tuple(trun *r, const tnode *target, const tvalue *value)
{
    size_t n = 0, i = 0;
    tlist items;
    for (const tnode *t = target->list; t; t = t->next) n++;
    TRY(template_iterate(r, &items, value));
    if (items.n != n)
        return template_fail(r, "%zu values for %zu names", items.n, n);
    for (const tnode *t = target->list; t; t = t->next)
        TRY(assign_target(r, t, &items.items[i++]));
    return SIGHT_OK;
}

static sight_err assign_field(trun *r, const tnode *target, const tvalue *value)
{
    tvalue ns = template_lookup(r, target->name);
    if (ns.kind != T_NAMESPACE)
        return template_fail(r, "cannot assign attribute on non-namespace object");
    return namespace_set(r, ns.ns, target->text, *value);
}

static sight_err assign_target(trun *r, const tnode *target, const tvalue *value)
{
    switch (target->kind) {
    case N_NAME_TARGET: return assign(r, target->name, *value);
    case N_TUPLE_TARGET: return assign_tuple(r, target, value);
    default: return assign_field(r, target, value);
    }
}

static sight_err run_set(trun *r, const tnode *n)
{
    tvalue v;
    TRY(template_eval(r, &v, n->b));
    r->line = n->line;
    return assign_target(r, n->a, &v);
}

// ---- bodies that become a value ----

// Renders statements into a string instead of the output.
static sight_err capture(trun *r, tvalue *out, const tnode *body)
{
    buf b, *outer = r->out;
    buf_init(&b);
    r->out = &b;
    sight_err err = template_statements(r, body);
    r->out = outer;
    if (!err) return template_take(r, out, &b);
    buf_done(&b);
    return err;
}

// The same with the filters of a block set or filter block around it.
static sight_err capture_filtered(trun *r, tvalue *out, const tnode *n)
{
    TRY(capture(r, &r->body, n->body));
    r->line = n->line;
    return template_eval(r, out, n->b);
}

static sight_err run_set_block(trun *r, const tnode *n)
{
    tvalue v;
    TRY(new_scope(r, &r->scope, r->scope));
    sight_err err = capture_filtered(r, &v, n);
    r->scope = r->scope->parent;
    if (err || r->flow) return err;
    return assign_target(r, n->a, &v);
}

static sight_err run_filter_block(trun *r, const tnode *n)
{
    tvalue v;
    TRY(new_scope(r, &r->scope, r->scope));
    TRY(capture_filtered(r, &v, n));
    r->scope = r->scope->parent;
    template_add_str(r, r->out, &v);
    return SIGHT_OK;
}

// ---- macros ----

static sight_err define_macro(trun *r, tmacro **out, const tnode *n)
{
    tmacro *m = template_alloc(r, sizeof *m);
    if (!m) return template_no_memory(r, sizeof *m);
    *m = (tmacro){ n, r->scope, tvalue_of(T_ABSENT) };
    *out = m;
    return SIGHT_OK;
}

static sight_err run_macro(trun *r, const tnode *n)
{
    tmacro *m = NULL;
    TRY(define_macro(r, &m, n));
    return assign(r, n->name, (tvalue){ .kind = T_MACRO, .macro = m });
}

// The name that a call block's body goes by, or -1 when the template has no use for it.
static int caller_name(const trun *r)
{
    for (size_t i = 0; i < r->t->n_names; i++) {
        if (tstr_equal(r->t->names[i], TSTR("caller"))) return (int)i;
    }
    return -1;
}

// A parameter's value: by position, by name, its default, or undefined.
static sight_err parameter(trun *r, const tnode *p, size_t i, const targuments *args, size_t *used)
{
    tstr name = r->t->names[p->name];
    tvalue v = { .kind = T_UNDEFINED, .s = name };
    bool given = i < args->n_positional;
    if (given) v = args->items[i].value;
    for (size_t k = args->n_positional; k < args->n && !given; k++) {
        if (!tstr_equal(args->items[k].keyword, name)) continue;
        v = args->items[k].value;
        given = true;
    }
    *used += given;
    if (!given && p->a) TRY(template_eval(r, &v, p->a));
    return assign(r, p->name, v);
}

static sight_err run_call(trun *r, tvalue *out, const tmacro *m, const targuments *args)
{
    size_t i = 0, used = 0;
    int caller = -1, line = r->line;
    for (size_t k = args->n_positional; k < args->n; k++) {
        if (!tstr_equal(args->items[k].keyword, TSTR("caller"))) continue;
        caller = caller_name(r);
        used++;
        if (caller >= 0) TRY(assign(r, caller, args->items[k].value));
    }
    for (const tnode *p = m->node->list; p; p = p->next) TRY(parameter(r, p, i++, args, &used));
    r->line = line;
    if (used != args->n) {
        tstr name = r->t->names[m->node->name];
        return template_fail(r, "macro '%.*s' does not take these arguments", (int)name.n,
                             name.text);
    }
    return capture(r, out, m->node->body);
}

sight_err template_call_macro(trun *r, tvalue *out, const tmacro *m, const targuments *args)
{
    tscope *outer = r->scope, *inner = NULL;
    tflow flow = r->flow;
    TRY(template_deeper(r));
    TRY(new_scope(r, &inner, m->scope));
    r->scope = inner;
    sight_err err = run_call(r, out, m, args);
    r->scope = outer;
    r->flow = flow;
    r->depth--;
    return err;
}

// {% call f(x) %}...{% endcall %}: f gets the body as its caller().
static sight_err run_call_block(trun *r, const tnode *n)
{
    tmacro *body = NULL;
    tvalue callee, v;
    size_t count = 1, i = 0;
    TRY(define_macro(r, &body, n->b));
    TRY(template_eval(r, &callee, n->a->a));
    for (const tnode *a = n->a->list; a; a = a->next) count++;
    targument *items = template_alloc(r, count * sizeof *items);
    if (!items) return template_no_memory(r, count * sizeof *items);
    targuments args = { items, count, 0 };
    for (const tnode *a = n->a->list; a; a = a->next, i++) {
        items[i].keyword = a->text;
        TRY(template_eval(r, &items[i].value, a->a));
        args.n_positional += !a->text.n;
    }
    items[i] = (targument){ TSTR("caller"), { .kind = T_MACRO, .macro = body } };
    r->line = n->line;
    TRY(template_call(r, &v, &callee, &args));
    template_add_str(r, r->out, &v);
    return SIGHT_OK;
}

// ---- loops ----

// Only those items for which the loop's condition holds.
static sight_err filter_items(trun *r, tlist *items, const tnode *n)
{
    tgrow kept = { 0 };
    for (size_t i = 0; i < items->n; i++) {
        tvalue holds;
        TRY(new_scope(r, &r->scope, r->scope));
        TRY(assign_target(r, n->b, &items->items[i]));
        TRY(template_eval(r, &holds, n->c));
        r->scope = r->scope->parent;
        if (tvalue_true(&holds)) TRY(template_push(r, &kept, items->items[i]));
    }
    *items = (tlist){ kept.items, kept.n };
    return SIGHT_OK;
}

static sight_err run_turn(trun *r, const tnode *n, tloop *loop)
{
    TRY(new_scope(r, &r->scope, r->scope));
    TRY(assign(r, n->name, (tvalue){ .kind = T_LOOP, .loop = loop }));
    r->line = n->line;
    TRY(assign_target(r, n->b, &loop->items[loop->i]));
    TRY(template_statements(r, n->body));
    r->scope = r->scope->parent;
    return template_step(r, 1);
}

static sight_err run_for(trun *r, const tnode *n)
{
    tvalue source;
    tlist items;
    TRY(template_eval(r, &source, n->a));
    r->line = n->line;
    TRY(template_iterate(r, &items, &source));
    if (n->c) TRY(filter_items(r, &items, n));
    if (!items.n) return template_statements(r, n->other);
    tloop *loop = template_alloc(r, sizeof *loop);
    if (!loop) return template_no_memory(r, sizeof *loop);
    *loop = (tloop){ items.items, items.n, 0 };
    for (; loop->i < loop->n; loop->i++) {
        TRY(run_turn(r, n, loop));
        tflow flow = r->flow;
        r->flow = FLOW_ON;
        if (flow == FLOW_BREAK) break;
    }
    return SIGHT_OK;
}

// ---- the rest ----

static sight_err run_if(trun *r, const tnode *n)
{
    // elif is an if in other, so this goes along the chain instead of down.
    for (; n && n->kind == N_IF; n = n->other) {
        tvalue condition;
        TRY(template_eval(r, &condition, n->a));
        if (tvalue_true(&condition)) return template_statements(r, n->body);
        if (n->has_else) {
            n = n->other;
            break;
        }
    }
    return template_statements(r, n);
}

static sight_err run_with(trun *r, const tnode *n)
{
    tscope *outer = r->scope, *inner = NULL;
    TRY(new_scope(r, &inner, outer));
    for (const tnode *set = n->list; set; set = set->next) {
        tvalue v;
        TRY(template_eval(r, &v, set->b));
        r->scope = inner;
        TRY(assign_target(r, set->a, &v));
        r->scope = outer;
    }
    r->scope = inner;
    sight_err err = template_statements(r, n->body);
    r->scope = outer;
    return err;
}

static sight_err run_output(trun *r, const tnode *n)
{
    tvalue v;
    TRY(template_eval(r, &v, n->a));
    template_add_str(r, r->out, &v);
    return SIGHT_OK;
}

static sight_err run_statement(trun *r, const tnode *n)
{
    r->line = n->line;
    switch (n->kind) {
    case N_TEXT: template_add(r, r->out, n->text); return SIGHT_OK;
    case N_OUTPUT: return run_output(r, n);
    case N_IF: return run_if(r, n);
    case N_FOR: return run_for(r, n);
    case N_SET: return run_set(r, n);
    case N_SET_BLOCK: return run_set_block(r, n);
    case N_MACRO: return run_macro(r, n);
    case N_CALL_BLOCK: return run_call_block(r, n);
    case N_WITH: return run_with(r, n);
    case N_FILTER: return run_filter_block(r, n);
    case N_BREAK: r->flow = FLOW_BREAK; return SIGHT_OK;
    case N_CONTINUE: r->flow = FLOW_CONTINUE; return SIGHT_OK;
    default: return sight_fail(SIGHT_E_INTERNAL, "%s:%d: not a statement", r->t->what, n->line);
    }
}

sight_err template_statements(trun *r, const tnode *list)
{
    TRY(template_deeper(r));
    for (const tnode *n = list; n && r->flow == FLOW_ON; n = n->next) {
        TRY(template_step(r, 1));
        TRY(run_statement(r, n));
        if (r->too_long) return template_take(r, &(tvalue){ 0 }, &(buf){ 0 });
    }
    r->depth--;
    return SIGHT_OK;
}
