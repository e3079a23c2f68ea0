// checkpoint/quant_parts.h - inside of a quant_config, for the files that fill it. Room-private.
#ifndef SIGHT_CHECKPOINT_QUANT_PARTS_H
#define SIGHT_CHECKPOINT_QUANT_PARTS_H

#include "base/json.h"
#include "checkpoint/quant_config.h"
#include "checkpoint/quant_pattern.h"

typedef struct quant_group {
    quant_scheme scheme;
    quant_patterns *targets;
} quant_group;

struct quant_config {
    quant_method method;
    char name[32];
    quant_scheme scheme;       // of every module; not for compressed-tensors
    bool overrides, less_one;
    quant_group *groups;       // compressed-tensors only
    size_t n_groups;
    quant_patterns *ignore;
};

// The groups of a compressed-tensors config into *c; what was made before a failure is in *c.
sight_err quant_read_groups(quant_config *c, const json_fields *f);

#endif
