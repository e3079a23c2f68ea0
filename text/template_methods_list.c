// Methods of lists, tuples and mappings, as Python has them.
#include "text/template_run.h"

static sight_err list_index(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    TRY(template_step(r, self->list.n));
    for (size_t i = 0; i < self->list.n; i++) {
        if (!tvalue_equal(&self->list.items[i], &args[0])) continue;
        *out = tvalue_int((int64_t)i);
        return SIGHT_OK;
    }
    return template_fail(r, "the value is not in the list");
}

static sight_err list_count(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    int64_t count = 0;
    TRY(template_step(r, self->list.n));
    for (size_t i = 0; i < self->list.n; i++)
        count += tvalue_equal(&self->list.items[i], &args[0]);
    *out = tvalue_int(count);
    return SIGHT_OK;
}

static sight_err copy(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    *out = *self; // nothing can change it
    return SIGHT_OK;
}

static sight_err dict_keys(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    tlist keys;
    TRY(template_iterate(r, &keys, self));
    *out = tvalue_list(T_LIST, keys.items, keys.n);
    return SIGHT_OK;
}

static sight_err dict_values(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    tgrow g = { 0 };
    for (size_t i = 0; i < self->dict.n; i++)
        TRY(template_push(r, &g, self->dict.pairs[i].value));
    *out = tvalue_list(T_LIST, g.items, g.n);
    return SIGHT_OK;
}

static sight_err dict_items(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    static const targuments none = { 0 };
    TRY(template_filter_run(r, out, template_filter_find(TSTR("items")), self, &none));
    out->lazy = false; // a view: it has a length
    return SIGHT_OK;
}

static sight_err dict_get(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    const tvalue *v = tdict_find(self->dict, &args[0]);
    if (v) *out = *v;
    else *out = args[1].kind == T_ABSENT ? tvalue_of(T_NONE) : args[1];
    return template_step(r, self->dict.n / 8);
}

// Methods that would change a value have no function: the reference's sandbox refuses them too.
const tmethod_info template_list_methods[] = {
    { .kind = T_LIST, .name = "append" },
    { .kind = T_LIST, .name = "clear" },
    { .kind = T_LIST, .name = "copy", .parameters = "", .run = copy },
    { .kind = T_LIST, .name = "count", .parameters = "value!", .run = list_count },
    { .kind = T_LIST, .name = "extend" },
    { .kind = T_LIST, .name = "index", .parameters = "value!", .run = list_index },
    { .kind = T_LIST, .name = "insert" },
    { .kind = T_LIST, .name = "pop" },
    { .kind = T_LIST, .name = "remove" },
    { .kind = T_LIST, .name = "reverse" },
    { .kind = T_LIST, .name = "sort" },
    { .kind = T_TUPLE, .name = "count", .parameters = "value!", .run = list_count },
    { .kind = T_TUPLE, .name = "index", .parameters = "value!", .run = list_index },
    { .kind = T_DICT, .name = "clear" },
    { .kind = T_DICT, .name = "copy", .parameters = "", .run = copy },
    { .kind = T_DICT, .name = "get", .parameters = "key! default", .run = dict_get },
    { .kind = T_DICT, .name = "items", .parameters = "", .run = dict_items },
    { .kind = T_DICT, .name = "keys", .parameters = "", .run = dict_keys },
    { .kind = T_DICT, .name = "pop" },
    { .kind = T_DICT, .name = "popitem" },
    { .kind = T_DICT, .name = "setdefault" },
    { .kind = T_DICT, .name = "update" },
    { .kind = T_DICT, .name = "values", .parameters = "", .run = dict_values },
    { .name = NULL },
};
