#include "checkpoint/expect.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PREFIX 64 // "model.language_model.layers.511." and the like

// The next entry, its name and shape to be filled in; NULL once memory has run out.
static expected *next(expect_list *l)
{
    if (l->failed) return NULL;
    if (l->n == l->capacity) {
        size_t capacity = l->capacity ? l->capacity * 2 : 256;
        expected *items = realloc(l->items, capacity * sizeof *items);
        if (!items) {
            l->failed = true;
            return NULL;
        }
        l->items = items;
        l->capacity = capacity;
    }
    expected *e = &l->items[l->n++];
    memset(e, 0, sizeof *e);
    return e;
}

static void add(expect_list *l, const char *prefix, const char *name, int32_t n_dims, ...)
{
    expected *e = next(l);
    if (!e) return;
    snprintf(e->name, sizeof e->name, "%s%s", prefix, name);
    e->n_dims = n_dims;
    va_list args;
    va_start(args, n_dims);
    for (int32_t i = 0; i < n_dims; i++) e->shape[i] = va_arg(args, int64_t);
    va_end(args);
}

static void add_vector(expect_list *l, const char *prefix, const char *name, int64_t n)
{
    add(l, prefix, name, 1, n);
}

static void add_matrix(expect_list *l, const char *prefix, const char *name, int64_t rows,
                       int64_t columns)
{
    add(l, prefix, name, 2, rows, columns);
}

// weight [rows, columns] and bias [rows].
static void add_linear(expect_list *l, const char *prefix, const char *name, int64_t rows,
                       int64_t columns)
{
    char at[EXPECT_MAX_NAME];
    snprintf(at, sizeof at, "%s%s", prefix, name);
    add_matrix(l, at, ".weight", rows, columns);
    add_vector(l, at, ".bias", rows);
}

static void add_layer_norm(expect_list *l, const char *prefix, const char *name, int64_t n)
{
    char at[EXPECT_MAX_NAME];
    snprintf(at, sizeof at, "%s%s", prefix, name);
    add_vector(l, at, ".weight", n);
    add_vector(l, at, ".bias", n);
}

// ---- language model ----

static void add_full_attention(expect_list *l, const char *prefix, const text_config *t)
{
    int64_t d = t->hidden, c = t->head_dim, heads = t->heads, kv = t->kv_heads;
    int64_t per_head = t->attention_gate ? 2 * c : c; // query, then gate
    add_matrix(l, prefix, "self_attn.q_proj.weight", heads * per_head, d);
    add_matrix(l, prefix, "self_attn.k_proj.weight", kv * c, d);
    add_matrix(l, prefix, "self_attn.v_proj.weight", kv * c, d);
    add_matrix(l, prefix, "self_attn.o_proj.weight", d, heads * c);
    add_vector(l, prefix, "self_attn.q_norm.weight", c);
    add_vector(l, prefix, "self_attn.k_norm.weight", c);
}

static void add_linear_attention(expect_list *l, const char *prefix, const text_config *t)
{
    int64_t d = t->hidden, heads = t->linear_value_heads;
    int64_t keys = (int64_t)t->linear_key_heads * t->linear_key_dim;
    int64_t values = heads * t->linear_value_dim;
    int64_t channels = 2 * keys + values;
    add_matrix(l, prefix, "linear_attn.in_proj_qkv.weight", channels, d);
    add_matrix(l, prefix, "linear_attn.in_proj_z.weight", values, d);
    add_matrix(l, prefix, "linear_attn.in_proj_b.weight", heads, d);
    add_matrix(l, prefix, "linear_attn.in_proj_a.weight", heads, d);
    add(l, prefix, "linear_attn.conv1d.weight", 3, channels, (int64_t)1, (int64_t)t->conv_width);
    add_vector(l, prefix, "linear_attn.A_log", heads);
    add_vector(l, prefix, "linear_attn.dt_bias", heads);
    add_vector(l, prefix, "linear_attn.norm.weight", t->linear_value_dim);
    add_matrix(l, prefix, "linear_attn.out_proj.weight", d, values);
}

static void add_text_layer(expect_list *l, const char *prefix, const text_config *t,
                           layer_kind kind)
{
    int64_t d = t->hidden, f = t->intermediate;
    add_vector(l, prefix, "input_layernorm.weight", d);
    add_vector(l, prefix, "post_attention_layernorm.weight", d);
    add_matrix(l, prefix, "mlp.gate_proj.weight", f, d);
    add_matrix(l, prefix, "mlp.up_proj.weight", f, d);
    add_matrix(l, prefix, "mlp.down_proj.weight", d, f);
    if (kind == LAYER_FULL) add_full_attention(l, prefix, t);
    else add_linear_attention(l, prefix, t);
}

static void add_text(expect_list *l, const text_config *t)
{
    const char *model = "model.language_model.";
    add_matrix(l, model, "embed_tokens.weight", t->vocab, t->hidden);
    add_vector(l, model, "norm.weight", t->hidden);
    if (!t->tied) add_matrix(l, "", "lm_head.weight", t->vocab, t->hidden);
    for (int32_t i = 0; i < t->n_layers; i++) {
        char prefix[MAX_PREFIX];
        snprintf(prefix, sizeof prefix, "%slayers.%d.", model, i);
        add_text_layer(l, prefix, t, (layer_kind)t->layers[i]);
    }
}

static void add_mtp(expect_list *l, const text_config *t)
{
    add_matrix(l, "mtp.", "fc.weight", t->hidden, 2 * (int64_t)t->hidden);
    add_vector(l, "mtp.", "norm.weight", t->hidden);
    add_vector(l, "mtp.", "pre_fc_norm_embedding.weight", t->hidden);
    add_vector(l, "mtp.", "pre_fc_norm_hidden.weight", t->hidden);
    for (int32_t i = 0; i < t->mtp_layers; i++) {
        char prefix[MAX_PREFIX];
        snprintf(prefix, sizeof prefix, "mtp.layers.%d.", i);
        add_text_layer(l, prefix, t, LAYER_FULL);
    }
}

// ---- vision ----

static void add_block(expect_list *l, const char *prefix, const vision_config *v)
{
    add_layer_norm(l, prefix, "norm1", v->hidden);
    add_layer_norm(l, prefix, "norm2", v->hidden);
    add_linear(l, prefix, "attn.qkv", 3 * (int64_t)v->hidden, v->hidden);
    add_linear(l, prefix, "attn.proj", v->hidden, v->hidden);
    add_linear(l, prefix, "mlp.linear_fc1", v->intermediate, v->hidden);
    add_linear(l, prefix, "mlp.linear_fc2", v->hidden, v->intermediate);
}

// The norm stands before the patches of a block are joined, or (DeepStack) after.
static void add_merger(expect_list *l, const char *prefix, const vision_config *v, bool joined_norm)
{
    int64_t joined = (int64_t)v->hidden * v->merge * v->merge;
    add_layer_norm(l, prefix, "norm", joined_norm ? joined : v->hidden);
    add_linear(l, prefix, "linear_fc1", joined, joined);
    add_linear(l, prefix, "linear_fc2", v->out_hidden, joined);
}

static void add_vision(expect_list *l, const vision_config *v)
{
    const char *visual = "model.visual.";
    char prefix[MAX_PREFIX];
    add(l, visual, "patch_embed.proj.weight", 5, (int64_t)v->hidden, (int64_t)v->channels,
        (int64_t)v->temporal_patch, (int64_t)v->patch, (int64_t)v->patch);
    add_vector(l, visual, "patch_embed.proj.bias", v->hidden);
    add_matrix(l, visual, "pos_embed.weight", v->positions, v->hidden);
    for (int32_t i = 0; i < v->depth; i++) {
        snprintf(prefix, sizeof prefix, "%sblocks.%d.", visual, i);
        add_block(l, prefix, v);
    }
    add_merger(l, "model.visual.merger.", v, false);
    for (int32_t i = 0; i < v->n_deepstack; i++) {
        snprintf(prefix, sizeof prefix, "%sdeepstack_merger_list.%d.", visual, i);
        add_merger(l, prefix, v, true);
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const expected *)a)->name, ((const expected *)b)->name);
}

sight_err expect_init(expect_list *out, const model_config *c)
{
    expect_list l = {0};
    add_text(&l, &c->text);
    if (c->text.mtp_layers) add_mtp(&l, &c->text);
    if (c->has_vision) add_vision(&l, &c->vision);
    if (l.failed) {
        expect_done(&l);
        return sight_fail(SIGHT_E_MEMORY, "no memory for the list of expected tensors");
    }
    qsort(l.items, l.n, sizeof *l.items, by_name);
    *out = l;
    return SIGHT_OK;
}

void expect_done(expect_list *l)
{
    free(l->items);
    *l = (expect_list){0};
}

void expect_shape_text(char out[EXPECT_SHAPE_TEXT], const int64_t *shape, int32_t n_dims)
{
    size_t used = (size_t)snprintf(out, EXPECT_SHAPE_TEXT, "[");
    for (int32_t i = 0; i < n_dims && used < EXPECT_SHAPE_TEXT - 24; i++) {
        used += (size_t)snprintf(out + used, EXPECT_SHAPE_TEXT - used, "%s%lld", i ? ", " : "",
                                 (long long)shape[i]);
    }
    snprintf(out + used, EXPECT_SHAPE_TEXT - used, "]");
}
