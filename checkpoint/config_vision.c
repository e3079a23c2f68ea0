// The vision tower's part of config.json. Defaults: transformers, configuration_qwen3_5.py and
// configuration_qwen3_vl.py.
#include <string.h>

#include "checkpoint/config_parts.h"

static const vision_config defaults = {
    .depth = 27, .hidden = 1152, .intermediate = 4304, .heads = 16, .channels = 3,
    .patch = 16, .temporal_patch = 2, .merge = 2,
    .out_hidden = 3584, .positions = 2304, .rope_theta = 1e4, .gelu_tanh = true,
};

// Older files name the outer model's type here.
static sight_err check_type(const json_fields *f, model_family family)
{
    const char *own = family == MODEL_QWEN3_5 ? "qwen3_5_vision" : "qwen3_vl_vision";
    const char *outer = family == MODEL_QWEN3_5 ? "qwen3_5" : "qwen3_vl";
    const char *type = own;
    sight_err err = json_get_string(f, &type, "model_type");
    if (err || strcmp(type, own) == 0 || strcmp(type, outer) == 0) return err;
    return sight_fail(SIGHT_E_UNSUPPORTED, "%s: model_type '%s' is not supported, only '%s'",
                      f->what, type, own);
}

static sight_err read_activation(vision_config *v, const json_fields *f)
{
    const char *name = "gelu_pytorch_tanh";
    sight_err err = json_get_string(f, &name, "hidden_act");
    if (err) return err;
    v->gelu_tanh = strcmp(name, "gelu_pytorch_tanh") == 0;
    if (v->gelu_tanh || strcmp(name, "gelu") == 0) return SIGHT_OK;
    return sight_fail(SIGHT_E_UNSUPPORTED,
                      "%s: hidden_act '%s' is not supported, only gelu_pytorch_tanh and gelu",
                      f->what, name);
}

// patch_size may be written as [16, 16].
static sight_err read_patch(int32_t *out, const json_fields *f, const char *key, int32_t max)
{
    const json_t *list = json_object_get(f->object, key);
    if (!json_is_array(list)) return json_get_int32(f, out, key, 1, max);
    const json_t *a = json_array_get(list, 0), *b = json_array_get(list, 1);
    if (json_array_size(list) != 2 || !json_is_integer(a) || !json_equal(a, b) ||
        json_integer_value(a) < 1 || json_integer_value(a) > max) {
        return sight_fail(SIGHT_E_MODEL,
                          "%s: '%s' must be one whole number of 1 to %d, or two equal", f->what,
                          key, max);
    }
    *out = (int32_t)json_integer_value(a);
    return SIGHT_OK;
}

static sight_err read_sizes(vision_config *v, const json_fields *f)
{
    static const int_field fields[] = {
        {"depth", offsetof(vision_config, depth), 1, CONFIG_MAX_LAYERS},
        {"hidden_size", offsetof(vision_config, hidden), 1, 1 << 15},
        {"intermediate_size", offsetof(vision_config, intermediate), 1, 1 << 18},
        {"num_heads", offsetof(vision_config, heads), 1, 1024},
        {"in_channels", offsetof(vision_config, channels), 1, 64},
        {"spatial_merge_size", offsetof(vision_config, merge), 1, 16},
        {"out_hidden_size", offsetof(vision_config, out_hidden), 1, 1 << 16},
        {"num_position_embeddings", offsetof(vision_config, positions), 1, 1 << 20},
    };
    sight_err err = config_ints(f, v, fields, sizeof fields / sizeof *fields);
    if (!err) err = read_patch(&v->patch, f, "patch_size", 256);
    if (!err) err = read_patch(&v->temporal_patch, f, "temporal_patch_size", 16);
    return err;
}

static bool square(int32_t n)
{
    int32_t side = 0;
    while ((int64_t)(side + 1) * (side + 1) <= n) side++;
    return side * side == n;
}

static sight_err check_sizes(const vision_config *v, const json_fields *f, const text_config *text)
{
    if (v->channels != 3 || v->temporal_patch != 2) {
        return sight_fail(SIGHT_E_UNSUPPORTED,
                          "%s: in_channels %d and temporal_patch_size %d are not supported, only 3 "
                          "and 2",
                          f->what, v->channels, v->temporal_patch);
    }
    // Row and column each rotate half of a head, in pairs.
    if (v->hidden % v->heads || v->hidden / v->heads % 4) {
        return sight_fail(SIGHT_E_MODEL,
                          "%s: hidden_size %d over num_heads %d must be a multiple of 4", f->what,
                          v->hidden, v->heads);
    }
    if (!square(v->positions)) {
        return sight_fail(SIGHT_E_MODEL, "%s: num_position_embeddings %d is not a square", f->what,
                          v->positions);
    }
    if (v->out_hidden != text->hidden) {
        return sight_fail(SIGHT_E_MODEL,
                          "%s: out_hidden_size is %d, the text model's hidden_size is %d", f->what,
                          v->out_hidden, text->hidden);
    }
    return SIGHT_OK;
}

static sight_err read_rope(vision_config *v, const json_fields *f)
{
    json_fields rope;
    const char *type = "axial";
    sight_err err = config_sub(f, &rope, "rope_parameters",
                               "config.json: vision_config.rope_parameters");
    if (!err) err = json_get_string(&rope, &type, "rope_type");
    if (!err && strcmp(type, "axial") && strcmp(type, "default")) {
        err = sight_fail(SIGHT_E_UNSUPPORTED, "%s: rope_type '%s' is not supported, only axial",
                         rope.what, type);
    }
    if (!err) err = json_get_double(f, &v->rope_theta, "rope_theta", 1.0001, 1e15);
    if (!err) err = json_get_double(&rope, &v->rope_theta, "rope_theta", 1.0001, 1e15);
    return err;
}

static sight_err check_level(const vision_config *v, int32_t i, const json_fields *f)
{
    int32_t at = v->deepstack[i];
    if (at >= v->depth || (i && at <= v->deepstack[i - 1])) {
        return sight_fail(SIGHT_E_MODEL,
                          "%s: 'deepstack_visual_indexes' must ascend and stay below depth %d, "
                          "found %d",
                          f->what, v->depth, at);
    }
    return SIGHT_OK;
}

static sight_err read_deepstack(vision_config *v, const json_fields *f, model_family family,
                                const text_config *text)
{
    static const int32_t qwen3_vl[] = {8, 16, 24};
    const json_t *list = json_object_get(f->object, "deepstack_visual_indexes");
    int32_t max = text->n_layers < CONFIG_MAX_DEEPSTACK ? text->n_layers : CONFIG_MAX_DEEPSTACK;
    bool given = config_has(f, "deepstack_visual_indexes");
    if (!given) v->n_deepstack = family == MODEL_QWEN3_VL ? 3 : 0;
    else v->n_deepstack = json_array_size(list) > 99 ? 99 : (int32_t)json_array_size(list);
    if ((given && !json_is_array(list)) || v->n_deepstack > max) {
        return sight_fail(SIGHT_E_MODEL,
                          "%s: 'deepstack_visual_indexes' must list at most %d vision blocks",
                          f->what, max);
    }
    for (int32_t i = 0; i < v->n_deepstack; i++) {
        const json_t *at = json_array_get(list, (size_t)i);
        if (given && (!json_is_integer(at) || json_integer_value(at) < 0 ||
                      json_integer_value(at) > CONFIG_MAX_LAYERS)) {
            return sight_fail(SIGHT_E_MODEL,
                              "%s: 'deepstack_visual_indexes' must list vision blocks", f->what);
        }
        v->deepstack[i] = given ? (int32_t)json_integer_value(at) : qwen3_vl[i];
        sight_err err = check_level(v, i, f);
        if (err) return err;
    }
    return SIGHT_OK;
}

sight_err config_read_vision(vision_config *out, const json_fields *f, model_family family,
                             const text_config *text)
{
    *out = defaults;
    sight_err err = check_type(f, family);
    if (!err) err = read_activation(out, f);
    if (!err) err = read_sizes(out, f);
    if (!err) err = check_sizes(out, f, text);
    if (!err) err = read_rope(out, f);
    if (!err) err = read_deepstack(out, f, family, text);
    return err;
}
