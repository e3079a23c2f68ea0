// generation_config.json: how the authors sample, and which tokens end an answer. Defaults:
// transformers, generation/configuration_utils.py.
#include "checkpoint/config_parts.h"

static const generation_config defaults = {
    .temperature = 1, .top_k = 50, .top_p = 1, .repetition_penalty = 1,
};

static sight_err add_eos(generation_config *g, const json_t *v, const json_fields *f,
                         int32_t vocab)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= vocab) {
        return sight_fail(SIGHT_E_MODEL,
                          "%s: 'eos_token_id' must hold ids of 0 to %d, or a list of them", f->what,
                          vocab - 1);
    }
    if (g->n_eos == CONFIG_MAX_EOS) {
        return sight_fail(SIGHT_E_MODEL, "%s: 'eos_token_id' lists more than %d ids", f->what,
                          CONFIG_MAX_EOS);
    }
    g->eos[g->n_eos++] = (int32_t)json_integer_value(v);
    return SIGHT_OK;
}

// An id, or a list of ids.
static sight_err read_eos(generation_config *g, const json_fields *f, int32_t vocab)
{
    if (!config_has(f, "eos_token_id")) return SIGHT_OK;
    const json_t *v = json_object_get(f->object, "eos_token_id");
    if (!json_is_array(v)) return add_eos(g, v, f, vocab);
    sight_err err = SIGHT_OK;
    for (size_t i = 0; i < json_array_size(v) && !err; i++) {
        err = add_eos(g, json_array_get(v, i), f, vocab);
    }
    return err;
}

sight_err config_read_generation(generation_config *out, const json_fields *f,
                                 const json_fields *config, const json_fields *text_fields,
                                 int32_t vocab)
{
    *out = defaults;
    sight_err err = json_get_bool(f, &out->do_sample, "do_sample");
    if (!err) err = json_get_double(f, &out->temperature, "temperature", 0, 1000);
    if (!err) err = json_get_double(f, &out->top_p, "top_p", 0, 1);
    if (!err) err = json_get_double(f, &out->min_p, "min_p", 0, 1);
    if (!err) err = json_get_int32(f, &out->top_k, "top_k", -1, INT32_MAX);
    if (out->top_k < 0) out->top_k = 0; // -1 is another way to say "off"
    if (!err) err = json_get_double(f, &out->presence_penalty, "presence_penalty", -100, 100);
    if (!err) err = json_get_double(f, &out->frequency_penalty, "frequency_penalty", -100, 100);
    if (!err) {
        err = json_get_double(f, &out->repetition_penalty, "repetition_penalty", 1e-3, 1000);
    }
    if (!err) err = read_eos(out, f, vocab);
    if (!err && !out->n_eos) err = read_eos(out, text_fields, vocab);
    if (!err && !out->n_eos) err = read_eos(out, config, vocab);
    return err;
}
