// A JSON schema (draft 2020-12) as a grammar: the part that structured outputs of the usual services accept, and more lengths,
// counts and ranges. Keywords that constrain and are not enforced are refused by JSON pointer; those that only describe are
// passed over. Members come in the schema's order.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/grammar_parts.h"
#include "text/schema.h"

#define MOST_LENGTH 16384 // characters that minLength and maxLength may name
#define MOST_COUNT  1024  // items that minItems and maxItems may name
#define MOST_DEPTH  32
#define MOST_REFS   512
#define POINTER_BYTES 512

typedef struct reference {
    const json_t *target;
    int32_t rule;
} reference;

typedef struct schema {
    net *n;
    form_rules *rules;
    const json_t *root;
    const char *what;
    char pointer[POINTER_BYTES]; // of the place under way
    int depth;
    reference refs[MOST_REFS];
    int n_refs;
    sight_err err;
} schema;

static net_part build(schema *s, const json_t *node);

static net_part fail(schema *s, sight_err code, const char *key, const char *why)
{
    if (!s->err) {
        s->err = sight_fail(code, "%s at %s%s%s: %s", s->what, *s->pointer || key ? s->pointer : "/",
                            key ? "/" : "", key ? key : "", why);
    }
    return net_never(s->n);
}

// Steps into a member; returns what to cut the pointer back to.
static size_t step(schema *s, const char *key)
{
    const size_t at = strlen(s->pointer);
    size_t to = at;
    if (to + 1 < POINTER_BYTES) s->pointer[to++] = '/';
    for (; *key && to + 3 < POINTER_BYTES; key++) { // RFC 6901
        if (*key == '~' || *key == '/') {
            s->pointer[to++] = '~';
            s->pointer[to++] = *key == '~' ? '0' : '1';
        } else {
            s->pointer[to++] = *key;
        }
    }
    s->pointer[to] = 0;
    return at;
}

static void back(schema *s, size_t at)
{
    s->pointer[at] = 0;
}

static size_t step_to(schema *s, const char *key, size_t index)
{
    char number[24];
    const size_t at = step(s, key);
    snprintf(number, sizeof number, "%zu", index);
    step(s, number);
    return at;
}

static net_part child(schema *s, const char *key, const json_t *node)
{
    const size_t at = step(s, key);
    const net_part part = build(s, node);
    back(s, at);
    return part;
}

// ---- keywords ----

static const char *const described[] = {"title", "description", "default", "examples", "$schema", "$id", "$comment", "$defs",
    "definitions", "deprecated", "readOnly", "writeOnly", "contentEncoding", "contentMediaType", "strict", "name", NULL};

static bool is_one_of(const char *key, const char *const *list)
{
    for (; *list; list++) {
        if (!strcmp(key, *list)) return true;
    }
    return false;
}

// Refuses keys that are neither enforced here nor mere words.
static bool check_keys(schema *s, const json_t *node, const char *const *enforced)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)node, key, value)
    {
        if (is_one_of(key, described) || is_one_of(key, enforced)) continue;
        fail(s, SIGHT_E_UNSUPPORTED, key, "this keyword is not enforced here");
        return false;
    }
    return true;
}

// A count under that key, or `without`. false: it is none, or over the limit.
static bool get_count(schema *s, int32_t *out, const json_t *node, const char *key, int32_t without, int32_t most)
{
    const json_t *value = json_object_get(node, key);
    *out = without;
    if (!value) return true;
    const double x = json_number_value(value);
    char why[96];
    if (!json_is_number(value) || x < 0 || x != floor(x)) {
        fail(s, SIGHT_E_ARGUMENT, key, "must be a whole number, 0 or more");
    } else if (x > most) {
        snprintf(why, sizeof why, "%.0f is over the limit of %d", x, most);
        fail(s, SIGHT_E_LIMIT, key, why);
    } else {
        *out = (int32_t)x;
    }
    return !s->err;
}

static bool get_range(schema *s, int32_t *min, int32_t *max, const json_t *node, const char *least,
                      const char *greatest, int32_t limit)
{
    if (!get_count(s, min, node, least, 0, limit)) return false;
    if (!get_count(s, max, node, greatest, NET_MANY, limit)) return false;
    if (*max < *min) fail(s, SIGHT_E_ARGUMENT, greatest, "is below the least");
    return !s->err;
}

// ---- strings ----

typedef struct format {
    const char *name, *regex;
} format;

// RFC 3339, 1123, 4291, 4122, 5321 in the plain forms that models write.
static const format formats[] = {
    {"date", "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"},
    {"time", "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"},
    {"date-time", "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
                  "(\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"},
    {"duration", "P([0-9]{1,9}W|([0-9]{1,9}Y)?([0-9]{1,9}M)?[0-9]{1,9}D(T([0-9]{1,9}H)?([0-9]{1,9}M)?[0-9]{1,9}S)?|"
                 "T([0-9]{1,9}H)?([0-9]{1,9}M)?[0-9]{1,9}S|T([0-9]{1,9}H)?[0-9]{1,9}M|T[0-9]{1,9}H)"},
    {"email", "[A-Za-z0-9_+-]{1,32}(\\.[A-Za-z0-9_+-]{1,32}){0,3}@([A-Za-z0-9]([A-Za-z0-9-]{0,40}[A-Za-z0-9])?\\.){1,4}[A-Za-z]{2,16}"},
    {"hostname", "([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)(\\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?){0,4}"},
    {"ipv4", "((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"},
    {"ipv6", "([0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|([0-9a-fA-F]{1,4}:){1,7}:|([0-9a-fA-F]{1,4}:){1,6}:[0-9a-fA-F]{1,4}|::1|::"},
    {"uuid", "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"},
    {"uri", "[A-Za-z][A-Za-z0-9+.-]{0,15}:[A-Za-z0-9._~:/?#@!$&'()*+,;=%\\[\\]-]{1,2048}"},
};

static net_part quoted(schema *s, const char *regex, bool searched, const char *key)
{
    char what[POINTER_BYTES + 128];
    net_part text = net_never(s->n);
    snprintf(what, sizeof what, "%s at %s/%s", s->what, s->pointer, key);
    if (!s->err) s->err = regex_build(s->n, s->rules, &text, regex, searched, CODING_JSON, what);
    const net_part begin = net_text(s->n, "\"", 1), end = net_text(s->n, "\"", 1);
    return net_then(s->n, begin, net_then(s->n, text, end));
}

static net_part build_string(schema *s, const json_t *node)
{
    static const char *const keys[] = {"type", "minLength", "maxLength", "pattern", "format", NULL};
    int32_t min, max;
    if (!check_keys(s, node, keys)) return net_never(s->n);
    if (!get_range(s, &min, &max, node, "minLength", "maxLength", MOST_LENGTH)) return net_never(s->n);
    const json_t *pattern = json_object_get(node, "pattern"), *name = json_object_get(node, "format");
    const bool counted = json_object_get(node, "minLength") || json_object_get(node, "maxLength");
    if (!pattern && !name) return form_string(s->n, s->rules, min, max);
    if (counted || (pattern && name)) {
        return fail(s, SIGHT_E_UNSUPPORTED, pattern ? "pattern" : "format", "goes with no other rule for the same string");
    }
    if (pattern) {
        if (!json_is_string(pattern)) return fail(s, SIGHT_E_ARGUMENT, "pattern", "must be a string");
        return quoted(s, json_string_value(pattern), true, "pattern");
    }
    for (size_t i = 0; json_is_string(name) && i < sizeof formats / sizeof *formats; i++) {
        if (!strcmp(formats[i].name, json_string_value(name))) return quoted(s, formats[i].regex, false, "format");
    }
    return fail(s, SIGHT_E_UNSUPPORTED, "format", "is none of date, time, date-time, duration, email, hostname, ipv4, ipv6, uuid, uri");
}

// ---- numbers ----

typedef struct bounds {
    double low, high;
    bool low_open, high_open; // the bound itself is out
} bounds;

static bool get_bound(schema *s, double *bound, bool *open, const json_t *node, const char *key, const char *exclusive, int way)
{
    const json_t *at = json_object_get(node, key), *past = json_object_get(node, exclusive);
    if (at && !json_is_number(at)) fail(s, SIGHT_E_ARGUMENT, key, "must be a number");
    if (past && !json_is_number(past)) fail(s, SIGHT_E_ARGUMENT, exclusive, "must be a number");
    if (at) *bound = json_number_value(at);
    if (past && (!at || way * json_number_value(past) >= way * *bound)) {
        *bound = json_number_value(past);
        *open = true;
    }
    return !s->err;
}

static bool get_bounds(schema *s, bounds *b, const json_t *node)
{
    *b = (bounds){-INFINITY, INFINITY, false, false};
    return get_bound(s, &b->low, &b->low_open, node, "minimum", "exclusiveMinimum", 1) &&
           get_bound(s, &b->high, &b->high_open, node, "maximum", "exclusiveMaximum", -1);
}

#define WHOLE_MOST 1e15 // what a double still tells from its neighbours

static int64_t whole_bound(double x, bool open, int way) // way: 1 for the least, -1 for the greatest
{
    if (x <= -WHOLE_MOST) return (int64_t)-WHOLE_MOST;
    if (x >= WHOLE_MOST) return (int64_t)WHOLE_MOST;
    const double rounded = way > 0 ? ceil(x) : floor(x);
    return (int64_t)rounded + (open && rounded == x ? way : 0);
}

static net_part build_integer(schema *s, const json_t *node)
{
    static const char *const keys[] = {"type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", NULL};
    bounds b;
    if (!check_keys(s, node, keys) || !get_bounds(s, &b, node)) return net_never(s->n);
    if (isinf(b.low) && isinf(b.high)) return form_integer(s->n);
    const int64_t low = whole_bound(b.low, b.low_open, 1), high = whole_bound(b.high, b.high_open, -1);
    if (low > high) return fail(s, SIGHT_E_ARGUMENT, "maximum", "no whole number is between the bounds");
    return form_integer_between(s->n, low, high);
}

static net_part build_number(schema *s, const json_t *node)
{
    static const char *const keys[] = {"type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", NULL};
    bounds b;
    if (!check_keys(s, node, keys) || !get_bounds(s, &b, node)) return net_never(s->n);
    if (isinf(b.low) && isinf(b.high)) return form_number(s->n);
    const bool whole = (isinf(b.low) || b.low == floor(b.low)) && (isinf(b.high) || b.high == floor(b.high));
    if (!whole) return fail(s, SIGHT_E_UNSUPPORTED, NULL, "bounds of a number must be whole numbers");
    if (b.low > b.high || (b.low == b.high && (b.low_open || b.high_open))) {
        return fail(s, SIGHT_E_ARGUMENT, "maximum", "no number is between the bounds");
    }
    return form_number_between(s->n, whole_bound(b.low, false, 1), whole_bound(b.high, false, -1), b.low_open,
                               b.high_open);
}

// ---- arrays ----

// A schema as a rule of its own, so that it can be repeated at the cost of a call.
static int32_t rule_of(schema *s, const char *key, const json_t *node)
{
    const int32_t rule = net_rule(s->n);
    const net_part part = node ? child(s, key, node) : form_value(s->n, s->rules);
    net_define(s->n, rule, part);
    return rule;
}

static net_part build_array(schema *s, const json_t *node)
{
    static const char *const keys[] = {"type", "items", "prefixItems", "minItems", "maxItems", NULL};
    int32_t min, max;
    if (!check_keys(s, node, keys)) return net_never(s->n);
    if (!get_range(s, &min, &max, node, "minItems", "maxItems", MOST_COUNT)) return net_never(s->n);
    const json_t *items = json_object_get(node, "items"), *prefix = json_object_get(node, "prefixItems");
    if (!prefix) {
        if (json_is_false(items)) max = 0;
        if (min > max) return fail(s, SIGHT_E_ARGUMENT, "minItems", "asks for items that must not be there");
        return form_bracketed(s->n, "[", form_items(s->n, rule_of(s, "items", json_is_boolean(items) ? NULL : items), min, max), "]");
    }
    // A tuple: all of its items.
    const size_t n = json_array_size(prefix);
    if (n == 0 || (items && !json_is_false(items)) || (size_t)min > n || (max != NET_MANY && (size_t)max < n)) {
        return fail(s, SIGHT_E_UNSUPPORTED, "prefixItems", "must be a list with items after it, and \"items\": false");
    }
    net_part all = net_nothing(s->n);
    for (size_t i = 0; i < n; i++) {
        const size_t at = step_to(s, "prefixItems", i);
        if (i > 0) all = net_then(s->n, all, form_comma(s->n));
        all = net_then(s->n, all, build(s, json_array_get(prefix, i)));
        back(s, at);
    }
    return form_bracketed(s->n, "[", all, "]");
}

// ---- objects ----

static bool check_required(schema *s, const json_t *node)
{
    const json_t *list = json_object_get(node, "required"), *properties = json_object_get(node, "properties");
    if (list && !json_is_array(list)) fail(s, SIGHT_E_ARGUMENT, "required", "must be a list of names");
    for (size_t i = 0; i < json_array_size(list) && !s->err; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (name && json_object_get(properties, name)) continue;
        fail(s, SIGHT_E_ARGUMENT, "required", "names what properties does not have");
    }
    return !s->err;
}

static net_part named_member(schema *s, const char *name, const json_t *value)
{
    json_t *text = json_string(name);
    const net_part key = form_literal(s->n, text);
    json_decref(text);
    const size_t at = step(s, "properties");
    const net_part part = child(s, name, value);
    back(s, at);
    return form_member(s->n, key, part);
}

// Strings, quotes included, that are none of the names. Names are plain ASCII.
static net_part other_name(schema *s, const char *const *names, size_t n, size_t depth)
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
static const char **names_of(schema *s, const json_t *properties)
{
    const char **names = malloc((json_object_size(properties) + 1) * sizeof *names), *key;
    size_t i = 0;
    json_t *ignored;
    if (!names) {
        fail(s, SIGHT_E_MEMORY, NULL, "no memory for its names");
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
static int32_t other_members(schema *s, const json_t *properties, const json_t *value)
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
        if (!plain) fail(s, SIGHT_E_UNSUPPORTED, "additionalProperties", "beside names that are not plain ASCII");
    }
    const net_part open = net_text(s->n, "\"", 1);
    const net_part name = net_then(s->n, open, other_name(s, names, n, 0));
    free(names);
    const net_part part = json_is_true(value) ? form_value(s->n, s->rules)
                                              : child(s, "additionalProperties", value);
    net_define(s->n, rule, form_member(s->n, name, part));
    return rule;
}

static net_part build_members(schema *s, const json_t *node)
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

static net_part build_object(schema *s, const json_t *node)
{
    static const char *const keys[] = {"type", "properties", "required", "additionalProperties", NULL};
    const json_t *properties = json_object_get(node, "properties");
    if (!check_keys(s, node, keys)) return net_never(s->n);
    if (properties && !json_is_object(properties)) return fail(s, SIGHT_E_ARGUMENT, "properties", "must be an object");
    if (!check_required(s, node)) return net_never(s->n);
    if (!properties && !json_object_get(node, "additionalProperties")) return form_object(s->n, s->rules);
    return form_bracketed(s->n, "{", build_members(s, node), "}");
}

// ---- what stands for a schema ----

static net_part build_reference(schema *s, const json_t *node)
{
    static const char *const keys[] = {"$ref", NULL};
    const char *pointer = json_string_value(json_object_get(node, "$ref"));
    if (!check_keys(s, node, keys)) return net_never(s->n);
    const json_t *target = pointer ? schema_resolve(s->root, pointer) : NULL;
    if (!target) return fail(s, SIGHT_E_ARGUMENT, "$ref", "points to nothing in this schema");
    for (int i = 0; i < s->n_refs; i++) {
        if (s->refs[i].target == target) return net_call(s->n, s->refs[i].rule);
    }
    if (s->n_refs == MOST_REFS) return fail(s, SIGHT_E_LIMIT, "$ref", "more than 512 places are pointed to");
    const int32_t rule = net_rule(s->n);
    s->refs[s->n_refs++] = (reference){target, rule};
    net_define(s->n, rule, build(s, target));
    return net_call(s->n, rule);
}

// "oneOf" wants exactly one of them to hold, so no two may hold together.
static bool check_apart(schema *s, const json_t *list)
{
    char why[96];
    for (size_t i = 0; i < json_array_size(list); i++) {
        for (size_t j = 0; j < i; j++) {
            if (schema_apart(s->root, json_array_get(list, j), json_array_get(list, i))) continue;
            snprintf(why, sizeof why, "%zu and %zu may hold together; use anyOf, or types or constants that tell them apart", j, i);
            fail(s, SIGHT_E_UNSUPPORTED, "oneOf", why);
            return false;
        }
    }
    return true;
}

static net_part build_any(schema *s, const json_t *list, const char *key)
{
    bool some = false;
    net_part all = net_never(s->n);
    for (size_t i = 0; i < json_array_size(list) && !s->err; i++) {
        if (json_is_false(json_array_get(list, i))) continue;
        const size_t at = step_to(s, key, i);
        all = net_either(s->n, all, build(s, json_array_get(list, i)));
        back(s, at);
        some = true;
    }
    return some ? all : fail(s, SIGHT_E_ARGUMENT, key, "must be a list with something in it that can hold");
}

// Of the values those that are of the type, if one is given beside them.
static net_part build_values(schema *s, const json_t *node)
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
    return fail(s, SIGHT_E_ARGUMENT, constant ? "const" : "enum", n ? "has no value of the type beside it" : "must be a list with something in it");
}

// ---- by type ----

static net_part build_type(schema *s, const json_t *node, const char *type)
{
    static const char *const only_type[] = {"type", NULL};
    if (!strcmp(type, "string")) return build_string(s, node);
    if (!strcmp(type, "integer")) return build_integer(s, node);
    if (!strcmp(type, "number")) return build_number(s, node);
    if (!strcmp(type, "array")) return build_array(s, node);
    if (!strcmp(type, "object")) return build_object(s, node);
    const bool boolean = !strcmp(type, "boolean");
    if (!boolean && strcmp(type, "null")) {
        return fail(s, SIGHT_E_ARGUMENT, "type", "is none of string, number, integer, boolean, null, array, object");
    }
    if (!check_keys(s, node, only_type)) return net_never(s->n);
    if (!boolean) return net_text(s->n, "null", 4);
    const net_part yes = net_text(s->n, "true", 4);
    return net_either(s->n, yes, net_text(s->n, "false", 5));
}

// {"type": ["string", "null"], ...}: each type with the keywords that are its own.
static net_part build_types(schema *s, const json_t *node, const json_t *types)
{
    if (json_array_size(types) == 0) return fail(s, SIGHT_E_ARGUMENT, "type", "must be a name or a list of names");
    net_part all = net_never(s->n);
    for (size_t i = 0; i < json_array_size(types) && !s->err; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        if (!type) return fail(s, SIGHT_E_ARGUMENT, "type", "must be a name or a list of names");
        const bool bare = !strcmp(type, "null") || !strcmp(type, "boolean");
        json_t *only = json_object();
        if (!only) return fail(s, SIGHT_E_MEMORY, NULL, "no memory");
        all = net_either(s->n, all, build_type(s, bare ? only : node, type));
        json_decref(only);
    }
    return all;
}

static net_part build_node(schema *s, const json_t *node)
{
    static const char *const with_enum[] = {"enum", "const", "type", NULL};
    static const char *const with_any[] = {"anyOf", "oneOf", "type", NULL};
    static const char *const nothing[] = {NULL};
    if (json_is_true(node)) return form_value(s->n, s->rules);
    if (json_is_false(node)) return fail(s, SIGHT_E_ARGUMENT, NULL, "nothing can match false");
    if (!json_is_object(node)) return fail(s, SIGHT_E_ARGUMENT, NULL, "a schema must be an object, true or false");
    const json_t *type = json_object_get(node, "type"), *any = json_object_get(node, "anyOf");
    const json_t *one = json_object_get(node, "oneOf"), *constant = json_object_get(node, "const");
    if (json_object_get(node, "$ref")) return build_reference(s, node);
    if (constant || json_object_get(node, "enum")) {
        if (!check_keys(s, node, with_enum)) return net_never(s->n);
        if (constant && json_object_get(node, "enum")) return fail(s, SIGHT_E_UNSUPPORTED, "enum", "goes with no const");
        return build_values(s, node);
    }
    if (any || one) {
        if (!check_keys(s, node, with_any)) return net_never(s->n);
        if (any && one) return fail(s, SIGHT_E_UNSUPPORTED, "oneOf", "goes with no anyOf");
        if (one && !check_apart(s, one)) return net_never(s->n);
        return build_any(s, any ? any : one, any ? "anyOf" : "oneOf");
    }
    if (json_is_array(type)) return build_types(s, node, type);
    if (json_is_string(type)) return build_type(s, node, json_string_value(type));
    if (type) return fail(s, SIGHT_E_ARGUMENT, "type", "must be a name or a list of names");
    if (schema_type_by_keywords(node)) return build_type(s, node, schema_type_by_keywords(node));
    return check_keys(s, node, nothing) ? form_value(s->n, s->rules) : net_never(s->n);
}

static net_part build(schema *s, const json_t *node)
{
    if (s->err) return net_never(s->n);
    if (++s->depth > MOST_DEPTH) return fail(s, SIGHT_E_LIMIT, NULL, "more than 32 schemas inside each other");
    const net_part part = build_node(s, node);
    s->depth--;
    return part;
}

// ---- whole grammars ----

static sight_err make(grammar **out, grammar_vocabulary *v, net *n, net_part part, const grammar_options *o,
                      sight_err err)
{
    if (!err && !n->err) {
        net_part line = net_text(n, "\n", 1);
        line = net_optional(n, net_then(n, line, net_optional(n, net_text(n, "\n", 1))));
        n->root = net_rule(n);
        net_define(n, n->root, o->after_thinking ? net_then(n, line, part) : part);
    }
    if (!err) return grammar_create(out, v, n);
    net_done(n);
    return err;
}

sight_err grammar_from_schema(grammar **out, grammar_vocabulary *v, const json_t *root,
                              const grammar_options *o)
{
    net n = {0};
    form_rules rules = form_rules_none();
    schema s = {.n = &n, .rules = &rules, .root = root, .what = o->what};
    const net_part part = build(&s, root);
    return make(out, v, &n, part, o, s.err);
}

sight_err grammar_from_json_object(grammar **out, grammar_vocabulary *v, const grammar_options *o)
{
    net n = {0};
    form_rules rules = form_rules_none();
    return make(out, v, &n, form_object(&n, &rules), o, SIGHT_OK);
}

sight_err grammar_from_regex(grammar **out, grammar_vocabulary *v, const char *regex,
                             const grammar_options *o)
{
    net n = {0};
    form_rules rules = form_rules_none();
    net_part part = {0, 0};
    sight_err err = regex_build(&n, &rules, &part, regex, false, CODING_PLAIN, o->what);
    return make(out, v, &n, part, o, err);
}

sight_err grammar_from_choice(grammar **out, grammar_vocabulary *v, const json_t *strings,
                              const grammar_options *o)
{
    net n = {0};
    if (json_array_size(strings) == 0) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s must be a list of strings", o->what);
    }
    net_part all = net_never(&n);
    for (size_t i = 0; i < json_array_size(strings); i++) {
        const json_t *one = json_array_get(strings, i);
        if (!json_is_string(one) || json_string_length(one) == 0) {
            net_done(&n);
            return sight_fail(SIGHT_E_ARGUMENT, "%s[%zu] must be a string with something in it", o->what, i);
        }
        all = net_either(&n, all, net_text(&n, json_string_value(one), json_string_length(one)));
    }
    return make(out, v, &n, all, o, SIGHT_OK);
}
