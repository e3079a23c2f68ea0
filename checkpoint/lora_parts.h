// checkpoint/lora_parts.h - inside of adapters, for lora.c and lora_config.c. Room-private.
#ifndef SIGHT_CHECKPOINT_LORA_PARTS_H
#define SIGHT_CHECKPOINT_LORA_PARTS_H

#include "checkpoint/checkpoint_parts.h"
#include "checkpoint/safetensors.h"

typedef struct lora_config lora_config;

typedef struct lora_pair {
    low_rank rank;
    weight *of; // whose product it is added to
} lora_pair;

typedef struct lora_file {
    char *path; // adapter_model.safetensors
    safetensors *file;
    lora_config *config;
    lora_pair *pairs; // never moved once linked
    size_t n;
    struct lora_file *next;
} lora_file;

// adapter_config.json. SIGHT_E_MODEL, SIGHT_E_UNSUPPORTED (by name), SIGHT_E_NOT_FOUND, ...
sight_err lora_config_load(lora_config **out, const char *path);
// The same from bytes; what names them in errors.
sight_err lora_config_parse(lora_config **out, const char *text, size_t n, const char *what);
void lora_config_free(lora_config **c); // accepts NULL; leaves NULL
// Rank of a module's pair, and the factor that its config gives it.
int64_t lora_config_rank(const lora_config *c, const char *module, double *scale);

#endif
