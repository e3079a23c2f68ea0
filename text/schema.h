// text/schema.h - what can be said of a JSON schema (draft 2020-12) by looking at it.
//
// Threads: any.
#ifndef SIGHT_TEXT_SCHEMA_H
#define SIGHT_TEXT_SCHEMA_H

#include <jansson.h>
#include <stdbool.h>

// What a "#/..." points to (RFC 6901 in a URI fragment); NULL: nothing.
const json_t *schema_resolve(const json_t *root, const char *reference);

bool schema_requires(const json_t *object, const char *name);

// The type that a schema without "type" is taken to be of, by its keywords; NULL: of any.
const char *schema_type_by_keywords(const json_t *schema);
// Whether a value is of that "type" (a name or a list of them; NULL: any).
bool schema_is_of_type(const json_t *value, const json_t *type);

// Whether no value can match both, as far as types, constants, bounds and required members tell. false: one may.
bool schema_apart(const json_t *root, const json_t *a, const json_t *b);

#endif
