// Which matrix takes which form.
#include <stdlib.h>
#include <string.h>

#include "checkpoint/prepare_parts.h"

// Of free memory, what weights may take so that caches, pictures and other programs have the rest.
#define ROOM_SHARE 0.6

static const char *const names[] = {"auto", "stored", "bf16", "int8", "int4", "fp8"};

const char *weights_form_name(weights_form form)
{
    return form >= 0 && form < WEIGHTS_COUNT ? names[form] : "unknown";
}

sight_err weights_form_parse(weights_form *out, const char *name)
{
    for (int i = 0; i < WEIGHTS_COUNT; i++) {
        if (strcmp(name, names[i])) continue;
        *out = (weights_form)i;
        return SIGHT_OK;
    }
    return sight_fail(SIGHT_E_ARGUMENT,
                      "weights is '%.40s', must be auto, stored, bf16, int8, int4 or fp8", name);
}

// ---- which ----

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static bool ends_with_any(const char *s, const char *const *ends, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (ends_with(s, ends[i])) return true;
    }
    return false;
}

// Few bytes, and every later token feels them: the gates of the delta rule. The patch embedding
// reads raw pixels once per patch.
static bool stays_plain(const char *name)
{
    static const char *const ends[] = {"linear_attn.in_proj_a.weight", "linear_attn.in_proj_b.weight",
                                       "patch_embed.proj.weight"};
    return ends_with_any(name, ends, sizeof ends / sizeof *ends);
}

// In int4 these take 8 bits, as other 4-bit mixtures keep them higher (docs/KERNELS.md, "Quality").
static bool stays_8_bits(const char *name)
{
    static const char *const ends[] = {"embed_tokens.weight", "lm_head.weight"};
    return ends_with_any(name, ends, sizeof ends / sizeof *ends) ||
           strncmp(name, "model.visual.", 13) == 0;
}

bool plan_matrix(const weight *w, int64_t *M, int64_t *K)
{
    const tensor_view *v = &w->view;
    if (v->n_dims < 2 || !ends_with(w->name, ".weight") || ends_with(w->name, "conv1d.weight") ||
        ends_with(w->name, "pos_embed.weight")) {
        return false;
    }
    *M = v->shape[0];
    *K = *M ? tensor_count(v) / *M : 0;
    return *M > 0 && *K > 0;
}

static bool plan_quantised(const weight *w, weights_form form, packed_format *f)
{
    if (w->stored) *f = w->stored->format;
    else if (form < WEIGHTS_INT8 || stays_plain(w->name)) return false;
    else if (form == WEIGHTS_FP8 && stays_8_bits(w->name)) return false; // as published FP8 models have them
    else if (form == WEIGHTS_FP8) *f = packed_format_fp8();
    else if (form == WEIGHTS_INT8 || stays_8_bits(w->name)) *f = packed_format_int8();
    else *f = packed_format_int4();
    return true;
}

bool plan_block(const weight *w, weights_form form, prepare_block *out)
{
    prepare_block b = {.of = (weight *)w};
    if (!plan_matrix(w, &b.M, &b.K)) return false;
    if (form == WEIGHTS_BF16) {
        if (!w->stored && w->view.type == TENSOR_BF16) return false;
        b.kind = BLOCK_BF16;
        b.bytes = (size_t)(b.M * b.K) * sizeof(uint16_t);
    } else {
        if (!plan_quantised(w, form, &b.format)) return false;
        b.kind = BLOCK_PACKED;
        b.bytes = packed_bytes(&b.format, b.M, b.K);
    }
    *out = b;
    return true;
}

// ---- how much ----

size_t plan_stored_bytes(const weight *w)
{
    const size_t n = (size_t)tensor_count(&w->view);
    if (!w->stored) return n * tensor_type_bytes(w->view.type);
    return packed_bytes(&w->stored->format, w->stored->M, w->stored->K);
}

int64_t weights_form_bytes(const checkpoint *c, weights_form form)
{
    size_t bytes = 0;
    for (size_t i = 0; i < c->n; i++) {
        prepare_block b;
        bytes += plan_block(&c->weights[i], form, &b) ? b.bytes : plan_stored_bytes(&c->weights[i]);
    }
    return (int64_t)bytes;
}

weights_form weights_choose(const checkpoint *c, int64_t room_bytes)
{
    for (size_t i = 0; i < c->n; i++) {
        if (c->weights[i].stored) return WEIGHTS_STORED;
    }
    static const weights_form forms[] = {WEIGHTS_STORED, WEIGHTS_INT8};
    const int64_t room = (int64_t)(ROOM_SHARE * (double)room_bytes);
    for (int i = 0; i < 2; i++) {
        if (weights_form_bytes(c, forms[i]) <= room) return forms[i];
    }
    return WEIGHTS_INT4;
}
