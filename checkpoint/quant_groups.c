// The groups of a compressed-tensors config (compressed_tensors/quantization/quant_config.py, quant_args.py).
#include <stdlib.h>
#include <string.h>

#include "checkpoint/quant_parts.h"

#define MAX_GROUPS 4096
#define MAX_WHAT   256

// One group's `weights`, with the name of its format.
typedef struct weight_args {
    const char *type, *strategy, *format;
    int32_t bits, group;
    bool symmetric;
    const json_t *block;
} weight_args;

static sight_err refuse(const json_fields *f, const char *key, const char *value)
{
    return sight_fail(SIGHT_E_UNSUPPORTED, "%s: %s '%s' is not supported", f->what, key, value);
}

// Dynamic ("group") reordering gives every input its own group: packed matrices have none such.
static sight_err check_order(const json_fields *f)
{
    const json_t *order = json_object_get(f->object, "actorder");
    const char *name = json_string_value(order);
    if (json_is_true(order) || (name && (strcmp(name, "group") == 0 || strcmp(name, "dynamic") == 0))) {
        return refuse(f, "actorder", "group");
    }
    return SIGHT_OK;
}

static sight_err read_args(weight_args *a, const json_fields *f)
{
    a->type = "int";
    a->strategy = NULL;
    a->bits = 8;
    a->group = -1;
    a->symmetric = true;
    sight_err err = json_get_string(f, &a->type, "type");
    if (!err) err = json_get_string(f, &a->strategy, "strategy");
    if (!err) err = json_get_int32(f, &a->bits, "num_bits", 1, 32);
    if (!err) err = json_get_int32(f, &a->group, "group_size", -1, 1 << 20);
    if (!err) err = json_get_bool(f, &a->symmetric, "symmetric");
    if (!err) err = check_order(f);
    if (err) return err;
    a->block = json_object_get(f->object, "block_structure");
    if (!a->strategy) a->strategy = a->group > 0 ? "group" : a->group < 0 ? "channel" : "tensor";
    return SIGHT_OK;
}

// Blocks are a list of two numbers, or "128x128" in older files.
static bool read_block(const weight_args *a, int32_t *rows, int32_t *group)
{
    long long m = 0, k = 0;
    if (json_is_string(a->block)) {
        char *end;
        m = strtoll(json_string_value(a->block), &end, 10);
        k = *end == 'x' ? strtoll(end + 1, &end, 10) : 0;
        if (*end) return false;
    } else if (json_array_size(a->block) == 2) {
        m = json_integer_value(json_array_get(a->block, 0));
        k = json_integer_value(json_array_get(a->block, 1));
    }
    if (m < 1 || k < 1 || m > 1 << 20 || k > 1 << 20) return false;
    *rows = (int32_t)m;
    *group = (int32_t)k;
    return true;
}

static sight_err read_strategy(quant_scheme *s, const weight_args *a, const json_fields *f)
{
    s->rows = 1;
    s->group = 0;
    if (strcmp(a->strategy, "tensor") == 0) {
        s->rows = 0;
    } else if (strcmp(a->strategy, "group") == 0 || strcmp(a->strategy, "tensor_group") == 0) {
        if (a->group < 1) {
            return sight_fail(f->code, "%s: strategy '%s' needs a group_size", f->what, a->strategy);
        }
        s->group = a->group;
    } else if (strcmp(a->strategy, "block") == 0) {
        if (!read_block(a, &s->rows, &s->group)) {
            return sight_fail(f->code, "%s: block_structure must be two whole numbers", f->what);
        }
    } else if (strcmp(a->strategy, "channel")) {
        return refuse(f, "strategy", a->strategy);
    }
    return SIGHT_OK;
}

// The kind of codes, from the format's name or, where that is "mixed-precision" or not given, from
// the numbers, as compressed-tensors itself does.
static sight_err read_kind(quant_scheme *s, const weight_args *a, const json_fields *f)
{
    const bool is_float = strcmp(a->type, "float") == 0;
    const char *name = a->format;
    if (!name || strcmp(name, "mixed-precision") == 0) {
        name = is_float && a->bits == 4 ? (a->group == 32 ? "mxfp4-pack-quantized"
                                                          : "nvfp4-pack-quantized")
               : is_float               ? "float-quantized"
               : a->bits == 4           ? "pack-quantized"
                                        : "int-quantized";
    }
    s->bits = a->bits;
    s->symmetric = a->symmetric;
    if (strcmp(name, "nvfp4-pack-quantized") == 0 && is_float && a->bits == 4 && a->group == 16) {
        s->kind = QUANT_NVFP4;
    } else if (strcmp(name, "mxfp4-pack-quantized") == 0 && is_float && a->bits == 4 && a->group == 32) {
        s->kind = QUANT_MXFP4;
    } else if (strcmp(name, "pack-quantized") == 0 && !is_float && (a->bits == 4 || a->bits == 8)) {
        s->kind = QUANT_INT;
    } else if (strcmp(name, "int-quantized") == 0 && !is_float && a->bits == 8) {
        s->kind = QUANT_I8;
    } else if (strcmp(name, "float-quantized") == 0 && is_float && a->bits == 8) {
        s->kind = QUANT_F8;
    } else if (strcmp(name, "naive-quantized") == 0 && a->bits == 8) {
        s->kind = is_float ? QUANT_F8 : QUANT_I8;
    } else {
        return sight_fail(SIGHT_E_UNSUPPORTED,
                          "%s: format '%s' with %d-bit %s weights in groups of %d is not supported",
                          f->what, name, a->bits, a->type, a->group);
    }
    if (is_float && !a->symmetric) return refuse(f, "type 'float' with symmetric", "false");
    return SIGHT_OK;
}

static bool is_f8(const json_t *args)
{
    const char *type = json_string_value(json_object_get(args, "type"));
    return type && strcmp(type, "float") == 0 && json_integer_value(json_object_get(args, "num_bits")) == 8;
}

// A group without weights (of the KV cache, of activations alone) is passed over.
static sight_err read_group(quant_config *c, const json_fields *outer, const char *name,
                            const json_t *group, const char *format)
{
    char what[MAX_WHAT];
    snprintf(what, sizeof what, "%s: %.60s", outer->what, name);
    const json_t *weights = json_object_get(group, "weights");
    const json_fields whole = {group, what, outer->code}, f = {weights, what, outer->code};
    if (!json_is_object(group)) return sight_fail(f.code, "%s must be an object", what);
    if (!weights || json_is_null(weights)) return SIGHT_OK;
    if (!json_is_object(weights)) return sight_fail(f.code, "%s: weights must be an object", what);
    weight_args a = {.format = format};
    quant_group *g = &c->groups[c->n_groups++];
    sight_err err = json_get_string(&whole, &a.format, "format");
    if (!err) err = read_args(&a, &f);
    if (!err) err = read_strategy(&g->scheme, &a, &f);
    if (!err) err = read_kind(&g->scheme, &a, &f);
    if (err) return err;
    g->scheme.f8_inputs = g->scheme.kind == QUANT_F8 && is_f8(json_object_get(group, "input_activations"));
    return quant_patterns_create(&g->targets, json_object_get(group, "targets"), what, "targets");
}

// What stands beside the groups and would change the arithmetic.
static sight_err check_rest(const json_fields *f)
{
    const char *status = "compressed", *sparse = "dense";
    sight_err err = json_get_string(f, &status, "quantization_status");
    if (!err && strcmp(status, "compressed")) err = refuse(f, "quantization_status", status);
    const json_t *sparsity = json_object_get(f->object, "sparsity_config");
    const json_t *transform = json_object_get(json_object_get(f->object, "transform_config"),
                                              "config_groups");
    if (json_is_object(sparsity)) {
        const json_fields s = {sparsity, f->what, f->code};
        if (!err) err = json_get_string(&s, &sparse, "format");
        if (!err && strcmp(sparse, "dense")) err = refuse(f, "sparsity_config", sparse);
    }
    if (!err && json_object_size(transform) > 0) {
        err = refuse(f, "transform_config", json_object_iter_key(json_object_iter((json_t *)transform)));
    }
    return err;
}

sight_err quant_read_groups(quant_config *c, const json_fields *f)
{
    const char *format = NULL, *name;
    json_t *group, *groups = json_object_get(f->object, "config_groups");
    c->method = QUANT_COMPRESSED;
    sight_err err = json_get_string(f, &format, "format");
    if (!err) err = check_rest(f);
    if (err) return err;
    if (json_object_size(groups) == 0 || json_object_size(groups) > MAX_GROUPS) {
        return sight_fail(f->code, "%s: 'config_groups' must be an object of 1 to %d groups", f->what,
                          MAX_GROUPS);
    }
    c->groups = calloc(json_object_size(groups), sizeof *c->groups);
    if (!c->groups) return sight_fail(SIGHT_E_MEMORY, "no memory for %s", f->what);
    json_object_foreach(groups, name, group) {
        err = read_group(c, f, name, group, format);
        if (err) return err;
    }
    return quant_patterns_create(&c->ignore, json_object_get(f->object, "ignore"), f->what, "ignore");
}
