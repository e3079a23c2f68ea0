// Rotary positions: `rope_parameters`, or the older `rope_scaling` with rope_theta and
// partial_rotary_factor beside it. Rules: transformers, modeling_rope_utils.py.
#include <math.h>
#include <string.h>

#include "checkpoint/config_parts.h"

#define MAX_SECTION 4096

// transformers gives default_theta to a config that names none.
static double default_theta(model_family family)
{
    return family == MODEL_QWEN3_5 ? 10000 : 500000;
}

// Parameters per kind of layer, or sections side by side instead of interleaved, are other models.
static sight_err refuse_variants(const json_fields *f)
{
    static const char *const nested[] = {"full_attention", "linear_attention"};
    for (int i = 0; i < 2; i++) {
        if (!config_has(f, nested[i])) continue;
        return sight_fail(SIGHT_E_UNSUPPORTED,
                          "%s: parameters per kind of layer ('%s') are not supported", f->what,
                          nested[i]);
    }
    return config_only_bool(f, "mrope_interleaved", true);
}

static sight_err read_kind(rope_config *r, const json_fields *f)
{
    const char *type = "default";
    sight_err err = json_get_string(f, &type, "type");
    if (!err) err = json_get_string(f, &type, "rope_type");
    if (err) return err;
    r->yarn = strcmp(type, "yarn") == 0;
    if (!r->yarn && strcmp(type, "default")) {
        return sight_fail(SIGHT_E_UNSUPPORTED,
                          "%s: rope_type '%s' is not supported, only default and yarn", f->what,
                          type);
    }
    return SIGHT_OK;
}

static sight_err read_yarn(rope_config *r, const json_fields *f, const json_fields *text,
                           int64_t max_positions)
{
    int64_t original = max_positions;
    sight_err err = json_need(f, "factor");
    if (!err) err = json_get_double(f, &r->factor, "factor", 1, 1e6);
    if (!err) err = json_get_double(f, &r->beta_fast, "beta_fast", 0, 1e6);
    if (!err) err = json_get_double(f, &r->beta_slow, "beta_slow", 0, 1e6);
    if (!err) err = json_get_double(f, &r->attention_factor, "attention_factor", 1e-6, 1e6);
    if (!err) err = json_get_double(f, &r->mscale, "mscale", 0, 1e6);
    if (!err) err = json_get_double(f, &r->mscale_all_dim, "mscale_all_dim", 0, 1e6);
    if (!err) err = json_get_bool(f, &r->truncate, "truncate");
    const char *key = "original_max_position_embeddings";
    if (!err) err = json_get_int(f, &original, key, 1, INT32_MAX);
    if (!err) err = json_get_int(text, &original, key, 1, INT32_MAX); // wins, as in transformers
    if (err) return err;
    if (r->beta_fast == 0) r->beta_fast = 32;
    if (r->beta_slow == 0) r->beta_slow = 1;
    r->original_max_positions = (double)original;
    return SIGHT_OK;
}

// A section larger than there are frequencies reaches to the last one, a sum that falls short
// leaves the rest to t: so the reference has it (apply_interleaved_mrope).
static sight_err read_section(rope_config *r, const json_fields *f)
{
    const json_t *list = json_object_get(f->object, "mrope_section");
    if (!list || json_is_null(list)) return SIGHT_OK;
    if (!json_is_array(list) || json_array_size(list) != 3) {
        return sight_fail(SIGHT_E_MODEL, "%s: 'mrope_section' must list three numbers", f->what);
    }
    for (size_t i = 0; i < 3; i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0 ||
            json_integer_value(v) > MAX_SECTION) {
            return sight_fail(SIGHT_E_MODEL,
                              "%s: 'mrope_section' must hold whole numbers of 0 to %d", f->what,
                              MAX_SECTION);
        }
        r->mrope_section[i] = (int32_t)json_integer_value(v);
    }
    return SIGHT_OK;
}

// Rotated components of a head: even, at least 2.
static sight_err check_rotated_width(const text_config *t, const json_fields *f)
{
    int32_t width = (int32_t)(t->head_dim * t->rope.partial_rotary_factor);
    if (width < 2 || width % 2) {
        return sight_fail(SIGHT_E_MODEL,
                          "%s: partial_rotary_factor %g of head_dim %d rotates %d components, an "
                          "even number is needed",
                          f->what, t->rope.partial_rotary_factor, t->head_dim, width);
    }
    return SIGHT_OK;
}

sight_err config_read_rope(text_config *out, const json_fields *text, model_family family)
{
    static const rope_config qwen3_5 = {.partial_rotary_factor = 0.25,
                                        .mrope_section = {11, 11, 10}};
    static const rope_config qwen3_vl = {.partial_rotary_factor = 1,
                                         .mrope_section = {24, 20, 20}};
    rope_config *r = &out->rope;
    *r = family == MODEL_QWEN3_5 ? qwen3_5 : qwen3_vl;
    r->theta = default_theta(family);
    r->factor = 1;
    r->truncate = true;

    json_fields f;
    sight_err err = config_sub(text, &f, "rope_scaling", "config.json: rope_scaling");
    if (!err && json_object_size(f.object) == 0) {
        err = config_sub(text, &f, "rope_parameters", "config.json: rope_parameters");
    }
    if (!err) err = refuse_variants(&f);
    if (!err) err = read_kind(r, &f);
    // Outer values first: those inside the object take their place.
    if (!err) err = json_get_double(text, &r->theta, "rope_theta", 1.0001, 1e15);
    if (!err) err = json_get_double(&f, &r->theta, "rope_theta", 1.0001, 1e15);
    const char *partial = "partial_rotary_factor";
    if (!err) err = json_get_double(text, &r->partial_rotary_factor, partial, 0, 1);
    if (!err) err = json_get_double(&f, &r->partial_rotary_factor, partial, 0, 1);
    if (!err && family == MODEL_QWEN3_VL && r->partial_rotary_factor < 1) {
        err = sight_fail(SIGHT_E_UNSUPPORTED,
                         "%s: partial_rotary_factor %g is not supported for qwen3_vl", f.what,
                         r->partial_rotary_factor);
    }
    if (!err && r->yarn) err = read_yarn(r, &f, text, out->max_positions);
    if (!err) err = check_rotated_width(out, &f);
    if (!err) err = read_section(r, &f);
    // What YaRN stretches to counts as context where the file still gives the length before it.
    double stretched = r->factor * r->original_max_positions;
    if (!err && r->yarn && stretched > (double)out->max_positions) {
        out->max_positions = stretched < INT32_MAX ? (int64_t)stretched : INT32_MAX;
    }
    return err;
}

// ---- a longer context than the file's, for one load ----

// The factors that the model cards advise: 2 for twice the native length, 4 up to a million tokens.
static double advised_factor(int64_t context, int64_t native)
{
    return context <= 2 * native ? 2 : 4;
}

sight_err config_stretch(text_config *t, int64_t context, double factor)
{
    const int64_t native = t->max_positions;
    if (t->rope.yarn) {
        if (factor == 0 && context <= native) return SIGHT_OK;
        return sight_fail(SIGHT_E_ARGUMENT,
                          "the checkpoint has a rope factor of its own (%g), which gives %lld "
                          "tokens of context at most", t->rope.factor, (long long)native);
    }
    if (factor == 0 && context <= native) return SIGHT_OK;
    if (factor == 0) factor = advised_factor(context, native);
    if (!(factor > 1 && factor <= CONFIG_MAX_ROPE_FACTOR)) {
        return sight_fail(SIGHT_E_ARGUMENT, "the rope factor is %g, must be over 1, up to %d",
                          factor, CONFIG_MAX_ROPE_FACTOR);
    }
    const double stretched = floor(factor * (double)native);
    if (stretched > INT32_MAX || (double)context > stretched) {
        return sight_fail(SIGHT_E_ARGUMENT,
                          "context is %lld, must be 1 to %.0f tokens: the model's %lld times %g",
                          (long long)context, stretched, (long long)native, factor);
    }
    rope_config *r = &t->rope;
    r->yarn = true;
    r->factor = factor;
    r->beta_fast = 32;
    r->beta_slow = 1;
    r->attention_factor = r->mscale = r->mscale_all_dim = 0;
    r->truncate = true;
    r->original_max_positions = (double)native;
    t->max_positions = (int64_t)stretched;
    return SIGHT_OK;
}
