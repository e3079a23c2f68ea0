// kernels/cpu/rows_split.h - how the row-wise ops are split over threads; the same for every level.
//
// A level's rows_<level>.c defines the row_* loops below (each for one row, in its instructions)
// and then includes this file, which gives the entries of the table. Pieces hold whole rows, so a
// row's result does not depend on how rows are split.
#ifndef SIGHT_KERNELS_CPU_ROWS_SPLIT_H
#define SIGHT_KERNELS_CPU_ROWS_SPLIT_H

#include <math.h>
#include <string.h>

#include "kernels/backend.h"

// Floats of a piece: some microseconds of work, so that a decode step stays on one thread.
#define PIECE_FLOATS 16384

// What the including file defines.
static void row_rms_norm(float *y, const float *x, const float *w, int64_t D, float eps);
static void row_layer_norm(float *y, const float *x, const float *w, const float *b, int64_t D,
                           float eps);
static void row_rms_norm_gated(float *y, const float *o, const float *z, const float *w,
                               int64_t C, float eps);
static void row_add(float *y, const float *x, int64_t n);
static void row_gelu_tanh(float *y, const float *x, int64_t n);
static void row_gelu_erf(float *y, const float *x, int64_t n);
static void row_sigmoid_mul(float *y, const float *gate, int64_t n);
// w NULL: no norm. y may be x.
static void row_norm_rope(float *y, const float *x, const float *w, const float *cosine,
                          const float *sine, int64_t C, int64_t R, float eps);
// Channels c0 .. c1 - 1 of one sequence, tail included.
static void conv_channels(const conv_seq *seq, const float *w, int64_t c0, int64_t c1,
                          int64_t channels, int64_t width, int64_t x_stride);
static void row_from_bf16(float *y, const uint16_t *x, int64_t n);
static void row_to_bf16(uint16_t *y, const float *x, int64_t n);

static int64_t rows_grain(int64_t floats_per_row)
{
    return floats_per_row >= PIECE_FLOATS ? 1 : PIECE_FLOATS / floats_per_row;
}

// ---- embedding ----

typedef struct embed_job {
    float *y;
    const int32_t *ids;
    const tensor_view *table;
} embed_job;

static void embed_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const embed_job *j = arg;
    const int64_t D = j->table->shape[1];
    for (int64_t i = begin; i < end; i++) {
        const int64_t first = j->ids[i] * D;
        float *y = j->y + i * D;
        if (j->table->type == TENSOR_F32) {
            memcpy(y, (const float *)j->table->data + first, (size_t)D * sizeof *y);
        } else if (j->table->type == TENSOR_BF16) {
            row_from_bf16(y, (const uint16_t *)j->table->data + first, D);
        } else {
            for (int64_t d = 0; d < D; d++) y[d] = tensor_get_f32(j->table, first + d);
        }
    }
}

static void rows_embed(kernels *k, float *y, const int32_t *ids, const weight *table,
                       int64_t N)
{
    embed_job j = {y, ids, &table->w};
    threads_for(k->pool, N, rows_grain(table->w.shape[1]), embed_rows, &j);
}

// ---- norms ----

typedef struct norm_job {
    float *y;
    const float *x, *z, *w, *b;
    int64_t D;
    float eps;
} norm_job;

static void rms_norm_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const norm_job *j = arg;
    for (int64_t i = begin; i < end; i++) {
        row_rms_norm(j->y + i * j->D, j->x + i * j->D, j->w, j->D, j->eps);
    }
}

static void rows_rms_norm(kernels *k, float *y, const float *x, const float *w, int64_t N,
                          int64_t D, float eps)
{
    norm_job j = {.y = y, .x = x, .w = w, .D = D, .eps = eps};
    threads_for(k->pool, N, rows_grain(D), rms_norm_rows, &j);
}

static void layer_norm_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const norm_job *j = arg;
    for (int64_t i = begin; i < end; i++) {
        row_layer_norm(j->y + i * j->D, j->x + i * j->D, j->w, j->b, j->D, j->eps);
    }
}

static void rows_layer_norm(kernels *k, float *y, const float *x, const float *w, const float *b,
                            int64_t N, int64_t D, float eps)
{
    norm_job j = {.y = y, .x = x, .w = w, .b = b, .D = D, .eps = eps};
    threads_for(k->pool, N, rows_grain(D), layer_norm_rows, &j);
}

static void rms_norm_gated_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const norm_job *j = arg;
    for (int64_t i = begin; i < end; i++) {
        const int64_t at = i * j->D;
        row_rms_norm_gated(j->y + at, j->x + at, j->z + at, j->w, j->D, j->eps);
    }
}

static void rows_rms_norm_gated(kernels *k, float *y, const float *o, const float *z,
                                const float *w, int64_t N, int64_t heads, int64_t C, float eps)
{
    norm_job j = {.y = y, .x = o, .z = z, .w = w, .D = C, .eps = eps};
    threads_for(k->pool, N * heads, rows_grain(C), rms_norm_gated_rows, &j);
}

// ---- elementwise ----

typedef struct map_job {
    float *y;
    const float *x;
    void (*map)(float *y, const float *x, int64_t n);
} map_job;

static void map_piece(void *arg, int64_t begin, int64_t end, int worker)
{
    const map_job *j = arg;
    j->map(j->y + begin, j->x + begin, end - begin);
}

static void rows_add(kernels *k, float *y, const float *x, int64_t n)
{
    map_job j = {y, x, row_add};
    threads_for(k->pool, n, PIECE_FLOATS, map_piece, &j);
}

static void rows_gelu_tanh(kernels *k, float *y, const float *x, int64_t n)
{
    map_job j = {y, x, row_gelu_tanh};
    threads_for(k->pool, n, PIECE_FLOATS, map_piece, &j);
}

static void rows_gelu_erf(kernels *k, float *y, const float *x, int64_t n)
{
    map_job j = {y, x, row_gelu_erf};
    threads_for(k->pool, n, PIECE_FLOATS, map_piece, &j);
}

// ---- heads inside wider rows ----

typedef struct heads_job {
    float *y;
    const float *x, *w, *cosine, *sine;
    int64_t H, C, R, row_stride, head_stride;
    float eps;
} heads_job;

static void sigmoid_mul_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const heads_job *j = arg;
    for (int64_t i = begin; i < end; i++) {
        for (int64_t h = 0; h < j->H; h++) {
            row_sigmoid_mul(j->y + (i * j->H + h) * j->C,
                            j->x + i * j->row_stride + h * j->head_stride, j->C);
        }
    }
}

static void rows_sigmoid_mul(kernels *k, float *y, const float *gate, int64_t N, int64_t H,
                             int64_t C, int64_t row_stride, int64_t head_stride)
{
    heads_job j = {.y = y, .x = gate, .H = H, .C = C, .row_stride = row_stride,
                   .head_stride = head_stride};
    threads_for(k->pool, N, rows_grain(H * C), sigmoid_mul_rows, &j);
}

static void norm_rope_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const heads_job *j = arg;
    for (int64_t i = begin; i < end; i++) {
        const float *cosine = j->cosine + i * (j->R / 2);
        const float *sine = j->sine + i * (j->R / 2);
        for (int64_t h = 0; h < j->H; h++) {
            row_norm_rope(j->y + (i * j->H + h) * j->C,
                          j->x + i * j->row_stride + h * j->head_stride, j->w, cosine, sine, j->C,
                          j->R, j->eps);
        }
    }
}

static void rows_norm_rope(kernels *k, float *y, const float *x, const float *w,
                           const float *cosine, const float *sine, int64_t N, int64_t H,
                           int64_t C, int64_t R, int64_t row_stride, int64_t head_stride,
                           float eps)
{
    heads_job j = {y, x, w, cosine, sine, H, C, R, row_stride, head_stride, eps};
    threads_for(k->pool, N, rows_grain(H * C), norm_rope_rows, &j);
}

// ---- convolution over time ----

// Channels of a piece: whole cache lines, and a long segment is shared by many threads.
#define CONV_CHANNELS 256

typedef struct conv_job {
    const conv_seq *seqs;
    const float *w;
    int64_t channels, width, x_stride, pieces; // pieces of one sequence
} conv_job;

static void conv_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const conv_job *j = arg;
    for (int64_t i = begin; i < end; i++) {
        const int64_t c0 = i % j->pieces * CONV_CHANNELS;
        const int64_t c1 = c0 + CONV_CHANNELS < j->channels ? c0 + CONV_CHANNELS : j->channels;
        conv_channels(&j->seqs[i / j->pieces], j->w, c0, c1, j->channels, j->width, j->x_stride);
    }
}

static void rows_conv_silu(kernels *k, const conv_seq *seqs, int64_t S, const float *w,
                           int64_t channels, int64_t width, int64_t x_stride)
{
    int64_t longest = 0;
    for (int64_t s = 0; s < S; s++) longest = seqs[s].n > longest ? seqs[s].n : longest;
    conv_job j = {seqs, w, channels, width, x_stride,
                  (channels + CONV_CHANNELS - 1) / CONV_CHANNELS};
    threads_for(k->pool, S * j.pieces, longest > 0 ? rows_grain(longest * CONV_CHANNELS) : 1,
                conv_pieces, &j);
}

// The tail after n rows: its last width - 1 of (old tail, x). Shared by all levels.
static inline void conv_leave_tail(const conv_seq *seq, int64_t c0, int64_t c1, int64_t channels,
                                   int64_t width, int64_t x_stride)
{
    const size_t bytes = (size_t)(c1 - c0) * sizeof(float);
    for (int64_t t = 0; t < width - 1; t++) {
        const int64_t from = seq->n + t; // row of (tail, x)
        const float *source = from < width - 1 ? seq->tail + from * channels
                                               : seq->x + (from - (width - 1)) * x_stride;
        memcpy(seq->tail + t * channels + c0, source + c0, bytes);
    }
}

// Row t of x, where rows before the first are those of the tail.
static inline const float *conv_row(const conv_seq *seq, int64_t t, int64_t channels,
                                    int64_t width, int64_t x_stride)
{
    return t < 0 ? seq->tail + (width - 1 + t) * channels : seq->x + t * x_stride;
}

// ---- gates of the delta rule ----

typedef struct gates_job {
    float *g, *beta;
    const float *a, *b, *A_log, *dt_bias;
    int64_t heads;
} gates_job;

// A few dozen numbers a row: the C library's functions do at every level.
static inline void row_delta_gates(float *g, float *beta, const float *a, const float *b,
                                   const float *A_log, const float *dt_bias, int64_t heads)
{
    for (int64_t h = 0; h < heads; h++) {
        const float x = a[h] + dt_bias[h];
        g[h] = -expf(A_log[h]) * (x > 20.0f ? x : log1pf(expf(x)));
        beta[h] = 1.0f / (1.0f + expf(-b[h]));
    }
}

static void delta_gates_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const gates_job *j = arg;
    for (int64_t i = begin; i < end; i++) {
        const int64_t at = i * j->heads;
        row_delta_gates(j->g + at, j->beta + at, j->a + at, j->b + at, j->A_log, j->dt_bias,
                        j->heads);
    }
}

static void rows_delta_gates(kernels *k, float *g, float *beta, const float *a, const float *b,
                             const float *A_log, const float *dt_bias, int64_t N, int64_t heads)
{
    gates_job j = {g, beta, a, b, A_log, dt_bias, heads};
    threads_for(k->pool, N, rows_grain(heads * 8), delta_gates_rows, &j);
}

// ---- keys and values into their pages ----

typedef struct kv_job {
    const kv_view *kv;
    const float *k, *v; // [n, G, C]
    int64_t past, G, C;
} kv_job;

// The largest of a group becomes 127. Sizes are compared as bits, which the compiler makes vectors of;
// a number that is not finite makes its group zeros.
static inline void group_to_i8(int8_t *y, float *scale, const float *x, int64_t n)
{
    union {
        float f;
        uint32_t u;
    } largest = {0}, v;
    for (int64_t i = 0; i < n; i++) {
        v.f = x[i];
        v.u &= 0x7fffffff;
        largest.u = v.u > largest.u ? v.u : largest.u;
    }
    const bool some = largest.f >= 1e-30f && largest.u < 0x7f800000;
    const float inverse = some ? 127.0f / largest.f : 0;
    *scale = some ? largest.f / 127.0f : 0;
    if (!some) memset(y, 0, (size_t)n);
    for (int64_t i = 0; some && i < n; i++) y[i] = (int8_t)rintf(x[i] * inverse);
}

static inline void row_to_i8(int8_t *y, float *scales, const float *x, int64_t C)
{
    for (int64_t c = 0; c < C; c += KV_GROUP) {
        group_to_i8(y + c, scales + c / KV_GROUP, x + c, C - c < KV_GROUP ? C - c : KV_GROUP);
    }
}

static void kv_write_part(const kv_view *kv, const float *x, int64_t part, int64_t token,
                          int64_t g, int64_t G, int64_t C)
{
    char *page = kv_page(kv, token / kv->page_rows);
    const int64_t row = (part * G + g) * kv->page_rows + token % kv->page_rows, at = row * C;
    if (kv->type == TENSOR_I8) {
        float *scales = (float *)(void *)(page + kv_scales_at(kv->page_rows, G, C));
        row_to_i8((int8_t *)page + at, scales + row * kv_groups(C), x, C);
    } else if (kv->type == TENSOR_BF16) {
        row_to_bf16((uint16_t *)(void *)page + at, x, C);
    } else {
        memcpy((float *)(void *)page + at, x, (size_t)C * sizeof *x);
    }
}

static void kv_write_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const kv_job *j = arg;
    for (int64_t i = begin; i < end; i++) {
        for (int64_t g = 0; g < j->G; g++) {
            const int64_t at = (i * j->G + g) * j->C;
            kv_write_part(j->kv, j->k + at, 0, j->past + i, g, j->G, j->C);
            kv_write_part(j->kv, j->v + at, 1, j->past + i, g, j->G, j->C);
        }
    }
}

static void rows_kv_write(kernels *kk, const kv_view *kv, const float *k, const float *v,
                          int64_t past, int64_t n, int64_t G, int64_t C)
{
    kv_job j = {kv, k, v, past, G, C};
    threads_for(kk->pool, n, rows_grain(2 * G * C), kv_write_rows, &j);
}

static void rows_fill(backend_ops *ops)
{
    ops->embed = rows_embed;
    ops->rms_norm = rows_rms_norm;
    ops->layer_norm = rows_layer_norm;
    ops->rms_norm_gated = rows_rms_norm_gated;
    ops->add = rows_add;
    ops->gelu_tanh = rows_gelu_tanh;
    ops->gelu_erf = rows_gelu_erf;
    ops->sigmoid_mul = rows_sigmoid_mul;
    ops->norm_rope = rows_norm_rope;
    ops->conv_silu = rows_conv_silu;
    ops->delta_gates = rows_delta_gates;
    ops->kv_write = rows_kv_write;
}

#endif
