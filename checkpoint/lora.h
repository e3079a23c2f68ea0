// checkpoint/lora.h - LoRA adapters: small pairs of matrices beside those of a checkpoint.
//
// A folder as PEFT writes it: adapter_config.json and adapter_model.safetensors. What they add is computed
// beside each product (weight.lora in kernels/ops.h), so the weights themselves may be of any form and stay
// as they are. Reading is strict: every tensor must be one half of a pair for a matrix of the model, of
// its exact shape, and whatever else an adapter may want (DoRA, biases, saved modules) is refused by name.
// Threads: one, between opening the checkpoint and making models of it.
#ifndef SIGHT_CHECKPOINT_LORA_H
#define SIGHT_CHECKPOINT_LORA_H

#include "base/err.h"
#include "checkpoint/checkpoint.h"
#include "kernels/tensor.h"

// "DIR" or "DIR:SCALE"; *dir is malloced. SIGHT_E_ARGUMENT (no folder's name, a scale that is no
// number), SIGHT_E_MEMORY.
sight_err lora_parse(char **dir, double *scale, const char *text);

// Adds the adapter in dir to the matrices that it names, scale times what it says itself. Several add up.
// c keeps it. SIGHT_E_NOT_FOUND, SIGHT_E_PERMISSION, SIGHT_E_IO, SIGHT_E_LIMIT, SIGHT_E_MODEL,
// SIGHT_E_UNSUPPORTED, SIGHT_E_MEMORY; c is as before then.
sight_err lora_add(checkpoint *c, const char *dir, double scale);

// What adapters add to the matrix of that name; NULL: nothing. Owned by c.
const low_rank *lora_find(const checkpoint *c, const char *name);

size_t lora_bytes(const checkpoint *c); // of all adapters

#endif
