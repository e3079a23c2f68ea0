// checkpoint/quant_pattern.h - names of modules as quantisation configs write them. Room-private.
//
// A pattern is a module's name, a class of modules ("Linear"), or "re:" and a Python regular expression
// that must match from the name's start (compressed-tensors, utils/match.py). Configs name modules
// as some version of some program did, so a module is known by several names.
// Threads: any, once made.
#ifndef SIGHT_CHECKPOINT_QUANT_PATTERN_H
#define SIGHT_CHECKPOINT_QUANT_PATTERN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

typedef struct quant_patterns quant_patterns;

// How closely a list meets a module; a group that meets it closer wins.
typedef enum quant_match { QUANT_NO_MATCH, QUANT_BY_CLASS, QUANT_BY_REGEX, QUANT_BY_NAME } quant_match;

// list: an array of strings, or NULL (no pattern). what, key: for errors ("config.json: ...").
// SIGHT_E_MODEL, SIGHT_E_UNSUPPORTED (a regular expression that PCRE2 does not take), SIGHT_E_MEMORY.
sight_err quant_patterns_create(quant_patterns **out, const json_t *list, const char *what,
                                const char *key);
void quant_patterns_destroy(quant_patterns **p); // accepts NULL; leaves NULL

size_t quant_patterns_count(const quant_patterns *p); // of NULL: 0

// module: the published name without ".weight" ("model.language_model.layers.0.mlp.up_proj").
quant_match quant_patterns_match(const quant_patterns *p, const char *module);

#endif
