// checkpoint/quant_config.h - what a folder says about its quantised weights. Room-private.
//
// Read from `quantization_config` (or the older `compression_config`) of config.json, of its text_config, or
// from hf_quant_config.json (ModelOpt). A method, format or number that cannot be run as stored is refused
// by name here; whether the tensors are what it says is form.c's work. Of what it says about activations
// only one thing counts: whether they are E4M3 beside E4M3 weights, since a GPU may then round them so (docs/GPU.md).
// Threads: any, once read.
#ifndef SIGHT_CHECKPOINT_QUANT_CONFIG_H
#define SIGHT_CHECKPOINT_QUANT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef enum quant_method {
    QUANT_COMPRESSED, // compressed-tensors: groups of modules, each with its scheme
    QUANT_FP8,        // "fp8" as Qwen publishes it, and "fbgemm_fp8"
    QUANT_MODELOPT,   // NVFP4 and FP8; the tensors say which
    QUANT_AWQ,        // the gemm layout, by AutoAWQ or AutoRound
    QUANT_GPTQ        // by AutoGPTQ, GPTQModel or AutoRound
} quant_method;

typedef enum quant_kind {
    QUANT_F8,    // E4M3, a byte each
    QUANT_I8,    // int8, a byte each
    QUANT_INT,   // 4 or 8 bits in 32-bit words
    QUANT_NVFP4, // E2M1, two a byte; scales E4M3 per 16, and one of the tensor
    QUANT_MXFP4  // E2M1, two a byte; scales E8M0 per 32
} quant_kind;

// The weights of some modules.
typedef struct quant_scheme {
    quant_kind kind;
    int32_t bits;   // 4 or 8
    int32_t group;  // inputs that share a scale; 0: all of a row
    int32_t rows;   // outputs that share a scale; 0: all (with group 0: one scale of the tensor)
    bool symmetric; // no zero points, or all in the middle
    bool f8_inputs; // QUANT_F8: the published program rounds activations to E4M3 too, whatever their scales
} quant_scheme;

typedef struct quant_config quant_config;

// *out is NULL when the folder says nothing. *out untouched on failure.
// SIGHT_E_MODEL, SIGHT_E_UNSUPPORTED (by name), SIGHT_E_PERMISSION, SIGHT_E_IO, SIGHT_E_LIMIT, SIGHT_E_MEMORY.
sight_err quant_config_load(quant_config **out, const char *dir);
// The same from bytes; hf NULL: there is no hf_quant_config.json.
sight_err quant_config_parse(quant_config **out, const char *config, size_t n, const char *hf,
                             size_t n_hf);
void quant_config_free(quant_config **c); // accepts NULL; leaves NULL

quant_method quant_config_method(const quant_config *c);
const char *quant_config_name(const quant_config *c); // "compressed-tensors", for errors

// compressed-tensors: the scheme of a module; NULL when it is left out (*ignored) or no group has it.
// The other methods have one scheme; where its group is negative, or overrides stand beside
// it, the tensors decide.
const quant_scheme *quant_config_scheme(const quant_config *c, const char *module, bool *ignored);
// Some modules have other numbers than the scheme's (GPTQ's "dynamic", AutoRound's "extra_config").
bool quant_config_overrides(const quant_config *c);
// GPTQ: zero points are stored less one (the first version of the format).
bool quant_config_zeros_less_one(const quant_config *c);

#endif
