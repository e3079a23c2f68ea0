// text/model_parts.h - what model.c, model_load.c, model_results.c, layers.c and mtp.c share.
//
// Letters: N rows of a step, D hidden width, H and G query and key/value heads of width C, R
// rotated width. Threads: the engine's only.
#ifndef SIGHT_TEXT_MODEL_PARTS_H
#define SIGHT_TEXT_MODEL_PARTS_H

#include "kernels/memory.h"
#include "text/model.h"
#include "text/rope.h"

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

// Steps of segments of at most so many rows, all text, come again and again: kernels_step_begin.
#define SHORT_ROWS 8

#define RECORDED 4 // copies that a part makes which can be taken back

// Rows whose logits are computed together when they go to different places; a device keeps them
// till they are picked.
#define LOGIT_ROWS           32
#define LOGIT_ROWS_ON_DEVICE 64

typedef struct workspace {
    void *memory; // the one allocation behind what is backend memory
    void *host;   // that behind the rest
    int64_t bytes; // of both
    // Backend memory.
    float *h, *x;     // [N, D]: the residual stream, and what a product reads
    float *mixer;     // [N, mixer_floats]: whatever one mixer or MLP needs
    float *cos, *sin; // [N, R/2]
    float *logits;    // [logit_rows, vocab], for rows that go to different places
    float *part, *room; // [logit_rows, vocab / ranks], [logit_rows, vocab]: of a split model
    // Host memory.
    int32_t *ids;             // [N]
    int32_t *positions;       // [3, N], the axes max_rows apart
    output_row **outputs;     // [N]
    output_row *all;          // [N], for rows that want all logits
    batch_part *parts;        // [N]
    attention_seq *attention; // [N]
    const float **gates;      // [N], of their outputs
    kv_rows *written;         // [N]
    conv_seq *conv;           // [N]
    delta_seq *delta;         // [N]
    mixer_seq *mixers;        // [N]
    copy_part *copies;        // [RECORDED N]
} workspace;

struct text_model {
    const model_config *config; // the checkpoint's, or own
    model_config own;           // of a split model: what the rank looks like
    split at;                   // ranks 0: not split
    collective *group;          // NULL: not split
    struct text_group *lead;    // of the first rank: it speaks for all (text/group.h); NULL: for itself
    bool follows;               // another rank speaks for it: results go nowhere
    bool agreed, by_others;     // of the last step: all took it, or one of the others could not
    void **owned;               // parts of weights that are not in one piece
    int32_t n_owned;
    kernels *k;
    int64_t max_rows, logit_rows;
    weight embedding; // [vocab, D]
    weight head;      // tied: the embedding's
    output_layer *output; // of head
    float *norm; // [D]
    rope_table rope;
    model_layer *layers;
    mtp_part *mtp; // NULL: no block
    workspace ws;
    draft_plan plan;
};

// ---- group.c: the same of all ranks; group_status as kernels_status ----

typedef struct text_group text_group;
struct text_job;

text_model *group_model(const text_group *g, int32_t rank); // NULL: there are fewer
sight_err group_job_begin(text_group *g, struct text_job *j, const segment *s);
sight_err group_job_run(text_group *g, struct text_job *j, double most_ops, bool *done);

sight_err group_step(text_group *g, const segment *segments, int32_t n);
sight_err group_mtp(text_group *g, const mtp_segment *s);
sight_err group_rewind(text_group *g, sequence *seq, int32_t n);
sight_err group_status(text_group *g);
void group_destroy(text_group **g); // but for the first rank's model; accepts NULL; leaves NULL

// ---- job.c: of a rank by itself; rank 0: j ----

sight_err job_begin_rank(struct text_job *j, int32_t rank, const segment *s);
sight_err job_run_rank(struct text_job *j, int32_t rank, double most_ops, bool *done);

// ---- model_load.c ----

// Fills embedding, head, norm, layers and mtp. model_unload frees them, also after a failure.
sight_err model_load(text_model *m, const checkpoint *c);
void model_unload(text_model *m);

// ---- layers.c ----

// ws.h [N, D] += x [N, K] w^T, over all ranks.
void layer_add_product(text_model *m, const float *x, const weight *w, int64_t N);
// Floats per row of ws.mixer, for the widest of the layers; D at least.
int64_t layer_mixer_floats(const text_config *c, bool mtp);
// ws.h [N, D] += the layer, for the parts of a step.
void layer_run(text_model *m, const model_layer *l, const batch_part *parts, int32_t n_parts,
               int64_t N);
// The two halves of it, the mixer's and the MLP's, and how many arithmetic operations each takes, about.
void layer_mix(text_model *m, const model_layer *l, const batch_part *parts, int32_t n_parts, int64_t N);
void layer_mlp(text_model *m, const model_layer *l, int64_t N);
double layer_mix_ops(const text_model *m, const model_layer *l, int64_t past, int64_t N);
double layer_mlp_ops(const text_model *m, int64_t N);
// Brings the states of a linear-attention layer from before the last step to after its first n rows.
void layer_replay(text_model *m, const model_layer *l, sequence *seq, int64_t n);

// ---- model.c ----

// Notes n rows as rows first and on of a step: ids (0 at visual rows) and positions.
void model_note_rows(text_model *m, int64_t first, int64_t n, const int32_t *ids,
                     const uint8_t *visual, const int32_t *positions, int64_t position_stride);
// ws.h, ws.cos and ws.sin of the N rows that were noted.
void model_embed(text_model *m, int64_t N);
// A step in its stages, which text_model_step goes through at once, and text/job.h a slice at a time. begin: checks,
// pages, rows laid out in ws.parts; *N: rows. Codes of text_model_step.
sight_err model_step_begin(text_model *m, int64_t *N, const segment *segments, int32_t n);
// ws.h of the rows: embeddings and features.
void model_step_embed(text_model *m, const segment *segments, int32_t n, int64_t N);
// What follows a layer: rows of DeepStack.
void model_after_layer(text_model *m, int32_t layer, const segment *segments, int32_t n);
// Results, as in model_results; then the sequences are longer, or what was begun is taken back.
sight_err model_step_end(text_model *m, const segment *segments, int32_t n, bool again);
// What failed is not part of any sequence.
void model_step_undo(const segment *segments, int32_t n);
// Of a rank by itself: text_model_step, text_model_rewind, and (mtp.c) text_model_mtp.
sight_err model_step_rank(text_model *m, const segment *segments, int32_t n_segments);
sight_err model_rewind_rank(text_model *m, sequence *seq, int32_t n);
sight_err model_mtp_rank(text_model *m, const mtp_segment *s);
// kernels_step_end, with sums over ranks in the step.
sight_err model_graph_end(text_model *m);
// rows [n, D] of the first rank, which alone has them: a copy in ws.mixer with the others, NULL with them before.
const float *model_shared(text_model *m, const float *rows, int64_t n);
// Whether all ranks take the step, which this one would for err SIGHT_OK; err where it would not.
sight_err model_agree(text_model *m, sight_err err);
// h [n, D] = the rows of features at visual rows.
void model_put_visual(text_model *m, float *h, const float *features, const uint8_t *visual,
                      int64_t n);
// SIGHT_E_ARGUMENT when an id that is not visual has no row in the table, or features are missing.
sight_err model_check_rows(const text_model *m, const int32_t *ids, const uint8_t *visual,
                           const float *features, int32_t n);

// ---- model_results.c ----

// What segments want of a step that is laid out in ws.parts, from ws.h after the last layer. again:
// kernels_step_begin was called; what can be is done before kernels_step_end.
sight_err model_results(text_model *m, const segment *segments, int32_t n, bool again);
// The same for the MTP block, whose rows are all of ws.h, and whose norm is w.
sight_err model_mtp_results(text_model *m, const mtp_segment *s, const float *w, bool again);

#endif
