#include "checkpoint/form.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NAME 256

static const char *const suffixes[PART_COUNT] = {
    [PART_WEIGHT] = ".weight",
    [PART_PACKED] = ".weight_packed",
    [PART_SCALE] = ".weight_scale",
    [PART_SCALE_INV] = ".weight_scale_inv",
    [PART_SCALE_2] = ".weight_scale_2",
    [PART_GLOBAL_SCALE] = ".weight_global_scale",
    [PART_ZERO_POINT] = ".weight_zero_point",
    [PART_SHAPE] = ".weight_shape",
    [PART_WEIGHT_G_IDX] = ".weight_g_idx",
    [PART_QWEIGHT] = ".qweight",
    [PART_QZEROS] = ".qzeros",
    [PART_SCALES] = ".scales",
    [PART_G_IDX] = ".g_idx",
};

// Of activations, whose scales are found as they come, and of the KV cache, which is computed without them.
static const char *const of_inputs[] = {".input_scale", ".input_global_scale", ".input_zero_point",
                                        ".output_scale", ".output_zero_point"};
static const char *const of_cache[] = {".k_scale",      ".v_scale",      ".q_scale",     ".prob_scale",
                                       ".k_zero_point", ".v_zero_point", ".kv_scale"};

static bool is_plain(const weight *w)
{
    const tensor_type t = w->view.type;
    return w->has_view && strcmp(w->dtype, "F8_E4M3") &&
           (t == TENSOR_BF16 || t == TENSOR_F16 || t == TENSOR_F32);
}

// ---- one matrix ----

static bool gather(form_source *s, const checkpoint *c, const expected *e, const char *module)
{
    char name[MAX_NAME];
    bool quantised = false;
    *s = (form_source){.module = module, .M = e->shape[0], .K = e->shape[1], .config = c->quant};
    for (int i = 0; i < PART_COUNT; i++) {
        snprintf(name, sizeof name, "%s%s", module, suffixes[i]);
        s->parts[i] = checkpoint_find_weight(c, name);
        if (!s->parts[i]) continue;
        s->path = s->parts[i]->path;
        if (i != PART_WEIGHT || !is_plain(s->parts[i])) quantised = true;
    }
    return quantised;
}

static sight_err find_scheme(form_source *s)
{
    bool ignored;
    s->scheme = quant_config_scheme(s->config, s->module, &ignored);
    if (s->scheme) return SIGHT_OK;
    return sight_fail(SIGHT_E_MODEL,
                      "'%s': matrix '%s' is quantised, but config.json's quantization_config %s", s->path,
                      s->module, ignored ? "lists it under 'ignore'" : "has no group that targets it");
}

static sight_err read_compressed(form_matrix *f, form_source *s)
{
    switch (s->scheme->kind) {
    case QUANT_F8: return form_fp8(f, s);
    case QUANT_NVFP4:
    case QUANT_MXFP4: return form_nvfp4(f, s);
    case QUANT_I8:
    case QUANT_INT: break;
    }
    return form_packed_int(f, s);
}

static sight_err read_matrix(form_matrix *f, form_source *s)
{
    sight_err err = find_scheme(s);
    if (err) return err;
    switch (quant_config_method(s->config)) {
    case QUANT_COMPRESSED: return read_compressed(f, s);
    case QUANT_FP8: return form_fp8(f, s);
    case QUANT_MODELOPT: return form_has(s, PART_SCALE_2) ? form_nvfp4(f, s) : form_fp8(f, s);
    case QUANT_AWQ: return form_awq(f, s);
    case QUANT_GPTQ: break;
    }
    return form_gptq(f, s);
}

// The parts that were taken become one weight, in the place of the first of them. The others lose
// their names, and go with the next sweep.
static sight_err replace_parts(form_matrix *f, form_source *s, const expected *e)
{
    weight *first = NULL;
    for (int i = 0; i < PART_COUNT; i++) {
        weight *w = s->used & 1u << i ? s->parts[i] : NULL;
        if (!w) continue;
        f->s.bytes += (size_t)tensor_count(&w->view) * tensor_type_bytes(w->view.type);
        if (!first) first = w;
        else w->dropped = true;
    }
    char *name = strdup(e->name);
    if (!name) return sight_fail(SIGHT_E_MEMORY, "no memory for the tensors of '%s'", s->path);
    free(first->name);
    first->name = name;
    first->dtype = f->form;
    first->has_view = true;
    first->view = (tensor_view){NULL, TENSOR_F32, 2, {s->M, s->K}};
    first->stored = &f->s;
    f->s.name = name;
    f->s.path = first->path;
    f->s.form = f->form;
    f->s.M = s->M;
    f->s.K = s->K;
    return SIGHT_OK;
}

static sight_err check_format(const form_matrix *f, const form_source *s)
{
    const char *why;
    if (packed_format_check(&f->s.format, &why)) return SIGHT_OK;
    return form_fail(s, SIGHT_E_UNSUPPORTED, "is not supported (%s)", why);
}

// ---- all of them ----

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

// Position tables are read number by number and are never quantised.
static bool is_matrix(const expected *e)
{
    return e->n_dims == 2 && ends_with(e->name, ".weight") && !ends_with(e->name, "pos_embed.weight");
}

static sight_err apply_one(checkpoint *c, const expected *e, form_matrix *f)
{
    char module[MAX_NAME];
    form_source s;
    snprintf(module, sizeof module, "%.*s", (int)(strlen(e->name) - strlen(".weight")), e->name);
    if (!gather(&s, c, e, module)) return SIGHT_OK;
    sight_err err = read_matrix(f, &s);
    if (!err) err = check_format(f, &s);
    if (!err) err = replace_parts(f, &s, e);
    return err;
}

static bool has_suffix(const char *name, const char *const *list, size_t n, size_t *base)
{
    for (size_t i = 0; i < n; i++) {
        *base = strlen(name) - strlen(list[i]);
        if (ends_with(name, list[i])) return true;
    }
    return false;
}

// Whether a tensor says how to quantise what is computed here in another way.
static bool is_extra(const checkpoint *c, const weight *w)
{
    char module[MAX_NAME];
    size_t n;
    if (has_suffix(w->name, of_cache, sizeof of_cache / sizeof *of_cache, &n)) {
        snprintf(module, sizeof module, "%.*s", (int)n, w->name);
        return ends_with(module, ".self_attn") || ends_with(module, ".k_proj") ||
               ends_with(module, ".v_proj");
    }
    if (!has_suffix(w->name, of_inputs, sizeof of_inputs / sizeof *of_inputs, &n)) return false;
    snprintf(module, sizeof module, "%.*s.weight", (int)n, w->name);
    const weight *of = checkpoint_find_weight(c, module);
    return of && of->stored;
}

static sight_err check_smoothing(const weight *w)
{
    if (!ends_with(w->name, ".pre_quant_scale")) return SIGHT_OK;
    return sight_fail(SIGHT_E_UNSUPPORTED,
                      "'%s': tensor '%s': scales of inputs before a product are not supported", w->path,
                      w->name);
}

static void sweep(checkpoint *c)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (c->weights[i].dropped) free(c->weights[i].name);
        else c->weights[kept++] = c->weights[i];
    }
    c->n = kept;
    checkpoint_finish(c);
}

sight_err forms_apply(checkpoint *c, const expect_list *list)
{
    if (!c->quant) return SIGHT_OK;
    c->forms = calloc(list->n + 1, sizeof *c->forms);
    if (!c->forms) return sight_fail(SIGHT_E_MEMORY, "no memory for the tensors of '%s'", c->dir);
    for (size_t i = 0; i < list->n; i++) {
        if (!is_matrix(&list->items[i])) continue;
        sight_err err = apply_one(c, &list->items[i], &c->forms[c->n_forms]);
        if (err) return err;
        if (c->forms[c->n_forms].s.read) c->n_forms++;
    }
    sweep(c);
    for (size_t i = 0; i < c->n; i++) {
        sight_err err = check_smoothing(&c->weights[i]);
        if (err) return err;
        c->weights[i].dropped = is_extra(c, &c->weights[i]);
    }
    sweep(c);
    return SIGHT_OK;
}

void forms_free(checkpoint *c)
{
    free(c->forms);
    quant_config_free(&c->quant);
}
