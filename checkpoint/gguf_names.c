#include "checkpoint/gguf_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct pair {
    const char *theirs, *published;
    gguf_change change;
} pair;

static const pair whole_text[] = {
    {"token_embd.weight", "model.language_model.embed_tokens.weight", GGUF_AS_IS},
    {"output_norm.weight", "model.language_model.norm.weight", GGUF_AS_IS},
    {"output.weight", "lm_head.weight", GGUF_AS_IS},
};

// Behind "blk.N.".
static const pair text_layer[] = {
    {"attn_norm.weight", "input_layernorm.weight", GGUF_AS_IS},
    {"post_attention_norm.weight", "post_attention_layernorm.weight", GGUF_AS_IS}, // qwen35
    {"ffn_norm.weight", "post_attention_layernorm.weight", GGUF_AS_IS},            // qwen3vl
    {"ffn_gate.weight", "mlp.gate_proj.weight", GGUF_AS_IS},
    {"ffn_up.weight", "mlp.up_proj.weight", GGUF_AS_IS},
    {"ffn_down.weight", "mlp.down_proj.weight", GGUF_AS_IS},
    {"attn_q.weight", "self_attn.q_proj.weight", GGUF_AS_IS},
    {"attn_k.weight", "self_attn.k_proj.weight", GGUF_AS_IS},
    {"attn_v.weight", "self_attn.v_proj.weight", GGUF_AS_IS},
    {"attn_output.weight", "self_attn.o_proj.weight", GGUF_AS_IS},
    {"attn_q_norm.weight", "self_attn.q_norm.weight", GGUF_AS_IS},
    {"attn_k_norm.weight", "self_attn.k_norm.weight", GGUF_AS_IS},
    {"attn_qkv.weight", "linear_attn.in_proj_qkv.weight", GGUF_AS_IS},
    {"attn_gate.weight", "linear_attn.in_proj_z.weight", GGUF_AS_IS},
    {"ssm_beta.weight", "linear_attn.in_proj_b.weight", GGUF_AS_IS},
    {"ssm_alpha.weight", "linear_attn.in_proj_a.weight", GGUF_AS_IS},
    {"ssm_conv1d.weight", "linear_attn.conv1d.weight", GGUF_SQUEEZED},
    {"ssm_a", "linear_attn.A_log", GGUF_NEGATED_EXP},
    {"ssm_dt.bias", "linear_attn.dt_bias", GGUF_AS_IS},
    {"ssm_norm.weight", "linear_attn.norm.weight", GGUF_AS_IS},
    {"ssm_out.weight", "linear_attn.out_proj.weight", GGUF_AS_IS},
};

// Behind "blk.N." of the first block past the layers.
static const pair mtp_whole[] = {
    {"nextn.eh_proj.weight", "mtp.fc.weight", GGUF_AS_IS},
    {"nextn.enorm.weight", "mtp.pre_fc_norm_embedding.weight", GGUF_AS_IS},
    {"nextn.hnorm.weight", "mtp.pre_fc_norm_hidden.weight", GGUF_AS_IS},
    {"nextn.shared_head_norm.weight", "mtp.norm.weight", GGUF_AS_IS},
};

static const pair whole_vision[] = {
    {"v.patch_embd.weight", "model.visual.patch_embed.proj.weight", GGUF_FRAME_0},
    {"v.patch_embd.weight.1", "model.visual.patch_embed.proj.weight", GGUF_FRAME_1},
    {"v.patch_embd.bias", "model.visual.patch_embed.proj.bias", GGUF_AS_IS},
    {"v.position_embd.weight", "model.visual.pos_embed.weight", GGUF_AS_IS},
    {"v.post_ln.weight", "model.visual.merger.norm.weight", GGUF_AS_IS},
    {"v.post_ln.bias", "model.visual.merger.norm.bias", GGUF_AS_IS},
    {"mm.0.weight", "model.visual.merger.linear_fc1.weight", GGUF_AS_IS},
    {"mm.0.bias", "model.visual.merger.linear_fc1.bias", GGUF_AS_IS},
    {"mm.2.weight", "model.visual.merger.linear_fc2.weight", GGUF_AS_IS},
    {"mm.2.bias", "model.visual.merger.linear_fc2.bias", GGUF_AS_IS},
};

// Behind "v.blk.N.".
static const pair vision_block[] = {
    {"ln1.weight", "norm1.weight", GGUF_AS_IS},
    {"ln1.bias", "norm1.bias", GGUF_AS_IS},
    {"ln2.weight", "norm2.weight", GGUF_AS_IS},
    {"ln2.bias", "norm2.bias", GGUF_AS_IS},
    {"attn_qkv.weight", "attn.qkv.weight", GGUF_AS_IS},
    {"attn_qkv.bias", "attn.qkv.bias", GGUF_AS_IS},
    {"attn_out.weight", "attn.proj.weight", GGUF_AS_IS},
    {"attn_out.bias", "attn.proj.bias", GGUF_AS_IS},
    {"ffn_up.weight", "mlp.linear_fc1.weight", GGUF_AS_IS},
    {"ffn_up.bias", "mlp.linear_fc1.bias", GGUF_AS_IS},
    {"ffn_down.weight", "mlp.linear_fc2.weight", GGUF_AS_IS},
    {"ffn_down.bias", "mlp.linear_fc2.bias", GGUF_AS_IS},
};

// Behind "v.deepstack.N.", where N is the vision block after which the merger stands.
static const pair deepstack_merger[] = {
    {"norm.weight", "norm.weight", GGUF_AS_IS},
    {"norm.bias", "norm.bias", GGUF_AS_IS},
    {"fc1.weight", "linear_fc1.weight", GGUF_AS_IS},
    {"fc1.bias", "linear_fc1.bias", GGUF_AS_IS},
    {"fc2.weight", "linear_fc2.weight", GGUF_AS_IS},
    {"fc2.bias", "linear_fc2.bias", GGUF_AS_IS},
};

#define FIND(name, table) find(name, table, sizeof table / sizeof *table)

static const pair *find(const char *name, const pair *table, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(table[i].theirs, name) == 0) return &table[i];
    }
    return NULL;
}

// "blk.12.rest" with start "blk.": 12 and rest. NULL: of another kind.
static const char *numbered(int32_t *number, const char *name, const char *start)
{
    const size_t n = strlen(start);
    if (strncmp(name, start, n)) return NULL;
    const char *digits = name + n;
    const size_t count = strspn(digits, "0123456789");
    if (count < 1 || count > 4 || digits[count] != '.') return NULL;
    if (count > 1 && digits[0] == '0') return NULL;
    *number = (int32_t)strtol(digits, NULL, 10);
    return digits + count + 1;
}

static int32_t deepstack_level(const vision_config *v, int32_t block)
{
    for (int32_t i = 0; i < v->n_deepstack; i++) {
        if (v->deepstack[i] == block) return i;
    }
    return -1;
}

// Puts the name together; NULL p: none.
static bool put(char out[EXPECT_MAX_NAME], gguf_change *change, const char *prefix, int32_t number,
                const pair *p)
{
    if (!p) return false;
    if (number < 0) snprintf(out, EXPECT_MAX_NAME, "%s%s", prefix, p->published);
    else snprintf(out, EXPECT_MAX_NAME, "%s%d.%s", prefix, number, p->published);
    *change = p->change;
    return true;
}

static bool text_name(char out[EXPECT_MAX_NAME], gguf_change *change, int32_t i, const char *rest,
                      const text_config *t)
{
    if (i < t->n_layers) {
        return put(out, change, "model.language_model.layers.", i, FIND(rest, text_layer));
    }
    if (i >= t->n_layers + t->mtp_layers) return false;
    if (i == t->n_layers && put(out, change, "", -1, FIND(rest, mtp_whole))) return true;
    return put(out, change, "mtp.layers.", i - t->n_layers, FIND(rest, text_layer));
}

bool gguf_published_name(char out[EXPECT_MAX_NAME], gguf_change *change, const char *name,
                         const model_config *c)
{
    int32_t i = 0;
    const char *rest;
    bool found;
    if ((rest = numbered(&i, name, "blk."))) {
        found = text_name(out, change, i, rest, &c->text);
    } else if ((rest = numbered(&i, name, "v.blk."))) {
        found = put(out, change, "model.visual.blocks.", i, FIND(rest, vision_block));
    } else if ((rest = numbered(&i, name, "v.deepstack."))) {
        i = deepstack_level(&c->vision, i);
        found = i >= 0 && put(out, change, "model.visual.deepstack_merger_list.", i,
                              FIND(rest, deepstack_merger));
    } else {
        found = put(out, change, "", -1, FIND(name, whole_text)) ||
                put(out, change, "", -1, FIND(name, whole_vision));
    }
    if (found) return true;
    snprintf(out, EXPECT_MAX_NAME, "%.*s", EXPECT_MAX_NAME - 1, name);
    *change = GGUF_AS_IS;
    return false;
}
