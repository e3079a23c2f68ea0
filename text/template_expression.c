// Expressions, by Jinja's grammar: from the loosest binding to the tightest.
#include <string.h>

#include "text/template_parser.h"
#include "text/template_run.h"

static sight_err make(tparser *p, tnode **out, tnode_kind kind, const tnode *a, const tnode *b)
{
    TRY(template_node(p, out, kind));
    (*out)->a = a;
    (*out)->b = b;
    if (a) (*out)->line = a->line;
    return SIGHT_OK;
}

static sight_err parse_unary(tparser *p, const tnode **out, bool with_filters);

// ---- primaries ----

static sight_err parse_value(tparser *p, const tnode **out, tvalue value)
{
    tnode *n = NULL;
    TRY(template_node(p, &n, E_VALUE));
    n->value = value;
    p->at++;
    *out = n;
    return SIGHT_OK;
}

// Strings side by side are one.
static sight_err parse_string(tparser *p, const tnode **out)
{
    size_t n = 0;
    const ttoken *end = p->at;
    for (; end->kind == TK_STRING; end++) n += end->text.n;
    if (end == p->at + 1) return parse_value(p, out, tvalue_str(p->at->text));
    char *text = tarena_alloc(p->arena, n);
    if (!text) return tarena_failure(p->arena, n);
    n = 0;
    for (; p->at + 1 < end; p->at++) {
        memcpy(text + n, p->at->text.text, p->at->text.n);
        n += p->at->text.n;
    }
    memcpy(text + n, p->at->text.text, p->at->text.n);
    return parse_value(p, out, tvalue_str((tstr){ text, n + p->at->text.n }));
}

static sight_err parse_name(tparser *p, const tnode **out)
{
    static const struct {
        const char *name;
        tvalue value;
    } constants[] = {
        {"true", {.kind = T_BOOL, .truth = true}},
        {"True", {.kind = T_BOOL, .truth = true}},
        {"false", {.kind = T_BOOL}},
        {"False", {.kind = T_BOOL}},
        {"none", {.kind = T_NONE}},
        {"None", {.kind = T_NONE}},
    };
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        if (template_at_name(p, constants[i].name)) return parse_value(p, out, constants[i].value);
    }
    static const char *const words[] = { "and", "or", "not", "if", "else", "in", "is",
                                         "varargs", "kwargs", "self", "super" };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (template_at_name(p, words[i]))
            return template_refuse(p, "'%s' cannot stand here", words[i]);
    }
    tnode *n = NULL;
    TRY(template_node(p, &n, E_NAME));
    TRY(template_intern(p, &n->name, p->at->text));
    n->text = p->at->text;
    p->at++;
    *out = n;
    return SIGHT_OK;
}

static sight_err parse_list(tparser *p, const tnode **out)
{
    tnode *n = NULL;
    tlist_builder items = { 0 };
    TRY(template_node(p, &n, E_LIST));
    TRY(template_expect_operator(p, "["));
    while (!template_at_operator(p, "]")) {
        const tnode *item;
        TRY(template_parse_expression(p, &item));
        template_append(&items, (tnode *)item);
        if (!template_take_operator(p, ",")) break;
    }
    n->list = items.first;
    *out = n;
    return template_expect_operator(p, "]");
}

static sight_err parse_dict(tparser *p, const tnode **out)
{
    tnode *n = NULL, *pair = NULL;
    tlist_builder pairs = { 0 };
    TRY(template_node(p, &n, E_DICT));
    TRY(template_expect_operator(p, "{"));
    while (!template_at_operator(p, "}")) {
        TRY(template_node(p, &pair, E_PAIR));
        TRY(template_parse_expression(p, &pair->a));
        TRY(template_expect_operator(p, ":"));
        TRY(template_parse_expression(p, &pair->b));
        template_append(&pairs, pair);
        if (!template_take_operator(p, ",")) break;
    }
    n->list = pairs.first;
    *out = n;
    return template_expect_operator(p, "}");
}

static sight_err parse_bracketed(tparser *p, const tnode **out)
{
    TRY(template_expect_operator(p, "("));
    if (template_at_operator(p, ")")) {
        tnode *n = NULL;
        TRY(template_node(p, &n, E_TUPLE));
        *out = n;
    } else {
        TRY(template_parse_tuple(p, out, false));
    }
    return template_expect_operator(p, ")");
}

static sight_err parse_primary(tparser *p, const tnode **out)
{
    switch (p->at->kind) {
    case TK_NAME: return parse_name(p, out);
    case TK_STRING: return parse_string(p, out);
    case TK_INT: return parse_value(p, out, tvalue_int(p->at->i));
    case TK_FLOAT: return parse_value(p, out, tvalue_float(p->at->f));
    default: break;
    }
    if (template_at_operator(p, "(")) return parse_bracketed(p, out);
    if (template_at_operator(p, "[")) return parse_list(p, out);
    if (template_at_operator(p, "{")) return parse_dict(p, out);
    return template_refuse(p, "a value is missing");
}

// ---- what follows a primary ----

static sight_err parse_argument(tparser *p, tlist_builder *arguments)
{
    tnode *n = NULL;
    if (template_at_operator(p, "*") || template_at_operator(p, "**"))
        return template_refuse(p, "arguments by * are not supported");
    TRY(template_node(p, &n, E_ARGUMENT));
    const ttoken *next = p->at + 1;
    if (p->at->kind == TK_NAME && next->kind == TK_OPERATOR && tstr_equal(next->text, TSTR("="))) {
        n->text = p->at->text;
        p->at += 2;
    } else if (arguments->last && arguments->last->text.n) {
        return template_refuse(p, "an argument without a name follows one with a name");
    }
    TRY(template_parse_expression(p, &n->a));
    template_append(arguments, n);
    return SIGHT_OK;
}

sight_err template_parse_arguments(tparser *p, const tnode **out)
{
    tlist_builder arguments = { 0 };
    TRY(template_expect_operator(p, "("));
    while (!template_at_operator(p, ")")) {
        TRY(parse_argument(p, &arguments));
        if (!template_take_operator(p, ",")) break;
    }
    *out = arguments.first;
    return template_expect_operator(p, ")");
}

// What is called: a global, something the template binds, or a method that some type has.
static sight_err check_callee(tparser *p, const tnode *callee)
{
    if (callee->kind == E_NAME) {
        tname *name = &p->names[callee->name];
        if (!name->called) name->called = callee->line;
    } else if (callee->kind == E_FIELD && !template_method_known(callee->text)) {
        return template_refuse(p, "there is no method '%.*s'", (int)callee->text.n,
                               callee->text.text);
    }
    return SIGHT_OK;
}

static sight_err parse_call(tparser *p, const tnode **expression)
{
    tnode *n = NULL;
    TRY(check_callee(p, *expression));
    TRY(make(p, &n, E_CALL, *expression, NULL));
    n->line = p->at->line;
    TRY(template_parse_arguments(p, &n->list));
    *expression = n;
    return SIGHT_OK;
}

static sight_err parse_field(tparser *p, const tnode **expression)
{
    tnode *n = NULL;
    TRY(template_expect_operator(p, "."));
    if (p->at->kind == TK_INT) {
        TRY(make(p, &n, E_ITEM, *expression, NULL));
        TRY(parse_value(p, &n->b, tvalue_int(p->at->i)));
    } else if (p->at->kind == TK_NAME) {
        TRY(make(p, &n, E_FIELD, *expression, NULL));
        n->text = p->at->text;
        p->at++;
    } else {
        return template_refuse(p, "a name is missing after '.'");
    }
    *expression = n;
    return SIGHT_OK;
}

// One part of a slice, or none.
static sight_err parse_slice_part(tparser *p, tlist_builder *parts)
{
    const tnode *part;
    if (template_at_operator(p, ":") || template_at_operator(p, "]")) {
        tnode *none = NULL;
        TRY(template_node(p, &none, E_VALUE));
        none->value = tvalue_of(T_NONE);
        part = none;
    } else {
        TRY(template_parse_expression(p, &part));
    }
    template_append(parts, (tnode *)part);
    return SIGHT_OK;
}

static sight_err parse_subscript(tparser *p, const tnode **expression)
{
    tnode *n = NULL;
    tlist_builder parts = { 0 };
    int colons = 0;
    TRY(template_expect_operator(p, "["));
    if (template_at_operator(p, "]")) return template_refuse(p, "an index is missing");
    TRY(parse_slice_part(p, &parts));
    while (template_take_operator(p, ":")) {
        if (++colons > 2) return template_refuse(p, "a slice has three parts at most");
        TRY(parse_slice_part(p, &parts));
    }
    if (colons == 1) TRY(parse_slice_part(p, &parts));
    TRY(make(p, &n, colons ? E_SLICE : E_ITEM, *expression, colons ? NULL : parts.first));
    n->list = colons ? parts.first : NULL;
    *expression = n;
    return template_expect_operator(p, "]");
}

static sight_err parse_postfix(tparser *p, const tnode **expression)
{
    for (;;) {
        if (template_at_operator(p, ".")) TRY(parse_field(p, expression));
        else if (template_at_operator(p, "[")) TRY(parse_subscript(p, expression));
        else if (template_at_operator(p, "(")) TRY(parse_call(p, expression));
        else return SIGHT_OK;
    }
}

// map, select and their like name another filter or test in an argument: known at compile time too.
static sight_err check_named(const tparser *p, const tnode *filter)
{
    int which = template_filter_names(filter->filter);
    const tnode *argument = filter->list;
    if (!which) return SIGHT_OK;
    bool by_attribute = which == 2;
    if (by_attribute && argument) argument = argument->next;
    if (!argument || argument->text.n || argument->a->kind != E_VALUE ||
        argument->a->value.kind != T_STRING)
        return SIGHT_OK;
    tstr name = argument->a->value.s;
    bool known = which == 3 ? template_filter_find(name) != NULL : template_test_find(name) != NULL;
    if (known) return SIGHT_OK;
    return template_refuse(p, "there is no %s '%.*s'", which == 3 ? "filter" : "test", (int)name.n,
                           name.text);
}

sight_err template_parse_filter(tparser *p, const tnode **out, const tnode *inner)
{
    tnode *n = NULL;
    if (p->at->kind != TK_NAME) return template_refuse(p, "a filter's name is missing");
    TRY(make(p, &n, E_FILTER, inner, NULL));
    n->line = p->at->line;
    n->filter = template_filter_find(p->at->text);
    if (!n->filter)
        return template_refuse(p, "there is no filter '%.*s'", (int)p->at->text.n,
                               p->at->text.text);
    p->at++;
    if (template_at_operator(p, "(")) TRY(template_parse_arguments(p, &n->list));
    TRY(check_named(p, n));
    *out = n;
    return SIGHT_OK;
}

sight_err template_parse_filters(tparser *p, const tnode **out, const tnode *inner)
{
    while (template_take_operator(p, "|")) TRY(template_parse_filter(p, &inner, inner));
    *out = inner;
    return SIGHT_OK;
}

// Whether a test's single argument follows it without brackets: x is divisibleby 3.
static bool at_bare_argument(const tparser *p)
{
    static const char *const words[] = { "else", "or", "and", "is", "if", "not", "in" };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (template_at_name(p, words[i])) return false;
    }
    return p->at->kind == TK_NAME || p->at->kind == TK_STRING || p->at->kind == TK_INT ||
           p->at->kind == TK_FLOAT || template_at_operator(p, "[") || template_at_operator(p, "{");
}

static sight_err parse_test(tparser *p, const tnode **expression)
{
    tnode *n = NULL, *argument = NULL;
    TRY(make(p, &n, E_TEST, *expression, NULL));
    n->negated = template_take_name(p, "not");
    if (p->at->kind != TK_NAME) return template_refuse(p, "a test's name is missing");
    n->line = p->at->line;
    n->test = template_test_find(p->at->text);
    if (!n->test)
        return template_refuse(p, "there is no test '%.*s'", (int)p->at->text.n, p->at->text.text);
    p->at++;
    if (template_at_operator(p, "(")) {
        TRY(template_parse_arguments(p, &n->list));
    } else if (at_bare_argument(p)) {
        TRY(template_node(p, &argument, E_ARGUMENT));
        TRY(parse_primary(p, &argument->a));
        TRY(parse_postfix(p, &argument->a));
        n->list = argument;
    }
    *expression = n;
    return SIGHT_OK;
}

static sight_err parse_filters_and_tests(tparser *p, const tnode **expression)
{
    for (;;) {
        if (template_at_operator(p, "|")) TRY(template_parse_filters(p, expression, *expression));
        else if (template_take_name(p, "is")) TRY(parse_test(p, expression));
        else if (template_at_operator(p, "(")) TRY(parse_call(p, expression));
        else return SIGHT_OK;
    }
}

// ---- operators ----

static sight_err parse_unary_inner(tparser *p, const tnode **out, bool with_filters)
{
    tnode *n = NULL;
    if (template_at_operator(p, "-") || template_at_operator(p, "+")) {
        TRY(template_node(p, &n, template_at_operator(p, "-") ? E_NEGATE : E_PLUS));
        p->at++;
        TRY(parse_unary(p, &n->a, false));
        *out = n;
    } else {
        TRY(parse_primary(p, out));
    }
    TRY(parse_postfix(p, out));
    return with_filters ? parse_filters_and_tests(p, out) : SIGHT_OK;
}

static sight_err parse_unary(tparser *p, const tnode **out, bool with_filters)
{
    TRY(template_enter(p));
    TRY(parse_unary_inner(p, out, with_filters));
    template_leave(p);
    return SIGHT_OK;
}

typedef struct binary_operator {
    const char *text;
    toperator op;
} binary_operator;

// The operator of the list that is next, or NULL; it is taken.
static const binary_operator *take_one(tparser *p, const binary_operator *operators)
{
    for (; operators->text; operators++) {
        if (template_take_operator(p, operators->text)) return operators;
    }
    return NULL;
}

static sight_err parse_power(tparser *p, const tnode **out)
{
    static const binary_operator powers[] = { { "**", OP_POWER }, { NULL, 0 } };
    const binary_operator *op;
    TRY(parse_unary(p, out, true));
    while ((op = take_one(p, powers))) {
        tnode *n = NULL;
        TRY(make(p, &n, E_BINARY, *out, NULL));
        n->op = (uint8_t)op->op;
        TRY(parse_unary(p, &n->b, true));
        *out = n;
    }
    return SIGHT_OK;
}

static sight_err parse_product(tparser *p, const tnode **out)
{
    static const binary_operator products[] = { { "*", OP_MULTIPLY },
                                                { "/", OP_DIVIDE },
                                                { "//", OP_FLOOR_DIVIDE },
                                                { "%", OP_MODULO },
                                                { NULL, 0 } };
    const binary_operator *op;
    TRY(parse_power(p, out));
    while ((op = take_one(p, products))) {
        tnode *n = NULL;
        TRY(make(p, &n, E_BINARY, *out, NULL));
        n->op = (uint8_t)op->op;
        TRY(parse_power(p, &n->b));
        *out = n;
    }
    return SIGHT_OK;
}

static sight_err parse_concat(tparser *p, const tnode **out)
{
    TRY(parse_product(p, out));
    if (!template_at_operator(p, "~")) return SIGHT_OK;
    tnode *n = NULL;
    tlist_builder parts = { 0 };
    TRY(make(p, &n, E_CONCAT, NULL, NULL));
    template_append(&parts, (tnode *)*out);
    while (template_take_operator(p, "~")) {
        const tnode *part;
        TRY(parse_product(p, &part));
        template_append(&parts, (tnode *)part);
    }
    n->list = parts.first;
    *out = n;
    return SIGHT_OK;
}

static sight_err parse_sum(tparser *p, const tnode **out)
{
    static const binary_operator sums[] = { { "+", OP_ADD }, { "-", OP_SUBTRACT }, { NULL, 0 } };
    const binary_operator *op;
    TRY(parse_concat(p, out));
    while ((op = take_one(p, sums))) {
        tnode *n = NULL;
        TRY(make(p, &n, E_BINARY, *out, NULL));
        n->op = (uint8_t)op->op;
        TRY(parse_concat(p, &n->b));
        *out = n;
    }
    return SIGHT_OK;
}

// The comparison that is next; it is taken.
static bool take_comparison(tparser *p, toperator *op)
{
    static const binary_operator comparisons[] = {
        { "==", OP_EQUAL },         { "!=", OP_NOT_EQUAL },   { "<=", OP_LESS_EQUAL },
        { ">=", OP_GREATER_EQUAL }, { "<", OP_LESS },         { ">", OP_GREATER },
        { NULL, 0 }
    };
    const binary_operator *found = take_one(p, comparisons);
    if (found) {
        *op = found->op;
        return true;
    }
    if (template_take_name(p, "in")) {
        *op = OP_IN;
        return true;
    }
    const ttoken *next = p->at + 1;
    if (!template_at_name(p, "not") || next->kind != TK_NAME || !tstr_equal(next->text, TSTR("in")))
        return false;
    p->at += 2;
    *op = OP_NOT_IN;
    return true;
}

static sight_err parse_compare(tparser *p, const tnode **out)
{
    tlist_builder operands = { 0 };
    toperator op;
    TRY(parse_sum(p, out));
    while (take_comparison(p, &op)) {
        tnode *n = NULL;
        TRY(template_node(p, &n, E_OPERAND));
        n->op = (uint8_t)op;
        TRY(parse_sum(p, &n->a));
        template_append(&operands, n);
    }
    if (!operands.first) return SIGHT_OK;
    tnode *n = NULL;
    TRY(make(p, &n, E_COMPARE, *out, NULL));
    n->list = operands.first;
    *out = n;
    return SIGHT_OK;
}

static sight_err parse_not(tparser *p, const tnode **out)
{
    if (!template_take_name(p, "not")) return parse_compare(p, out);
    tnode *n = NULL;
    TRY(template_enter(p));
    TRY(template_node(p, &n, E_NOT));
    TRY(parse_not(p, &n->a));
    template_leave(p);
    *out = n;
    return SIGHT_OK;
}

static sight_err parse_and(tparser *p, const tnode **out)
{
    TRY(parse_not(p, out));
    while (template_take_name(p, "and")) {
        tnode *n = NULL;
        TRY(make(p, &n, E_AND, *out, NULL));
        TRY(parse_not(p, &n->b));
        *out = n;
    }
    return SIGHT_OK;
}

static sight_err parse_or(tparser *p, const tnode **out)
{
    TRY(parse_and(p, out));
    while (template_take_name(p, "or")) {
        tnode *n = NULL;
        TRY(make(p, &n, E_OR, *out, NULL));
        TRY(parse_and(p, &n->b));
        *out = n;
    }
    return SIGHT_OK;
}

static sight_err parse_conditional(tparser *p, const tnode **out)
{
    TRY(parse_or(p, out));
    while (template_take_name(p, "if")) {
        tnode *n = NULL;
        TRY(make(p, &n, E_IF, NULL, *out));
        TRY(parse_or(p, &n->a));
        if (template_take_name(p, "else")) TRY(template_parse_expression(p, &n->c));
        *out = n;
    }
    return SIGHT_OK;
}

sight_err template_parse_expression(tparser *p, const tnode **out)
{
    TRY(template_enter(p));
    TRY(parse_conditional(p, out));
    template_leave(p);
    return SIGHT_OK;
}

// Whether a tuple ends after its comma.
static bool at_tuple_end(const tparser *p)
{
    return p->at->kind == TK_BLOCK_END || p->at->kind == TK_OUTPUT_END || p->at->kind == TK_END ||
           template_at_operator(p, ")") || template_at_name(p, "if") ||
           template_at_name(p, "recursive");
}

sight_err template_parse_tuple(tparser *p, const tnode **out, bool no_if)
{
    sight_err (*parse)(tparser *, const tnode **) = no_if ? parse_or : template_parse_expression;
    TRY(parse(p, out));
    if (!template_at_operator(p, ",")) return SIGHT_OK;
    tnode *n = NULL;
    tlist_builder items = { 0 };
    TRY(template_node(p, &n, E_TUPLE));
    template_append(&items, (tnode *)*out);
    while (template_take_operator(p, ",")) {
        const tnode *item;
        if (at_tuple_end(p)) break;
        TRY(parse(p, &item));
        template_append(&items, (tnode *)item);
    }
    n->list = items.first;
    *out = n;
    return SIGHT_OK;
}
