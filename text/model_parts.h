// text/model_parts.h - what model.c, model_load.c, layers.c and mtp.c share.
//
// Letters: N rows of a step, D hidden width, H and G query and key/value heads of width C, R
// rotated width. Threads: the engine's only.
#ifndef SIGHT_TEXT_MODEL_PARTS_H
#define SIGHT_TEXT_MODEL_PARTS_H

#include "text/model.h"

typedef struct mlp_part {
    weight gate, up, down;
} mlp_part;

typedef struct full_part {
    weight q, k, v, o;
    float *q_norm, *k_norm; // [C]
} full_part;

typedef struct linear_part {
    weight qkv, z, b, a, out;
    float *conv;             // [channels, conv_width]
    float *A_log, *dt_bias;  // [value_heads]
    float *norm;             // [value_dim]
} linear_part;

typedef struct model_layer {
    layer_kind kind;
    int32_t slot; // its place among the cache's layers of that kind
    float *input_norm, *post_norm; // [D]
    full_part full;                // LAYER_FULL
    linear_part linear;            // LAYER_LINEAR
    mlp_part mlp;
} model_layer;

typedef struct mtp_part {
    weight fc; // [D, 2 D]
    float *embedding_norm, *hidden_norm, *norm; // [D]
    model_layer layer;
} mtp_part;

// Rows of one sequence in the step under way.
typedef struct batch_part {
    sequence *seq;
    int64_t first; // row of the step
    int64_t n;
    int64_t past; // tokens of the sequence before them
    bool rewindable;
} batch_part;

typedef struct workspace {
    void *memory; // the one allocation
    int64_t bytes;
    float *h, *x;     // [N, D]: the residual stream, and what a product reads
    float *mixer;     // [N, mixer_floats]: whatever one mixer or MLP needs
    float *cos, *sin; // [N, R/2]
    float *logits;    // [logit_rows, vocab], for rows that go to different places
    int32_t *ids;     // [N]
    output_row **outputs;     // [N]
    batch_part *parts;        // [N]
    attention_seq *attention; // [N]
    conv_seq *conv;           // [N]
    delta_seq *delta;         // [N]
} workspace;

struct text_model {
    const model_config *config; // the checkpoint's
    kernels *k;
    int64_t max_rows, logit_rows;
    weight embedding; // [vocab, D]
    weight head;
    output_layer *output; // of head
    float *norm; // [D]
    model_layer *layers;
    mtp_part *mtp; // NULL: no block
    workspace ws;
    draft_plan plan;
};

// R: how many components of a head are rotated.
static inline int32_t model_rotary(const text_config *c)
{
    return (int32_t)(c->head_dim * c->rope.partial_rotary_factor);
}

// ---- model_load.c ----

// Fills embedding, head, norm, layers and mtp. model_unload frees them, also after a failure.
sight_err model_load(text_model *m, const checkpoint *c);
void model_unload(text_model *m);

// ---- layers.c ----

// Floats per row of ws.mixer, for the widest of the layers.
int64_t layer_mixer_floats(const text_config *c, bool mtp);
// ws.h [N, D] += the layer, for the parts of a step.
void layer_run(text_model *m, const model_layer *l, const batch_part *parts, int32_t n_parts,
               int64_t N);
// Brings the states of a linear-attention layer from before the last step to after its first n rows.
void layer_replay(text_model *m, const model_layer *l, sequence *seq, int64_t n);

// ---- model.c ----

// Writes the embeddings of ids, or the features at visual rows, to ws.h.
void model_embed(text_model *m, int64_t first, int64_t n, const int32_t *ids,
                 const uint8_t *visual, const float *features);
// Logits of n normed rows x, as the outputs ask.
void model_outputs(text_model *m, const float *x, output_row *outputs, int32_t n);
// SIGHT_E_ARGUMENT when an id that is not visual has no row in the table, or features are missing.
sight_err model_check_rows(const text_model *m, const int32_t *ids, const uint8_t *visual,
                           const float *features, int32_t n);

#endif
