#include "base/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

static sight_err fail_parse(const json_error_t *e, const char *what, sight_err code)
{
    switch (json_error_code(e)) {
    case json_error_invalid_utf8:
        return sight_fail(code, "%s: not valid JSON at line %d, column %d: not UTF-8", what,
                          e->line, e->column);
    case json_error_stack_overflow:
        return sight_fail(code, "%s: not valid JSON: nested to a depth of over %d", what,
                          JSON_PARSER_MAX_DEPTH);
    default:
        return sight_fail(code, "%s: not valid JSON at line %d, column %d: %s", what, e->line,
                          e->column, e->text);
    }
}

sight_err json_parse(json_t **out, const char *text, size_t n, size_t max_bytes, const char *what,
                     sight_err code)
{
    if (n > max_bytes) {
        return sight_fail(SIGHT_E_LIMIT, "%s: %zu bytes, the limit is %zu", what, n, max_bytes);
    }
    json_error_t e;
    json_t *v = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (!v) return fail_parse(&e, what, code);
    *out = v;
    return SIGHT_OK;
}

sight_err json_parse_file(json_t **out, const char *path, size_t max_bytes, sight_err code)
{
    char *text;
    size_t n;
    sight_err err = file_read(&text, &n, path, max_bytes);
    if (err) return err;
    err = json_parse(out, text, n, max_bytes, path, code);
    free(text);
    return err;
}

// The field, or NULL when it is missing or null.
static const json_t *field(const json_fields *f, const char *key)
{
    const json_t *v = json_object_get(f->object, key);
    return v && !json_is_null(v) ? v : NULL;
}

sight_err json_get_bool(const json_fields *f, bool *out, const char *key)
{
    const json_t *v = field(f, key);
    if (!v) return SIGHT_OK;
    if (!json_is_boolean(v)) {
        return sight_fail(f->code, "%s: '%s' must be true or false", f->what, key);
    }
    *out = json_is_true(v);
    return SIGHT_OK;
}

sight_err json_get_int(const json_fields *f, int64_t *out, const char *key, int64_t min,
                       int64_t max)
{
    const json_t *v = field(f, key);
    if (!v) return SIGHT_OK;
    double d = json_number_value(v);
    if (!json_is_integer(v) && !(json_is_real(v) && d == floor(d) && fabs(d) < 9e15)) {
        return sight_fail(f->code, "%s: '%s' must be a whole number", f->what, key);
    }
    int64_t i = json_is_integer(v) ? (int64_t)json_integer_value(v) : (int64_t)d;
    if (i < min || i > max) {
        return sight_fail(f->code, "%s: '%s' is %lld, must be %lld to %lld", f->what, key,
                          (long long)i, (long long)min, (long long)max);
    }
    *out = i;
    return SIGHT_OK;
}

sight_err json_get_int32(const json_fields *f, int32_t *out, const char *key, int32_t min,
                         int32_t max)
{
    int64_t i = *out;
    sight_err err = json_get_int(f, &i, key, min, max);
    if (!err && field(f, key)) *out = (int32_t)i;
    return err;
}

sight_err json_get_double(const json_fields *f, double *out, const char *key, double min,
                          double max)
{
    const json_t *v = field(f, key);
    if (!v) return SIGHT_OK;
    if (!json_is_number(v)) return sight_fail(f->code, "%s: '%s' must be a number", f->what, key);
    double d = json_number_value(v);
    if (!(d >= min && d <= max)) {
        return sight_fail(f->code, "%s: '%s' is %g, must be %g to %g", f->what, key, d, min, max);
    }
    *out = d;
    return SIGHT_OK;
}

sight_err json_get_string(const json_fields *f, const char **out, const char *key)
{
    const json_t *v = field(f, key);
    if (!v) return SIGHT_OK;
    if (!json_is_string(v)) return sight_fail(f->code, "%s: '%s' must be a string", f->what, key);
    *out = json_string_value(v);
    return SIGHT_OK;
}

sight_err json_need(const json_fields *f, const char *key)
{
    if (!field(f, key)) return sight_fail(f->code, "%s: '%s' is missing", f->what, key);
    return SIGHT_OK;
}
