// checkpoint/checkpoint.h - a model folder, opened and checked: config and weights by name.
//
// Weights stay in the files, mapped read-only; nothing is copied. Opening is strict: every tensor
// that the config implies must be there with its exact shape in bf16, f16 or f32, and nothing may
// be left over. Errors name file, tensor, expected and found.
// Threads: any, once open.
#ifndef SIGHT_CHECKPOINT_CHECKPOINT_H
#define SIGHT_CHECKPOINT_CHECKPOINT_H

#include <stddef.h>

#include "base/err.h"
#include "checkpoint/config.h"
#include "kernels/packed.h"
#include "kernels/tensor.h"

typedef struct checkpoint checkpoint;

// path: a folder as published, or a GGUF file (with the mmproj file beside it, if there is one that
// fits: its vision tower). A config that promises an MTP block where the files hold none of it
// gets mtp_layers 0; a kept copy of a tied lm_head is dropped, and one that differs from the
// embedding is used (tied is false then), as in transformers.
// SIGHT_E_NOT_FOUND, SIGHT_E_PERMISSION, SIGHT_E_IO, SIGHT_E_MODEL, SIGHT_E_UNSUPPORTED,
// SIGHT_E_LIMIT, SIGHT_E_MEMORY.
sight_err checkpoint_open(checkpoint **out, const char *path);
// mmproj: the file with a GGUF model's vision tower; NULL: the one beside it; "none": text only.
// Also SIGHT_E_ARGUMENT: several files fit, or the model is a folder.
sight_err checkpoint_open_with(checkpoint **out, const char *path, const char *mmproj);

// The config alone, as checkpoint_open_with reads it. SIGHT_E_NOT_FOUND: a folder without config.json.
sight_err checkpoint_load_config(model_config *out, const char *path, const char *mmproj);

// Whether that is a GGUF file, by its name or its first bytes.
bool checkpoint_is_gguf(const char *path);

// Made-up weights of a published size ("0.8b", "2b", "4b", "9b", "27b"), in anonymous memory:
// speed and memory are those of the real thing. Same seed, same weights. No tokenizer.
// SIGHT_E_ARGUMENT (no such shape), SIGHT_E_MEMORY (also when the machine's memory is too small).
sight_err checkpoint_made_up(checkpoint **out, const char *shape, uint64_t seed);
// The same, but matrices get their numbers in checkpoint_prepare, one at a time: weights in few bits
// never stand in memory as bf16 as a whole.
sight_err checkpoint_made_up_lazy(checkpoint **out, const char *shape, uint64_t seed);

void checkpoint_close(checkpoint **c); // accepts NULL; leaves NULL

const model_config *checkpoint_config(const checkpoint *c);
// config_stretch of its config, before any model is made of it.
sight_err checkpoint_stretch(checkpoint *c, int64_t context, double factor);
const char *checkpoint_dir(const checkpoint *c); // the GGUF file's path; "" for made-up ones
size_t checkpoint_bytes(const checkpoint *c);    // of all weights

// The tensor of that published name ("model.language_model.layers.0.mlp.up_proj.weight"), also
// where the files use a text-only export's names. SIGHT_E_MODEL when it is not there.
sight_err checkpoint_tensor(const checkpoint *c, tensor_view *out, const char *name);

// A matrix of a product: *view has its shape; its data is NULL where the weights are packed, and *p
// is then what products run (owned by c). Packing happens in checkpoint_prepare: a matrix in a
// quantised form is SIGHT_E_UNSUPPORTED before.
sight_err checkpoint_matrix(const checkpoint *c, tensor_view *view, const packed **p,
                            const char *name);

// A copy as float32 (malloc; free it), for norms, biases and other small tensors; each element
// plus `add` (1 for zero-centred norms).
sight_err checkpoint_copy_f32(const checkpoint *c, float **out, const char *name, float add);

// Finds what --model means: a GGUF file, a folder (one without safetensors that holds one GGUF model
// is that file), or a name ("Qwen/Qwen3.5-0.8B"; with a tag, "owner/name:Q4_K_M", a GGUF file whose name
// has it) looked up in the caches that other programs fill: $HF_HUB_CACHE, $HF_HOME/hub,
// ~/.cache/huggingface/hub, $LLAMA_CACHE, ~/.cache/llama.cpp, $MODELSCOPE_CACHE,
// ~/.cache/modelscope/hub/models. *path is malloced.
// SIGHT_E_NOT_FOUND names the places looked in; SIGHT_E_ARGUMENT lists the files where there are several.
sight_err checkpoint_find(char **path, const char *model);

#endif
