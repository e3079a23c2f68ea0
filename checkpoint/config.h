// checkpoint/config.h - what a checkpoint folder's JSON files say, checked and typed.
//
// Every size of the model comes from here; nothing else reads config.json. Formats: Hugging Face
// transformers 5.x (models/qwen3_5, models/qwen3_vl); see docs/MODEL.md.
// Threads: a config is plain data, never changed after loading.
#ifndef SIGHT_CHECKPOINT_CONFIG_H
#define SIGHT_CHECKPOINT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define CONFIG_MAX_LAYERS    512
#define CONFIG_MAX_DEEPSTACK 16
#define CONFIG_MAX_EOS       16
#define CONFIG_MAX_ROPE_FACTOR 16 // of config_stretch

typedef enum model_family { MODEL_QWEN3_5, MODEL_QWEN3_VL } model_family;

typedef enum layer_kind { LAYER_LINEAR, LAYER_FULL } layer_kind; // Gated DeltaNet, or softmax

typedef struct rope_config {
    double theta;
    double partial_rotary_factor; // 1 where the family has none
    int32_t mrope_section[3];     // t, h, w; frequencies each
    bool yarn;
    double factor, beta_fast, beta_slow;
    double attention_factor;             // > 0 when given, else derived
    double mscale, mscale_all_dim;       // 0 when absent
    bool truncate;                       // YaRN's correction range is rounded (default true)
    double original_max_positions;
} rope_config;

typedef struct text_config {
    int32_t hidden, intermediate, n_layers, vocab; // vocab: rows of the embedding
    int32_t heads, kv_heads, head_dim;
    int32_t linear_key_heads, linear_value_heads, linear_key_dim, linear_value_dim, conv_width;
    uint8_t layers[CONFIG_MAX_LAYERS]; // layer_kind
    double rms_eps;
    int64_t max_positions; // the context length
    rope_config rope;
    bool attention_gate;    // q_proj carries an output gate (qwen3_5)
    bool zero_centred_norm; // norm weights are stored as w - 1 (qwen3_5)
    bool tiled_value_heads; // value head v goes with key head v % key heads (GGUF files)
    bool tied;              // lm_head is the embedding
    int32_t mtp_layers;     // 0: no MTP block
} text_config;

typedef struct vision_config {
    int32_t depth, hidden, intermediate, heads, channels;
    int32_t patch, temporal_patch, merge; // 16, 2, 2
    int32_t out_hidden;                   // the text model's width
    int32_t positions;                    // rows of pos_embed, a square number
    double rope_theta;                    // 1e4
    int32_t n_deepstack, deepstack[CONFIG_MAX_DEEPSTACK]; // after which vision blocks
    bool gelu_tanh; // hidden_act; the merger always uses the erf form
} vision_config;

typedef struct image_config { // preprocessor_config.json
    int64_t min_pixels, max_pixels; // size.shortest_edge, size.longest_edge: areas, not edges
    double mean[3], std[3];
} image_config;

typedef struct video_config { // video_preprocessor_config.json
    int64_t min_pixels, max_pixels; // over frames x height x width
    double fps;
    int32_t min_frames, max_frames;
    double mean[3], std[3];
} video_config;

typedef struct generation_config { // generation_config.json; defaults are those of transformers
    bool do_sample;
    double temperature, top_p, min_p;
    int32_t top_k; // 0: off
    double presence_penalty, frequency_penalty, repetition_penalty;
    int32_t n_eos, eos[CONFIG_MAX_EOS];
} generation_config;

typedef struct model_config {
    model_family family;
    text_config text;
    bool has_vision;
    vision_config vision;
    image_config image;
    video_config video;
    generation_config generation;
    int32_t image_token, video_token, vision_start_token, vision_end_token; // -1 without vision
    // Keep the template's outer vision_start / vision_end around a video (transformers >= 5.12);
    // off as in the authors' release code.
    bool video_outer_pair;
} model_config;

// Reads config.json and the JSON files beside it. *out untouched on failure.
// SIGHT_E_NOT_FOUND, SIGHT_E_MODEL, SIGHT_E_UNSUPPORTED (a model_type or rope_type
// that this build does not run, by name; quant_config.h has quantised forms), SIGHT_E_PERMISSION, SIGHT_E_IO,
// SIGHT_E_LIMIT (a file over 16 MiB), SIGHT_E_MEMORY.
sight_err config_load(model_config *out, const char *dir);

// The same from bytes. data NULL: the file is missing; only config.json must be there.
typedef struct config_file {
    const char *data;
    size_t size;
} config_file;

typedef struct config_files {
    config_file config;             // config.json
    config_file generation;         // generation_config.json
    config_file preprocessor;       // preprocessor_config.json
    config_file video_preprocessor; // video_preprocessor_config.json
    config_file processor;          // processor_config.json: newer saves hold both of them here
} config_files;

sight_err config_parse(model_config *out, const config_files *files);

// Stretches the context past what the files say, by YaRN, for one load: as if rope_parameters held
// rope_type "yarn" with this factor and the native length as original_max_position_embeddings.
// context: tokens wanted, 0: no more than there are. factor 0: none where context fits as it is,
// else 2 or, past twice the native length, 4, as the model cards advise. It costs some quality on
// short text.
// SIGHT_E_ARGUMENT: the factor is out of range or does not reach, or the files' own positions are
// stretched already and something else is asked for. Untouched then.
sight_err config_stretch(text_config *t, int64_t context, double factor);

#endif
