// Arrays and objects of a JSON schema.
#include <stdlib.h>
#include <string.h>

#include "text/grammar_schema.h"
#include "text/schema.h"

#define MOST_COUNT 1024 // items that minItems and maxItems may name

static net_part build_member(schema_reading *s, const char *key, const json_t *node)
{
    const size_t at = reading_enter(s, key);
    const net_part part = build_node(s, node);
    reading_leave(s, at);
    return part;
}

// ---- arrays ----

// A schema as a rule of its own, so that it can be repeated at the cost of a call.
static int32_t rule_of(schema_reading *s, const char *key, const json_t *node)
{
    const int32_t rule = net_rule(s->n);
    const net_part part = node ? build_member(s, key, node) : form_value(s->n, s->rules);
    net_define(s->n, rule, part);
    return rule;
}

net_part build_array(schema_reading *s, const json_t *node)
{
    static const char *const keys[] = {"type", "items", "prefixItems", "minItems", "maxItems", NULL};
    int32_t min, max;
    if (!reading_check_keys(s, node, keys)) return net_never(s->n);
    if (!reading_range(s, &min, &max, node, "minItems", "maxItems", MOST_COUNT)) return net_never(s->n);
    const json_t *items = json_object_get(node, "items"), *prefix = json_object_get(node, "prefixItems");
    if (!prefix) {
        if (json_is_false(items)) max = 0;
        if (min > max) return reading_fail(s, SIGHT_E_ARGUMENT, "minItems", "asks for items that must not be there");
        const int32_t rule = rule_of(s, "items", json_is_boolean(items) ? NULL : items);
        return form_bracketed(s->n, "[", form_items(s->n, rule, min, max), "]");
    }
    // A tuple: all of its items.
    const size_t n = json_array_size(prefix);
    if (n == 0 || (items && !json_is_false(items)) || (size_t)min > n || (max != NET_MANY && (size_t)max < n)) {
        return reading_fail(s, SIGHT_E_UNSUPPORTED, "prefixItems",
                            "must be a list with items after it, and \"items\": false");
    }
    net_part all = net_nothing(s->n);
    for (size_t i = 0; i < n; i++) {
        const size_t at = reading_enter_item(s, "prefixItems", i);
        if (i > 0) all = net_then(s->n, all, form_comma(s->n));
        all = net_then(s->n, all, build_node(s, json_array_get(prefix, i)));
        reading_leave(s, at);
    }
    return form_bracketed(s->n, "[", all, "]");
}

// ---- objects ----

static bool check_required(schema_reading *s, const json_t *node)
{
    const json_t *list = json_object_get(node, "required"), *properties = json_object_get(node, "properties");
    if (list && !json_is_array(list)) reading_fail(s, SIGHT_E_ARGUMENT, "required", "must be a list of names");
    for (size_t i = 0; i < json_array_size(list) && !s->err; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (name && json_object_get(properties, name)) continue;
        reading_fail(s, SIGHT_E_ARGUMENT, "required", "names what properties does not have");
    }
    return !s->err;
}

static net_part named_member(schema_reading *s, const char *name, const json_t *value)
{
    json_t *text = json_string(name);
    const net_part key = form_literal(s->n, text);
    json_decref(text);
    const size_t at = reading_enter(s, "properties");
    const net_part part = build_member(s, name, value);
    reading_leave(s, at);
    return form_member(s->n, key, part);
}

// Strings, quotes included, that are none of the names. Names are plain ASCII.
static net_part other_name(schema_reading *s, const char *const *names, size_t n, size_t depth)
{
    byte_set begin = form_ascii();
    const byte_set any = form_ascii();
    const char_rules rules = form_characters(s->n, s->rules);
    bool ends = false;
    net_part all = net_never(s->n);
    for (size_t i = 0; i < n;) {
        const uint8_t byte = (uint8_t)names[i][depth];
        size_t next = i;
        while (next < n && (uint8_t)names[next][depth] == byte) next++;
        if (byte == 0) {
            ends = true;
        } else {
            const net_part one = net_text(s->n, (const char *)&byte, 1);
            all = net_either(s->n, all, net_then(s->n, one, other_name(s, names + i, next - i, depth + 1)));
            begin.bits[byte / 64] &= ~(UINT64_C(1) << byte % 64);
        }
        i = next;
    }
    if (!ends) all = net_either(s->n, all, net_text(s->n, "\"", 1));
    const net_part other = net_either(s->n, net_bytes(s->n, &begin), net_call(s->n, rules.others));
    net_part rest = net_chars(s->n, &any, rules, 0, NET_MANY);
    rest = net_then(s->n, other, net_then(s->n, rest, net_text(s->n, "\"", 1)));
    return net_either(s->n, all, rest);
}

// The properties' names in their order (malloc). NULL: no memory, told.
static const char **names_of(schema_reading *s, const json_t *properties)
{
    const char **names = malloc((json_object_size(properties) + 1) * sizeof *names), *key;
    size_t i = 0;
    json_t *ignored;
    if (!names) {
        reading_fail(s, SIGHT_E_MEMORY, NULL, "no memory for its names");
        return NULL;
    }
    json_object_foreach((json_t *)properties, key, ignored) names[i++] = key;
    return names;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// Members beyond the named ones.
static int32_t other_members(schema_reading *s, const json_t *properties, const json_t *value)
{
    const size_t n = json_object_size(properties);
    const char **names = names_of(s, properties);
    const int32_t rule = net_rule(s->n);
    if (!names) return rule;
    if (n > 1) qsort(names, n, sizeof *names, by_text);
    for (size_t i = 0; i < n; i++) {
        bool plain = true;
        const byte_set itself = form_ascii();
        for (const char *c = names[i]; *c; c++) plain = plain && byte_set_has(&itself, (uint8_t)*c);
        if (plain) continue;
        reading_fail(s, SIGHT_E_UNSUPPORTED, "additionalProperties", "beside names that are not plain ASCII");
    }
    const net_part open = net_text(s->n, "\"", 1);
    const net_part name = net_then(s->n, open, other_name(s, names, n, 0));
    free(names);
    const net_part part = json_is_true(value) ? form_value(s->n, s->rules)
                                              : build_member(s, "additionalProperties", value);
    net_define(s->n, rule, form_member(s->n, name, part));
    return rule;
}

static net_part build_members(schema_reading *s, const json_t *node)
{
    const json_t *properties = json_object_get(node, "properties");
    const json_t *other = json_object_get(node, "additionalProperties");
    // What may follow from member i on, built from the last one back, as rules: with something before it, or nothing.
    const size_t n = json_object_size(properties);
    int32_t rest_some, rest_none;
    net_part end_some = net_nothing(s->n), end_none = net_nothing(s->n);
    if (other && !json_is_false(other)) {
        const int32_t rule = other_members(s, properties, other);
        end_none = form_items(s->n, rule, 0, NET_MANY);
        end_some = form_more(s->n, rule, 0, NET_MANY);
    }
    rest_some = net_rule(s->n);
    net_define(s->n, rest_some, end_some);
    rest_none = net_rule(s->n);
    net_define(s->n, rest_none, end_none);
    const char **names = names_of(s, properties);
    for (size_t i = n; names && i-- > 0 && !s->err;) {
        const bool required = schema_requires(node, names[i]);
        if (json_is_false(json_object_get(properties, names[i])) && !required) continue; // it must not be there
        const int32_t member = net_rule(s->n);
        net_define(s->n, member, named_member(s, names[i], json_object_get(properties, names[i])));
        const net_part sign = form_comma(s->n);
        net_part some = net_then(s->n, sign, net_then(s->n, net_call(s->n, member), net_call(s->n, rest_some)));
        net_part none = net_then(s->n, net_call(s->n, member), net_call(s->n, rest_some));
        if (!required) {
            some = net_either(s->n, some, net_call(s->n, rest_some));
            none = net_either(s->n, none, net_call(s->n, rest_none));
        }
        rest_some = net_rule(s->n);
        net_define(s->n, rest_some, some);
        rest_none = net_rule(s->n);
        net_define(s->n, rest_none, none);
    }
    free(names);
    return net_call(s->n, rest_none);
}

net_part build_object(schema_reading *s, const json_t *node)
{
    static const char *const keys[] = {"type", "properties", "required", "additionalProperties", NULL};
    const json_t *properties = json_object_get(node, "properties");
    if (!reading_check_keys(s, node, keys)) return net_never(s->n);
    if (properties && !json_is_object(properties)) {
        return reading_fail(s, SIGHT_E_ARGUMENT, "properties", "must be an object");
    }
    if (!check_required(s, node)) return net_never(s->n);
    if (!properties && !json_object_get(node, "additionalProperties")) return form_object(s->n, s->rules);
    return form_bracketed(s->n, "{", build_members(s, node), "}");
}
