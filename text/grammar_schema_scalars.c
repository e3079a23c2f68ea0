// Strings and numbers of a JSON schema.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/grammar_schema.h"

#define MOST_LENGTH 16384 // characters that minLength and maxLength may name

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

static net_part quoted(schema_reading *s, const char *regex, bool searched, const char *key)
{
    char what[READING_POINTER_BYTES + 128];
    net_part text = net_never(s->n);
    snprintf(what, sizeof what, "%s at %s/%s", s->what, s->pointer, key);
    if (!s->err) s->err = regex_build(s->n, s->rules, &text, regex, searched, CODING_JSON, what);
    const net_part begin = net_text(s->n, "\"", 1), end = net_text(s->n, "\"", 1);
    return net_then(s->n, begin, net_then(s->n, text, end));
}

net_part build_string(schema_reading *s, const json_t *node)
{
    static const char *const keys[] = {"type", "minLength", "maxLength", "pattern", "format", NULL};
    int32_t min, max;
    if (!reading_check_keys(s, node, keys)) return net_never(s->n);
    if (!reading_range(s, &min, &max, node, "minLength", "maxLength", MOST_LENGTH)) return net_never(s->n);
    const json_t *pattern = json_object_get(node, "pattern"), *name = json_object_get(node, "format");
    const bool counted = json_object_get(node, "minLength") || json_object_get(node, "maxLength");
    if (!pattern && !name) return form_string(s->n, s->rules, min, max);
    if (counted || (pattern && name)) {
        return reading_fail(s, SIGHT_E_UNSUPPORTED, pattern ? "pattern" : "format",
                            "goes with no other rule for the same string");
    }
    if (pattern) {
        if (!json_is_string(pattern)) return reading_fail(s, SIGHT_E_ARGUMENT, "pattern", "must be a string");
        return quoted(s, json_string_value(pattern), true, "pattern");
    }
    for (size_t i = 0; json_is_string(name) && i < sizeof formats / sizeof *formats; i++) {
        if (!strcmp(formats[i].name, json_string_value(name))) return quoted(s, formats[i].regex, false, "format");
    }
    return reading_fail(s, SIGHT_E_UNSUPPORTED, "format",
                        "is none of date, time, date-time, duration, email, hostname, ipv4, ipv6, uuid, uri");
}

// ---- numbers ----

typedef struct bounds {
    double low, high;
    bool low_open, high_open; // the bound itself is out
} bounds;

// way: 1 for the least, -1 for the greatest.
static bool get_bound(schema_reading *s, double *bound, bool *open, const json_t *node, const char *key,
                      const char *exclusive, int way)
{
    const json_t *at = json_object_get(node, key), *past = json_object_get(node, exclusive);
    if (at && !json_is_number(at)) reading_fail(s, SIGHT_E_ARGUMENT, key, "must be a number");
    if (past && !json_is_number(past)) reading_fail(s, SIGHT_E_ARGUMENT, exclusive, "must be a number");
    if (at) *bound = json_number_value(at);
    if (past && (!at || way * json_number_value(past) >= way * *bound)) {
        *bound = json_number_value(past);
        *open = true;
    }
    return !s->err;
}

static bool get_bounds(schema_reading *s, bounds *b, const json_t *node)
{
    *b = (bounds){-INFINITY, INFINITY, false, false};
    return get_bound(s, &b->low, &b->low_open, node, "minimum", "exclusiveMinimum", 1) &&
           get_bound(s, &b->high, &b->high_open, node, "maximum", "exclusiveMaximum", -1);
}

#define WHOLE_MOST 1e15 // what a double still tells from its neighbours

static int64_t whole_bound(double x, bool open, int way)
{
    if (x <= -WHOLE_MOST) return (int64_t)-WHOLE_MOST;
    if (x >= WHOLE_MOST) return (int64_t)WHOLE_MOST;
    const double rounded = way > 0 ? ceil(x) : floor(x);
    return (int64_t)rounded + (open && rounded == x ? way : 0);
}

net_part build_integer(schema_reading *s, const json_t *node)
{
    static const char *const keys[] = {"type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", NULL};
    bounds b;
    if (!reading_check_keys(s, node, keys) || !get_bounds(s, &b, node)) return net_never(s->n);
    if (isinf(b.low) && isinf(b.high)) return form_integer(s->n);
    const int64_t low = whole_bound(b.low, b.low_open, 1), high = whole_bound(b.high, b.high_open, -1);
    if (low > high) return reading_fail(s, SIGHT_E_ARGUMENT, "maximum", "no whole number is between the bounds");
    return form_integer_between(s->n, low, high);
}

net_part build_number(schema_reading *s, const json_t *node)
{
    static const char *const keys[] = {"type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", NULL};
    bounds b;
    if (!reading_check_keys(s, node, keys) || !get_bounds(s, &b, node)) return net_never(s->n);
    if (isinf(b.low) && isinf(b.high)) return form_number(s->n);
    const bool whole = (isinf(b.low) || b.low == floor(b.low)) && (isinf(b.high) || b.high == floor(b.high));
    if (!whole) return reading_fail(s, SIGHT_E_UNSUPPORTED, NULL, "bounds of a number must be whole numbers");
    if (b.low > b.high || (b.low == b.high && (b.low_open || b.high_open))) {
        return reading_fail(s, SIGHT_E_ARGUMENT, "maximum", "no number is between the bounds");
    }
    return form_number_between(s->n, whole_bound(b.low, false, 1), whole_bound(b.high, false, -1), b.low_open,
                               b.high_open);
}
