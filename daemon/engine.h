// daemon/engine.h - an opened model: everything that one checkpoint needs to answer.
//
// Checkpoint, tokenizer, chat template, kernels, vision tower, text model and cache pool, opened
// from one set of options and closed together. The command line's in-process commands (trace,
// bench, tokenize, prompt) use it as the daemon does.
//
// Threads: engine_open and engine_close anywhere, one at a time. Config, tokenizer, chat and the
// numbers are read by any thread. Kernels, tower, text model and pool belong to one thread at a
// time, the engine thread.
#ifndef SIGHT_DAEMON_ENGINE_H
#define SIGHT_DAEMON_ENGINE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "checkpoint/checkpoint.h"
#include "daemon/watch/metrics.h"
#include "daemon/store/feature_store.h"
#include "daemon/store/prefix.h"
#include "daemon/weights.h"
#include "kernels/ops.h"
#include "text/cache.h"
#include "text/chat.h"
#include "text/grammar.h"
#include "text/model.h"
#include "text/tokenizer.h"
#include "vision/tower.h"

typedef struct engine engine;

typedef struct engine_options {
    const char *model;  // a folder or GGUF file, or a name: what checkpoint_find takes
    const char *name;   // what answers call it; NULL: as published, or its folder's name
    const char *mmproj; // of a GGUF model: its vision file; NULL: the one beside it; "none"
    const char *const *lora; // adapters, "FOLDER" or "FOLDER:SCALE" each (checkpoint/lora.h)
    size_t n_lora;
    const char *shape; // instead of model: made-up weights of a size ("0.8b"); no tokenizer
    uint64_t seed;     // of made-up weights
    bool text_side_only; // config (zero where missing), tokenizer and chat only: no weights are
                         // opened (prompt, tokenize)
    int threads;         // 0: all processors of this process
    simd_level simd;
    bool exact;              // products in float32 always
    bool no_f8;              // rows never in E4M3, even where the model was published so
    weights_options weights; // form and cache; its threads are those above
    tensor_type kv_type;     // TENSOR_BF16, TENSOR_I8 or TENSOR_F32
    int64_t context_tokens;  // 0: what the checkpoint says, less when memory does not allow it;
                             // more than that stretches its positions (config_stretch)
    double rope_factor;      // of that; 0: as the context needs
    int64_t memory_bytes;    // for weights, workspace and caches; 0: what the machine has free
    device_id device;        // zeroed: the CPU. With a GPU all of these lie in its memory:
    device_id others[DEVICE_LIST_MAX - 1]; // more of its kind, over which the model is split (text/group.h): each
    int32_t n_others;        // has a part of weights and caches; vision is the first one's. With CPUs (tests) threads each
    int64_t device_bytes;    // so much of it is taken at once; 0: device_percent
    int32_t device_percent;  // of all that it has; 0: nearly all that is free
    int64_t picture_pixels;  // the largest picture to plan for; 0: the checkpoint's bound
    int64_t step_rows;       // prompt tokens read in one step; 0: by the model's size
    bool reuse;              // keep the pasts of prompts for later ones that begin alike
    int64_t reuse_bytes;     // for these; 0: a quarter of what caches may take
    int64_t feature_bytes;   // for what the tower made of media, in this process's memory; 0: by the memory there is
    struct disk *disk;       // where both are kept over restarts, borrowed; NULL: nowhere
    metrics *metrics;        // the daemon's, borrowed; NULL: nothing is counted
    int index;               // the model's, in their labels
    // One of several replicas (daemon/replica.h): an engine opened before of the same settings, which outlives this one. It shares
    // its store of features (where both compute the same bits), its key, and how many rows a step reads. NULL: nothing is shared.
    engine *first;
    int replica;             // which one
} engine_options;

// Auto SIMD, bf16 keys and values, weights by the memory there is, all else zero.
engine_options engine_options_default(void);
// Sets device and others by a word, as device_parse_list reads it.
sight_err engine_options_device(engine_options *o, const char *word, const char *what);
// Sets no_f8 by "auto" or "off"; what: the option's name.
sight_err engine_options_fp8(engine_options *o, const char *word, const char *what);
// As `sight trace` runs: exact products, float32 keys and values, weights as stored.
engine_options engine_options_exact(void);

// The folder or file that a model's name stands for, and what answers call it. Both are malloced. Codes of checkpoint_find.
sight_err engine_find_model(char **dir, char **name, const char *model);

// Codes of checkpoint_open, tokenizer_open, chat_open, kernels_create; SIGHT_E_MEMORY names what
// would be needed and what there is, before anything is allocated. The strings are copied.
sight_err engine_open(engine **out, const engine_options *options);
void engine_close(engine **e); // accepts NULL; leaves NULL

const model_config *engine_config(const engine *e);
const tokenizer *engine_tokenizer(const engine *e);   // NULL for made-up weights
const chat *engine_chat(const engine *e);             // NULL for made-up weights
const checkpoint *engine_checkpoint(const engine *e); // NULL with text_side_only
kernels *engine_kernels(engine *e);                   // the text model's; NULL with text_side_only
text_model *engine_text(engine *e);                   // NULL with text_side_only
tower *engine_tower(engine *e);                       // NULL without vision
cache_pool *engine_pool(engine *e);                   // NULL with text_side_only
prefix_store *engine_prefix(const engine *e);         // NULL: nothing is kept
feature_store *engine_features(const engine *e);      // NULL: alike, or a text model; replicas may share it
struct measured;
struct measured *engine_measured(engine *e);          // what metrics were told of it (daemon/watch/measure.h)

struct disk *engine_disk(const engine *e);            // as in its options
metrics *engine_metrics(const engine *e);             // as in its options
int engine_index(const engine *e);
int engine_replica(const engine *e);
// Promises of e no more than other can keep: context and what caches may take. While nobody works with e.
void engine_agree(engine *e, const engine *other);

device_id engine_device(const engine *e, int32_t i); // the i-th of engine_memory's devices
const char *engine_model_dir(const engine *e);  // "" for made-up weights
const char *engine_model_name(const engine *e); // what answers call it: the folder's or given name
int64_t engine_context(const engine *e);        // tokens of prompt and answer together
// What the one who starts the engine should be told (the built-in template was taken, the context
// was cut to fit memory); NULL past the end.
const char *engine_warning(const engine *e, int i);

// [vocab] 1 where sampling may draw an id: it has a token, and stands for no medium.
const uint8_t *engine_allowed(const engine *e);
bool engine_is_eos(const engine *e, int32_t id);
const int32_t *engine_ends(const engine *e, int32_t *n); // those of engine_is_eos
int32_t engine_turn_end(const engine *e); // the id with which a turn of a conversation ends; -1: none

// The vocabulary for forms of answers; made when first asked for. Any thread. SIGHT_E_UNSUPPORTED without a tokenizer,
// SIGHT_E_MEMORY.
sight_err engine_forms(engine *e, grammar_vocabulary **out);

// What the model takes, in bytes.
typedef struct engine_memory {
    int64_t weights;
    int64_t text_workspace;
    int64_t cache;        // a sequence as long as the context: keys and values, and states
    int64_t states;       // the part of it that does not grow: convolution tails, delta states
    int64_t per_token;    // the part of it that does, a token's
    int64_t vision;       // workspace of the largest picture allowed, on a GPU with its features
    int64_t reserved;     // of vision: what is kept free for it, all of it on a GPU, nothing with the CPU
    int64_t spare;        // of a GPU's memory, for scratch and arguments
    int32_t devices;      // all of the above are each one's of so many; weights and workspace the largest
    int64_t cache_budget; // what the pool may take
    int64_t budget;       // the whole allowance
} engine_memory;

// The form of the weights ("stored", "int8"). Not with text_side_only.
const char *engine_weights(const engine *e);
engine_memory engine_get_memory(const engine *e);
// SIGHT_OK, or what the GPU has failed with: the engine then does nothing any more, and is to be closed.
// Threads: the engine's.
sight_err engine_status(engine *e);

// {"name", "dir", "family", "context", "vision", "layers", "hidden", "vocab", "threads", "simd",
//  "device" ("cpu", "cuda:0", "cuda:0,1"), "weights" (their form), "prepared" (the file of prepared weights, or null), "memory": {...}}, and
//  "rope_factor" where the context is stretched: the entry for `models`, and what --check prints.
//  NULL when out of memory.
json_t *engine_describe(const engine *e);

#endif
