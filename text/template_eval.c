// Expressions. Every step counts against the limits of template_run.h.
#include <string.h>

#include "text/template_run.h"

// ---- calls ----

// The next word of a parameter list; false at its end.
static bool next_parameter(const char **list, tstr *name, bool *required)
{
    while (**list == ' ') (*list)++;
    if (!**list) return false;
    size_t n = strcspn(*list, " ");
    *required = (*list)[n - 1] == '!';
    *name = (tstr){ *list, n - *required };
    *list += n;
    return true;
}

static const targument *find_keyword(const targuments *args, tstr name)
{
    for (size_t i = args->n_positional; i < args->n; i++) {
        if (tstr_equal(args->items[i].keyword, name)) return &args->items[i];
    }
    return NULL;
}

sight_err template_bind(trun *r, tvalue *out, const char *parameters, const targuments *args,
                        const char *what)
{
    size_t i = 0, used = 0;
    tstr name;
    bool required;
    for (; next_parameter(&parameters, &name, &required); i++) {
        const targument *by_name = find_keyword(args, name);
        out[i] = tvalue_of(T_ABSENT);
        if (i < args->n_positional) out[i] = args->items[i].value;
        else if (by_name) out[i] = by_name->value;
        else if (required)
            return template_fail(r, "%s() misses its argument '%.*s'", what, (int)name.n,
                                 name.text);
        used += i < args->n_positional || by_name;
    }
    if (used == args->n) return SIGHT_OK;
    return template_fail(r, "%s() does not take these arguments", what);
}

static sight_err call_table(trun *r, tvalue *out, const char *name, const char *parameters,
                            tbound_fn *run, tfree_fn *run_free, const tvalue *self,
                            const targuments *args)
{
    tvalue bound[TARGUMENTS_MAX];
    if (run_free) return run_free(r, out, self, args);
    if (!run) return template_fail(r, "access to attribute '%s' of '%s' object is unsafe", name,
                                   tvalue_type(self));
    TRY(template_bind(r, bound, parameters, args, name));
    return run(r, out, self, bound);
}

sight_err template_call(trun *r, tvalue *out, const tvalue *callee, const targuments *args)
{
    const tmethod *m;
    const tfunction *f;
    switch (callee->kind) {
    case T_UNDEFINED: return template_fail_undefined(r, callee);
    case T_MACRO: return template_call_macro(r, out, callee->macro, args);
    case T_METHOD:
        m = callee->method;
        return call_table(r, out, m->info->name, m->info->parameters, m->info->run,
                          m->info->run_free, &m->self, args);
    case T_FUNCTION:
        f = callee->function;
        return call_table(r, out, f->name, f->parameters, f->run, f->run_free, NULL, args);
    default: return template_fail(r, "'%s' object is not callable", tvalue_type(callee));
    }
}

// The arguments of a call, evaluated in order.
static sight_err eval_arguments(trun *r, targuments *out, const tnode *list)
{
    size_t n = 0, i = 0;
    for (const tnode *a = list; a; a = a->next) n++;
    targument *items = template_alloc(r, n * sizeof *items);
    if (!items) return template_no_memory(r, n * sizeof *items);
    *out = (targuments){ items, n, 0 };
    for (const tnode *a = list; a; a = a->next, i++) {
        items[i].keyword = a->text;
        TRY(template_eval(r, &items[i].value, a->a));
        out->n_positional += !a->text.n;
    }
    return SIGHT_OK;
}

static sight_err eval_call(trun *r, tvalue *out, const tnode *n)
{
    tvalue callee;
    targuments args;
    TRY(template_eval(r, &callee, n->a));
    TRY(eval_arguments(r, &args, n->list));
    r->line = n->line;
    return template_call(r, out, &callee, &args);
}

static sight_err eval_filter(trun *r, tvalue *out, const tnode *n)
{
    tvalue v;
    targuments args;
    TRY(template_eval(r, &v, n->a));
    TRY(eval_arguments(r, &args, n->list));
    r->line = n->line;
    return template_filter_run(r, out, n->filter, &v, &args);
}

static sight_err eval_test(trun *r, tvalue *out, const tnode *n)
{
    tvalue v;
    targuments args;
    bool holds;
    TRY(template_eval(r, &v, n->a));
    TRY(eval_arguments(r, &args, n->list));
    r->line = n->line;
    TRY(template_test_run(r, &holds, n->test, &v, &args));
    *out = tvalue_bool(holds != n->negated);
    return SIGHT_OK;
}

// ---- values ----

static sight_err eval_list(trun *r, tvalue *out, const tnode *n)
{
    tgrow g = { 0 };
    for (const tnode *item = n->list; item; item = item->next) {
        tvalue v;
        TRY(template_eval(r, &v, item));
        TRY(template_push(r, &g, v));
    }
    *out = tvalue_list(n->kind == E_LIST ? T_LIST : T_TUPLE, g.items, g.n);
    return SIGHT_OK;
}

static bool can_be_key(const tvalue *v)
{
    return v->kind == T_STRING || v->kind == T_NONE || v->kind == T_TUPLE || tvalue_is_number(v);
}

static sight_err eval_dict(trun *r, tvalue *out, const tnode *n)
{
    size_t count = 0, used = 0;
    for (const tnode *p = n->list; p; p = p->next) count++;
    tpair *pairs = template_alloc(r, count * sizeof *pairs);
    if (!pairs) return template_no_memory(r, count * sizeof *pairs);
    for (const tnode *p = n->list; p; p = p->next) {
        tpair pair;
        TRY(template_eval(r, &pair.key, p->a));
        TRY(template_eval(r, &pair.value, p->b));
        r->line = n->line;
        if (!can_be_key(&pair.key))
            return template_fail(r, "unhashable type: '%s'", tvalue_type(&pair.key));
        const tvalue *same = tdict_find((tdict){ pairs, used }, &pair.key);
        if (same)
            pairs[((const char *)same - (const char *)pairs) / sizeof *pairs].value = pair.value;
        else pairs[used++] = pair;
    }
    *out = (tvalue){ .kind = T_DICT, .dict = { pairs, used } };
    return SIGHT_OK;
}

static sight_err eval_name(trun *r, tvalue *out, const tnode *n)
{
    *out = template_lookup(r, n->name);
    if (out->kind == T_ABSENT) *out = (tvalue){ .kind = T_UNDEFINED, .s = n->text };
    return SIGHT_OK;
}

static sight_err eval_field(trun *r, tvalue *out, const tnode *n)
{
    tvalue v;
    TRY(template_eval(r, &v, n->a));
    r->line = n->line;
    return template_field(r, out, &v, n->text);
}

static sight_err eval_item(trun *r, tvalue *out, const tnode *n)
{
    tvalue v, key;
    TRY(template_eval(r, &v, n->a));
    TRY(template_eval(r, &key, n->b));
    r->line = n->line;
    return template_item(r, out, &v, &key);
}

static sight_err eval_slice(trun *r, tvalue *out, const tnode *n)
{
    tvalue v, parts[3];
    int i = 0;
    TRY(template_eval(r, &v, n->a));
    for (const tnode *p = n->list; p && i < 3; p = p->next) TRY(template_eval(r, &parts[i++], p));
    r->line = n->line;
    return template_slice(r, out, &v, parts);
}

// ---- operators ----

static sight_err eval_sign(trun *r, tvalue *out, const tnode *n)
{
    tvalue v;
    TRY(template_eval(r, &v, n->a));
    r->line = n->line;
    if (v.kind == T_UNDEFINED) return template_fail_undefined(r, &v);
    if (!tvalue_is_number(&v))
        return template_fail(r, "bad operand type for unary %c: '%s'",
                             n->kind == E_NEGATE ? '-' : '+', tvalue_type(&v));
    tvalue zero = v.kind == T_FLOAT ? tvalue_float(-0.0) : tvalue_int(0);
    return template_binary(r, out, n->kind == E_NEGATE ? OP_SUBTRACT : OP_ADD, &zero, &v);
}

static sight_err eval_logic(trun *r, tvalue *out, const tnode *n)
{
    tvalue v;
    TRY(template_eval(r, &v, n->a));
    if (tvalue_true(&v) == (n->kind == E_OR)) {
        *out = v;
        return SIGHT_OK;
    }
    return template_eval(r, out, n->b);
}

static sight_err eval_binary(trun *r, tvalue *out, const tnode *n)
{
    tvalue a, b;
    TRY(template_eval(r, &a, n->a));
    TRY(template_eval(r, &b, n->b));
    r->line = n->line;
    return template_binary(r, out, (toperator)n->op, &a, &b);
}

// a < b < c holds when each neighbouring pair does.
static sight_err eval_compare(trun *r, tvalue *out, const tnode *n)
{
    tvalue a, b;
    bool holds = true;
    TRY(template_eval(r, &a, n->a));
    for (const tnode *o = n->list; o && holds; o = o->next) {
        TRY(template_eval(r, &b, o->a));
        r->line = n->line;
        TRY(template_compare(r, &holds, (toperator)o->op, &a, &b));
        a = b;
    }
    *out = tvalue_bool(holds);
    return SIGHT_OK;
}

static sight_err eval_concat(trun *r, tvalue *out, const tnode *n)
{
    buf b;
    buf_init(&b);
    for (const tnode *part = n->list; part; part = part->next) {
        tvalue v;
        sight_err err = template_eval(r, &v, part);
        if (err) {
            buf_done(&b);
            return err;
        }
        template_add_str(r, &b, &v);
    }
    r->line = n->line;
    return template_take(r, out, &b);
}

static sight_err eval_if(trun *r, tvalue *out, const tnode *n)
{
    tvalue condition;
    TRY(template_eval(r, &condition, n->a));
    if (tvalue_true(&condition)) return template_eval(r, out, n->b);
    if (n->c) return template_eval(r, out, n->c);
    *out = (tvalue){ .kind = T_UNDEFINED };
    return SIGHT_OK;
}

static sight_err eval_not(trun *r, tvalue *out, const tnode *n)
{
    tvalue v;
    TRY(template_eval(r, &v, n->a));
    *out = tvalue_bool(!tvalue_true(&v));
    return SIGHT_OK;
}

static sight_err eval_kind(trun *r, tvalue *out, const tnode *n)
{
    switch (n->kind) {
    case E_VALUE: *out = n->value; return SIGHT_OK;
    case E_BODY: *out = r->body; return SIGHT_OK;
    case E_NAME: return eval_name(r, out, n);
    case E_LIST:
    case E_TUPLE: return eval_list(r, out, n);
    case E_DICT: return eval_dict(r, out, n);
    case E_NOT: return eval_not(r, out, n);
    case E_NEGATE:
    case E_PLUS: return eval_sign(r, out, n);
    case E_AND:
    case E_OR: return eval_logic(r, out, n);
    case E_BINARY: return eval_binary(r, out, n);
    case E_COMPARE: return eval_compare(r, out, n);
    case E_CONCAT: return eval_concat(r, out, n);
    case E_IF: return eval_if(r, out, n);
    case E_FILTER: return eval_filter(r, out, n);
    case E_TEST: return eval_test(r, out, n);
    case E_FIELD: return eval_field(r, out, n);
    case E_ITEM: return eval_item(r, out, n);
    case E_SLICE: return eval_slice(r, out, n);
    case E_CALL: return eval_call(r, out, n);
    default: return sight_fail(SIGHT_E_INTERNAL, "%s:%d: not an expression", r->t->what, n->line);
    }
}

sight_err template_eval(trun *r, tvalue *out, const tnode *n)
{
    TRY(template_deeper(r));
    sight_err err = eval_kind(r, out, n);
    r->depth--;
    return err;
}
