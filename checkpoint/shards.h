// checkpoint/shards.h - the weight files of a model folder, one or many, all open. Room-private.
//
// model.safetensors; or those that model.safetensors.index.json names; or, without an index, a
// numbered set ("...-00001-of-00002.safetensors"). Threads: any, once open.
#ifndef SIGHT_CHECKPOINT_SHARDS_H
#define SIGHT_CHECKPOINT_SHARDS_H

#include <jansson.h>

#include "base/err.h"
#include "checkpoint/safetensors.h"

typedef struct shards {
    char **paths; // [n]
    safetensors **files;
    size_t n;
    json_t *index; // name -> file name; NULL without an index
} shards;

// SIGHT_E_MODEL (no weights, a shard missing, damaged), SIGHT_E_PERMISSION, SIGHT_E_IO,
// SIGHT_E_LIMIT, SIGHT_E_MEMORY. *out untouched on failure.
sight_err shards_open(shards *out, const char *dir);
void shards_close(shards *s); // accepts a zeroed one

// The file that should hold that tensor, for error lines: by the index, or the only one, or dir.
const char *shards_place(const shards *s, const char *name, const char *dir);

// dir/name (malloc; NULL: no memory).
char *shards_path(const char *dir, const char *name);

// The name of a file in dir that a broken-off download left (malloc), or NULL.
char *shards_unfinished(const char *dir);

#endif
