// The language model's part of config.json. Defaults: transformers, models/qwen3_5 and qwen3_vl,
// configuration_*.py.
#include <string.h>

#include "checkpoint/config_parts.h"

static const text_config default_qwen3_5 = {
    .hidden = 4096, .intermediate = 12288, .n_layers = 32, .vocab = 248320,
    .heads = 16, .kv_heads = 4, .head_dim = 256,
    .linear_key_heads = 16, .linear_value_heads = 32,
    .linear_key_dim = 128, .linear_value_dim = 128, .conv_width = 4,
    .rms_eps = 1e-6, .max_positions = 32768,
    .attention_gate = true, .zero_centred_norm = true,
};

static const text_config default_qwen3_vl = {
    .hidden = 4096, .intermediate = 22016, .n_layers = 32, .vocab = 151936,
    .heads = 32, .kv_heads = 32, .head_dim = 128,
    .rms_eps = 1e-6, .max_positions = 128000,
};

static sight_err read_sizes(text_config *t, const json_fields *f, model_family family)
{
    static const int_field common[] = {
        {"hidden_size", offsetof(text_config, hidden), 1, 1 << 16},
        {"intermediate_size", offsetof(text_config, intermediate), 1, 1 << 20},
        {"num_hidden_layers", offsetof(text_config, n_layers), 1, CONFIG_MAX_LAYERS},
        {"vocab_size", offsetof(text_config, vocab), 1, 1 << 24},
        {"num_attention_heads", offsetof(text_config, heads), 1, 1024},
        {"num_key_value_heads", offsetof(text_config, kv_heads), 1, 1024},
        {"head_dim", offsetof(text_config, head_dim), 2, 1024},
    };
    static const int_field linear[] = {
        {"linear_num_key_heads", offsetof(text_config, linear_key_heads), 1, 1024},
        {"linear_num_value_heads", offsetof(text_config, linear_value_heads), 1, 1024},
        {"linear_key_head_dim", offsetof(text_config, linear_key_dim), 1, 1024},
        {"linear_value_head_dim", offsetof(text_config, linear_value_dim), 1, 1024},
        {"linear_conv_kernel_dim", offsetof(text_config, conv_width), 2, 16},
    };
    sight_err err = config_ints(f, t, common, sizeof common / sizeof *common);
    if (!err && family == MODEL_QWEN3_5) {
        err = config_ints(f, t, linear, sizeof linear / sizeof *linear);
    }
    if (err) return err;
    // An explicit null means "as many as query heads".
    if (json_is_null(json_object_get(f->object, "num_key_value_heads"))) t->kv_heads = t->heads;
    err = json_get_int(f, &t->max_positions, "max_position_embeddings", 1, INT32_MAX);
    if (!err) err = json_get_double(f, &t->rms_eps, "rms_norm_eps", 1e-12, 1);
    return err;
}

static sight_err check_sizes(const text_config *t, const json_fields *f)
{
    if (t->heads % t->kv_heads) {
        return sight_fail(SIGHT_E_MODEL,
                          "%s: num_attention_heads %d is not a multiple of num_key_value_heads %d",
                          f->what, t->heads, t->kv_heads);
    }
    if (t->head_dim % 2) {
        return sight_fail(SIGHT_E_MODEL, "%s: head_dim %d is odd", f->what, t->head_dim);
    }
    if (t->linear_key_heads && t->linear_value_heads % t->linear_key_heads) {
        return sight_fail(SIGHT_E_MODEL,
                          "%s: linear_num_value_heads %d is not a multiple of "
                          "linear_num_key_heads %d",
                          f->what, t->linear_value_heads, t->linear_key_heads);
    }
    return SIGHT_OK;
}

static sight_err kind_named(uint8_t *out, const json_t *v, const json_fields *f,
                            model_family family)
{
    const char *name = json_is_string(v) ? json_string_value(v) : "?";
    if (strcmp(name, "full_attention") == 0) {
        *out = LAYER_FULL;
    } else if (strcmp(name, "linear_attention") == 0 && family == MODEL_QWEN3_5) {
        *out = LAYER_LINEAR;
    } else {
        return sight_fail(SIGHT_E_UNSUPPORTED, "%s: layer_types: '%s' is not supported", f->what,
                          name);
    }
    return SIGHT_OK;
}

static sight_err listed_layers(text_config *t, const json_fields *f, model_family family)
{
    const json_t *list = json_object_get(f->object, "layer_types");
    if (!json_is_array(list) || json_array_size(list) != (size_t)t->n_layers) {
        return sight_fail(SIGHT_E_MODEL,
                          "%s: 'layer_types' must list num_hidden_layers = %d kinds, it has %zu",
                          f->what, t->n_layers, json_array_size(list));
    }
    for (int32_t i = 0; i < t->n_layers; i++) {
        sight_err err = kind_named(&t->layers[i], json_array_get(list, (size_t)i), f, family);
        if (err) return err;
    }
    return SIGHT_OK;
}

static sight_err read_layers(text_config *t, const json_fields *f, model_family family)
{
    if (config_has(f, "layer_types")) return listed_layers(t, f, family);
    int32_t interval = family == MODEL_QWEN3_5 ? 4 : 1;
    if (family == MODEL_QWEN3_5) {
        sight_err err = json_get_int32(f, &interval, "full_attention_interval", 1, 1 << 16);
        if (err) return err;
    }
    for (int32_t i = 0; i < t->n_layers; i++) {
        t->layers[i] = (i + 1) % interval ? LAYER_LINEAR : LAYER_FULL;
    }
    return SIGHT_OK;
}

// Variants of the arithmetic that exist in the configuration class but in no published checkpoint.
static sight_err refuse_variants(const json_fields *f, model_family family)
{
    bool q35 = family == MODEL_QWEN3_5;
    const char *type = q35 ? "qwen3_5_text" : "qwen3_vl_text";
    sight_err err = config_only_string(f, "model_type", type);
    if (!err) err = config_only_string(f, "hidden_act", "silu");
    if (!err) err = config_only_bool(f, "attention_bias", false);
    if (!err && q35) err = config_only_bool(f, "attn_output_gate", true);
    if (!err && q35) err = config_only_bool(f, "mtp_use_dedicated_embeddings", false);
    return err;
}

sight_err config_read_text(text_config *out, const json_fields *f, model_family family)
{
    *out = family == MODEL_QWEN3_5 ? default_qwen3_5 : default_qwen3_vl;
    sight_err err = refuse_variants(f, family);
    if (!err) err = read_sizes(out, f, family);
    if (!err) err = check_sizes(out, f);
    if (!err) err = read_layers(out, f, family);
    if (!err) err = config_read_rope(out, f, family);
    if (!err && family == MODEL_QWEN3_5) {
        err = json_get_int32(f, &out->mtp_layers, "mtp_num_hidden_layers", 0, CONFIG_MAX_LAYERS);
        if (!err && out->mtp_layers > 1) {
            err = sight_fail(SIGHT_E_UNSUPPORTED,
                             "%s: mtp_num_hidden_layers = %d is not supported, only 0 and 1",
                             f->what, out->mtp_layers);
        }
    }
    return err;
}
