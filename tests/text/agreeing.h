// A model made of the golden hybrid one whose MTP block often guesses what the main model says.
//
// The block passes the embedding of the next token on to the output layer; the main model does the
// same, plus what its layers add, which is scaled down. With scale 0 they all but always agree.
#ifndef TESTS_TEXT_AGREEING_H
#define TESTS_TEXT_AGREEING_H

#include <math.h>

#include "checkpoint/model_copy.h"

static inline void agreeing_scale(model_copy *m, const char *name, float scale)
{
    safetensors_entry *e = copy_entry(m, name);
    assert_int_equal(e->view.type, TENSOR_BF16);
    uint16_t *w = copy_writable(m, e);
    for (int64_t i = 0; i < tensor_count(&e->view); i++) {
        union {
            uint32_t bits;
            float f;
        } x = {.bits = (uint32_t)w[i] << 16};
        x.f *= scale;
        w[i] = (uint16_t)(x.bits >> 16);
    }
}

static inline void agreeing_scale_layer(model_copy *m, const char *prefix, bool linear, float scale)
{
    char name[200];
    snprintf(name, sizeof name, "%s.%s", prefix,
             linear ? "linear_attn.out_proj.weight" : "self_attn.o_proj.weight");
    agreeing_scale(m, name, scale);
    snprintf(name, sizeof name, "%s.mlp.down_proj.weight", prefix);
    agreeing_scale(m, name, scale);
}

// Gives the new model's folder.
static inline const char *agreeing_model(float scale)
{
    model_copy *m = copy_load("hybrid");
    for (int i = 0; i < 8; i++) {
        char prefix[100];
        snprintf(prefix, sizeof prefix, "model.language_model.layers.%d", i);
        agreeing_scale_layer(m, prefix, i % 4 != 3, scale);
    }
    agreeing_scale_layer(m, "mtp.layers.0", false, 0);
    agreeing_scale(m, "mtp.pre_fc_norm_embedding.weight", 0);
    copy_entry(m, "mtp.norm.weight")->view.data =
        copy_entry(m, "model.language_model.norm.weight")->view.data;
    safetensors_entry *fc = copy_entry(m, "mtp.fc.weight");
    const int64_t D = fc->view.shape[0];
    uint16_t *w = copy_writable(m, fc);
    memset(w, 0, (size_t)tensor_count(&fc->view) * sizeof *w);
    for (int64_t i = 0; i < D; i++) w[i * 2 * D + i] = 0x3f80; // 1
    const char *folder = copy_write(m);
    copy_free(m);
    return folder;
}

#endif
