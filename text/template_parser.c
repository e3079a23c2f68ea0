// Statements. What Jinja has beyond these (include, import, extends, ...) is refused by name.
// name.
#include "text/template_parser.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/template_run.h"

sight_err template_refuse(const tparser *p, const char *format, ...)
{
    char problem[256];
    va_list args;
    va_start(args, format);
    vsnprintf(problem, sizeof problem, format, args);
    va_end(args);
    return sight_fail(SIGHT_E_UNSUPPORTED, "%s:%d: %s", p->what, p->at->line, problem);
}

sight_err template_node(tparser *p, tnode **out, tnode_kind kind)
{
    tnode *n = tarena_alloc(p->arena, sizeof *n);
    if (!n) return tarena_failure(p->arena, sizeof *n);
    n->kind = (uint8_t)kind;
    n->line = p->at->line;
    *out = n;
    return SIGHT_OK;
}

sight_err template_intern(tparser *p, int *index, tstr text)
{
    for (size_t i = 0; i < p->n_names; i++) {
        if (!tstr_equal(p->names[i].text, text)) continue;
        *index = (int)i;
        return SIGHT_OK;
    }
    if (p->n_names == p->names_capacity) {
        size_t capacity = p->names_capacity ? p->names_capacity * 2 : 64;
        if (capacity > 4096) return template_refuse(p, "over 2048 different names");
        tname *names = realloc(p->names, capacity * sizeof *names);
        if (!names) return sight_fail(SIGHT_E_MEMORY, "no memory for the names of %s", p->what);
        p->names = names;
        p->names_capacity = capacity;
    }
    p->names[p->n_names] = (tname){ .text = text };
    *index = (int)p->n_names++;
    return SIGHT_OK;
}

sight_err template_enter(tparser *p)
{
    if (++p->depth > TPARSER_MAX_DEPTH)
        return template_refuse(p, "nested deeper than %d levels", TPARSER_MAX_DEPTH);
    return SIGHT_OK;
}

void template_leave(tparser *p)
{
    p->depth--;
}

static bool token_is(const ttoken *t, ttoken_kind kind, const char *text)
{
    return t->kind == kind && t->text.n == strlen(text) &&
           memcmp(t->text.text, text, t->text.n) == 0;
}

bool template_at_operator(const tparser *p, const char *op)
{
    return token_is(p->at, TK_OPERATOR, op);
}

bool template_at_name(const tparser *p, const char *name)
{
    return token_is(p->at, TK_NAME, name);
}

bool template_take_operator(tparser *p, const char *op)
{
    bool found = template_at_operator(p, op);
    p->at += found;
    return found;
}

bool template_take_name(tparser *p, const char *name)
{
    bool found = template_at_name(p, name);
    p->at += found;
    return found;
}

sight_err template_expect_operator(tparser *p, const char *op)
{
    if (template_take_operator(p, op)) return SIGHT_OK;
    return template_refuse(p, "'%s' is missing", op);
}

void template_append(tlist_builder *l, tnode *node)
{
    if (l->last) l->last->next = node;
    else l->first = node;
    l->last = node;
}

// ---- statements ----

static sight_err end_of_tag(tparser *p)
{
    if (p->at->kind != TK_BLOCK_END) return template_refuse(p, "'%%}' is missing");
    p->at++;
    return SIGHT_OK;
}

static sight_err parse_statements(tparser *p, const tnode **out, const char *const *ends);

// Statements up to one of the NULL-ended list's tags, whose name is then the next token.
static sight_err parse_body(tparser *p, const tnode **out, const char *const *ends)
{
    TRY(end_of_tag(p));
    TRY(template_enter(p));
    TRY(parse_statements(p, out, ends));
    template_leave(p);
    return SIGHT_OK;
}

static sight_err bind(tparser *p, int *index)
{
    static const char *const reserved[] = { "true", "True", "false", "False", "none", "None",
                                            "loop", "and", "or", "not", "if", "in", "is" };
    if (p->at->kind != TK_NAME) return template_refuse(p, "a name is missing");
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++) {
        if (template_at_name(p, reserved[i]))
            return template_refuse(p, "'%s' cannot be given a value", reserved[i]);
    }
    TRY(template_intern(p, index, p->at->text));
    p->names[*index].bound = true;
    p->at++;
    return SIGHT_OK;
}

static sight_err parse_target(tparser *p, const tnode **out);

static sight_err parse_target_item(tparser *p, const tnode **out)
{
    if (template_take_operator(p, "(")) {
        TRY(template_enter(p));
        TRY(parse_target(p, out));
        template_leave(p);
        return template_expect_operator(p, ")");
    }
    tnode *n = NULL;
    TRY(template_node(p, &n, N_NAME_TARGET));
    TRY(bind(p, &n->name));
    *out = n;
    return SIGHT_OK;
}

// a, or a, b, or a, (b, c).
static sight_err parse_target(tparser *p, const tnode **out)
{
    TRY(parse_target_item(p, out));
    if (!template_at_operator(p, ",")) return SIGHT_OK;
    tnode *n = NULL;
    tlist_builder items = { 0 };
    TRY(template_node(p, &n, N_TUPLE_TARGET));
    template_append(&items, (tnode *)*out);
    while (template_take_operator(p, ",")) {
        const tnode *item;
        if (p->at->kind != TK_NAME && !template_at_operator(p, "(")) break;
        TRY(parse_target_item(p, &item));
        template_append(&items, (tnode *)item);
    }
    n->list = items.first;
    *out = n;
    return SIGHT_OK;
}

// A set's target: also ns.field.
static sight_err parse_set_target(tparser *p, const tnode **out)
{
    const ttoken *t = p->at;
    if (t->kind != TK_NAME || !token_is(t + 1, TK_OPERATOR, ".")) return parse_target(p, out);
    tnode *n = NULL;
    TRY(template_node(p, &n, N_FIELD_TARGET));
    TRY(template_intern(p, &n->name, t->text));
    if (t[2].kind != TK_NAME) return template_refuse(p, "a name is missing after '.'");
    n->text = t[2].text;
    p->at += 3;
    *out = n;
    return SIGHT_OK;
}

static sight_err body_value(tparser *p, tnode **out)
{
    return template_node(p, out, E_BODY);
}

static sight_err parse_set(tparser *p, const tnode **out)
{
    static const char *const ends[] = { "endset", NULL };
    tnode *n = NULL, *inner = NULL;
    TRY(template_node(p, &n, N_SET));
    TRY(parse_set_target(p, &n->a));
    *out = n;
    if (template_take_operator(p, "=")) {
        TRY(template_parse_tuple(p, &n->b, false));
        return end_of_tag(p);
    }
    n->kind = N_SET_BLOCK;
    TRY(body_value(p, &inner));
    TRY(template_parse_filters(p, &n->b, inner));
    TRY(parse_body(p, &n->body, ends));
    p->at++;
    return end_of_tag(p);
}

static sight_err parse_if(tparser *p, const tnode **out)
{
    static const char *const ends[] = { "elif", "else", "endif", NULL };
    static const char *const last[] = { "endif", NULL };
    tnode *n = NULL, *first = NULL, *previous = NULL;
    do {
        TRY(template_node(p, &n, N_IF));
        TRY(template_parse_tuple(p, &n->a, false));
        TRY(parse_body(p, &n->body, ends));
        if (previous) previous->other = n;
        else first = n;
        previous = n;
    } while (template_take_name(p, "elif"));
    if (template_take_name(p, "else")) {
        previous->has_else = true;
        TRY(parse_body(p, &previous->other, last));
    }
    p->at++;
    *out = first;
    return end_of_tag(p);
}

static sight_err parse_for(tparser *p, const tnode **out)
{
    static const char *const ends[] = { "else", "endfor", NULL };
    static const char *const last[] = { "endfor", NULL };
    tnode *n = NULL;
    TRY(template_node(p, &n, N_FOR));
    TRY(parse_target(p, &n->b));
    if (!template_take_name(p, "in")) return template_refuse(p, "'in' is missing");
    TRY(template_parse_tuple(p, &n->a, true));
    if (template_take_name(p, "if")) TRY(template_parse_expression(p, &n->c));
    if (template_at_name(p, "recursive"))
        return template_refuse(p, "recursive loops are not supported");
    TRY(template_intern(p, &n->name, TSTR("loop")));
    p->loops++;
    TRY(parse_body(p, &n->body, ends));
    p->loops--;
    if (template_take_name(p, "else")) TRY(parse_body(p, &n->other, last));
    p->at++;
    *out = n;
    return end_of_tag(p);
}

static sight_err parse_parameters(tparser *p, const tnode **out)
{
    tlist_builder parameters = { 0 };
    TRY(template_expect_operator(p, "("));
    while (!template_at_operator(p, ")")) {
        tnode *n = NULL;
        TRY(template_node(p, &n, N_PARAMETER));
        TRY(bind(p, &n->name));
        if (template_take_operator(p, "=")) TRY(template_parse_expression(p, &n->a));
        else if (parameters.last && parameters.last->a)
            return template_refuse(p, "a parameter without a default follows one with a default");
        template_append(&parameters, n);
        if (!template_take_operator(p, ",")) break;
    }
    *out = parameters.first;
    return template_expect_operator(p, ")");
}

// A macro's body, where break does not reach a loop outside.
static sight_err parse_macro_body(tparser *p, tnode *n, const char *const *ends)
{
    int loops = p->loops;
    p->loops = 0;
    TRY(parse_body(p, &n->body, ends));
    p->loops = loops;
    p->at++;
    return end_of_tag(p);
}

static sight_err parse_macro(tparser *p, const tnode **out)
{
    static const char *const ends[] = { "endmacro", NULL };
    tnode *n = NULL;
    TRY(template_node(p, &n, N_MACRO));
    TRY(bind(p, &n->name));
    TRY(parse_parameters(p, &n->list));
    *out = n;
    return parse_macro_body(p, n, ends);
}

static sight_err parse_call_block(tparser *p, const tnode **out)
{
    static const char *const ends[] = { "endcall", NULL };
    tnode *n = NULL, *caller = NULL;
    TRY(template_node(p, &n, N_CALL_BLOCK));
    TRY(template_node(p, &caller, N_MACRO));
    TRY(template_intern(p, &caller->name, TSTR("caller")));
    if (template_at_operator(p, "(")) TRY(parse_parameters(p, &caller->list));
    TRY(template_parse_expression(p, &n->a));
    if (n->a->kind != E_CALL) return template_refuse(p, "a call is missing");
    n->b = caller;
    *out = n;
    return parse_macro_body(p, caller, ends);
}

static sight_err parse_with(tparser *p, const tnode **out)
{
    static const char *const ends[] = { "endwith", NULL };
    tnode *n = NULL, *set = NULL;
    tlist_builder sets = { 0 };
    TRY(template_node(p, &n, N_WITH));
    while (p->at->kind != TK_BLOCK_END) {
        TRY(template_node(p, &set, N_SET));
        TRY(parse_target_item(p, &set->a));
        TRY(template_expect_operator(p, "="));
        TRY(template_parse_expression(p, &set->b));
        template_append(&sets, set);
        if (!template_take_operator(p, ",")) break;
    }
    n->list = sets.first;
    TRY(parse_body(p, &n->body, ends));
    p->at++;
    *out = n;
    return end_of_tag(p);
}

// {% generation %}: what an assistant wrote; transformers marks it, the text is the same.
static sight_err parse_generation(tparser *p, const tnode **out)
{
    static const char *const ends[] = { "endgeneration", NULL };
    tnode *n = NULL;
    TRY(template_node(p, &n, N_WITH));
    TRY(parse_body(p, &n->body, ends));
    p->at++;
    *out = n;
    return end_of_tag(p);
}

static sight_err parse_filter_block(tparser *p, const tnode **out)
{
    static const char *const ends[] = { "endfilter", NULL };
    tnode *n = NULL, *inner = NULL;
    const tnode *filter;
    TRY(template_node(p, &n, N_FILTER));
    TRY(body_value(p, &inner));
    TRY(template_parse_filter(p, &filter, inner));
    TRY(template_parse_filters(p, &n->b, filter));
    TRY(parse_body(p, &n->body, ends));
    p->at++;
    *out = n;
    return end_of_tag(p);
}

static sight_err parse_leave_loop(tparser *p, const tnode **out, tnode_kind kind)
{
    tnode *n = NULL;
    if (!p->loops) return template_refuse(p, "there is no loop to leave");
    TRY(template_node(p, &n, kind));
    *out = n;
    return end_of_tag(p);
}

static sight_err parse_break(tparser *p, const tnode **out)
{
    return parse_leave_loop(p, out, N_BREAK);
}

static sight_err parse_continue(tparser *p, const tnode **out)
{
    return parse_leave_loop(p, out, N_CONTINUE);
}

static sight_err parse_statement(tparser *p, const tnode **out)
{
    static const struct {
        const char *name;
        sight_err (*parse)(tparser *, const tnode **);
    } tags[] = {
        { "set", parse_set },         { "if", parse_if },
        { "for", parse_for },         { "macro", parse_macro },
        { "call", parse_call_block }, { "with", parse_with },
        { "break", parse_break },     { "generation", parse_generation },
        { "continue", parse_continue }, { "filter", parse_filter_block },
    };
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        if (template_take_name(p, tags[i].name)) return tags[i].parse(p, out);
    }
    if (p->at->kind != TK_NAME) return template_refuse(p, "a statement's name is missing");
    return template_refuse(p, "the statement '%.*s' is not supported here", (int)p->at->text.n,
                           p->at->text.text);
}

static bool at_one_of(const tparser *p, const char *const *ends)
{
    for (; *ends; ends++) {
        if (template_at_name(p, *ends)) return true;
    }
    return false;
}

static sight_err parse_output(tparser *p, const tnode **out)
{
    tnode *n = NULL;
    p->at++;
    TRY(template_node(p, &n, N_OUTPUT));
    TRY(template_parse_tuple(p, &n->a, false));
    if (p->at->kind != TK_OUTPUT_END) return template_refuse(p, "'}}' is missing");
    p->at++;
    *out = n;
    return SIGHT_OK;
}

static sight_err parse_text(tparser *p, const tnode **out)
{
    tnode *n = NULL;
    TRY(template_node(p, &n, N_TEXT));
    n->text = p->at->text;
    p->at++;
    *out = n;
    return SIGHT_OK;
}

static sight_err parse_statements(tparser *p, const tnode **out, const char *const *ends)
{
    tlist_builder all = { 0 };
    while (p->at->kind != TK_END) {
        const tnode *n;
        if (p->at->kind == TK_TEXT) {
            TRY(parse_text(p, &n));
        } else if (p->at->kind == TK_OUTPUT_BEGIN) {
            TRY(parse_output(p, &n));
        } else {
            p->at++; // {%
            if (at_one_of(p, ends)) break;
            TRY(parse_statement(p, &n));
        }
        template_append(&all, (tnode *)n);
    }
    *out = all.first;
    if (*ends && p->at->kind == TK_END) return template_refuse(p, "'%s' is missing", *ends);
    return SIGHT_OK;
}

// Every called name is a global function or bound somewhere in the template.
static sight_err check_calls(const tparser *p)
{
    for (size_t i = 0; i < p->n_names; i++) {
        const tname *n = &p->names[i];
        if (!n->called || n->bound || tstr_equal(n->text, TSTR("caller")) ||
            template_function_find(n->text))
            continue;
        return sight_fail(SIGHT_E_UNSUPPORTED, "%s:%d: there is no function '%.*s'", p->what,
                          n->called, (int)n->text.n, n->text.text);
    }
    return SIGHT_OK;
}

static sight_err keep_names(struct template *out, const tparser *p)
{
    tstr *names = tarena_alloc(p->arena, p->n_names * sizeof *names);
    if (!names) return tarena_failure(p->arena, p->n_names * sizeof *names);
    for (size_t i = 0; i < p->n_names; i++) names[i] = p->names[i].text;
    out->names = names;
    out->n_names = p->n_names;
    return SIGHT_OK;
}

sight_err template_parse(struct template *out, const ttokens *tokens)
{
    static const char *const no_end[] = { NULL };
    tparser p = { .arena = &out->arena, .at = tokens->items, .what = out->what };
    sight_err err = parse_statements(&p, &out->body, no_end);
    if (!err) err = check_calls(&p);
    if (!err) err = keep_names(out, &p);
    free(p.names);
    return err;
}
