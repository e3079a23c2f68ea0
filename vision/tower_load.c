// Weights by their published names. Matrices stay where the checkpoint maps them; norms, biases and
// the position table become float32.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/lora.h"
#include "vision/tower_parts.h"

#define NAME_BYTES 160

// Gathers loads: the first failure stays, later ones do nothing.
typedef struct loader {
    const checkpoint *c;
    char prefix[NAME_BYTES / 2];
    sight_err err;
} loader;

static void vector(loader *l, float **out, const char *name, const char *suffix)
{
    char full[NAME_BYTES];
    snprintf(full, sizeof full, "%s%s.%s", l->prefix, name, suffix);
    if (!l->err) l->err = checkpoint_copy_f32(l->c, out, full, 0);
}

static void product(loader *l, weight *out, const char *name)
{
    char full[NAME_BYTES];
    float *bias = NULL;
    snprintf(full, sizeof full, "%s%s.weight", l->prefix, name);
    if (!l->err) l->err = checkpoint_matrix(l->c, &out->w, &out->packed, full);
    if (!l->err) out->lora = lora_find(l->c, full);
    vector(l, &bias, name, "bias");
    out->bias = bias;
}

static void norm(loader *l, tower_norm *n, const char *name)
{
    vector(l, &n->w, name, "weight");
    vector(l, &n->b, name, "bias");
}

static void load_block(loader *l, tower_block *b, int32_t i)
{
    snprintf(l->prefix, sizeof l->prefix, "model.visual.blocks.%d.", i);
    norm(l, &b->norm1, "norm1");
    norm(l, &b->norm2, "norm2");
    product(l, &b->qkv, "attn.qkv");
    product(l, &b->proj, "attn.proj");
    product(l, &b->fc1, "mlp.linear_fc1");
    product(l, &b->fc2, "mlp.linear_fc2");
}

static void load_merger(loader *l, tower_merger *m)
{
    norm(l, &m->norm, "norm");
    product(l, &m->fc1, "linear_fc1");
    product(l, &m->fc2, "linear_fc2");
}

static void load_patch(loader *l, tower *t)
{
    const vision_config *c = t->config;
    snprintf(l->prefix, sizeof l->prefix, "model.visual.");
    product(l, &t->patch, "patch_embed.proj");
    t->patch.w.n_dims = 2;
    t->patch.w.shape[0] = c->hidden;
    t->patch.w.shape[1] = (int64_t)c->channels * c->temporal_patch * c->patch * c->patch;
    vector(l, &t->positions, "pos_embed", "weight");
    t->side = (int32_t)lround(sqrt(c->positions));
}

sight_err tower_load(tower *t, const checkpoint *c)
{
    loader l = {.c = c};
    t->blocks = calloc((size_t)t->config->depth, sizeof *t->blocks);
    if (!t->blocks) return sight_fail(SIGHT_E_MEMORY, "no memory for the vision blocks");
    load_patch(&l, t);
    for (int32_t i = 0; i < t->config->depth; i++) load_block(&l, &t->blocks[i], i);
    snprintf(l.prefix, sizeof l.prefix, "model.visual.merger.");
    load_merger(&l, &t->merger);
    for (int32_t i = 0; i < t->config->n_deepstack; i++) {
        snprintf(l.prefix, sizeof l.prefix, "model.visual.deepstack_merger_list.%d.", i);
        load_merger(&l, &t->deepstack[i]);
    }
    return l.err;
}

static void unload_product(weight *w)
{
    free((float *)w->bias);
}

static void unload_norm(tower_norm *n)
{
    free(n->w);
    free(n->b);
}

static void unload_merger(tower_merger *m)
{
    unload_norm(&m->norm);
    unload_product(&m->fc1);
    unload_product(&m->fc2);
}

void tower_unload(tower *t)
{
    unload_product(&t->patch);
    free(t->positions);
    for (int32_t i = 0; t->blocks && i < t->config->depth; i++) {
        tower_block *b = &t->blocks[i];
        unload_norm(&b->norm1);
        unload_norm(&b->norm2);
        unload_product(&b->qkv);
        unload_product(&b->proj);
        unload_product(&b->fc1);
        unload_product(&b->fc2);
    }
    free(t->blocks);
    unload_merger(&t->merger);
    for (int32_t i = 0; i < CONFIG_MAX_DEEPSTACK; i++) unload_merger(&t->deepstack[i]);
}
