// Tests ("x is string") and global functions.
#include <string.h>
#include <time.h>

#include "text/template_run.h"

// ---- tests ----

typedef sight_err test_fn(trun *r, bool *out, const tvalue *v, const tvalue *args);

#define KIND_TEST(name, condition)                                                                 \
    static sight_err name(trun *r, bool *out, const tvalue *v, const tvalue *args)                 \
    {                                                                                              \
        *out = (condition);                                                                        \
        return SIGHT_OK;                                                                           \
    }

static bool is_sized(const tvalue *v)
{
    return !v->lazy && (v->kind == T_UNDEFINED || (v->kind >= T_STRING && v->kind <= T_DICT));
}

KIND_TEST(test_defined, v->kind != T_UNDEFINED)
KIND_TEST(test_undefined, v->kind == T_UNDEFINED)
KIND_TEST(test_none, v->kind == T_NONE)
KIND_TEST(test_boolean, v->kind == T_BOOL)
KIND_TEST(test_true, v->kind == T_BOOL && v->truth)
KIND_TEST(test_false, v->kind == T_BOOL && !v->truth)
KIND_TEST(test_integer, v->kind == T_INT)
KIND_TEST(test_float, v->kind == T_FLOAT)
KIND_TEST(test_number, tvalue_is_number(v))
KIND_TEST(test_string, v->kind == T_STRING)
KIND_TEST(test_mapping, v->kind == T_DICT)
KIND_TEST(test_sequence, is_sized(v))
KIND_TEST(test_iterable, v->lazy || is_sized(v) || v->kind == T_LOOP)
KIND_TEST(test_callable, v->kind >= T_MACRO && v->kind != T_LOOP)
KIND_TEST(test_filter, v->kind == T_STRING && template_filter_find(v->s))
KIND_TEST(test_test, v->kind == T_STRING && template_test_find(v->s))

static sight_err need_whole(trun *r, const tvalue *v)
{
    if (v->kind == T_UNDEFINED) return template_fail_undefined(r, v);
    if (v->kind == T_INT || v->kind == T_BOOL) return SIGHT_OK;
    return template_fail(r, "a whole number is needed, not %s", tvalue_type(v));
}

static sight_err test_odd(trun *r, bool *out, const tvalue *v, const tvalue *args)
{
    TRY(need_whole(r, v));
    *out = tvalue_to_int(v) % 2 != 0;
    return SIGHT_OK;
}

static sight_err test_even(trun *r, bool *out, const tvalue *v, const tvalue *args)
{
    TRY(need_whole(r, v));
    *out = tvalue_to_int(v) % 2 == 0;
    return SIGHT_OK;
}

static sight_err test_divisible(trun *r, bool *out, const tvalue *v, const tvalue *args)
{
    tvalue rest;
    TRY(need_whole(r, v));
    TRY(need_whole(r, &args[0]));
    TRY(template_binary(r, &rest, OP_MODULO, v, &args[0]));
    *out = rest.i == 0;
    return SIGHT_OK;
}

static sight_err test_same(trun *r, bool *out, const tvalue *v, const tvalue *args)
{
    bool single = v->kind == T_NONE || v->kind == T_BOOL || v->kind >= T_NAMESPACE;
    if (!single && v->kind == args[0].kind)
        return template_fail(r, "sameas is known for true, false and none only");
    *out = v->kind == args[0].kind && tvalue_equal(v, &args[0]);
    return SIGHT_OK;
}

static bool has_case(tstr s, bool upper)
{
    bool some = false;
    size_t n;
    for (; s.n; s.text += n, s.n -= n) {
        int32_t c = text_char(s, &n);
        bool is_upper = text_is_upper(c), is_lower = text_is_lower(c);
        if (upper ? is_lower : is_upper) return false;
        some |= upper ? is_upper : is_lower;
    }
    return some;
}

static sight_err test_upper(trun *r, bool *out, const tvalue *v, const tvalue *args)
{
    tstr s;
    TRY(template_str(r, &s, v));
    *out = has_case(s, true);
    return SIGHT_OK;
}

static sight_err test_lower(trun *r, bool *out, const tvalue *v, const tvalue *args)
{
    tstr s;
    TRY(template_str(r, &s, v));
    *out = has_case(s, false);
    return SIGHT_OK;
}

#define COMPARE_TEST(name, op)                                                                     \
    static sight_err name(trun *r, bool *out, const tvalue *v, const tvalue *args)                 \
    {                                                                                              \
        return template_compare(r, out, op, v, &args[0]);                                          \
    }

COMPARE_TEST(test_eq, OP_EQUAL)
COMPARE_TEST(test_ne, OP_NOT_EQUAL)
COMPARE_TEST(test_lt, OP_LESS)
COMPARE_TEST(test_le, OP_LESS_EQUAL)
COMPARE_TEST(test_gt, OP_GREATER)
COMPARE_TEST(test_ge, OP_GREATER_EQUAL)
COMPARE_TEST(test_in, OP_IN)

static const ttest tests[] = {
    { "boolean", 0, test_boolean },   { "callable", 0, test_callable },
    { "defined", 0, test_defined },   { "divisibleby", 1, test_divisible },
    { "eq", 1, test_eq },             { "equalto", 1, test_eq },
    { "even", 0, test_even },         { "false", 0, test_false },
    { "filter", 0, test_filter },     { "float", 0, test_float },
    { "ge", 1, test_ge },             { "greaterthan", 1, test_gt },
    { "gt", 1, test_gt },             { "in", 1, test_in },
    { "integer", 0, test_integer },   { "iterable", 0, test_iterable },
    { "le", 1, test_le },             { "lessthan", 1, test_lt },
    { "lower", 0, test_lower },       { "lt", 1, test_lt },
    { "mapping", 0, test_mapping },   { "ne", 1, test_ne },
    { "none", 0, test_none },         { "number", 0, test_number },
    { "odd", 0, test_odd },           { "sameas", 1, test_same },
    { "sequence", 0, test_sequence }, { "string", 0, test_string },
    { "test", 0, test_test },         { "true", 0, test_true },
    { "undefined", 0, test_undefined }, { "upper", 0, test_upper },
    { "==", 1, test_eq },             { "!=", 1, test_ne },
    { "<", 1, test_lt },              { "<=", 1, test_le },
    { ">", 1, test_gt },              { ">=", 1, test_ge },
};

const ttest *template_test_find(tstr name)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (tstr_equal(name, (tstr){ tests[i].name, strlen(tests[i].name) })) return &tests[i];
    }
    return NULL;
}

sight_err template_test_run(trun *r, bool *out, const ttest *t, const tvalue *v,
                            const targuments *args)
{
    if (args->n != (size_t)t->arguments || args->n_positional != args->n)
        return template_fail(r, "the test '%s' takes %d argument(s)", t->name, t->arguments);
    return t->run(r, out, v, args->n ? &args->items[0].value : NULL);
}

// ---- functions ----

static sight_err function_raise(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    tstr message;
    TRY(template_str(r, &message, &args[0]));
    int n = message.n > 1000 ? 1000 : (int)message.n;
    return sight_fail(SIGHT_E_ARGUMENT, "%.*s", n, n ? message.text : "");
}

static sight_err range_bounds(trun *r, int64_t *bounds, const tvalue *args)
{
    int n = args[2].kind != T_ABSENT ? 3 : args[1].kind != T_ABSENT ? 2 : 1;
    for (int i = 0; i < n; i++) {
        TRY(need_whole(r, &args[i]));
        bounds[i] = tvalue_to_int(&args[i]);
    }
    if (n == 1) {
        bounds[1] = bounds[0];
        bounds[0] = 0;
    }
    if (n < 3) bounds[2] = 1;
    if (bounds[2] == 0) return template_fail(r, "range() arg 3 must not be zero");
    return SIGHT_OK;
}

static sight_err function_range(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    int64_t b[3];
    TRY(range_bounds(r, b, args));
    double count = ((double)b[1] - (double)b[0]) / (double)b[2];
    if (count > TRUN_MAX_RANGE)
        return template_fail(r, "Range too big. The sandbox blocks ranges larger than %d.",
                             TRUN_MAX_RANGE);
    tgrow g = { 0 };
    for (int64_t i = b[0]; b[2] > 0 ? i < b[1] : i > b[1];) {
        TRY(template_push(r, &g, tvalue_int(i)));
        if (__builtin_add_overflow(i, b[2], &i)) break;
    }
    *out = tvalue_list(T_LIST, g.items, g.n);
    return SIGHT_OK;
}

// dict(a=1) and namespace(a=1), also with a mapping in front.
static sight_err gather(trun *r, tnamespace *into, const targuments *args, const char *what)
{
    const tvalue *base = args->n_positional ? &args->items[0].value : NULL;
    if (args->n_positional > 1 || (base && base->kind != T_DICT))
        return template_fail(r, "%s() takes a mapping and names with values", what);
    size_t n = args->n - args->n_positional + (base ? base->dict.n : 0), used = 0;
    tpair *pairs = template_alloc(r, n * sizeof *pairs);
    if (!pairs) return template_no_memory(r, n * sizeof *pairs);
    for (size_t i = 0; base && i < base->dict.n; i++) pairs[used++] = base->dict.pairs[i];
    for (size_t i = args->n_positional; i < args->n; i++) {
        tvalue key = tvalue_str(args->items[i].keyword);
        size_t k = 0;
        while (k < used && !tvalue_equal(&pairs[k].key, &key)) k++;
        pairs[k] = (tpair){ key, args->items[i].value };
        used += k == used;
        TRY(template_step(r, used));
    }
    *into = (tnamespace){ pairs, used, n };
    return SIGHT_OK;
}

static sight_err function_dict(trun *r, tvalue *out, const tvalue *self, const targuments *args)
{
    tnamespace pairs;
    TRY(gather(r, &pairs, args, "dict"));
    *out = (tvalue){ .kind = T_DICT, .dict = { pairs.pairs, pairs.n } };
    return SIGHT_OK;
}

static sight_err function_namespace(trun *r, tvalue *out, const tvalue *self,
                                    const targuments *args)
{
    tnamespace *ns = template_alloc(r, sizeof *ns);
    if (!ns) return template_no_memory(r, sizeof *ns);
    TRY(gather(r, ns, args, "namespace"));
    for (size_t i = 0; i < ns->n; i++) {
        if (ns->pairs[i].key.kind != T_STRING)
            return template_fail(r, "namespace() takes names, not %s",
                                 tvalue_type(&ns->pairs[i].key));
    }
    *out = (tvalue){ .kind = T_NAMESPACE, .ns = ns };
    return SIGHT_OK;
}

static sight_err function_strftime(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    char format[128], text[512];
    time_t now = time(NULL);
    struct tm t;
    if (args[0].kind != T_STRING || args[0].s.n >= sizeof format)
        return template_fail(r, "strftime_now() takes a short format");
    if (args[0].s.n) memcpy(format, args[0].s.text, args[0].s.n);
    format[args[0].s.n] = '\0';
    localtime_r(&now, &t);
    size_t n = strftime(text, sizeof text, format, &t);
    buf b;
    buf_init(&b);
    template_add(r, &b, (tstr){ text, n });
    return template_take(r, out, &b);
}

static const tfunction functions[] = {
    { .name = "dict", .run_free = function_dict },
    { .name = "namespace", .run_free = function_namespace },
    { .name = "raise_exception", .parameters = "message!", .run = function_raise },
    { .name = "range", .parameters = "start! stop step", .run = function_range },
    { .name = "strftime_now", .parameters = "format!", .run = function_strftime },
};

const tfunction *template_function_find(tstr name)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        if (tstr_equal(name, (tstr){ functions[i].name, strlen(functions[i].name) }))
            return &functions[i];
    }
    return NULL;
}
