// checkpoint/checkpoint_parts.h - inside of a checkpoint, for files that make one. Room-private.
#ifndef SIGHT_CHECKPOINT_CHECKPOINT_PARTS_H
#define SIGHT_CHECKPOINT_CHECKPOINT_PARTS_H

#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_model.h"
#include "checkpoint/shards.h"
#include "checkpoint/stored.h"

typedef struct weight {
    char *name;       // the published one
    const char *path; // of the file, for errors; borrowed from the shards
    const char *dtype;
    bool has_view;
    tensor_view view;     // data is NULL where stored is set
    const stored *stored; // a matrix in a quantised form; NULL: plain
    const packed *packed; // once prepared; NULL: as it is
} weight;

struct checkpoint {
    model_config config;
    char *dir;
    shards files;     // none for made-up weights and GGUF
    gguf_model gguf;  // none for others
    weight *weights;  // sorted by name
    size_t n, bytes;
    void *memory;     // of made-up weights, mapped
    size_t memory_bytes;
};

// Sorts, and counts bytes.
void checkpoint_finish(checkpoint *c);

#endif
