#include "text/schema_reading.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

net_part reading_fail(schema_reading *s, sight_err code, const char *key, const char *why)
{
    if (!s->err) {
        s->err = sight_fail(code, "%s at %s%s%s: %s", s->what, *s->pointer || key ? s->pointer : "/",
                            key ? "/" : "", key ? key : "", why);
    }
    return net_never(s->n);
}

size_t reading_enter(schema_reading *s, const char *key)
{
    const size_t at = strlen(s->pointer);
    size_t to = at;
    if (to + 1 < READING_POINTER_BYTES) s->pointer[to++] = '/';
    for (; *key && to + 3 < READING_POINTER_BYTES; key++) { // RFC 6901
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

void reading_leave(schema_reading *s, size_t at)
{
    s->pointer[at] = 0;
}

size_t reading_enter_item(schema_reading *s, const char *key, size_t index)
{
    char number[24];
    const size_t at = reading_enter(s, key);
    snprintf(number, sizeof number, "%zu", index);
    reading_enter(s, number);
    return at;
}

static const char *const described[] = {"title", "description", "default", "examples", "$schema", "$id", "$comment", "$defs",
    "definitions", "deprecated", "readOnly", "writeOnly", "contentEncoding", "contentMediaType", "strict", "name", NULL};

static bool is_one_of(const char *key, const char *const *list)
{
    for (; *list; list++) {
        if (!strcmp(key, *list)) return true;
    }
    return false;
}

bool reading_check_keys(schema_reading *s, const json_t *node, const char *const *enforced)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)node, key, value)
    {
        if (is_one_of(key, described) || is_one_of(key, enforced)) continue;
        reading_fail(s, SIGHT_E_UNSUPPORTED, key, "this keyword is not enforced here");
        return false;
    }
    return true;
}

bool reading_count(schema_reading *s, int32_t *out, const json_t *node, const char *key, int32_t without,
                   int32_t most)
{
    const json_t *value = json_object_get(node, key);
    *out = without;
    if (!value) return true;
    const double x = json_number_value(value);
    char why[96];
    if (!json_is_number(value) || x < 0 || x != floor(x)) {
        reading_fail(s, SIGHT_E_ARGUMENT, key, "must be a whole number, 0 or more");
    } else if (x > most) {
        snprintf(why, sizeof why, "%.0f is over the limit of %d", x, most);
        reading_fail(s, SIGHT_E_LIMIT, key, why);
    } else {
        *out = (int32_t)x;
    }
    return !s->err;
}

bool reading_range(schema_reading *s, int32_t *min, int32_t *max, const json_t *node, const char *least,
                   const char *greatest, int32_t limit)
{
    if (!reading_count(s, min, node, least, 0, limit)) return false;
    if (!reading_count(s, max, node, greatest, NET_MANY, limit)) return false;
    if (*max < *min) reading_fail(s, SIGHT_E_ARGUMENT, greatest, "is below the least");
    return !s->err;
}
