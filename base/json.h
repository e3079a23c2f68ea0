// base/json.h - strict reading of JSON over jansson, with errors that name file and field.
//
// jansson itself bounds nesting (2,048); json_parse also bounds size and refuses duplicate keys.
// Threads: any, a value by one at a time.
#ifndef SIGHT_BASE_JSON_H
#define SIGHT_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

// what: the name used in errors ("config.json", "request").
// *out is new (json_decref) and untouched on failure.
// SIGHT_E_LIMIT over max_bytes; `code` (ARGUMENT, MODEL, ...) when it is not JSON.
sight_err json_parse(json_t **out, const char *text, size_t n, size_t max_bytes, const char *what,
                     sight_err code);
// Reads and parses a whole file. Also SIGHT_E_NOT_FOUND, SIGHT_E_PERMISSION, SIGHT_E_IO.
sight_err json_parse_file(json_t **out, const char *path, size_t max_bytes, sight_err code);

// A reader of one object's fields: remembers where it is ("config.json: text_config") for errors.
// Getters leave *out untouched when the field is missing or null and return SIGHT_OK, so that a
// default set before stays; a field of the wrong type or out of [min, max] is `code`.
typedef struct json_fields {
    const json_t *object; // borrowed
    const char *what;     // borrowed
    sight_err code;
} json_fields;

sight_err json_get_bool(const json_fields *f, bool *out, const char *key);
sight_err json_get_int(const json_fields *f, int64_t *out, const char *key, int64_t min,
                       int64_t max);
sight_err json_get_int32(const json_fields *f, int32_t *out, const char *key, int32_t min,
                         int32_t max);
// Integers are accepted too; NaN and infinity do not exist in JSON.
sight_err json_get_double(const json_fields *f, double *out, const char *key, double min,
                          double max);
// Borrowed from the object.
sight_err json_get_string(const json_fields *f, const char **out, const char *key);
// As the getters, but the field must be there.
sight_err json_need(const json_fields *f, const char *key);

#endif
