// Weights by their published names. Matrices stay where the checkpoint maps them; norms, biases and
// other small vectors become float32. On a device all of them are copied there, one by one.
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/lora.h"
#include "kernels/memory.h"
#include "text/model_parts.h"

#define NAME_BYTES 160

// Gathers loads: the first failure stays, later ones do nothing.
typedef struct loader {
    const checkpoint *c;
    kernels *k;
    text_model *m;
    const text_config *whole; // of all ranks together
    const char *prefix;
    float norm_add; // 1 where norm weights are stored as w - 1
    sight_err err;
} loader;

// The rank's part of a matrix takes its place.
static sight_err cut(loader *l, weight *w, const char *name, split_role role)
{
    text_model *m = l->m;
    if (m->at.ranks < 2 || role == SPLIT_WHOLE) return SIGHT_OK;
    if (w->lora) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "%s has an adapter: such a model cannot be split over devices", name);
    }
    split_ranges ranges;
    void *owned, **all = realloc(m->owned, ((size_t)m->n_owned + 1) * sizeof *all);
    if (!all) return sight_fail(SIGHT_E_MEMORY, "no memory for the layers");
    m->owned = all;
    split_find(&ranges, l->whole, role, &m->at);
    sight_err err = w->packed ? split_packed(&w->packed, &owned, w->packed, role, &ranges)
                              : split_matrix(&w->w, &owned, &w->w, role, &ranges);
    if (err == SIGHT_E_UNSUPPORTED) {
        char why[200];
        snprintf(why, sizeof why, "%s", sight_error());
        return sight_fail(err, "%s: %s", name, why);
    }
    if (!err && w->packed) w->w.shape[split_by_columns(role)] = ranges.total;
    if (!err && owned) m->owned[m->n_owned++] = owned;
    return err;
}

// A device has its own copies then.
static void free_cut(text_model *m)
{
    while (m->n_owned > 0) free(m->owned[--m->n_owned]);
}

static void matrix(loader *l, weight *out, const char *name, split_role role)
{
    char full[NAME_BYTES];
    snprintf(full, sizeof full, "%s%s.weight", l->prefix, name);
    if (!l->err) l->err = checkpoint_matrix(l->c, &out->w, &out->packed, full);
    if (l->err) return;
    out->lora = lora_find(l->c, full);
    l->err = cut(l, out, full, role);
    if (!l->err) l->err = kernels_take_weight(l->k, out);
    if (l->err) *out = (weight){0}; // nothing to drop
    if (kernels_on_device(l->k)) free_cut(l->m);
}

static void vector(loader *l, float **out, const char *name, float add, split_role role)
{
    char full[NAME_BYTES];
    snprintf(full, sizeof full, "%s%s", l->prefix, name);
    tensor_view view;
    if (!l->err) l->err = checkpoint_tensor(l->c, &view, full);
    if (!l->err) l->err = checkpoint_copy_f32(l->c, out, full, add);
    if (l->err) return;
    int64_t n = tensor_count(&view);
    if (l->m->at.ranks > 1 && role != SPLIT_WHOLE) {
        split_ranges ranges;
        const int64_t width = n / view.shape[0];
        split_find(&ranges, l->whole, role, &l->m->at);
        split_floats(*out, width, &ranges);
        n = ranges.total * width;
    }
    l->err = kernels_take_floats(l->k, out, n);
    if (!l->err) return;
    free(*out);
    *out = NULL;
}

static void norm(loader *l, float **out, const char *name)
{
    vector(l, out, name, l->norm_add, SPLIT_WHOLE);
}

static void load_full(loader *l, full_part *f)
{
    matrix(l, &f->q, "self_attn.q_proj", SPLIT_Q);
    matrix(l, &f->k, "self_attn.k_proj", SPLIT_KV);
    matrix(l, &f->v, "self_attn.v_proj", SPLIT_KV);
    matrix(l, &f->o, "self_attn.o_proj", SPLIT_FROM_Q);
    norm(l, &f->q_norm, "self_attn.q_norm.weight");
    norm(l, &f->k_norm, "self_attn.k_norm.weight");
}

static void load_linear(loader *l, linear_part *p)
{
    matrix(l, &p->qkv, "linear_attn.in_proj_qkv", SPLIT_QKV);
    matrix(l, &p->z, "linear_attn.in_proj_z", SPLIT_VALUES);
    matrix(l, &p->b, "linear_attn.in_proj_b", SPLIT_GATES);
    matrix(l, &p->a, "linear_attn.in_proj_a", SPLIT_GATES);
    matrix(l, &p->out, "linear_attn.out_proj", SPLIT_FROM_VALUES);
    vector(l, &p->conv, "linear_attn.conv1d.weight", 0, SPLIT_QKV);
    vector(l, &p->A_log, "linear_attn.A_log", 0, SPLIT_GATES);
    vector(l, &p->dt_bias, "linear_attn.dt_bias", 0, SPLIT_GATES);
    vector(l, &p->norm, "linear_attn.norm.weight", 0, SPLIT_WHOLE); // never zero-centred
}

static void load_layer(loader *l, model_layer *layer)
{
    norm(l, &layer->input_norm, "input_layernorm.weight");
    norm(l, &layer->post_norm, "post_attention_layernorm.weight");
    if (layer->kind == LAYER_FULL) load_full(l, &layer->full);
    else load_linear(l, &layer->linear);
    matrix(l, &layer->mlp.gate, "mlp.gate_proj", SPLIT_INNER);
    matrix(l, &layer->mlp.up, "mlp.up_proj", SPLIT_INNER);
    matrix(l, &layer->mlp.down, "mlp.down_proj", SPLIT_FROM_INNER);
}

static sight_err load_layers(text_model *m, loader *l)
{
    const text_config *t = &m->config->text;
    int32_t slots[2] = {0, 0}; // by layer_kind
    m->layers = calloc((size_t)t->n_layers, sizeof *m->layers);
    if (!m->layers) return sight_fail(SIGHT_E_MEMORY, "no memory for the layers");
    for (int32_t i = 0; i < t->n_layers && !l->err; i++) {
        char prefix[NAME_BYTES];
        snprintf(prefix, sizeof prefix, "model.language_model.layers.%d.", i);
        l->prefix = prefix;
        m->layers[i].kind = (layer_kind)t->layers[i];
        m->layers[i].slot = slots[t->layers[i] == LAYER_FULL]++;
        load_layer(l, &m->layers[i]);
    }
    return l->err;
}

// Drafts come from the block's first layer, fed its own output for deeper ones.
static sight_err load_mtp(text_model *m, loader *l)
{
    m->mtp = calloc(1, sizeof *m->mtp);
    if (!m->mtp) return sight_fail(SIGHT_E_MEMORY, "no memory for the MTP block");
    mtp_part *p = m->mtp;
    l->prefix = "mtp.";
    matrix(l, &p->fc, "fc", SPLIT_WHOLE);
    norm(l, &p->embedding_norm, "pre_fc_norm_embedding.weight");
    norm(l, &p->hidden_norm, "pre_fc_norm_hidden.weight");
    norm(l, &p->norm, "norm.weight");
    l->prefix = "mtp.layers.0.";
    p->layer.kind = LAYER_FULL;
    for (int32_t i = 0; i < m->config->text.n_layers; i++) {
        p->layer.slot += m->layers[i].kind == LAYER_FULL;
    }
    load_layer(l, &p->layer);
    return l->err;
}

// The head of a rank is a part of the embedding, which it has as a whole.
static bool shares_head(const text_model *m)
{
    return m->config->text.tied && m->at.ranks < 2;
}

sight_err model_load(text_model *m, const checkpoint *c)
{
    const text_config *t = &m->config->text;
    loader l = {c, m->k, m, &checkpoint_config(c)->text, "", t->zero_centred_norm ? 1.0f : 0.0f, SIGHT_OK};
    matrix(&l, &m->embedding, "model.language_model.embed_tokens", SPLIT_WHOLE);
    if (shares_head(m)) m->head = m->embedding;
    else if (t->tied) matrix(&l, &m->head, "model.language_model.embed_tokens", SPLIT_VOCAB);
    else matrix(&l, &m->head, "lm_head", SPLIT_VOCAB);
    norm(&l, &m->norm, "model.language_model.norm.weight");
    sight_err err = l.err ? l.err : load_layers(m, &l);
    if (!err && t->mtp_layers > 0) err = load_mtp(m, &l);
    return err;
}

static void unload_full(kernels *k, full_part *f)
{
    kernels_drop_weight(k, &f->q);
    kernels_drop_weight(k, &f->k);
    kernels_drop_weight(k, &f->v);
    kernels_drop_weight(k, &f->o);
    kernels_drop_floats(k, &f->q_norm);
    kernels_drop_floats(k, &f->k_norm);
}

static void unload_linear(kernels *k, linear_part *p)
{
    kernels_drop_weight(k, &p->qkv);
    kernels_drop_weight(k, &p->z);
    kernels_drop_weight(k, &p->b);
    kernels_drop_weight(k, &p->a);
    kernels_drop_weight(k, &p->out);
    kernels_drop_floats(k, &p->conv);
    kernels_drop_floats(k, &p->A_log);
    kernels_drop_floats(k, &p->dt_bias);
    kernels_drop_floats(k, &p->norm);
}

static void unload_layer(kernels *k, model_layer *l)
{
    kernels_drop_floats(k, &l->input_norm);
    kernels_drop_floats(k, &l->post_norm);
    unload_full(k, &l->full);
    unload_linear(k, &l->linear);
    kernels_drop_weight(k, &l->mlp.gate);
    kernels_drop_weight(k, &l->mlp.up);
    kernels_drop_weight(k, &l->mlp.down);
}

static void unload_mtp(kernels *k, mtp_part *p)
{
    kernels_drop_weight(k, &p->fc);
    kernels_drop_floats(k, &p->embedding_norm);
    kernels_drop_floats(k, &p->hidden_norm);
    kernels_drop_floats(k, &p->norm);
    unload_layer(k, &p->layer);
    free(p);
}

void model_unload(text_model *m)
{
    if (!shares_head(m)) kernels_drop_weight(m->k, &m->head);
    m->head = (weight){0};
    kernels_drop_weight(m->k, &m->embedding);
    kernels_drop_floats(m->k, &m->norm);
    for (int32_t i = 0; m->layers && i < m->config->text.n_layers; i++) {
        unload_layer(m->k, &m->layers[i]);
    }
    free(m->layers);
    if (m->mtp) unload_mtp(m->k, m->mtp);
    free_cut(m);
    free(m->owned);
}
