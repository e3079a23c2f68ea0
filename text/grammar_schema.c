// A JSON schema (draft 2020-12) as a grammar: the part that structured outputs of the usual services accept, and more lengths,
// counts and ranges. Keywords that constrain and are not enforced are refused by JSON pointer; those that only describe are
// passed over. Members come in the schema's order.
#include "text/grammar_schema.h"

#include <stdio.h>
#include <string.h>

#include "text/schema.h"

#define MOST_DEPTH 32

// ---- what stands for a schema ----

static net_part build_reference(schema_reading *s, const json_t *node)
{
    static const char *const keys[] = {"$ref", NULL};
    const char *pointer = json_string_value(json_object_get(node, "$ref"));
    if (!reading_check_keys(s, node, keys)) return net_never(s->n);
    const json_t *target = pointer ? schema_resolve(s->root, pointer) : NULL;
    if (!target) return reading_fail(s, SIGHT_E_ARGUMENT, "$ref", "points to nothing in this schema");
    for (int i = 0; i < s->n_refs; i++) {
        if (s->refs[i].target == target) return net_call(s->n, s->refs[i].rule);
    }
    if (s->n_refs == READING_MOST_REFERENCES) {
        return reading_fail(s, SIGHT_E_LIMIT, "$ref", "more than 512 places are pointed to");
    }
    const int32_t rule = net_rule(s->n);
    s->refs[s->n_refs++] = (schema_reference){target, rule};
    net_define(s->n, rule, build_node(s, target));
    return net_call(s->n, rule);
}

// "oneOf" wants exactly one of them to hold, so no two may hold together.
static bool check_apart(schema_reading *s, const json_t *list)
{
    char why[96];
    for (size_t i = 0; i < json_array_size(list); i++) {
        for (size_t j = 0; j < i; j++) {
            if (schema_apart(s->root, json_array_get(list, j), json_array_get(list, i))) continue;
            snprintf(why, sizeof why,
                     "%zu and %zu may hold together; use anyOf, or types or constants that tell them apart", j, i);
            reading_fail(s, SIGHT_E_UNSUPPORTED, "oneOf", why);
            return false;
        }
    }
    return true;
}

static net_part build_any(schema_reading *s, const json_t *list, const char *key)
{
    bool some = false;
    net_part all = net_never(s->n);
    for (size_t i = 0; i < json_array_size(list) && !s->err; i++) {
        if (json_is_false(json_array_get(list, i))) continue;
        const size_t at = reading_enter_item(s, key, i);
        all = net_either(s->n, all, build_node(s, json_array_get(list, i)));
        reading_leave(s, at);
        some = true;
    }
    return some ? all : reading_fail(s, SIGHT_E_ARGUMENT, key, "must be a list with something in it that can hold");
}

// Of the values those that are of the type, if one is given beside them.
static net_part build_values(schema_reading *s, const json_t *node)
{
    const json_t *constant = json_object_get(node, "const"), *list = json_object_get(node, "enum");
    const json_t *type = json_object_get(node, "type");
    const size_t n = constant ? 1 : json_array_size(list);
    bool some = false;
    net_part all = net_never(s->n);
    for (size_t i = 0; i < n; i++) {
        const json_t *value = constant ? constant : json_array_get(list, i);
        if (!schema_is_of_type(value, type)) continue;
        all = net_either(s->n, all, form_literal(s->n, value));
        some = true;
    }
    if (some) return all;
    return reading_fail(s, SIGHT_E_ARGUMENT, constant ? "const" : "enum",
                        n ? "has no value of the type beside it" : "must be a list with something in it");
}

// ---- by type ----

static net_part build_type(schema_reading *s, const json_t *node, const char *type)
{
    static const char *const only_type[] = {"type", NULL};
    if (!strcmp(type, "string")) return build_string(s, node);
    if (!strcmp(type, "integer")) return build_integer(s, node);
    if (!strcmp(type, "number")) return build_number(s, node);
    if (!strcmp(type, "array")) return build_array(s, node);
    if (!strcmp(type, "object")) return build_object(s, node);
    const bool boolean = !strcmp(type, "boolean");
    if (!boolean && strcmp(type, "null")) {
        return reading_fail(s, SIGHT_E_ARGUMENT, "type",
                            "is none of string, number, integer, boolean, null, array, object");
    }
    if (!reading_check_keys(s, node, only_type)) return net_never(s->n);
    if (!boolean) return net_text(s->n, "null", 4);
    const net_part yes = net_text(s->n, "true", 4);
    return net_either(s->n, yes, net_text(s->n, "false", 5));
}

// {"type": ["string", "null"], ...}: each type with the keywords that are its own.
static net_part build_types(schema_reading *s, const json_t *node, const json_t *types)
{
    if (json_array_size(types) == 0) {
        return reading_fail(s, SIGHT_E_ARGUMENT, "type", "must be a name or a list of names");
    }
    net_part all = net_never(s->n);
    for (size_t i = 0; i < json_array_size(types) && !s->err; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        if (!type) return reading_fail(s, SIGHT_E_ARGUMENT, "type", "must be a name or a list of names");
        const bool bare = !strcmp(type, "null") || !strcmp(type, "boolean");
        json_t *only = json_object();
        if (!only) return reading_fail(s, SIGHT_E_MEMORY, NULL, "no memory");
        all = net_either(s->n, all, build_type(s, bare ? only : node, type));
        json_decref(only);
    }
    return all;
}

static net_part build_kind(schema_reading *s, const json_t *node)
{
    static const char *const with_enum[] = {"enum", "const", "type", NULL};
    static const char *const with_any[] = {"anyOf", "oneOf", "type", NULL};
    static const char *const nothing[] = {NULL};
    if (json_is_true(node)) return form_value(s->n, s->rules);
    if (json_is_false(node)) return reading_fail(s, SIGHT_E_ARGUMENT, NULL, "nothing can match false");
    if (!json_is_object(node)) {
        return reading_fail(s, SIGHT_E_ARGUMENT, NULL, "a schema must be an object, true or false");
    }
    const json_t *type = json_object_get(node, "type"), *any = json_object_get(node, "anyOf");
    const json_t *one = json_object_get(node, "oneOf"), *constant = json_object_get(node, "const");
    if (json_object_get(node, "$ref")) return build_reference(s, node);
    if (constant || json_object_get(node, "enum")) {
        if (!reading_check_keys(s, node, with_enum)) return net_never(s->n);
        if (constant && json_object_get(node, "enum")) {
            return reading_fail(s, SIGHT_E_UNSUPPORTED, "enum", "goes with no const");
        }
        return build_values(s, node);
    }
    if (any || one) {
        if (!reading_check_keys(s, node, with_any)) return net_never(s->n);
        if (any && one) return reading_fail(s, SIGHT_E_UNSUPPORTED, "oneOf", "goes with no anyOf");
        if (one && !check_apart(s, one)) return net_never(s->n);
        return build_any(s, any ? any : one, any ? "anyOf" : "oneOf");
    }
    if (json_is_array(type)) return build_types(s, node, type);
    if (json_is_string(type)) return build_type(s, node, json_string_value(type));
    if (type) return reading_fail(s, SIGHT_E_ARGUMENT, "type", "must be a name or a list of names");
    if (schema_type_by_keywords(node)) return build_type(s, node, schema_type_by_keywords(node));
    return reading_check_keys(s, node, nothing) ? form_value(s->n, s->rules) : net_never(s->n);
}

net_part build_node(schema_reading *s, const json_t *node)
{
    if (s->err) return net_never(s->n);
    if (++s->depth > MOST_DEPTH) {
        return reading_fail(s, SIGHT_E_LIMIT, NULL, "more than 32 schemas inside each other");
    }
    const net_part part = build_kind(s, node);
    s->depth--;
    return part;
}

net_part build_schema(net *n, form_rules *rules, const json_t *root, const char *what, sight_err *err)
{
    schema_reading s = {.n = n, .rules = rules, .root = root, .what = what};
    const net_part part = build_node(&s, root);
    *err = s.err;
    return part;
}
