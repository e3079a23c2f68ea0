// adapter_config.json (PEFT, peft/tuners/lora/config.py): what changes the arithmetic is used or refused.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "checkpoint/lora_parts.h"
#include "checkpoint/quant_pattern.h"

#define MAX_FILE_BYTES ((size_t)16 << 20)
#define MAX_RANK       (1 << 16)
#define MAX_PATTERNS   65536

// Another rank or alpha for the modules that a pattern meets.
typedef struct exception {
    quant_patterns *modules;
    double value;
} exception;

struct lora_config {
    int32_t r;
    double alpha;
    bool by_root; // rsLoRA: alpha / sqrt(r)
    exception *ranks, *alphas;
    size_t n_ranks, n_alphas;
};

static sight_err refuse(const json_fields *f, const char *key, const char *value)
{
    return sight_fail(SIGHT_E_UNSUPPORTED, "%s: %s %s is not supported", f->what, key, value);
}

static bool is_set(const json_t *v)
{
    if (!v || json_is_null(v) || json_is_false(v)) return false;
    return !(json_is_array(v) && json_array_size(v) == 0) &&
           !(json_is_object(v) && json_object_size(v) == 0);
}

// Variants that compute something else than scale B A x, or on other base weights.
static sight_err check_variants(const json_fields *f)
{
    static const char *const keys[] = {
        "use_dora",        "modules_to_save",   "fan_in_fan_out",    "lora_bias",
        "use_qalora",      "layer_replication", "target_parameters", "trainable_token_indices",
        "use_bdlora",      "arrow_config",      "kasa_config",       "monteclora_config",
        "velora_config",   "alora_invocation_tokens"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (is_set(json_object_get(f->object, keys[i]))) return refuse(f, keys[i], "(set)");
    }
    return SIGHT_OK;
}

// Some ways to begin training change the base weights too; adapters of them need those.
static sight_err check_beginning(const json_fields *f)
{
    static const char *const plain[] = {"gaussian", "eva", "loftq", "orthogonal"};
    const json_t *v = json_object_get(f->object, "init_lora_weights");
    const char *name = json_string_value(v);
    for (size_t i = 0; name && i < sizeof plain / sizeof *plain; i++) {
        if (strcmp(name, plain[i]) == 0) return SIGHT_OK;
    }
    return name ? refuse(f, "init_lora_weights", name) : SIGHT_OK;
}

// PEFT matches "(.*\.)?(KEY)$" from the start of a module's name (utils/other.py, get_pattern_key).
static sight_err read_exception(exception *e, const char *key, const json_t *v, const json_fields *f,
                                const char *list_key)
{
    char regex[1024];
    if (!json_is_number(v) || !(json_number_value(v) > 0) || strlen(key) > sizeof regex - 32) {
        return sight_fail(f->code, "%s: %s: '%.100s' must have a number over 0", f->what, list_key, key);
    }
    snprintf(regex, sizeof regex, "re:(.*\\.)?(%s)$", key);
    json_t *list = json_pack("[s]", regex);
    if (!list) return sight_fail(f->code, "%s: %s: '%.100s' is no name", f->what, list_key, key);
    e->value = json_number_value(v);
    sight_err err = quant_patterns_create(&e->modules, list, f->what, list_key);
    json_decref(list);
    return err;
}

static sight_err read_exceptions(exception **out, size_t *n, const json_fields *f, const char *key)
{
    json_t *object = json_object_get(f->object, key), *v;
    const char *name;
    if (!object || json_is_null(object)) return SIGHT_OK;
    if (!json_is_object(object) || json_object_size(object) > MAX_PATTERNS) {
        return sight_fail(f->code, "%s: '%s' must be an object", f->what, key);
    }
    *out = calloc(json_object_size(object) + 1, sizeof **out);
    if (!*out) return sight_fail(SIGHT_E_MEMORY, "no memory for '%s'", f->what);
    json_object_foreach(object, name, v) {
        sight_err err = read_exception(&(*out)[(*n)++], name, v, f, key);
        if (err) return err;
    }
    return SIGHT_OK;
}

static sight_err read_all(lora_config *c, const json_fields *f)
{
    const char *type = "without a name", *bias = "none";
    c->r = 8;
    c->alpha = 8;
    sight_err err = json_get_string(f, &type, "peft_type");
    if (!err && strcmp(type, "LORA")) err = refuse(f, "peft_type", type);
    if (!err) err = json_get_string(f, &bias, "bias");
    if (!err && strcmp(bias, "none")) err = refuse(f, "bias", bias);
    if (!err) err = check_variants(f);
    if (!err) err = check_beginning(f);
    if (!err) err = json_get_int32(f, &c->r, "r", 1, MAX_RANK);
    if (!err) err = json_get_double(f, &c->alpha, "lora_alpha", -1e9, 1e9);
    if (!err) err = json_get_bool(f, &c->by_root, "use_rslora");
    if (!err) err = read_exceptions(&c->ranks, &c->n_ranks, f, "rank_pattern");
    if (!err) err = read_exceptions(&c->alphas, &c->n_alphas, f, "alpha_pattern");
    return err;
}

sight_err lora_config_parse(lora_config **out, const char *text, size_t n, const char *what)
{
    json_t *whole = NULL;
    sight_err err = json_parse(&whole, text, n, MAX_FILE_BYTES, what, SIGHT_E_MODEL);
    if (err) return err;
    const json_fields f = {whole, what, SIGHT_E_MODEL};
    lora_config *c = calloc(1, sizeof *c);
    if (!json_is_object(whole)) err = sight_fail(SIGHT_E_MODEL, "%s: not a JSON object", what);
    else if (!c) err = sight_fail(SIGHT_E_MEMORY, "no memory for '%s'", what);
    else err = read_all(c, &f);
    json_decref(whole);
    if (err) lora_config_free(&c);
    else *out = c;
    return err;
}

sight_err lora_config_load(lora_config **out, const char *path)
{
    char *text = NULL;
    size_t n;
    sight_err err = file_read(&text, &n, path, MAX_FILE_BYTES);
    if (!err) err = lora_config_parse(out, text, n, path);
    free(text);
    return err;
}

static void free_exceptions(exception *e, size_t n)
{
    for (size_t i = 0; e && i < n; i++) quant_patterns_destroy(&e[i].modules);
    free(e);
}

void lora_config_free(lora_config **at)
{
    if (!at || !*at) return;
    lora_config *c = *at;
    free_exceptions(c->ranks, c->n_ranks);
    free_exceptions(c->alphas, c->n_alphas);
    free(c);
    *at = NULL;
}

// The first pattern that meets the module counts.
static double value_of(const exception *e, size_t n, const char *module, double otherwise)
{
    for (size_t i = 0; i < n; i++) {
        if (quant_patterns_match(e[i].modules, module)) return e[i].value;
    }
    return otherwise;
}

int64_t lora_config_rank(const lora_config *c, const char *module, double *scale)
{
    const double r = floor(value_of(c->ranks, c->n_ranks, module, c->r));
    const double alpha = value_of(c->alphas, c->n_alphas, module, c->alpha);
    *scale = alpha / (c->by_root ? sqrt(r) : r);
    return r >= 1 && r <= MAX_RANK ? (int64_t)r : 0;
}
