// tests/support/gguf_golden.h - a golden model as llama.cpp's converter writes it
// (conversion/qwen.py, qwen3vl.py): renamed, norms with 1 added, -exp(A_log), value heads in
// tiled order, frames apart.
#ifndef TESTS_SUPPORT_GGUF_GOLDEN_H
#define TESTS_SUPPORT_GGUF_GOLDEN_H

#include <math.h>

#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"
#include "support/gguf_write.h"

typedef struct gguf_golden {
    checkpoint *from; // the safetensors model
    safetensors *file;
    gguf_write text, vision;
    bool q8;          // matrices of the text model in Q8_0, where rows are whole blocks
    bool q8_values;   // these matrices multiplied out, in f32
    void *owned[1024];
    size_t n_owned;
} gguf_golden;

static inline void *gguf_golden_own(gguf_golden *g, size_t bytes)
{
    assert_true(g->n_owned < 1024);
    void *p = calloc(1, bytes);
    assert_non_null(p);
    g->owned[g->n_owned++] = p;
    return p;
}

static inline bool gguf_ends(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

// ---- names ----

static const char *const gguf_golden_names[][2] = {
    {"input_layernorm.weight", "attn_norm.weight"},
    {"mlp.gate_proj.weight", "ffn_gate.weight"},
    {"mlp.up_proj.weight", "ffn_up.weight"},
    {"mlp.down_proj.weight", "ffn_down.weight"},
    {"self_attn.q_proj.weight", "attn_q.weight"},
    {"self_attn.k_proj.weight", "attn_k.weight"},
    {"self_attn.v_proj.weight", "attn_v.weight"},
    {"self_attn.o_proj.weight", "attn_output.weight"},
    {"self_attn.q_norm.weight", "attn_q_norm.weight"},
    {"self_attn.k_norm.weight", "attn_k_norm.weight"},
    {"linear_attn.in_proj_qkv.weight", "attn_qkv.weight"},
    {"linear_attn.in_proj_z.weight", "attn_gate.weight"},
    {"linear_attn.in_proj_b.weight", "ssm_beta.weight"},
    {"linear_attn.in_proj_a.weight", "ssm_alpha.weight"},
    {"linear_attn.conv1d.weight", "ssm_conv1d.weight"},
    {"linear_attn.A_log", "ssm_a"},
    {"linear_attn.dt_bias", "ssm_dt.bias"},
    {"linear_attn.norm.weight", "ssm_norm.weight"},
    {"linear_attn.out_proj.weight", "ssm_out.weight"},
    {"model.language_model.embed_tokens.weight", "token_embd.weight"},
    {"model.language_model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
    {"mtp.fc.weight", "nextn.eh_proj.weight"},
    {"mtp.norm.weight", "nextn.shared_head_norm.weight"},
    {"mtp.pre_fc_norm_embedding.weight", "nextn.enorm.weight"},
    {"mtp.pre_fc_norm_hidden.weight", "nextn.hnorm.weight"},
    {"model.visual.patch_embed.proj.bias", "v.patch_embd.bias"},
    {"model.visual.pos_embed.weight", "v.position_embd.weight"},
};

static const char *const gguf_golden_vision[][2] = {
    {"norm1.", "ln1."}, {"norm2.", "ln2."}, {"attn.qkv.", "attn_qkv."}, {"attn.proj.", "attn_out."},
    {"mlp.linear_fc1.", "ffn_up."}, {"mlp.linear_fc2.", "ffn_down."},
};

static inline const char *gguf_golden_plain(const gguf_golden *g, const char *rest)
{
    if (strcmp(rest, "post_attention_layernorm.weight") == 0) {
        return checkpoint_config(g->from)->family == MODEL_QWEN3_5 ? "post_attention_norm.weight"
                                                       : "ffn_norm.weight";
    }
    for (size_t i = 0; i < sizeof gguf_golden_names / sizeof *gguf_golden_names; i++) {
        if (strcmp(rest, gguf_golden_names[i][0]) == 0) return gguf_golden_names[i][1];
    }
    fail_msg("no GGUF name for '%s'", rest);
    return NULL;
}

static inline void gguf_golden_merger(char *out, size_t size, const char *rest, const char *norm,
                                      const char *fc1, const char *fc2)
{
    const char *tail = strrchr(rest, '.'); // ".weight", ".bias"
    const char *name = strncmp(rest, "norm", 4) == 0 ? norm : rest[9] == '1' ? fc1 : fc2;
    snprintf(out, size, "%s%s", name, tail);
}

static inline void gguf_golden_name(char *out, size_t size, const gguf_golden *g, const char *name)
{
    const text_config *t = &checkpoint_config(g->from)->text;
    int i = 0, at = 0;
    if (sscanf(name, "model.language_model.layers.%d.%n", &i, &at) == 1 && at) {
        snprintf(out, size, "blk.%d.%s", i, gguf_golden_plain(g, name + at));
    } else if (sscanf(name, "mtp.layers.%d.%n", &i, &at) == 1 && at) {
        snprintf(out, size, "blk.%d.%s", t->n_layers + i, gguf_golden_plain(g, name + at));
    } else if (strncmp(name, "mtp.", 4) == 0) {
        snprintf(out, size, "blk.%d.%s", t->n_layers, gguf_golden_plain(g, name));
    } else if (sscanf(name, "model.visual.blocks.%d.%n", &i, &at) == 1 && at) {
        for (size_t k = 0; k < 6; k++) {
            const char *const *pair = gguf_golden_vision[k];
            if (strncmp(name + at, pair[0], strlen(pair[0]))) continue;
            snprintf(out, size, "v.blk.%d.%s%s", i, pair[1], name + at + strlen(pair[0]));
        }
    } else if (sscanf(name, "model.visual.deepstack_merger_list.%d.%n", &i, &at) == 1 && at) {
        char rest[32];
        gguf_golden_merger(rest, sizeof rest, name + at, "norm", "fc1", "fc2");
        snprintf(out, size, "v.deepstack.%d.%s",
                 checkpoint_config(g->from)->vision.deepstack[i], rest);
    } else if (strncmp(name, "model.visual.merger.", 20) == 0) {
        gguf_golden_merger(out, size, name + 20, "v.post_ln", "mm.0", "mm.2");
    } else {
        snprintf(out, size, "%s", gguf_golden_plain(g, name));
    }
}

// ---- values ----

// Rows (or, across, columns) from first on: heads of `each`, grouped by key head, into tiled order.
static inline void gguf_golden_tile(float *x, int64_t rows, int64_t columns, int64_t first,
                                    int64_t each, int64_t keys, int64_t ratio, bool across)
{
    const int64_t count = rows * columns;
    float *old = malloc((size_t)count * sizeof *old);
    memcpy(old, x, (size_t)count * sizeof *old);
    for (int64_t key = 0; key < keys; key++) {
        for (int64_t r = 0; r < ratio; r++) {
            for (int64_t j = 0; j < each; j++) {
                const int64_t from = first + (key * ratio + r) * each + j;
                const int64_t to = first + (r * keys + key) * each + j;
                for (int64_t k = 0; k < (across ? rows : columns); k++) {
                    if (across) x[k * columns + to] = old[k * columns + from];
                    else x[to * columns + k] = old[from * columns + k];
                }
            }
        }
    }
    free(old);
}

static inline void gguf_golden_reorder(float *x, const tensor_view *v, const char *name,
                                       const text_config *t)
{
    const int64_t keys = t->linear_key_heads, each = t->linear_value_dim;
    const int64_t rows = v->shape[0], columns = tensor_count(v) / rows;
    const int64_t past = 2 * keys * t->linear_key_dim; // rows of q and k
    if (!strstr(name, "linear_attn.") || keys == 0 || keys == t->linear_value_heads) return;
    const int64_t ratio = t->linear_value_heads / keys;
    if (strstr(name, "in_proj_qkv") || strstr(name, "conv1d")) {
        gguf_golden_tile(x, rows, columns, past, each, keys, ratio, false);
    } else if (strstr(name, "in_proj_z")) {
        gguf_golden_tile(x, rows, columns, 0, each, keys, ratio, false);
    } else if (strstr(name, "out_proj")) {
        gguf_golden_tile(x, rows, columns, 0, each, keys, ratio, true);
    } else if (!strstr(name, "norm")) {
        gguf_golden_tile(x, rows, columns, 0, 1, keys, ratio, false);
    }
}

// 32 values as a block: nearest steps of a 127th of the largest. Powers of two keep d exact in f16.
static inline void gguf_golden_block(uint8_t *block, float *x)
{
    float most = 0;
    for (int k = 0; k < 32; k++) most = fabsf(x[k]) > most ? fabsf(x[k]) : most;
    const int e = most > 0 ? (int)ceilf(log2f(most / 127)) : -10;
    const float d = ldexpf(1, e < -14 ? -14 : e);
    const uint16_t bits = (uint16_t)((e < -14 ? 1 : e + 15) << 10);
    memcpy(block, &bits, 2);
    for (int k = 0; k < 32; k++) {
        const int8_t q = (int8_t)lrintf(x[k] / d);
        block[2 + k] = (uint8_t)q;
        x[k] = d * q;
    }
}

static inline uint8_t *gguf_golden_blocks(gguf_golden *g, float *x, int64_t n)
{
    uint8_t *blocks = gguf_golden_own(g, (size_t)n / 32 * 34);
    for (int64_t i = 0; i < n / 32; i++) gguf_golden_block(blocks + i * 34, x + i * 32);
    return blocks;
}

static inline void gguf_golden_shape(gguf_write_tensor *to, const tensor_view *v)
{
    to->n_dims = 0;
    for (int32_t i = 0; i < v->n_dims; i++) {
        if (v->n_dims == 3 && i == 1) continue; // conv1d, squeezed
        to->shape[to->n_dims++] = v->shape[i];
    }
}

static inline void gguf_golden_frames(gguf_golden *g, const tensor_view *v)
{
    const int64_t kernels = v->shape[0] * v->shape[1], each = v->shape[3] * v->shape[4];
    static const char *const names[] = {"v.patch_embd.weight", "v.patch_embd.weight.1"};
    for (int64_t f = 0; f < 2; f++) {
        float *x = gguf_golden_own(g, (size_t)(kernels * each) * sizeof *x);
        for (int64_t i = 0; i < kernels * each; i++) {
            x[i] = tensor_get_f32(v, (i / each * 2 + f) * each + i % each);
        }
        gguf_add(&g->vision, names[f], GGUF_F32, x, (size_t)(kernels * each) * sizeof *x, 4,
                 v->shape[0], v->shape[1], v->shape[3], v->shape[4]);
    }
}

static inline bool gguf_golden_is_norm(const gguf_golden *g, const char *name)
{
    return checkpoint_config(g->from)->family == MODEL_QWEN3_5 && gguf_ends(name, "norm.weight") &&
           !gguf_ends(name, "linear_attn.norm.weight");
}

static inline void gguf_golden_add(gguf_golden *g, const char *published, const tensor_view *v)
{
    const bool visual = strncmp(published, "model.visual.", 13) == 0;
    const int64_t n = tensor_count(v);
    if (v->n_dims == 5) {
        gguf_golden_frames(g, v);
        return;
    }
    float *x = gguf_golden_own(g, (size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        x[i] = tensor_get_f32(v, i);
        if (gguf_ends(published, "A_log")) x[i] = -expf(x[i]);
        if (!visual) x[i] += gguf_golden_is_norm(g, published) || strstr(published, "pre_fc_norm");
    }
    gguf_golden_reorder(x, v, published, &checkpoint_config(g->from)->text);
    char name[64];
    gguf_golden_name(name, sizeof name, g, published);
    gguf_write_tensor *t = gguf_add(visual ? &g->vision : &g->text, name, GGUF_F32, x,
                                    (size_t)n * sizeof *x, 1, n);
    gguf_golden_shape(t, v);
    if ((!g->q8 && !g->q8_values) || visual || v->n_dims != 2 || v->shape[1] % 32) return;
    uint8_t *blocks = gguf_golden_blocks(g, x, n);
    if (g->q8_values) return; // x holds them multiplied out
    t->type = GGUF_Q8_0;
    t->data = blocks;
    t->bytes = (size_t)n / 32 * 34;
}

// ---- metadata ----

static inline void gguf_golden_text_keys(gguf_golden *g)
{
    const text_config *t = &checkpoint_config(g->from)->text;
    const bool q35 = checkpoint_config(g->from)->family == MODEL_QWEN3_5;
    gguf_write *w = &g->text;
    char key[64];
#define KEY(name) (snprintf(key, sizeof key, "%s." name, q35 ? "qwen35" : "qwen3vl"), key)
    gguf_string(w, "general.architecture", q35 ? "qwen35" : "qwen3vl");
    gguf_u32(w, KEY("block_count"), t->n_layers + t->mtp_layers);
    gguf_u32(w, KEY("context_length"), t->max_positions);
    gguf_u32(w, KEY("embedding_length"), t->hidden);
    gguf_u32(w, KEY("feed_forward_length"), t->intermediate);
    gguf_u32(w, KEY("attention.head_count"), t->heads);
    gguf_u32(w, KEY("attention.head_count_kv"), t->kv_heads);
    gguf_u32(w, KEY("attention.key_length"), t->head_dim);
    gguf_u32(w, KEY("attention.value_length"), t->head_dim);
    gguf_f32(w, KEY("attention.layer_norm_rms_epsilon"), t->rms_eps);
    gguf_f32(w, KEY("rope.freq_base"), t->rope.theta);
    gguf_start_array(w, KEY("rope.dimension_sections"), 5, 4);
    for (int i = 0; i < 4; i++) {
        gguf_put(&w->keys, i < 3 ? (uint64_t)t->rope.mrope_section[i] : 0, 4);
    }
    if (t->rope.yarn) {
        gguf_string(w, KEY("rope.scaling.type"), "yarn");
        gguf_f32(w, KEY("rope.scaling.factor"), t->rope.factor);
        gguf_u32(w, KEY("rope.scaling.original_context_length"),
                 (int64_t)t->rope.original_max_positions);
    }
    if (!q35) return;
    gguf_u32(w, KEY("rope.dimension_count"),
             (int64_t)(t->head_dim * t->rope.partial_rotary_factor));
    if (t->mtp_layers) gguf_u32(w, KEY("nextn_predict_layers"), t->mtp_layers);
    gguf_u32(w, KEY("ssm.conv_kernel"), t->conv_width);
    gguf_u32(w, KEY("ssm.state_size"), t->linear_key_dim);
    gguf_u32(w, KEY("ssm.group_count"), t->linear_key_heads);
    gguf_u32(w, KEY("ssm.time_step_rank"), t->linear_value_heads);
    gguf_u32(w, KEY("ssm.inner_size"), (int64_t)t->linear_value_heads * t->linear_value_dim);
    gguf_start_array(w, KEY("attention.recurrent_layers"), 7,
                     (size_t)(t->n_layers + t->mtp_layers));
    for (int32_t i = 0; i < t->n_layers + t->mtp_layers; i++) {
        gguf_put(&w->keys, i < t->n_layers && t->layers[i] == LAYER_LINEAR, 1);
    }
#undef KEY
}

static inline void gguf_golden_vision_keys(gguf_golden *g)
{
    const vision_config *v = &checkpoint_config(g->from)->vision;
    const image_config *p = &checkpoint_config(g->from)->image;
    gguf_write *w = &g->vision;
    gguf_string(w, "general.architecture", "clip");
    gguf_bool(w, "clip.has_vision_encoder", true);
    gguf_bool(w, "clip.use_gelu", true);
    gguf_string(w, "clip.projector_type", "qwen3vl_merger");
    gguf_u32(w, "clip.vision.projection_dim", v->out_hidden);
    gguf_u32(w, "clip.vision.patch_size", v->patch);
    gguf_u32(w, "clip.vision.embedding_length", v->hidden);
    gguf_u32(w, "clip.vision.feed_forward_length", v->intermediate);
    gguf_u32(w, "clip.vision.block_count", v->depth);
    gguf_u32(w, "clip.vision.attention.head_count", v->heads);
    gguf_u32(w, "clip.vision.spatial_merge_size", v->merge);
    gguf_u32(w, "clip.vision.image_min_pixels", p->min_pixels); // not in files of qwen3vl, but read
    gguf_u32(w, "clip.vision.image_max_pixels", p->max_pixels);
    gguf_f32(w, "clip.vision.attention.layer_norm_epsilon", 1e-6);
    gguf_start_array(w, "clip.vision.image_mean", 6, 3);
    for (int i = 0; i < 3; i++) gguf_put(&w->keys, 0x3f000000, 4);
    gguf_start_array(w, "clip.vision.image_std", 6, 3);
    for (int i = 0; i < 3; i++) gguf_put(&w->keys, 0x3f000000, 4);
    gguf_start_array(w, "clip.vision.is_deepstack_layers", 7, (size_t)v->depth);
    for (int32_t i = 0; i < v->depth; i++) {
        bool level = false;
        for (int32_t k = 0; k < v->n_deepstack; k++) level |= v->deepstack[k] == i;
        gguf_put(&w->keys, level, 1);
    }
}

// ---- tokens ----

static inline json_t *gguf_golden_by_id(const json_t *tokenizer, int64_t vocab, json_t *kinds)
{
    json_t *tokens = json_array(), *v;
    const char *text;
    size_t i;
    for (int64_t id = 0; id < vocab; id++) {
        char pad[32];
        snprintf(pad, sizeof pad, "[PAD%d]", (int)id);
        json_array_append_new(tokens, json_string(pad));
        json_array_append_new(kinds, json_integer(5));
    }
    json_object_foreach(json_object_get(json_object_get(tokenizer, "model"), "vocab"), text, v) {
        json_array_set_new(tokens, (size_t)json_integer_value(v), json_string(text));
        json_array_set_new(kinds, (size_t)json_integer_value(v), json_integer(1));
    }
    json_array_foreach(json_object_get(tokenizer, "added_tokens"), i, v) {
        const size_t id = (size_t)json_integer_value(json_object_get(v, "id"));
        const char *content = json_string_value(json_object_get(v, "content"));
        const bool control = json_is_true(json_object_get(v, "special")) ||
                             (strncmp(content, "<|", 2) == 0 && gguf_ends(content, "|>"));
        json_array_set_new(tokens, id, json_string(content));
        json_array_set_new(kinds, id, json_integer(control ? 3 : 4));
    }
    return tokens;
}

// tokenizer.json of a folder as metadata. vocab: rows of the embedding.
static inline void gguf_golden_tokens(gguf_write *w, const char *folder, int64_t vocab)
{
    char path[700];
    json_t *root = NULL, *kinds = json_array(), *v;
    size_t i;
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    assert_ok(json_parse_file(&root, path, 1 << 24, SIGHT_E_MODEL));
    json_t *tokens = gguf_golden_by_id(root, vocab, kinds);
    gguf_string(w, "tokenizer.ggml.model", "gpt2");
    gguf_string(w, "tokenizer.ggml.pre", "qwen35");
    gguf_start_array(w, "tokenizer.ggml.tokens", 8, (size_t)vocab);
    json_array_foreach(tokens, i, v) {
        gguf_put_text(&w->keys, json_string_value(v), json_string_length(v));
    }
    gguf_start_array(w, "tokenizer.ggml.token_type", 5, (size_t)vocab);
    json_array_foreach(kinds, i, v) gguf_put(&w->keys, (uint64_t)json_integer_value(v), 4);
    const json_t *merges = json_object_get(json_object_get(root, "model"), "merges");
    gguf_start_array(w, "tokenizer.ggml.merges", 8, json_array_size(merges));
    json_array_foreach(merges, i, v) {
        char both[512];
        snprintf(both, sizeof both, "%s %s", json_string_value(json_array_get(v, 0)),
                 json_string_value(json_array_get(v, 1)));
        gguf_put_text(&w->keys, both, strlen(both));
    }
    json_decref(root);
    json_decref(tokens);
    json_decref(kinds);
}

// ---- the whole ----

static inline gguf_golden *gguf_golden_new(const char *model, bool q8, bool q8_values)
{
    char dir[512];
    gguf_golden *g = calloc(1, sizeof *g);
    assert_non_null(g);
    g->q8 = q8;
    g->q8_values = q8_values;
    snprintf(dir, sizeof dir, "%s/%s/model", TEST_GOLDEN_DIR, model);
    assert_ok(checkpoint_open(&g->from, dir));
    gguf_golden_text_keys(g);
    gguf_golden_tokens(&g->text, dir, checkpoint_config(g->from)->text.vocab);
    gguf_golden_vision_keys(g);
    snprintf(dir, sizeof dir, "%s/%s/model/model.safetensors", TEST_GOLDEN_DIR, model);
    assert_ok(safetensors_open(&g->file, dir));
    for (size_t i = 0; i < safetensors_count(g->file); i++) {
        tensor_view v;
        assert_true(safetensors_view(g->file, &v, i));
        gguf_golden_add(g, safetensors_name(g->file, i), &v);
    }
    return g;
}

// Both files in a new folder; the text model's path (malloc).
static inline char *gguf_golden_write(gguf_golden *g)
{
    const char *folder = test_folder();
    free(gguf_write_file(&g->vision, folder, "mmproj-f32.gguf"));
    return gguf_write_file(&g->text, folder, "model-f32.gguf");
}

static inline void gguf_golden_free(gguf_golden *g)
{
    for (size_t i = 0; i < g->n_owned; i++) free(g->owned[i]);
    gguf_write_done(&g->text);
    gguf_write_done(&g->vision);
    safetensors_close(&g->file);
    checkpoint_close(&g->from);
    free(g);
}

#endif
