// daemon/models/model_set.h - the models that a daemon has, and its routers: what its settings say, put together.
//
// A model named by `--model` alone has no section; all of its settings are the daemon's. In a section stands what is its
// own: what it is (model, mmproj, lora), its share of memory, when it is loaded and let go; the rest it has
// from the daemon's settings unless it says otherwise. The daemon's `memory` and `device-memory` bound all models together.
// Threads: any; plain data.
#ifndef SIGHT_DAEMON_MODEL_SET_H
#define SIGHT_DAEMON_MODEL_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "daemon/engine.h"
#include "daemon/models/model_sections.h"
#include "daemon/settings/settings.h"

#define MODELS_MAX        16 // as metrics tell apart
#define ROUTERS_MAX       16
#define ROUTER_MODELS_MAX 4

struct options;

typedef struct model_spec {
    char name[MODEL_NAME_SIZE];
    char *model, *mmproj;          // as in engine_options; model NULL: the bundled one
    option_list lora;
    char *device;                  // word; NULL: auto
    char *kv, *weights, *cache;    // as written; NULL: as in `engine`
    char *memory, *device_memory;  // its shares, as written; NULL: none
    char *load;                    // "start", "use"
    bool at_start;                 // it is loaded before the first request
    double unload_after_s;         // without use; 0: never
    int64_t memory_bytes;          // its share of the machine's memory; both 0: none
    int32_t memory_percent;        // of what models may take together
    int64_t device_bytes;          // its share of a GPU's memory, alike
    int32_t device_percent;        // of all that the GPU has
    engine_options engine;         // for engine_open, but for memory and device; points into this struct's texts
    char *key;                     // all of it as a text: equal for models that are opened alike
} model_spec;

// The first model answers; where its confidence is below the bound, the next one does.
typedef struct router_spec {
    char name[MODEL_NAME_SIZE];
    char models[ROUTER_MODELS_MAX][MODEL_NAME_SIZE];
    int n_models; // 2 or more
    double confidence;    // 0 to 1
    int32_t first_tokens; // of an answer, after which it is decided; 0: at its end
} router_spec;

typedef struct model_set {
    model_spec *models; // [n_models], at least one
    int n_models;
    router_spec *routers; // [n_routers]
    int n_routers;
    char first[MODEL_NAME_SIZE];  // model or router for requests that name none
    int64_t memory_bytes;         // for all models in the machine's memory; 0: what is free
    int64_t device_bytes;         // alike on each GPU; both 0: what is free
    int32_t device_percent;
} model_set;

// What the settings of a daemon come to. Finds the bundled model where none is configured. SIGHT_E_ARGUMENT (names that meet,
// routers of models that are not there, a model without `model`), SIGHT_E_NOT_FOUND, SIGHT_E_MEMORY.
sight_err model_set_make(model_set *out, const struct options *o);
sight_err model_set_copy(model_set *out, const model_set *set); // SIGHT_E_MEMORY
void model_set_done(model_set *set);                            // leaves it zeroed

sight_err model_spec_copy(model_spec *out, const model_spec *spec); // SIGHT_E_MEMORY
void model_spec_done(model_spec *spec);                             // leaves it zeroed

// A setting of a section: whether there is one of that name, and the value's form. SIGHT_E_ARGUMENT.
sight_err model_set_check(section_kind kind, const char *name, const char *value, const char *where);
void model_set_print_help(FILE *to);

// "bf16", "int8", "f32". SIGHT_E_ARGUMENT.
sight_err model_kv_parse(tensor_type *out, const char *word, const char *where);

#endif
