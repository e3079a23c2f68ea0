// Operators, fields, items and slices, with Python's rules.
#include <math.h>
#include <string.h>

#include "text/template_run.h"

static sight_err no_operator(const trun *r, const char *op, const tvalue *a, const tvalue *b)
{
    if (a->kind == T_UNDEFINED) return template_fail_undefined(r, a);
    if (b->kind == T_UNDEFINED) return template_fail_undefined(r, b);
    return template_fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", op,
                         tvalue_type(a), tvalue_type(b));
}

// ---- sequences ----

static sight_err join_texts(trun *r, tvalue *out, tstr a, tstr b)
{
    if (a.n + b.n > TRUN_MAX_OUTPUT) {
        r->too_long = true;
        return template_take(r, out, &(buf){ 0 });
    }
    char *text = template_alloc(r, a.n + b.n);
    if (!text) return template_no_memory(r, a.n + b.n);
    if (a.n) memcpy(text, a.text, a.n);
    if (b.n) memcpy(text + a.n, b.text, b.n);
    *out = tvalue_str((tstr){ text, a.n + b.n });
    return template_step(r, (a.n + b.n) / 64);
}

static sight_err join_lists(trun *r, tvalue *out, const tvalue *a, const tvalue *b)
{
    size_t n = a->list.n + b->list.n;
    TRY(template_step(r, n / 8));
    tvalue *items = template_alloc(r, n * sizeof *items);
    if (!items) return template_no_memory(r, n * sizeof *items);
    if (a->list.n) memcpy(items, a->list.items, a->list.n * sizeof *items);
    if (b->list.n) memcpy(items + a->list.n, b->list.items, b->list.n * sizeof *items);
    *out = tvalue_list(a->kind, items, n);
    return SIGHT_OK;
}

static bool is_list(const tvalue *v)
{
    return (v->kind == T_LIST || v->kind == T_TUPLE) && !v->lazy;
}

static sight_err repeat(trun *r, tvalue *out, const tvalue *v, int64_t times)
{
    bool text = v->kind == T_STRING;
    size_t size = text ? 1 : sizeof(tvalue), n = text ? v->s.n : v->list.n;
    if (times < 0) times = 0;
    if (n && (uint64_t)times > TRUN_MAX_OUTPUT / size / n) {
        r->too_long = true;
        return template_take(r, out, &(buf){ 0 });
    }
    if (!n) times = 0;
    size_t bytes = n * (size_t)times * size;
    TRY(template_step(r, bytes / 64 + (size_t)times));
    char *data = template_alloc(r, bytes);
    if (!data) return template_no_memory(r, bytes);
    const void *source = text ? (const void *)v->s.text : v->list.items;
    for (int64_t i = 0; i < times; i++) memcpy(data + (size_t)i * n * size, source, n * size);
    if (text) *out = tvalue_str((tstr){ data, bytes });
    else *out = tvalue_list(v->kind, (const tvalue *)(void *)data, n * (size_t)times);
    return SIGHT_OK;
}

// ---- numbers ----

static sight_err overflow(const trun *r)
{
    return template_fail(r, "a whole number does not fit 64 bits");
}

static sight_err int_power(trun *r, tvalue *out, int64_t base, int64_t exponent)
{
    int64_t result = 1;
    if (exponent < 0) {
        if (base == 0) return template_fail(r, "0.0 cannot be raised to a negative power");
        *out = tvalue_float(pow((double)base, (double)exponent));
        return SIGHT_OK;
    }
    for (; exponent > 0; exponent >>= 1) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) return overflow(r);
        if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) return overflow(r);
    }
    *out = tvalue_int(result);
    return SIGHT_OK;
}

static sight_err int_divide(trun *r, tvalue *out, toperator op, int64_t a, int64_t b)
{
    if (b == 0) return template_fail(r, "division by zero");
    if (op == OP_DIVIDE) {
        *out = tvalue_float((double)a / (double)b);
        return SIGHT_OK;
    }
    if (b == -1) { // INT64_MIN / -1 does not fit
        if (op == OP_FLOOR_DIVIDE && a == INT64_MIN) return overflow(r);
        *out = tvalue_int(op == OP_MODULO ? 0 : -a);
        return SIGHT_OK;
    }
    int64_t quotient = a / b, rest = a % b;
    if (rest && (rest < 0) != (b < 0)) { // Python rounds down, the rest has b's sign
        quotient--;
        rest += b;
    }
    *out = tvalue_int(op == OP_MODULO ? rest : quotient);
    return SIGHT_OK;
}

static sight_err int_binary(trun *r, tvalue *out, toperator op, int64_t a, int64_t b)
{
    int64_t result = 0;
    bool over = false;
    switch (op) {
    case OP_ADD: over = __builtin_add_overflow(a, b, &result); break;
    case OP_SUBTRACT: over = __builtin_sub_overflow(a, b, &result); break;
    case OP_MULTIPLY: over = __builtin_mul_overflow(a, b, &result); break;
    case OP_POWER: return int_power(r, out, a, b);
    default: return int_divide(r, out, op, a, b);
    }
    if (over) return overflow(r);
    *out = tvalue_int(result);
    return SIGHT_OK;
}

static sight_err float_binary(trun *r, tvalue *out, toperator op, double a, double b)
{
    double result = 0, rest;
    if (b == 0 && (op == OP_DIVIDE || op == OP_FLOOR_DIVIDE || op == OP_MODULO))
        return template_fail(r, "float division by zero");
    switch (op) {
    case OP_ADD: result = a + b; break;
    case OP_SUBTRACT: result = a - b; break;
    case OP_MULTIPLY: result = a * b; break;
    case OP_DIVIDE: result = a / b; break;
    case OP_POWER: result = pow(a, b); break;
    default:
        rest = fmod(a, b);
        if (rest != 0 && (rest < 0) != (b < 0)) rest += b;
        result = op == OP_MODULO ? rest : floor((a - rest) / b + 0.5);
    }
    *out = tvalue_float(result);
    return SIGHT_OK;
}

sight_err template_binary(trun *r, tvalue *out, toperator op, const tvalue *a, const tvalue *b)
{
    static const char *const names[] = { "+", "-", "*", "/", "//", "%", "** or pow()" };
    if (tvalue_is_number(a) && tvalue_is_number(b)) {
        if (a->kind == T_FLOAT || b->kind == T_FLOAT)
            return float_binary(r, out, op, tvalue_to_float(a), tvalue_to_float(b));
        return int_binary(r, out, op, tvalue_to_int(a), tvalue_to_int(b));
    }
    if (op == OP_ADD) {
        if (a->kind == T_STRING && b->kind == T_STRING) return join_texts(r, out, a->s, b->s);
        if (is_list(a) && is_list(b) && a->kind == b->kind) return join_lists(r, out, a, b);
        if (a->kind == T_STRING && b->kind != T_UNDEFINED)
            return template_fail(r, "can only concatenate str (not \"%s\") to str", tvalue_type(b));
    }
    if (op == OP_MULTIPLY) {
        bool a_counts = a->kind == T_INT || a->kind == T_BOOL;
        bool b_counts = b->kind == T_INT || b->kind == T_BOOL;
        if ((a->kind == T_STRING || is_list(a)) && b_counts)
            return repeat(r, out, a, tvalue_to_int(b));
        if ((b->kind == T_STRING || is_list(b)) && a_counts)
            return repeat(r, out, b, tvalue_to_int(a));
    }
    return no_operator(r, names[op], a, b);
}

// ---- comparisons ----

static sight_err contains(trun *r, bool *out, const tvalue *item, const tvalue *v)
{
    tlist items;
    switch (v->kind) {
    case T_STRING:
        if (item->kind == T_UNDEFINED) return template_fail_undefined(r, item);
        if (item->kind != T_STRING)
            return template_fail(r, "'in <string>' requires string as left operand, not %s",
                                 tvalue_type(item));
        *out = text_find(v->s, item->s, false) >= 0;
        return template_step(r, v->s.n / 64);
    case T_DICT: *out = tdict_find(v->dict, item) != NULL; return template_step(r, v->dict.n / 8);
    case T_LIST:
    case T_TUPLE:
    case T_UNDEFINED: break;
    default: return template_fail(r, "argument of type '%s' is not iterable", tvalue_type(v));
    }
    TRY(template_iterate(r, &items, v));
    TRY(template_step(r, items.n));
    *out = false;
    for (size_t i = 0; i < items.n && !*out; i++) *out = tvalue_equal(&items.items[i], item);
    return SIGHT_OK;
}

sight_err template_compare(trun *r, bool *out, toperator op, const tvalue *a, const tvalue *b)
{
    static const char *const names[] = { [OP_LESS] = "<",
                                         [OP_LESS_EQUAL] = "<=",
                                         [OP_GREATER] = ">",
                                         [OP_GREATER_EQUAL] = ">=" };
    int order;
    switch (op) {
    case OP_EQUAL:
    case OP_NOT_EQUAL: *out = tvalue_equal(a, b) == (op == OP_EQUAL); return SIGHT_OK;
    case OP_IN:
    case OP_NOT_IN:
        TRY(contains(r, out, a, b));
        *out ^= op == OP_NOT_IN;
        return SIGHT_OK;
    default: break;
    }
    if (a->kind == T_UNDEFINED) return template_fail_undefined(r, a);
    if (b->kind == T_UNDEFINED) return template_fail_undefined(r, b);
    if (!tvalue_order(&order, a, b))
        return template_fail(r, "'%s' not supported between instances of '%s' and '%s'", names[op],
                             tvalue_type(a), tvalue_type(b));
    switch (op) { // order is 2 beside a NaN: never true
    case OP_LESS: *out = order == -1; break;
    case OP_LESS_EQUAL: *out = order == -1 || order == 0; break;
    case OP_GREATER: *out = order == 1; break;
    default: *out = order == 1 || order == 0;
    }
    return SIGHT_OK;
}

// ---- fields and items ----

static tvalue undefined_in(const tvalue *owner, tstr name)
{
    return (tvalue){ .kind = T_UNDEFINED, .owner = owner->kind, .s = name };
}

static bool loop_field(tvalue *out, const tloop *l, tstr name)
{
    static const char *const names[] = { "index", "index0", "revindex", "revindex0", "first",
                                         "last",  "length", "previtem", "nextitem",  "depth",
                                         "depth0" };
    size_t k = 0, count = sizeof names / sizeof *names;
    int64_t i = (int64_t)l->i, n = (int64_t)l->n;
    while (k < count && !(strlen(names[k]) == name.n && !memcmp(names[k], name.text, name.n))) k++;
    tvalue nothing = { .kind = T_UNDEFINED, .owner = T_LOOP, .s = name };
    switch (k) {
    case 0: *out = tvalue_int(i + 1); break;
    case 1: *out = tvalue_int(i); break;
    case 2: *out = tvalue_int(n - i); break;
    case 3: *out = tvalue_int(n - i - 1); break;
    case 4: *out = tvalue_bool(i == 0); break;
    case 5: *out = tvalue_bool(i == n - 1); break;
    case 6: *out = tvalue_int(n); break;
    case 7: *out = i > 0 ? l->items[i - 1] : nothing; break;
    case 8: *out = i < n - 1 ? l->items[i + 1] : nothing; break;
    case 9: *out = tvalue_int(1); break; // how deep a loop recurs, which none here does
    case 10: *out = tvalue_int(0); break;
    default: return false;
    }
    return true;
}

// Python's attributes of a value: methods, a namespace's fields, a loop's.
static sight_err attribute(trun *r, bool *found, tvalue *out, const tvalue *v, tstr name)
{
    *found = true;
    if (v->kind == T_NAMESPACE) {
        const tvalue *value = tdict_find_text((tdict){ v->ns->pairs, v->ns->n }, name);
        if (value) *out = *value;
        *found = value != NULL;
        return SIGHT_OK;
    }
    if (v->kind == T_LOOP && loop_field(out, v->loop, name)) return SIGHT_OK;
    const tmethod_info *info = v->lazy ? NULL : template_method_find(v->kind, name);
    *found = info != NULL;
    if (!info) return SIGHT_OK;
    tmethod *m = template_alloc(r, sizeof *m);
    if (!m) return template_no_memory(r, sizeof *m);
    *m = (tmethod){ info, *v };
    *out = (tvalue){ .kind = T_METHOD, .method = m };
    return SIGHT_OK;
}

sight_err template_field(trun *r, tvalue *out, const tvalue *v, tstr name)
{
    bool found;
    if (v->kind == T_UNDEFINED) return template_fail_undefined(r, v);
    TRY(attribute(r, &found, out, v, name));
    if (found) return SIGHT_OK;
    const tvalue *value = v->kind == T_DICT ? tdict_find_text(v->dict, name) : NULL;
    *out = value ? *value : undefined_in(v, name);
    return template_step(r, v->kind == T_DICT ? v->dict.n / 8 : 0);
}

// v[i] counted from the end when negative.
static tvalue at_index(const tvalue *v, int64_t i)
{
    size_t n = v->kind == T_STRING ? text_length(v->s) : v->list.n;
    if (i < 0) i += (int64_t)n;
    if (i < 0 || i >= (int64_t)n) return undefined_in(v, (tstr){ 0 });
    if (v->kind != T_STRING) return v->list.items[i];
    size_t begin = text_offset(v->s, (size_t)i), size;
    text_char((tstr){ v->s.text + begin, v->s.n - begin }, &size);
    return tvalue_str((tstr){ v->s.text + begin, size });
}

sight_err template_item(trun *r, tvalue *out, const tvalue *v, const tvalue *key)
{
    bool found = false, indexed = v->kind == T_STRING || (is_list(v) && !v->lazy);
    if (v->kind == T_UNDEFINED) return template_fail_undefined(r, v);
    if (v->kind == T_DICT) {
        const tvalue *value = tdict_find(v->dict, key);
        TRY(template_step(r, v->dict.n / 8));
        if (value) {
            *out = *value;
            return SIGHT_OK;
        }
    } else if (indexed && (key->kind == T_INT || key->kind == T_BOOL)) {
        *out = at_index(v, tvalue_to_int(key));
        return template_step(r, v->kind == T_STRING ? v->s.n / 64 : 0);
    }
    if (key->kind == T_STRING) TRY(attribute(r, &found, out, v, key->s));
    if (!found) *out = undefined_in(v, key->kind == T_STRING ? key->s : (tstr){ 0 });
    return SIGHT_OK;
}

// A bound of a slice: the given one counted from the end when negative and cut to [low, high].
static int64_t slice_bound(const tvalue *part, int64_t absent, int64_t n, int64_t low, int64_t high)
{
    if (part->kind == T_NONE) return absent;
    int64_t i = tvalue_to_int(part);
    if (i < 0) i += n;
    return i < low ? low : i > high ? high : i;
}

static sight_err slice_text(trun *r, tvalue *out, tstr s, int64_t begin, int64_t end, int64_t step)
{
    if (step == 1) {
        size_t from = text_offset(s, (size_t)begin);
        size_t size = end > begin ? text_offset((tstr){ s.text + from, s.n - from },
                                                (size_t)(end - begin)) : 0;
        *out = tvalue_str((tstr){ s.text + from, size });
        return template_step(r, s.n / 64);
    }
    tvalue whole = tvalue_str(s);
    tlist characters;
    buf b;
    TRY(template_iterate(r, &characters, &whole));
    buf_init(&b);
    for (int64_t i = begin; step > 0 ? i < end : i > end; i += step)
        template_add(r, &b, characters.items[i].s);
    return template_take(r, out, &b);
}

static sight_err slice_list(trun *r, tvalue *out, const tvalue *v, int64_t begin, int64_t end,
                            int64_t step)
{
    if (step == 1) {
        size_t n = end > begin ? (size_t)(end - begin) : 0;
        *out = tvalue_list(v->kind, n ? v->list.items + begin : NULL, n);
        return SIGHT_OK;
    }
    tgrow g = { 0 };
    for (int64_t i = begin; step > 0 ? i < end : i > end; i += step)
        TRY(template_push(r, &g, v->list.items[i]));
    *out = tvalue_list(v->kind, g.items, g.n);
    return SIGHT_OK;
}

sight_err template_slice(trun *r, tvalue *out, const tvalue *v, const tvalue *parts)
{
    if (v->kind == T_UNDEFINED) return template_fail_undefined(r, v);
    if (v->kind != T_STRING && !is_list(v)) {
        *out = undefined_in(v, (tstr){ 0 });
        return SIGHT_OK;
    }
    for (int i = 0; i < 3; i++) {
        if (parts[i].kind != T_NONE && parts[i].kind != T_INT && parts[i].kind != T_BOOL)
            return template_fail(r, "a slice's parts must be whole numbers, not %s",
                                 tvalue_type(&parts[i]));
    }
    int64_t n = (int64_t)(v->kind == T_STRING ? text_length(v->s) : v->list.n);
    int64_t step = parts[2].kind == T_NONE ? 1 : tvalue_to_int(&parts[2]);
    if (step == 0) return template_fail(r, "slice step cannot be zero");
    if (step > n + 1) step = n + 1; // so that adding it cannot overflow
    if (step < -n - 1) step = -n - 1;
    bool back = step < 0;
    int64_t low = back ? -1 : 0, high = back ? n - 1 : n;
    int64_t begin = slice_bound(&parts[0], back ? high : low, n, low, high);
    int64_t end = slice_bound(&parts[1], back ? low : high, n, low, high);
    return v->kind == T_STRING ? slice_text(r, out, v->s, begin, end, step)
                               : slice_list(r, out, v, begin, end, step);
}
