// One decoder layer over the rows of a step: full or linear attention, then the gated MLP.
//
// Formulas: docs/MODEL.md. Scratch is cut from ws.mixer for the rows at hand, so that a step of few
// rows touches little memory.
#include <math.h>

#include "kernels/fused.h"
#include "text/model_parts.h"

static int64_t max_of(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t query_floats(const text_config *c)
{
    return (int64_t)c->heads * c->head_dim;
}

static int64_t kv_floats(const text_config *c)
{
    return (int64_t)c->kv_heads * c->head_dim;
}

static int64_t value_floats(const text_config *c)
{
    return (int64_t)c->linear_value_heads * c->linear_value_dim;
}

static int64_t conv_channels(const text_config *c)
{
    return (int64_t)2 * c->linear_key_heads * c->linear_key_dim + value_floats(c);
}

int64_t layer_mixer_floats(const text_config *c, bool mtp)
{
    int64_t widest = max_of(c->intermediate, c->hidden);
    bool full = mtp;
    for (int32_t i = 0; i < c->n_layers; i++) {
        if (c->layers[i] == LAYER_FULL) full = true;
        else widest = max_of(widest, 2 * conv_channels(c) + value_floats(c) +
                                         4 * (int64_t)c->linear_value_heads);
    }
    int64_t queries = query_floats(c) * (c->attention_gate ? 4 : 2);
    if (full) widest = max_of(widest, queries + 2 * kv_floats(c));
    if (mtp) widest = max_of(widest, 3 * (int64_t)c->hidden); // the inputs of mtp.fc
    return widest;
}

// ws.h is the same on every rank, and is to be in the sum once: the first rank adds to it, the others to nothing.
void layer_add_product(text_model *m, const float *x, const weight *w, int64_t N)
{
    const int64_t D = m->config->text.hidden;
    if (m->at.rank > 0) op_zero(m->k, m->ws.h, (size_t)(N * D) * sizeof *m->ws.h);
    op_linear_add(m->k, m->ws.h, x, w, N);
    if (m->group) collective_add(m->group, m->at.rank, m->ws.h, N * D);
}

// ---- full attention ----

// How many of a part's rows are one unit of attention. What can be taken back must be, bit for bit,
// what rows one at a time give: attention keeps that for few rows of a key head (docs/KERNELS.md).
#define ALIKE_TOKENS 7
#define ALIKE_ROWS   48

static int64_t unit_rows(const batch_part *p, const text_config *c)
{
    const bool alike = p->n <= ALIKE_TOKENS && p->n * c->heads / c->kv_heads <= ALIKE_ROWS;
    return p->rewindable && !alike ? 1 : p->n;
}

// Rows of a full-attention layer: what the products leave, and what is made of it. With a gate q_proj's rows hold [query,
// gate] of each head side by side; without, the queries alone, which are turned in place.
typedef struct full_rows {
    float *projected; // [N, H, head]
    float *k, *v;     // [N, G, C]
    float *q, *out;   // [N, H, C]
    int64_t head;     // floats of a head in projected: 2 C, or C
} full_rows;

static full_rows cut_full(const text_model *m, int64_t N)
{
    const text_config *c = &m->config->text;
    full_rows r = {.projected = m->ws.mixer, .head = c->attention_gate ? 2 * c->head_dim : c->head_dim};
    r.k = r.projected + N * c->heads * r.head;
    r.v = r.k + N * kv_floats(c);
    r.out = r.v + N * kv_floats(c);
    r.q = c->attention_gate ? r.out + N * query_floats(c) : r.projected;
    return r;
}

// Queries normed and turned; keys alike, and with the values in their pages.
static void place_heads(text_model *m, const model_layer *l, const full_rows *r, const batch_part *parts,
                        int32_t n_parts, int64_t N)
{
    const text_config *c = &m->config->text;
    const full_part *f = &l->full;
    const int64_t H = c->heads, G = c->kv_heads, C = c->head_dim, R = rope_rotary(c);
    const float eps = (float)c->rms_eps;
    kv_rows *written = m->ws.written;
    for (int32_t i = 0; i < n_parts; i++) {
        const batch_part *p = &parts[i];
        written[i] = (kv_rows){.kv = sequence_kv(p->seq, l->slot), .first = p->first, .n = p->n, .past = p->past};
    }
    const heads_rows heads = {.q_out = r->q, .q = r->projected, .k = r->k, .v = r->v, .q_norm = f->q_norm,
                              .k_norm = f->k_norm, .cos = m->ws.cos, .sin = m->ws.sin, .q_row_stride = H * r->head,
                              .q_head_stride = r->head, .H = H, .G = G, .C = C, .R = R, .eps = eps};
    if (op_heads_write(m->k, &heads, written, n_parts)) return;
    op_norm_rope(m->k, r->q, r->projected, f->q_norm, m->ws.cos, m->ws.sin, N, H, C, R, H * r->head, r->head, eps);
    op_norm_rope(m->k, r->k, r->k, f->k_norm, m->ws.cos, m->ws.sin, N, G, C, R, G * C, C, eps);
    op_kv_write_many(m->k, written, n_parts, r->k, r->v, G, C);
}

static void attend(text_model *m, const full_rows *r, const batch_part *parts, int32_t n_parts, int64_t N)
{
    const text_config *c = &m->config->text;
    const int64_t H = c->heads, G = c->kv_heads, C = c->head_dim, row_floats = H * r->head;
    const float scale = (float)(1 / sqrt(c->head_dim));
    int64_t units = 0;
    for (int32_t i = 0; i < n_parts; i++) {
        const batch_part *p = &parts[i];
        const int64_t n = unit_rows(p, c);
        for (int64_t row = 0; row < p->n; row += n) {
            m->ws.gates[units] = r->projected + (p->first + row) * row_floats + C;
            m->ws.attention[units++] = (attention_seq){
                .q = r->q + (p->first + row) * query_floats(c),
                .out = r->out + (p->first + row) * query_floats(c),
                .n = n,
                .past = p->past + row,
                .kv = m->ws.written[i].kv,
            };
        }
    }
    const gated_attention gated = {m->ws.gates, row_floats, r->head};
    if (c->attention_gate && op_attention_gated(m->k, m->ws.attention, units, H, G, C, scale, &gated)) return;
    op_attention(m->k, m->ws.attention, units, H, G, C, scale);
    if (c->attention_gate) op_sigmoid_mul(m->k, r->out, r->projected + C, N, H, C, row_floats, r->head);
}

// y[i] = rms_norm(ws.h, norm) w[i]^T
static void project(text_model *m, float *const *y, const weight *const *w, int n_w, const float *norm, int64_t N)
{
    const text_config *c = &m->config->text;
    const norm_of of = {norm, (float)c->rms_eps};
    if (op_linear_normed(m->k, y, m->ws.h, &of, w, n_w, N)) return;
    op_rms_norm(m->k, m->ws.x, m->ws.h, norm, N, c->hidden, of.eps);
    op_linear_many(m->k, y, m->ws.x, w, n_w, N);
}

static void run_full(text_model *m, const model_layer *l, const batch_part *parts,
                     int32_t n_parts, int64_t N)
{
    const full_rows r = cut_full(m, N);
    const weight *w[] = {&l->full.q, &l->full.k, &l->full.v};
    float *y[] = {r.projected, r.k, r.v};
    project(m, y, w, 3, l->input_norm, N);
    place_heads(m, l, &r, parts, n_parts, N);
    attend(m, &r, parts, n_parts, N);
    layer_add_product(m, r.out, &l->full.o, N);
}

// ---- linear attention ----

static void convolve(text_model *m, const model_layer *l, float *y, const float *x,
                     const batch_part *parts, int32_t n_parts)
{
    const text_config *c = &m->config->text;
    const int64_t channels = conv_channels(c);
    for (int32_t i = 0; i < n_parts; i++) {
        const batch_part *p = &parts[i];
        m->ws.conv[i] = (conv_seq){
            .y = y + p->first * channels,
            .x = x + p->first * channels,
            .tail = sequence_conv(p->seq, l->slot),
            .n = p->n,
        };
    }
    op_conv_silu(m->k, m->ws.conv, n_parts, l->linear.conv, channels, c->conv_width, channels);
}

static delta_shape shape_of(const text_config *c)
{
    return (delta_shape){.key_heads = c->linear_key_heads,
                         .value_heads = c->linear_value_heads,
                         .Dk = c->linear_key_dim,
                         .Dv = c->linear_value_dim,
                         .stride = conv_channels(c),
                         .tiled = c->tiled_value_heads};
}

static void delta(text_model *m, const model_layer *l, float *out, const float *qkv,
                  const float *g, const float *beta, const batch_part *parts, int32_t n_parts)
{
    const text_config *c = &m->config->text;
    const delta_shape shape = shape_of(c);
    for (int32_t i = 0; i < n_parts; i++) {
        const batch_part *p = &parts[i];
        m->ws.delta[i] = (delta_seq){
            .qkv = qkv + p->first * shape.stride,
            .g = g + p->first * shape.value_heads,
            .beta = beta + p->first * shape.value_heads,
            .out = out + p->first * value_floats(c),
            .state = sequence_delta(p->seq, l->slot),
            .before = p->rewindable ? sequence_delta_before(p->seq, l->slot) : NULL,
            .n = p->n,
        };
    }
    op_delta_rule(m->k, m->ws.delta, n_parts, &shape);
}

// A part's rows of a step's, `width` floats each.
static copy_part rows_of(float *to, const float *from, const batch_part *p, int64_t width)
{
    return (copy_part){to, from + p->first * width, (size_t)(p->n * width) * sizeof *to};
}

// For parts that can be taken back: the convolution goes on in the second set of states, and the
// layer's inputs are kept.
static void record(text_model *m, const model_layer *l, const float *x, const float *g,
                   const float *beta, const batch_part *parts, int32_t n_parts)
{
    const text_config *c = &m->config->text;
    const int64_t channels = conv_channels(c), V = c->linear_value_heads;
    copy_part *copies = m->ws.copies;
    int64_t n = 0;
    for (int32_t i = 0; i < n_parts; i++) {
        const batch_part *p = &parts[i];
        if (!p->rewindable) continue;
        const layer_record r = sequence_record(p->seq, l->slot);
        copies[n++] = rows_of(r.x, x, p, channels);
        copies[n++] = rows_of(r.g, g, p, V);
        copies[n++] = rows_of(r.beta, beta, p, V);
        copies[n++] = (copy_part){sequence_conv(p->seq, l->slot),
                                  sequence_conv_before(p->seq, l->slot),
                                  (size_t)((c->conv_width - 1) * channels) * sizeof *x};
    }
    op_copy_parts(m->k, copies, n);
}

void layer_replay(text_model *m, const model_layer *l, sequence *seq, int64_t n)
{
    const layer_record r = sequence_record(seq, l->slot);
    const batch_part part = {.seq = seq, .n = n};
    float *qkv = m->ws.mixer, *out = qkv + n * conv_channels(&m->config->text);
    convolve(m, l, qkv, r.x, &part, 1);
    delta(m, l, out, qkv, r.g, r.beta, &part, 1);
}

// Rows of a step in a linear-attention layer: what the products leave, and what is made of it.
typedef struct mixer_rows {
    float *x, *qkv;  // [N, channels]: into the convolution, and out of it
    float *z;        // [N, V, value_dim]
    float *a, *b;    // [N, V]
    float *g, *beta; // [N, V]
} mixer_rows;

static mixer_rows cut_rows(const text_model *m, int64_t N)
{
    const text_config *c = &m->config->text;
    const int64_t V = c->linear_value_heads;
    mixer_rows r = {.x = m->ws.mixer};
    r.qkv = r.x + N * conv_channels(c);
    r.z = r.qkv + N * conv_channels(c);
    r.a = r.z + N * value_floats(c);
    r.b = r.a + N * V;
    r.g = r.b + N * V;
    r.beta = r.g + N * V;
    return r;
}

// Steps of one row of each sequence, where the backend has all of it in one go. false: it has not, and
// nothing was done.
static bool mix_at_once(text_model *m, const model_layer *l, float *out, const mixer_rows *r,
                        const batch_part *parts, int32_t n_parts)
{
    const text_config *c = &m->config->text;
    const linear_part *p = &l->linear;
    const delta_shape shape = shape_of(c);
    const mixer_weights w = {.conv = p->conv, .width = c->conv_width, .A_log = p->A_log,
                             .dt_bias = p->dt_bias, .norm = p->norm, .eps = (float)c->rms_eps};
    for (int32_t i = 0; i < n_parts; i++) {
        sequence *seq = parts[i].seq;
        if (parts[i].n != 1 || parts[i].rewindable) return false;
        m->ws.mixers[i] = (mixer_seq){
            .x = r->x + i * shape.stride,
            .z = r->z + i * value_floats(c),
            .a = r->a + i * shape.value_heads,
            .b = r->b + i * shape.value_heads,
            .out = out + i * value_floats(c),
            .tail = sequence_conv(seq, l->slot),
            .state = sequence_delta(seq, l->slot),
        };
    }
    return op_delta_mixer(m->k, m->ws.mixers, n_parts, &w, &shape);
}

static void mix(text_model *m, const model_layer *l, float *out, const mixer_rows *r,
                const batch_part *parts, int32_t n_parts, int64_t N)
{
    const text_config *c = &m->config->text;
    const linear_part *p = &l->linear;
    const int64_t V = c->linear_value_heads;
    op_delta_gates(m->k, r->g, r->beta, r->a, r->b, p->A_log, p->dt_bias, N, V);
    record(m, l, r->x, r->g, r->beta, parts, n_parts);
    convolve(m, l, r->qkv, r->x, parts, n_parts);
    delta(m, l, out, r->qkv, r->g, r->beta, parts, n_parts);
    op_rms_norm_gated(m->k, out, out, r->z, p->norm, N, V, c->linear_value_dim, (float)c->rms_eps);
}

static void run_linear(text_model *m, const model_layer *l, const batch_part *parts,
                       int32_t n_parts, int64_t N)
{
    const linear_part *p = &l->linear;
    const mixer_rows r = cut_rows(m, N);
    const weight *w[] = {&p->qkv, &p->z, &p->a, &p->b};
    float *y[] = {r.x, r.z, r.a, r.b};
    project(m, y, w, 4, l->input_norm, N);
    float *out = r.qkv;
    if (!mix_at_once(m, l, out, &r, parts, n_parts)) {
        out = r.x; // the convolution has used it up by then
        mix(m, l, out, &r, parts, n_parts, N);
    }
    layer_add_product(m, out, &p->out, N);
}

// ---- the layer ----

void layer_mix(text_model *m, const model_layer *l, const batch_part *parts, int32_t n_parts, int64_t N)
{
    if (l->kind == LAYER_FULL) run_full(m, l, parts, n_parts, N);
    else run_linear(m, l, parts, n_parts, N);
}

void layer_mlp(text_model *m, const model_layer *l, int64_t N)
{
    const text_config *c = &m->config->text;
    workspace *ws = &m->ws;
    const norm_of of = {l->post_norm, (float)c->rms_eps};
    if (!op_linear_silu_mul_normed(m->k, ws->mixer, ws->h, &of, &l->mlp.gate, &l->mlp.up, N)) {
        op_rms_norm(m->k, ws->x, ws->h, l->post_norm, N, c->hidden, of.eps);
        op_linear_silu_mul(m->k, ws->mixer, ws->x, &l->mlp.gate, &l->mlp.up, N);
    }
    layer_add_product(m, ws->mixer, &l->mlp.down, N);
}

void layer_run(text_model *m, const model_layer *l, const batch_part *parts, int32_t n_parts,
               int64_t N)
{
    layer_mix(m, l, parts, n_parts, N);
    layer_mlp(m, l, N);
}

// A multiply and an add for every weight and row, and of attention for every key that a row sees.
double layer_mix_ops(const text_model *m, const model_layer *l, int64_t past, int64_t N)
{
    const text_config *c = &m->config->text;
    const double D = c->hidden, Q = (double)query_floats(c), n = (double)N;
    if (l->kind != LAYER_FULL) {
        const double state = (double)c->linear_key_dim * (double)value_floats(c);
        return 2 * n * D * ((double)conv_channels(c) + 2 * (double)value_floats(c)) + 8 * n * state;
    }
    const double products = D * (Q * (c->attention_gate ? 3 : 2) + 2 * (double)kv_floats(c));
    return 2 * n * products + 4 * n * ((double)past + n / 2) * Q;
}

double layer_mlp_ops(const text_model *m, int64_t N)
{
    return 6 * (double)N * m->config->text.hidden * m->config->text.intermediate;
}
