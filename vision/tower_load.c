// Weights by their published names. With the CPU matrices stay where the checkpoint maps them; norms,
// biases and the position table become float32.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/lora.h"
#include "kernels/memory.h"
#include "vision/tower_parts.h"

#define NAME_BYTES 160

// Gathers loads: the first failure stays, later ones do nothing.
typedef struct loader {
    const checkpoint *c;
    kernels *k;
    char prefix[NAME_BYTES / 2];
    sight_err err;
} loader;

static void copy_vector(loader *l, float **out, const char *name, const char *suffix)
{
    char full[NAME_BYTES];
    snprintf(full, sizeof full, "%s%s.%s", l->prefix, name, suffix);
    if (!l->err) l->err = checkpoint_copy_f32(l->c, out, full, 0);
}

// n floats, where ops read them.
static void vector(loader *l, float **out, int64_t n, const char *name, const char *suffix)
{
    copy_vector(l, out, name, suffix);
    if (l->err) return;
    l->err = kernels_take_floats(l->k, out, n);
    if (!l->err) return;
    free(*out);
    *out = NULL;
}

static void map_product(loader *l, weight *out, const char *name)
{
    char full[NAME_BYTES];
    float *bias = NULL;
    snprintf(full, sizeof full, "%s%s.weight", l->prefix, name);
    if (!l->err) l->err = checkpoint_matrix(l->c, &out->w, &out->packed, full);
    if (!l->err) out->lora = lora_find(l->c, full);
    copy_vector(l, &bias, name, "bias");
    out->bias = bias;
}

// What cannot be brought where ops read it must not be dropped as if it had been.
static void take_product(loader *l, weight *out)
{
    if (!l->err) l->err = kernels_take_weight(l->k, out);
    if (!l->err) return;
    free((float *)out->bias);
    *out = (weight){0};
}

static void product(loader *l, weight *out, const char *name)
{
    map_product(l, out, name);
    take_product(l, out);
}

static void norm(loader *l, tower_norm *n, int64_t width, const char *name)
{
    vector(l, &n->w, width, name, "weight");
    vector(l, &n->b, width, name, "bias");
}

static void load_block(loader *l, tower_block *b, int64_t D, int32_t i)
{
    snprintf(l->prefix, sizeof l->prefix, "model.visual.blocks.%d.", i);
    norm(l, &b->norm1, D, "norm1");
    norm(l, &b->norm2, D, "norm2");
    product(l, &b->qkv, "attn.qkv");
    product(l, &b->proj, "attn.proj");
    product(l, &b->fc1, "mlp.linear_fc1");
    product(l, &b->fc2, "mlp.linear_fc2");
}

static void load_merger(loader *l, tower_merger *m, int64_t width)
{
    norm(l, &m->norm, width, "norm");
    product(l, &m->fc1, "linear_fc1");
    product(l, &m->fc2, "linear_fc2");
}

static void load_patch(loader *l, tower *t)
{
    const vision_config *c = t->config;
    snprintf(l->prefix, sizeof l->prefix, "model.visual.");
    map_product(l, &t->patch, "patch_embed.proj");
    t->patch.w.n_dims = 2;
    t->patch.w.shape[0] = c->hidden;
    t->patch.w.shape[1] = (int64_t)c->channels * c->temporal_patch * c->patch * c->patch;
    take_product(l, &t->patch);
    vector(l, &t->positions, (int64_t)c->positions * c->hidden, "pos_embed", "weight");
    t->side = (int32_t)lround(sqrt(c->positions));
}

sight_err tower_load(tower *t, const checkpoint *c)
{
    loader l = {.c = c, .k = t->k};
    const int64_t D = t->config->hidden, square = (int64_t)t->config->merge * t->config->merge;
    t->blocks = calloc((size_t)t->config->depth, sizeof *t->blocks);
    if (!t->blocks) return sight_fail(SIGHT_E_MEMORY, "no memory for the vision blocks");
    load_patch(&l, t);
    for (int32_t i = 0; i < t->config->depth; i++) load_block(&l, &t->blocks[i], D, i);
    snprintf(l.prefix, sizeof l.prefix, "model.visual.merger.");
    load_merger(&l, &t->merger, D);
    for (int32_t i = 0; i < t->config->n_deepstack; i++) {
        snprintf(l.prefix, sizeof l.prefix, "model.visual.deepstack_merger_list.%d.", i);
        load_merger(&l, &t->deepstack[i], D * square);
    }
    return l.err ? l.err : tower_make_frequencies(t);
}

static void unload_norm(kernels *k, tower_norm *n)
{
    kernels_drop_floats(k, &n->w);
    kernels_drop_floats(k, &n->b);
}

static void unload_merger(kernels *k, tower_merger *m)
{
    unload_norm(k, &m->norm);
    kernels_drop_weight(k, &m->fc1);
    kernels_drop_weight(k, &m->fc2);
}

void tower_unload(tower *t)
{
    kernels *k = t->k;
    tower_tables_drop(t, &t->tables);
    kernels_drop_weight(k, &t->patch);
    kernels_drop_floats(k, &t->positions);
    kernels_free(k, t->frequencies);
    for (int32_t i = 0; t->blocks && i < t->config->depth; i++) {
        tower_block *b = &t->blocks[i];
        unload_norm(k, &b->norm1);
        unload_norm(k, &b->norm2);
        kernels_drop_weight(k, &b->qkv);
        kernels_drop_weight(k, &b->proj);
        kernels_drop_weight(k, &b->fc1);
        kernels_drop_weight(k, &b->fc2);
    }
    free(t->blocks);
    unload_merger(k, &t->merger);
    for (int32_t i = 0; i < CONFIG_MAX_DEEPSTACK; i++) unload_merger(k, &t->deepstack[i]);
}
