#include "text/schema.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define POINTER_BYTES 1024
#define MOST_DEPTH    16 // of references and alternatives that are followed; beyond it nothing is known

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// A fragment without its %XX (RFC 3986). false: it is longer than any key of sense.
static bool decode_fragment(char out[POINTER_BYTES], const char *text)
{
    size_t n = 0;
    while (*text && n + 1 < POINTER_BYTES) {
        const bool coded = *text == '%' && hex_value(text[1]) >= 0 && hex_value(text[2]) >= 0;
        out[n++] = coded ? (char)(16 * hex_value(text[1]) + hex_value(text[2])) : *text;
        text += coded ? 3 : 1;
    }
    out[n] = 0;
    return *text == 0;
}

// The key that a pointer has next, ~0 and ~1 undone; *at is left behind it.
static void take_key(char *key, const char **at)
{
    const char *p = *at;
    for (; *p && *p != '/'; p++) {
        const bool tilde = p[0] == '~' && (p[1] == '0' || p[1] == '1');
        *key++ = !tilde ? *p : *++p == '0' ? '~' : '/';
    }
    *key = 0;
    *at = p;
}

const json_t *schema_resolve(const json_t *root, const char *reference)
{
    char pointer[POINTER_BYTES], key[POINTER_BYTES];
    const json_t *node = root;
    if (*reference != '#' || !decode_fragment(pointer, reference + 1)) return NULL;
    const char *at = pointer;
    while (node && *at == '/') {
        at++;
        take_key(key, &at);
        node = json_is_array(node) ? json_array_get(node, (size_t)strtoul(key, NULL, 10)) : json_object_get(node, key);
    }
    return *at ? NULL : node;
}

bool schema_requires(const json_t *object, const char *name)
{
    const json_t *list = json_object_get(object, "required");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *one = json_string_value(json_array_get(list, i));
        if (one && !strcmp(one, name)) return true;
    }
    return false;
}

const char *schema_type_by_keywords(const json_t *schema)
{
    static const char *const keys[][2] = {
        {"properties", "object"}, {"additionalProperties", "object"}, {"items", "array"}, {"prefixItems", "array"},
        {"minItems", "array"}, {"maxItems", "array"}, {"pattern", "string"}, {"format", "string"}, {"minLength", "string"},
        {"maxLength", "string"}, {"minimum", "number"}, {"maximum", "number"}, {"exclusiveMinimum", "number"},
        {"exclusiveMaximum", "number"},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (json_object_get(schema, keys[i][0])) return keys[i][1];
    }
    return NULL;
}

// ---- types ----

enum { IS_NULL = 1, IS_BOOLEAN = 2, IS_STRING = 4, IS_FRACTION = 8, IS_WHOLE = 16, IS_ARRAY = 32, IS_OBJECT = 64, IS_ANY = 127 };

static unsigned type_bits(const char *name)
{
    static const char *const names[] = {"null", "boolean", "string", "number", "integer", "array", "object"};
    static const unsigned bits[] = {IS_NULL, IS_BOOLEAN, IS_STRING, IS_FRACTION | IS_WHOLE, IS_WHOLE, IS_ARRAY, IS_OBJECT};
    for (size_t i = 0; name && i < sizeof bits / sizeof *bits; i++) {
        if (!strcmp(names[i], name)) return bits[i];
    }
    return IS_ANY;
}

static unsigned types_of(const json_t *type)
{
    if (!type) return IS_ANY;
    if (!json_is_array(type)) return type_bits(json_string_value(type));
    unsigned all = 0;
    for (size_t i = 0; i < json_array_size(type); i++) all |= type_bits(json_string_value(json_array_get(type, i)));
    return all;
}

static unsigned type_of_value(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_NULL: return IS_NULL;
    case JSON_TRUE:
    case JSON_FALSE: return IS_BOOLEAN;
    case JSON_STRING: return IS_STRING;
    case JSON_INTEGER: return IS_WHOLE;
    case JSON_REAL: return json_real_value(value) == floor(json_real_value(value)) ? IS_WHOLE : IS_FRACTION;
    case JSON_ARRAY: return IS_ARRAY;
    default: return IS_OBJECT;
    }
}

bool schema_is_of_type(const json_t *value, const json_t *type)
{
    return (type_of_value(value) & types_of(type)) != 0;
}

// ---- apart ----

static bool apart(const json_t *root, const json_t *a, const json_t *b, int depth);

// Every schema of the list is apart from b.
static bool all_apart(const json_t *root, const json_t *list, const json_t *b, int depth)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (!apart(root, json_array_get(list, i), b, depth)) return false;
    }
    return json_array_size(list) > 0;
}

// As a list of values: that of "enum", or one around "const" (new reference); NULL: it names none.
static json_t *values_of(const json_t *schema)
{
    json_t *constant = json_object_get(schema, "const");
    return constant ? json_pack("[O]", constant) : json_incref(json_object_get(schema, "enum"));
}

static bool number_outside(double x, const json_t *schema)
{
    const json_t *low = json_object_get(schema, "minimum"), *high = json_object_get(schema, "maximum");
    const json_t *above = json_object_get(schema, "exclusiveMinimum"), *below = json_object_get(schema, "exclusiveMaximum");
    return (low && x < json_number_value(low)) || (high && x > json_number_value(high)) ||
           (above && x <= json_number_value(above)) || (below && x >= json_number_value(below));
}

// Whether a value of that enum cannot match the schema.
static bool value_apart(const json_t *value, const json_t *schema)
{
    if (!(type_of_value(value) & types_of(json_object_get(schema, "type")))) return true;
    return json_is_number(value) && number_outside(json_number_value(value), schema);
}

static bool equal_values(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b)) return json_number_value(a) == json_number_value(b);
    return json_equal(a, b);
}

static bool values_apart(const json_t *a, const json_t *schema, const json_t *b)
{
    for (size_t i = 0; i < json_array_size(a); i++) {
        const json_t *value = json_array_get(a, i);
        if (value_apart(value, schema)) continue;
        if (!b) return false;
        for (size_t j = 0; j < json_array_size(b); j++) {
            if (equal_values(value, json_array_get(b, j))) return false;
        }
    }
    return true;
}

// Least and greatest that a pair of keywords leaves room for do not meet.
static bool ranges_apart(const json_t *a, const json_t *b, const char *least, const char *greatest)
{
    const json_t *low = json_object_get(a, least), *high = json_object_get(b, greatest);
    return low && high && json_number_value(low) > json_number_value(high);
}

static bool bounds_apart(const json_t *a, const json_t *b, unsigned types)
{
    static const struct {
        unsigned types;
        const char *least, *greatest;
    } bounds[] = {{IS_FRACTION | IS_WHOLE, "minimum", "maximum"}, {IS_STRING, "minLength", "maxLength"},
                  {IS_ARRAY, "minItems", "maxItems"}};
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        if (types & ~bounds[i].types) continue; // other types may match both
        if (ranges_apart(a, b, bounds[i].least, bounds[i].greatest)) return true;
        if (ranges_apart(b, a, bounds[i].least, bounds[i].greatest)) return true;
    }
    return false;
}

// A member that a must have and that b has otherwise, or not at all.
static bool member_apart(const json_t *root, const json_t *a, const json_t *b, int depth)
{
    const json_t *of_b = json_object_get(b, "properties"), *of_a = json_object_get(a, "properties");
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)of_a, name, value)
    {
        if (!schema_requires(a, name)) continue;
        const json_t *other = json_object_get(of_b, name);
        if (other ? apart(root, value, other, depth) : json_is_false(json_object_get(b, "additionalProperties"))) return true;
    }
    return false;
}

static bool apart(const json_t *root, const json_t *a, const json_t *b, int depth)
{
    if (depth == MOST_DEPTH) return false;
    if (json_is_false(a) || json_is_false(b)) return true;
    if (!json_is_object(a) || !json_is_object(b)) return false;
    const char *reference = json_string_value(json_object_get(a, "$ref"));
    if (reference) return apart(root, schema_resolve(root, reference), b, depth + 1);
    const json_t *any = json_object_get(a, "anyOf") ? json_object_get(a, "anyOf") : json_object_get(a, "oneOf");
    if (any && all_apart(root, any, b, depth + 1)) return true;
    if (json_object_get(b, "$ref") || json_object_get(b, "anyOf") || json_object_get(b, "oneOf")) {
        return depth + 1 < MOST_DEPTH && !any && apart(root, b, a, depth + 1);
    }
    if (any) return false;
    const unsigned types = types_of(json_object_get(a, "type")) & types_of(json_object_get(b, "type"));
    if (types == 0) return true;
    json_t *of_a = values_of(a), *of_b = values_of(b);
    bool result = of_a   ? values_apart(of_a, b, of_b)
                  : of_b ? values_apart(of_b, a, NULL)
                         : bounds_apart(a, b, types);
    json_decref(of_a);
    json_decref(of_b);
    if (result || types != IS_OBJECT) return result;
    return member_apart(root, a, b, depth + 1) || member_apart(root, b, a, depth + 1);
}

bool schema_apart(const json_t *root, const json_t *a, const json_t *b)
{
    return apart(root, a, b, 0);
}
