#include "text/template_value.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct tblock {
    tblock *next;
    size_t size, used;
    max_align_t data[];
};

#define BLOCK_BYTES (64 * 1024)

void *tarena_alloc(tarena *a, size_t n)
{
    if (n > a->max - a->used) return NULL;
    n = (n + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    if (n > a->max - a->used) return NULL;
    tblock *b = a->blocks;
    if (!b || n > b->size - b->used) {
        size_t size = n > BLOCK_BYTES / 4 ? n : BLOCK_BYTES;
        b = calloc(1, sizeof *b + size);
        if (!b) return NULL;
        b->size = size;
        // A large value gets its own block, behind the one that small ones still fit in.
        if (a->blocks && size == n) {
            b->next = a->blocks->next;
            a->blocks->next = b;
        } else {
            b->next = a->blocks;
            a->blocks = b;
        }
    }
    void *p = (char *)b->data + b->used;
    b->used += n;
    a->used += n;
    return p;
}

sight_err tarena_failure(const tarena *a, size_t n)
{
    if (n <= a->max - a->used) return sight_fail(SIGHT_E_MEMORY, "no memory for a chat template");
    return sight_fail(SIGHT_E_LIMIT, "a chat template needs over %zu MiB of memory", a->max >> 20);
}

void tarena_free(tarena *a)
{
    while (a->blocks) {
        tblock *b = a->blocks;
        a->blocks = b->next;
        free(b);
    }
    a->used = 0;
}

const char *tvalue_type(const tvalue *v)
{
    static const char *const names[] = {
        [T_ABSENT] = "Undefined",     [T_UNDEFINED] = "Undefined",
        [T_NONE] = "NoneType",        [T_BOOL] = "bool",
        [T_INT] = "int",              [T_FLOAT] = "float",
        [T_STRING] = "str",           [T_LIST] = "list",
        [T_TUPLE] = "tuple",          [T_DICT] = "dict",
        [T_NAMESPACE] = "Namespace",  [T_MACRO] = "Macro",
        [T_LOOP] = "LoopContext",     [T_METHOD] = "builtin_function_or_method",
        [T_FUNCTION] = "function",
    };
    return v->lazy ? "generator" : names[v->kind];
}

bool tvalue_is_number(const tvalue *v)
{
    return v->kind == T_BOOL || v->kind == T_INT || v->kind == T_FLOAT;
}

int64_t tvalue_to_int(const tvalue *v)
{
    return v->kind == T_BOOL ? v->truth : v->i;
}

double tvalue_to_float(const tvalue *v)
{
    return v->kind == T_FLOAT ? v->f : (double)tvalue_to_int(v);
}

bool tvalue_true(const tvalue *v)
{
    switch (v->kind) {
    case T_ABSENT:
    case T_UNDEFINED:
    case T_NONE: return false;
    case T_BOOL: return v->truth;
    case T_INT: return v->i != 0;
    case T_FLOAT: return v->f != 0;
    case T_STRING: return v->s.n > 0;
    case T_LIST:
    case T_TUPLE: return v->lazy || v->list.n > 0;
    case T_DICT: return v->dict.n > 0;
    default: return true;
    }
}

bool tstr_equal(tstr a, tstr b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.text, b.text, a.n) == 0);
}

int tstr_compare(tstr a, tstr b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.text, b.text, n) : 0; // UTF-8 sorts as its code points do
    if (c) return c < 0 ? -1 : 1;
    return (a.n > b.n) - (a.n < b.n);
}

static bool equal_at(const tvalue *a, const tvalue *b, int depth);

static bool lists_equal(tlist a, tlist b, int depth)
{
    if (a.n != b.n) return false;
    for (size_t i = 0; i < a.n; i++) {
        if (!equal_at(&a.items[i], &b.items[i], depth)) return false;
    }
    return true;
}

static bool dicts_equal(tdict a, tdict b, int depth)
{
    if (a.n != b.n) return false;
    for (size_t i = 0; i < a.n; i++) {
        const tvalue *v = tdict_find(b, &a.pairs[i].key);
        if (!v || !equal_at(&a.pairs[i].value, v, depth)) return false;
    }
    return true;
}

static bool numbers_equal(const tvalue *a, const tvalue *b)
{
    if (a->kind == T_FLOAT || b->kind == T_FLOAT) return tvalue_to_float(a) == tvalue_to_float(b);
    return tvalue_to_int(a) == tvalue_to_int(b);
}

static bool equal_at(const tvalue *a, const tvalue *b, int depth)
{
    if (depth > TVALUE_MAX_DEPTH) return false;
    if (tvalue_is_number(a) && tvalue_is_number(b)) return numbers_equal(a, b);
    if (a->kind != b->kind) return false;
    switch (a->kind) {
    case T_STRING: return tstr_equal(a->s, b->s);
    case T_LIST:
    case T_TUPLE: return lists_equal(a->list, b->list, depth + 1);
    case T_DICT: return dicts_equal(a->dict, b->dict, depth + 1);
    case T_NAMESPACE: return a->ns == b->ns;
    case T_MACRO: return a->macro == b->macro;
    case T_LOOP: return a->loop == b->loop;
    case T_METHOD: return a->method == b->method;
    case T_FUNCTION: return a->function == b->function;
    default: return true; // none and undefined equal their like
    }
}

bool tvalue_equal(const tvalue *a, const tvalue *b)
{
    return equal_at(a, b, 0);
}

static bool order_at(int *order, const tvalue *a, const tvalue *b, int depth);

static bool lists_order(int *order, tlist a, tlist b, int depth)
{
    for (size_t i = 0; i < a.n && i < b.n; i++) {
        if (equal_at(&a.items[i], &b.items[i], depth)) continue;
        return order_at(order, &a.items[i], &b.items[i], depth);
    }
    *order = (a.n > b.n) - (a.n < b.n);
    return true;
}

static bool order_at(int *order, const tvalue *a, const tvalue *b, int depth)
{
    if (depth > TVALUE_MAX_DEPTH) return false;
    if (tvalue_is_number(a) && tvalue_is_number(b)) {
        if (a->kind != T_FLOAT && b->kind != T_FLOAT) {
            int64_t x = tvalue_to_int(a), y = tvalue_to_int(b);
            *order = (x > y) - (x < y);
        } else {
            double x = tvalue_to_float(a), y = tvalue_to_float(b);
            *order = isnan(x) || isnan(y) ? 2 : (x > y) - (x < y);
        }
        return true;
    }
    if (a->kind == T_STRING && b->kind == T_STRING) {
        *order = tstr_compare(a->s, b->s);
        return true;
    }
    if (a->kind == b->kind && (a->kind == T_LIST || a->kind == T_TUPLE) && !a->lazy && !b->lazy) {
        return lists_order(order, a->list, b->list, depth + 1);
    }
    return false;
}

bool tvalue_order(int *order, const tvalue *a, const tvalue *b)
{
    return order_at(order, a, b, 0);
}

const tvalue *tdict_find(tdict d, const tvalue *key)
{
    if (key->kind == T_STRING) return tdict_find_text(d, key->s);
    for (size_t i = 0; i < d.n; i++) {
        if (tvalue_equal(&d.pairs[i].key, key)) return &d.pairs[i].value;
    }
    return NULL;
}

const tvalue *tdict_find_text(tdict d, tstr key)
{
    for (size_t i = 0; i < d.n; i++) {
        const tvalue *k = &d.pairs[i].key;
        if (k->kind == T_STRING && tstr_equal(k->s, key)) return &d.pairs[i].value;
    }
    return NULL;
}

static sight_err list_from_json(tvalue *out, tarena *a, const json_t *json)
{
    size_t n = json_array_size(json);
    tvalue *items = tarena_alloc(a, n * sizeof *items);
    if (!items) return tarena_failure(a, n * sizeof *items);
    for (size_t i = 0; i < n; i++) {
        TRY(tvalue_from_json(&items[i], a, json_array_get(json, i)));
    }
    *out = tvalue_list(T_LIST, items, n);
    return SIGHT_OK;
}

static sight_err dict_from_json(tvalue *out, tarena *a, json_t *json)
{
    size_t n = json_object_size(json), i = 0;
    tpair *pairs = tarena_alloc(a, n * sizeof *pairs);
    if (!pairs) return tarena_failure(a, n * sizeof *pairs);
    const char *key;
    json_t *value;
    json_object_foreach(json, key, value)
    {
        pairs[i].key = tvalue_str((tstr){ key, strlen(key) });
        TRY(tvalue_from_json(&pairs[i].value, a, value));
        i++;
    }
    *out = (tvalue){ .kind = T_DICT, .dict = { pairs, n } };
    return SIGHT_OK;
}

sight_err tvalue_from_json(tvalue *out, tarena *a, const json_t *json)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT: return dict_from_json(out, a, (json_t *)json); // foreach takes no const
    case JSON_ARRAY: return list_from_json(out, a, json);
    case JSON_STRING:
        *out = tvalue_str((tstr){ json_string_value(json), json_string_length(json) });
        return SIGHT_OK;
    case JSON_INTEGER: *out = tvalue_int(json_integer_value(json)); return SIGHT_OK;
    case JSON_REAL: *out = tvalue_float(json_real_value(json)); return SIGHT_OK;
    case JSON_TRUE:
    case JSON_FALSE: *out = tvalue_bool(json_is_true(json)); return SIGHT_OK;
    default: *out = tvalue_of(T_NONE); return SIGHT_OK;
    }
}
