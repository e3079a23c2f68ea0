// checkpoint/checkpoint_parts.h - inside of a checkpoint, for files that make one. Room-private.
#ifndef SIGHT_CHECKPOINT_CHECKPOINT_PARTS_H
#define SIGHT_CHECKPOINT_CHECKPOINT_PARTS_H

#include "base/threads.h"
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
    bool dropped;         // goes with form.c's next sweep
    const low_rank *lora; // what adapters add to its products; NULL: nothing
    const packed *packed; // once prepared; NULL: as it is
} weight;

typedef struct prepared prepared; // prepare_parts.h

struct checkpoint {
    model_config config;
    char *dir;
    shards files;     // none for made-up weights and GGUF
    gguf_model gguf;  // none for others
    weight *weights;  // sorted by name
    size_t n, bytes;
    struct quant_config *quant;  // what config.json says of quantised weights; NULL: nothing
    struct form_matrix *forms;   // [n_forms] safetensors matrices in quantised forms (form.h)
    size_t n_forms;
    struct lora_file *loras;     // adapters, the last one given first; NULL: none
    void *memory;     // of made-up weights, mapped
    size_t memory_bytes;
    bool lazy;        // made-up matrices have no numbers before checkpoint_prepare
    uint64_t seed;    // of made-up weights
    uint64_t salt;    // what else than the files decides the weights (adapters); 0: nothing
    prepared *prepared; // NULL before checkpoint_prepare
};

// Sorts, and counts bytes.
void checkpoint_finish(checkpoint *c);

// The weight of that name, or NULL.
weight *checkpoint_find_weight(const checkpoint *c, const char *name);

void lora_free(checkpoint *c);

// ---- prepare.c ----

void prepared_free(prepared **p); // accepts NULL; leaves NULL

// ---- made_up.c ----

// Fills elements begin .. end - 1 of a made-up weight with its numbers.
void made_up_fill(const checkpoint *c, const weight *w, int64_t begin, int64_t end, threads *pool);

#endif
