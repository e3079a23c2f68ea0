#include "checkpoint/quant_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/file.h"
#include "checkpoint/quant_parts.h"

#define MAX_FILE_BYTES ((size_t)16 << 20)
#define MAX_GROUP      (1 << 20)

static sight_err refuse(const json_fields *f, const char *key, const char *value)
{
    return sight_fail(SIGHT_E_UNSUPPORTED, "%s: %s '%s' is not supported", f->what, key, value);
}

static bool is_one_of(const char *text, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcasecmp(text, list[i]) == 0) return true;
    }
    return false;
}

#define ONE_OF(text, ...)                                                                          \
    is_one_of(text, (const char *const[]){__VA_ARGS__},                                            \
              sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static bool not_empty(const json_t *v)
{
    return json_object_size(v) > 0 || json_array_size(v) > 0;
}

// Bits of a code, and inputs per scale (-1: a row has one).
static sight_err read_bits_and_group(quant_scheme *s, const json_fields *f, const char *bits_key,
                                     const char *group_key)
{
    int32_t group = -1;
    sight_err err = json_need(f, bits_key);
    if (!err) err = json_get_int32(f, &s->bits, bits_key, 1, 32);
    if (!err) err = json_get_int32(f, &group, group_key, -1, MAX_GROUP);
    if (err) return err;
    if (group == 0) return sight_fail(f->code, "%s: '%s' must not be 0", f->what, group_key);
    s->group = group < 0 ? 0 : group;
    s->rows = 1;
    s->kind = QUANT_INT;
    return SIGHT_OK;
}

// ---- one method after the other ----

// Hugging Face transformers, integrations/finegrained_fp8.py: w = weight * weight_scale_inv, by blocks. Activations
// are E4M3 always ("dynamic", in groups of 128, unless the file has their scales: "static").
static sight_err read_fp8(quant_config *c, const json_fields *f)
{
    const char *fmt = "e4m3";
    sight_err err = json_get_string(f, &fmt, "fmt");
    if (!err && !ONE_OF(fmt, "e4m3", "float8_e4m3fn")) err = refuse(f, "fmt", fmt);
    if (err) return err;
    const json_t *block = json_object_get(f->object, "weight_block_size");
    c->method = QUANT_FP8;
    c->scheme = (quant_scheme){QUANT_F8, 8, -1, -1, true, true};
    if (!block || json_is_null(block)) return SIGHT_OK;
    for (size_t i = 0; i < 2; i++) {
        const json_t *side = json_array_get(block, i);
        if (json_array_size(block) == 2 && json_is_integer(side) && json_integer_value(side) > 0 &&
            json_integer_value(side) <= MAX_GROUP) {
            continue;
        }
        return sight_fail(f->code, "%s: 'weight_block_size' must be two whole numbers", f->what);
    }
    c->scheme.rows = (int32_t)json_integer_value(json_array_get(block, 0));
    c->scheme.group = (int32_t)json_integer_value(json_array_get(block, 1));
    return SIGHT_OK;
}

// Model Optimizer's export (modelopt/torch/export/convert_hf_config.py): one algorithm, or one per layer.
static sight_err check_algorithm(quant_config *c, const json_fields *f, const char *name)
{
    if (ONE_OF(name, "FP8_PB_WO")) c->scheme.f8_inputs = false; // weights alone
    if (ONE_OF(name, "NVFP4", "W4A16_NVFP4", "FP8", "FP8_PER_CHANNEL_PER_TOKEN", "FP8_PB_WO", "NONE")) {
        return SIGHT_OK;
    }
    return refuse(f, "quant_algo", name);
}

static sight_err read_modelopt(quant_config *c, const json_fields *f)
{
    const char *algorithm = "NONE";
    sight_err err = json_get_string(f, &algorithm, "quant_algo");
    c->method = QUANT_MODELOPT;
    c->scheme = (quant_scheme){QUANT_F8, 8, -1, -1, true, true};
    c->overrides = true;
    if (err) return err;
    if (strcasecmp(algorithm, "MIXED_PRECISION")) return check_algorithm(c, f, algorithm);
    const char *layer;
    json_t *v;
    json_object_foreach(json_object_get(f->object, "quantized_layers"), layer, v) {
        const char *name = json_string_value(json_object_get(v, "quant_algo"));
        if (!name) {
            return sight_fail(f->code, "%s: quantized_layers: '%.200s' has no quant_algo", f->what,
                              layer);
        }
        err = check_algorithm(c, f, name);
        if (err) return err;
    }
    return SIGHT_OK;
}

// AutoAWQ (awq/modules/linear/gemm.py); "w_bit" and the like are its older names.
static sight_err read_awq(quant_config *c, const json_fields *f)
{
    const char *version = "gemm";
    bool zero_point = true;
    const bool old = !json_object_get(f->object, "bits");
    sight_err err = json_get_string(f, &version, "version");
    if (!err && !ONE_OF(version, "gemm")) err = refuse(f, "version", version);
    if (!err) err = json_get_bool(f, &zero_point, "zero_point");
    if (!err) {
        err = read_bits_and_group(&c->scheme, f, old ? "w_bit" : "bits",
                                  old ? "q_group_size" : "group_size");
    }
    if (err) return err;
    c->method = QUANT_AWQ;
    c->scheme.symmetric = !zero_point;
    if (c->scheme.bits == 4) return SIGHT_OK;
    return sight_fail(SIGHT_E_UNSUPPORTED, "%s: awq in %d bits is not supported, only in 4", f->what,
                      c->scheme.bits);
}

static sight_err check_gptq_bits(const quant_config *c, const json_fields *f)
{
    if (c->scheme.bits == 4 || c->scheme.bits == 8) return SIGHT_OK;
    return sight_fail(SIGHT_E_UNSUPPORTED, "%s: %s in %d bits is not supported, only in 4 and 8",
                      f->what, c->name, c->scheme.bits);
}

// AutoGPTQ (auto_gptq/nn_modules/qlinear) and GPTQModel: "gptq" keeps zero points less one,
// "gptq_v2" as they are.
static sight_err read_gptq(quant_config *c, const json_fields *f)
{
    const char *format = "gptq", *word = "int32";
    sight_err err = json_get_string(f, &format, "format");
    if (!err) err = json_get_string(f, &format, "checkpoint_format");
    if (!err && !*format) format = "gptq";
    if (!err && !ONE_OF(format, "gptq", "gptq_v2")) err = refuse(f, "checkpoint_format", format);
    if (!err) err = json_get_string(f, &word, "pack_dtype");
    if (!err && !ONE_OF(word, "int32")) err = refuse(f, "pack_dtype", word);
    if (!err) err = read_bits_and_group(&c->scheme, f, "bits", "group_size");
    if (!err) err = json_get_bool(f, &c->scheme.symmetric, "sym");
    if (!err) err = check_gptq_bits(c, f);
    c->method = QUANT_GPTQ;
    c->less_one = strcasecmp(format, "gptq") == 0;
    c->overrides = not_empty(json_object_get(f->object, "dynamic"));
    return err;
}

// AutoRound (auto_round/inference/backend.py): the layouts of the two above.
static sight_err read_auto_round(quant_config *c, const json_fields *f)
{
    const char *packing = "without a name", *type = "int";
    int32_t act_bits = 16;
    sight_err err = json_get_string(f, &packing, "packing_format");
    if (!err) err = json_get_string(f, &type, "data_type");
    if (!err) err = json_get_int32(f, &act_bits, "act_bits", 1, 64);
    if (!err && !ONE_OF(type, "int", "int_sym", "int_asym")) err = refuse(f, "data_type", type);
    if (!err && not_empty(json_object_get(f->object, "rotation_config"))) {
        err = refuse(f, "auto-round", "rotation_config");
    }
    if (!err) err = read_bits_and_group(&c->scheme, f, "bits", "group_size");
    if (!err) err = json_get_bool(f, &c->scheme.symmetric, "sym");
    if (err) return err;
    c->overrides = not_empty(json_object_get(f->object, "extra_config"));
    if (ONE_OF(packing, "auto_round:auto_awq")) {
        c->method = QUANT_AWQ;
        if (c->scheme.bits == 4) return SIGHT_OK;
        return refuse(f, "packing_format", "auto_round:auto_awq in other than 4 bits");
    }
    c->method = QUANT_GPTQ;
    c->less_one = ONE_OF(packing, "auto_round:auto_gptq");
    if (!c->less_one && !ONE_OF(packing, "auto_round", "auto_round:gptqmodel")) {
        return refuse(f, "packing_format", packing);
    }
    return check_gptq_bits(c, f);
}

static sight_err read_method(quant_config *c, const json_fields *f)
{
    const char *method = "without a name";
    sight_err err = json_get_string(f, &method, "quant_method");
    if (err) return err;
    snprintf(c->name, sizeof c->name, "%s", method);
    if (ONE_OF(method, "compressed-tensors")) return quant_read_groups(c, f);
    if (ONE_OF(method, "fp8", "fbgemm_fp8")) return read_fp8(c, f);
    if (ONE_OF(method, "modelopt", "modelopt_fp4", "modelopt_mixed")) return read_modelopt(c, f);
    if (ONE_OF(method, "awq")) return read_awq(c, f);
    if (ONE_OF(method, "gptq")) return read_gptq(c, f);
    if (ONE_OF(method, "auto-round", "auto_round")) return read_auto_round(c, f);
    return sight_fail(SIGHT_E_UNSUPPORTED,
                      "%s: quant_method '%.100s' is not supported; there are compressed-tensors, fp8, "
                      "modelopt, awq, gptq and auto-round",
                      f->what, method);
}

// ---- finding it ----

// config.json's own object, or the one of its text part; NULL when neither is there.
static const json_t *find_object(const json_t *config, const char **what)
{
    static const char *const keys[] = {"quantization_config", "compression_config"};
    static const char *const names[2][2] = {
        {"config.json: quantization_config", "config.json: compression_config"},
        {"config.json: text_config: quantization_config",
         "config.json: text_config: compression_config"}};
    for (int inner = 0; inner < 2; inner++) {
        const json_t *from = inner ? json_object_get(config, "text_config") : config;
        for (int i = 0; i < 2; i++) {
            const json_t *v = json_object_get(from, keys[i]);
            *what = names[inner][i];
            if (v && !json_is_null(v)) return v;
        }
    }
    return NULL;
}

static sight_err read_object(quant_config **out, const json_t *object, const char *what)
{
    const json_fields f = {object, what, SIGHT_E_MODEL};
    if (!json_is_object(object)) return sight_fail(SIGHT_E_MODEL, "%s must be an object", what);
    quant_config *c = calloc(1, sizeof *c);
    if (!c) return sight_fail(SIGHT_E_MEMORY, "no memory for %s", what);
    sight_err err = read_method(c, &f);
    if (err) quant_config_free(&c);
    else *out = c;
    return err;
}

static sight_err read_hf(quant_config **out, const char *hf, size_t n)
{
    static const char name[] = "hf_quant_config.json";
    json_t *whole = NULL;
    sight_err err = json_parse(&whole, hf, n, MAX_FILE_BYTES, name, SIGHT_E_MODEL);
    if (err) return err;
    const json_t *object = json_object_get(whole, "quantization");
    const json_fields f = {object, "hf_quant_config.json: quantization", SIGHT_E_MODEL};
    quant_config *c = calloc(1, sizeof *c);
    if (!json_is_object(object)) err = sight_fail(SIGHT_E_MODEL, "%s has no 'quantization'", name);
    else if (!c) err = sight_fail(SIGHT_E_MEMORY, "no memory for %s", name);
    else err = read_modelopt(c, &f);
    if (c) snprintf(c->name, sizeof c->name, "modelopt");
    if (err) quant_config_free(&c);
    else *out = c;
    json_decref(whole);
    return err;
}

sight_err quant_config_parse(quant_config **out, const char *config, size_t n, const char *hf,
                             size_t n_hf)
{
    json_t *whole = NULL;
    const char *what;
    sight_err err = json_parse(&whole, config, n, MAX_FILE_BYTES, "config.json", SIGHT_E_MODEL);
    if (err) return err;
    const json_t *object = find_object(whole, &what);
    quant_config *c = NULL;
    if (object) err = read_object(&c, object, what);
    else if (hf) err = read_hf(&c, hf, n_hf);
    json_decref(whole);
    if (!err) *out = c;
    return err;
}

// A missing file leaves *text NULL.
static sight_err read_file(char **text, size_t *n, const char *dir, const char *name)
{
    buf path;
    buf_init(&path);
    buf_printf(&path, "%s/%s", dir, name);
    sight_err err = buf_failed(&path) ? sight_fail(SIGHT_E_MEMORY, "no memory for a path")
                                      : file_read(text, n, buf_text(&path), MAX_FILE_BYTES);
    buf_done(&path);
    return err == SIGHT_E_NOT_FOUND ? SIGHT_OK : err;
}

sight_err quant_config_load(quant_config **out, const char *dir)
{
    char *config = NULL, *hf = NULL;
    size_t n = 0, n_hf = 0;
    sight_err err = read_file(&config, &n, dir, "config.json");
    if (!err) err = read_file(&hf, &n_hf, dir, "hf_quant_config.json");
    if (!err && config) {
        err = quant_config_parse(out, config, n, hf, n_hf);
        if (err) err = sight_fail_in(err, "'%s'", dir);
    }
    free(config);
    free(hf);
    return err;
}

void quant_config_free(quant_config **at)
{
    if (!at || !*at) return;
    quant_config *c = *at;
    for (size_t i = 0; i < c->n_groups; i++) quant_patterns_destroy(&c->groups[i].targets);
    free(c->groups);
    quant_patterns_destroy(&c->ignore);
    free(c);
    *at = NULL;
}

// ---- asking it ----

quant_method quant_config_method(const quant_config *c)
{
    return c->method;
}

const char *quant_config_name(const quant_config *c)
{
    return c->name;
}

const quant_scheme *quant_config_scheme(const quant_config *c, const char *module, bool *ignored)
{
    *ignored = false;
    if (c->method != QUANT_COMPRESSED) return &c->scheme;
    if (quant_patterns_match(c->ignore, module)) {
        *ignored = true;
        return NULL;
    }
    const quant_scheme *best = NULL;
    quant_match closest = QUANT_NO_MATCH;
    for (size_t i = 0; i < c->n_groups; i++) {
        const quant_match m = quant_patterns_match(c->groups[i].targets, module);
        if (m <= closest) continue;
        closest = m;
        best = &c->groups[i].scheme;
    }
    return best;
}

bool quant_config_overrides(const quant_config *c)
{
    return c->overrides;
}

bool quant_config_zeros_less_one(const quant_config *c)
{
    return c->less_one;
}
