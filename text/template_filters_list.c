// Filters of lists and mappings.
#include <stdlib.h>
#include <string.h>

#include "text/template_run.h"

static bool given(const tvalue *v)
{
    return v->kind != T_ABSENT && v->kind != T_NONE;
}

static bool flag(const tvalue *v)
{
    return v->kind != T_ABSENT && tvalue_true(v);
}

// The element's part that attribute='a.b.0' names; the element itself when there is none.
static sight_err get_attribute(trun *r, tvalue *out, const tvalue *v, const tvalue *attribute)
{
    *out = *v;
    if (!given(attribute)) return SIGHT_OK;
    if (attribute->kind == T_INT) return template_item(r, out, v, attribute);
    if (attribute->kind != T_STRING)
        return template_fail(r, "an attribute's name is no text but %s", tvalue_type(attribute));
    for (tstr rest = attribute->s; rest.n;) {
        ptrdiff_t dot = text_find(rest, TSTR("."), false);
        tstr part = { rest.text, dot < 0 ? rest.n : (size_t)dot };
        size_t skip = part.n + (dot >= 0);
        tvalue inner = *out, key = tvalue_str(part);
        int64_t index = part.n && part.n < 10 ? 0 : -1;
        for (size_t i = 0; i < part.n && index >= 0; i++) {
            bool digit = part.text[i] >= '0' && part.text[i] <= '9';
            index = digit ? index * 10 + part.text[i] - '0' : -1;
        }
        if (index >= 0) key = tvalue_int(index);
        TRY(template_item(r, out, &inner, &key));
        rest.text += skip;
        rest.n -= skip;
    }
    return SIGHT_OK;
}

static void set_list(tvalue *out, const tgrow *g, bool lazy)
{
    *out = tvalue_list(T_LIST, g->items, g->n);
    out->lazy = lazy;
}

// ---- join, first, last, list, reverse, items ----

static sight_err filter_join(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    tlist items;
    tstr separator = { "", 0 };
    buf b;
    sight_err err = SIGHT_OK;
    TRY(template_iterate(r, &items, v));
    if (args[0].kind != T_ABSENT) TRY(template_str(r, &separator, &args[0]));
    buf_init(&b);
    for (size_t i = 0; i < items.n && !err; i++) {
        tvalue item;
        err = get_attribute(r, &item, &items.items[i], &args[1]);
        if (err) break;
        if (i) template_add(r, &b, separator);
        template_add_str(r, &b, &item);
        err = template_step(r, 1);
    }
    if (!err) return template_take(r, out, &b);
    buf_done(&b);
    return err;
}

static sight_err filter_first(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    tlist items;
    TRY(template_iterate(r, &items, v));
    *out = items.n ? items.items[0] : tvalue_of(T_UNDEFINED);
    return SIGHT_OK;
}

static sight_err filter_last(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    tlist items;
    if (v->lazy) return template_fail(r, "'generator' object is not reversible");
    TRY(template_iterate(r, &items, v));
    *out = items.n ? items.items[items.n - 1] : tvalue_of(T_UNDEFINED);
    return SIGHT_OK;
}

static sight_err filter_list(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    tlist items;
    TRY(template_iterate(r, &items, v));
    *out = tvalue_list(T_LIST, items.items, items.n);
    return SIGHT_OK;
}

static sight_err filter_reverse(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    tlist items;
    tgrow g = { 0 };
    TRY(template_iterate(r, &items, v));
    if (v->kind == T_STRING) {
        buf b;
        buf_init(&b);
        for (size_t i = items.n; i-- > 0;) template_add(r, &b, items.items[i].s);
        return template_take(r, out, &b);
    }
    for (size_t i = items.n; i-- > 0;) TRY(template_push(r, &g, items.items[i]));
    set_list(out, &g, true);
    return SIGHT_OK;
}

static sight_err pair_tuple(trun *r, tgrow *g, const tpair *pair)
{
    tvalue *two = template_alloc(r, 2 * sizeof *two);
    if (!two) return template_no_memory(r, 2 * sizeof *two);
    two[0] = pair->key;
    two[1] = pair->value;
    return template_push(r, g, tvalue_list(T_TUPLE, two, 2));
}

static sight_err filter_items(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    tgrow g = { 0 };
    if (v->kind != T_DICT && v->kind != T_UNDEFINED)
        return template_fail(r, "Can only get item pairs from a mapping.");
    for (size_t i = 0; v->kind == T_DICT && i < v->dict.n; i++)
        TRY(pair_tuple(r, &g, &v->dict.pairs[i]));
    set_list(out, &g, true);
    return SIGHT_OK;
}

// ---- sorting ----

typedef struct sort_entry {
    tvalue key, value;
    size_t place; // keeps equal ones in their order
    bool *no_order;
    bool reverse;
} sort_entry;

static int compare_entries(const void *pa, const void *pb)
{
    const sort_entry *a = pa, *b = pb;
    int order = 0;
    if (!tvalue_order(&order, &a->key, &b->key)) *a->no_order = true;
    if (order == 0 || order == 2) return (a->place > b->place) - (a->place < b->place);
    return a->reverse ? -order : order;
}

// Texts compare in lower case unless told otherwise.
static sight_err sort_key(trun *r, tvalue *key, bool case_sensitive)
{
    buf b;
    if (case_sensitive || key->kind != T_STRING) return SIGHT_OK;
    buf_init(&b);
    text_add_case(&b, key->s, TEXT_LOWER);
    return template_take(r, key, &b);
}

static sight_err sort_entries(trun *r, sort_entry *entries, size_t n)
{
    bool no_order = false;
    for (size_t i = 0; i < n; i++) entries[i].no_order = &no_order;
    TRY(template_step(r, n * 8));
    qsort(entries, n, sizeof *entries, compare_entries);
    return no_order ? template_fail(r, "'<' not supported between these values") : SIGHT_OK;
}

static sight_err filter_sort(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    tlist items;
    tgrow g = { 0 };
    TRY(template_iterate(r, &items, v));
    sort_entry *entries = template_alloc(r, items.n * sizeof *entries);
    if (!entries) return template_no_memory(r, items.n * sizeof *entries);
    for (size_t i = 0; i < items.n; i++) {
        entries[i] = (sort_entry){ .value = items.items[i], .place = i, .reverse = flag(&args[0]) };
        TRY(get_attribute(r, &entries[i].key, &items.items[i], &args[2]));
        TRY(sort_key(r, &entries[i].key, flag(&args[1])));
    }
    TRY(sort_entries(r, entries, items.n));
    for (size_t i = 0; i < items.n; i++) TRY(template_push(r, &g, entries[i].value));
    set_list(out, &g, false);
    return SIGHT_OK;
}

static sight_err filter_dictsort(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    tgrow g = { 0 };
    bool by_value = args[1].kind == T_STRING && tstr_equal(args[1].s, TSTR("value"));
    if (v->kind == T_UNDEFINED) return template_fail_undefined(r, v);
    if (v->kind != T_DICT)
        return template_fail(r, "'%s' object has no attribute 'items'", tvalue_type(v));
    size_t n = v->dict.n;
    sort_entry *entries = template_alloc(r, n * sizeof *entries);
    if (!entries) return template_no_memory(r, n * sizeof *entries);
    for (size_t i = 0; i < n; i++) {
        const tpair *pair = &v->dict.pairs[i];
        entries[i] = (sort_entry){ .key = by_value ? pair->value : pair->key,
                                   .place = i, .reverse = flag(&args[2]) };
        TRY(sort_key(r, &entries[i].key, flag(&args[0])));
    }
    TRY(sort_entries(r, entries, n));
    for (size_t i = 0; i < n; i++) TRY(pair_tuple(r, &g, &v->dict.pairs[entries[i].place]));
    set_list(out, &g, false);
    return SIGHT_OK;
}

// ---- unique, sum, min, max ----

static sight_err filter_unique(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    tlist items;
    tgrow kept = { 0 }, keys = { 0 };
    TRY(template_iterate(r, &items, v));
    for (size_t i = 0; i < items.n; i++) {
        tvalue key;
        bool seen = false;
        TRY(get_attribute(r, &key, &items.items[i], &args[1]));
        TRY(sort_key(r, &key, flag(&args[0])));
        TRY(template_step(r, keys.n));
        for (size_t k = 0; k < keys.n && !seen; k++) seen = tvalue_equal(&keys.items[k], &key);
        if (seen) continue;
        TRY(template_push(r, &keys, key));
        TRY(template_push(r, &kept, items.items[i]));
    }
    set_list(out, &kept, true);
    return SIGHT_OK;
}

static sight_err filter_sum(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    tlist items;
    tvalue sum = args[1].kind == T_ABSENT ? tvalue_int(0) : args[1];
    TRY(template_iterate(r, &items, v));
    for (size_t i = 0; i < items.n; i++) {
        tvalue item, next;
        TRY(get_attribute(r, &item, &items.items[i], &args[0]));
        TRY(template_binary(r, &next, OP_ADD, &sum, &item));
        TRY(template_step(r, 1));
        sum = next;
    }
    *out = sum;
    return SIGHT_OK;
}

static sight_err extreme(trun *r, tvalue *out, const tvalue *v, const tvalue *args, toperator op)
{
    tlist items;
    tvalue best_key, key;
    TRY(template_iterate(r, &items, v));
    *out = tvalue_of(T_UNDEFINED);
    for (size_t i = 0; i < items.n; i++) {
        bool better = i == 0;
        TRY(get_attribute(r, &key, &items.items[i], &args[1]));
        TRY(sort_key(r, &key, flag(&args[0])));
        if (i) TRY(template_compare(r, &better, op, &key, &best_key));
        TRY(template_step(r, 1));
        if (!better) continue;
        best_key = key;
        *out = items.items[i];
    }
    return SIGHT_OK;
}

static sight_err filter_min(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    return extreme(r, out, v, args, OP_LESS);
}

static sight_err filter_max(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    return extreme(r, out, v, args, OP_GREATER);
}

// ---- map, select and their like: generators in Python ----

// Jinja's own filters of this kind take none, 0 and their like for an empty list.
static sight_err iterate_unless_false(trun *r, tlist *out, const tvalue *v)
{
    *out = (tlist){ 0 };
    return tvalue_true(v) ? template_iterate(r, out, v) : SIGHT_OK;
}

static sight_err name_argument(trun *r, tstr *out, const targuments *args, size_t i)
{
    if (i >= args->n_positional || args->items[i].value.kind != T_STRING)
        return template_fail(r, "a name is missing between the filter's brackets");
    *out = args->items[i].value.s;
    return SIGHT_OK;
}

static targuments after(const targuments *args, size_t n)
{
    return (targuments){ args->items + n, args->n - n, args->n_positional - n };
}

static sight_err map_attribute(trun *r, tgrow *g, tlist items, const targuments *args)
{
    tvalue bound[2];
    TRY(template_bind(r, bound, "attribute! default", args, "map"));
    for (size_t i = 0; i < items.n; i++) {
        tvalue v;
        TRY(get_attribute(r, &v, &items.items[i], &bound[0]));
        if (v.kind == T_UNDEFINED && bound[1].kind != T_ABSENT) v = bound[1];
        TRY(template_push(r, g, v));
    }
    return SIGHT_OK;
}

static sight_err filter_map(trun *r, tvalue *out, const tvalue *v, const targuments *args)
{
    tlist items;
    tgrow g = { 0 };
    tstr name;
    TRY(iterate_unless_false(r, &items, v));
    if (args->n && !args->n_positional) {
        TRY(map_attribute(r, &g, items, args));
        set_list(out, &g, true);
        return SIGHT_OK;
    }
    TRY(name_argument(r, &name, args, 0));
    const tfilter *f = template_filter_find(name);
    if (!f) return template_fail(r, "No filter named '%.*s'.", (int)name.n, name.text);
    targuments rest = after(args, 1);
    for (size_t i = 0; i < items.n; i++) {
        tvalue mapped;
        TRY(template_deeper(r));
        TRY(template_filter_run(r, &mapped, f, &items.items[i], &rest));
        r->depth--;
        TRY(template_push(r, &g, mapped));
    }
    set_list(out, &g, true);
    return SIGHT_OK;
}

// Keeps the items whose test gives `wanted`; with by_attribute the test sees a part of them.
static sight_err choose(trun *r, tvalue *out, const tvalue *v, const targuments *args, bool wanted,
                        bool by_attribute)
{
    tlist items;
    tgrow g = { 0 };
    tstr name;
    const ttest *test = NULL;
    TRY(iterate_unless_false(r, &items, v));
    if (by_attribute && !args->n_positional)
        return template_fail(r, "an attribute's name is missing");
    tvalue attribute = by_attribute ? args->items[0].value : tvalue_of(T_ABSENT);
    targuments rest = after(args, by_attribute);
    if (rest.n) {
        TRY(name_argument(r, &name, &rest, 0));
        test = template_test_find(name);
        if (!test) return template_fail(r, "No test named '%.*s'.", (int)name.n, name.text);
        rest = after(&rest, 1);
    }
    for (size_t i = 0; i < items.n; i++) {
        tvalue part;
        bool holds;
        TRY(get_attribute(r, &part, &items.items[i], &attribute));
        if (test) TRY(template_test_run(r, &holds, test, &part, &rest));
        else holds = tvalue_true(&part);
        TRY(template_step(r, 1));
        if (holds == wanted) TRY(template_push(r, &g, items.items[i]));
    }
    set_list(out, &g, true);
    return SIGHT_OK;
}

static sight_err filter_select(trun *r, tvalue *out, const tvalue *v, const targuments *args)
{
    return choose(r, out, v, args, true, false);
}

static sight_err filter_reject(trun *r, tvalue *out, const tvalue *v, const targuments *args)
{
    return choose(r, out, v, args, false, false);
}

static sight_err filter_selectattr(trun *r, tvalue *out, const tvalue *v, const targuments *args)
{
    return choose(r, out, v, args, true, true);
}

static sight_err filter_rejectattr(trun *r, tvalue *out, const tvalue *v, const targuments *args)
{
    return choose(r, out, v, args, false, true);
}

const tfilter template_list_filters[] = {
    { .name = "dictsort", .parameters = "case_sensitive by reverse", .run = filter_dictsort },
    { .name = "first", .parameters = "", .run = filter_first },
    { .name = "items", .parameters = "", .run = filter_items },
    { .name = "join", .parameters = "d attribute", .run = filter_join },
    { .name = "last", .parameters = "", .run = filter_last },
    { .name = "list", .parameters = "", .run = filter_list },
    { .name = "map", .run_free = filter_map, .names = 3 },
    { .name = "max", .parameters = "case_sensitive attribute", .run = filter_max },
    { .name = "min", .parameters = "case_sensitive attribute", .run = filter_min },
    { .name = "reject", .run_free = filter_reject, .names = 1 },
    { .name = "rejectattr", .run_free = filter_rejectattr, .names = 2 },
    { .name = "reverse", .parameters = "", .run = filter_reverse },
    { .name = "select", .run_free = filter_select, .names = 1 },
    { .name = "selectattr", .run_free = filter_selectattr, .names = 2 },
    { .name = "sort", .parameters = "reverse case_sensitive attribute", .run = filter_sort },
    { .name = "sum", .parameters = "attribute start", .run = filter_sum },
    { .name = "unique", .parameters = "case_sensitive attribute", .run = filter_unique },
    { .name = NULL },
};
