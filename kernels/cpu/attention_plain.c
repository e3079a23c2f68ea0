// kernels/cpu/attention_plain.c - softmax attention in portable C: what the other levels are held
// against. Each (row, head) runs over its keys once with an online softmax (Milakov and
// Gimelshein, 2018: keep the largest score and the sum of exponentials; rescale when the largest
// grows), so nothing is stored per key.
#include <math.h>

#include "kernels/backend.h"

// A running softmax-weighted sum: out [C] is not yet divided by sum.
typedef struct softmax_sum {
    float *out;
    int64_t C;
    float largest, sum;
} softmax_sum;

static void softmax_start(softmax_sum *s, float *out, int64_t C)
{
    *s = (softmax_sum){out, C, -INFINITY, 0};
    for (int64_t c = 0; c < C; c++) out[c] = 0;
}

// Makes room for a score and gives the share its value is to be added with.
static float softmax_weigh(softmax_sum *s, float score)
{
    if (score > s->largest) {
        const float shrink = expf(s->largest - score);
        s->sum *= shrink;
        for (int64_t c = 0; c < s->C; c++) s->out[c] *= shrink;
        s->largest = score;
    }
    const float share = expf(score - s->largest);
    s->sum += share;
    return share;
}

static void softmax_finish(softmax_sum *s)
{
    const float inverse = 1.0f / s->sum;
    for (int64_t c = 0; c < s->C; c++) s->out[c] *= inverse;
}

// ---- causal, over pages ----

typedef struct attention_job {
    const attention_seq *seqs;
    int64_t S, H, G, C;
    float scale;
} attention_job;

// Component c of a row of the page, rows counted over both parts and all heads.
static float kv_element(const kv_view *kv, const void *page, int64_t row, int64_t c, int64_t G,
                        int64_t C)
{
    const int64_t at = row * C + c;
    if (kv->type == TENSOR_BF16) return bf16_to_f32(((const uint16_t *)page)[at]);
    if (kv->type == TENSOR_F32) return ((const float *)page)[at];
    const void *scales = (const char *)page + kv_scales_at(kv->page_rows, G, C);
    return (float)((const int8_t *)page)[at] *
           ((const float *)scales)[row * kv_groups(C) + c / KV_GROUP];
}

static void attend(const attention_job *j, const attention_seq *seq, int64_t row, int64_t h)
{
    const int64_t C = j->C, g = h / (j->H / j->G), page_rows = seq->kv.page_rows;
    const float *q = seq->q + (row * j->H + h) * C;
    softmax_sum s;
    softmax_start(&s, seq->out + (row * j->H + h) * C, C);
    for (int64_t t = 0; t <= seq->past + row; t++) {
        const void *page = kv_page(&seq->kv, t / page_rows);
        const int64_t key = g * page_rows + t % page_rows, value = key + j->G * page_rows;
        float score = 0;
        for (int64_t c = 0; c < C; c++) {
            score += q[c] * kv_element(&seq->kv, page, key, c, j->G, C);
        }
        const float share = softmax_weigh(&s, score * j->scale);
        for (int64_t c = 0; c < C; c++) {
            s.out[c] += share * kv_element(&seq->kv, page, value, c, j->G, C);
        }
    }
    softmax_finish(&s);
}

// Pieces are (row, head) over all sequences.
static void attention_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const attention_job *j = arg;
    for (int64_t i = begin; i < end; i++) {
        int64_t row = i / j->H, s = 0;
        while (row >= j->seqs[s].n) row -= j->seqs[s++].n;
        attend(j, &j->seqs[s], row, i % j->H);
    }
}

static void attention(kernels *k, const attention_seq *seqs, int64_t S, int64_t H, int64_t G,
                      int64_t C, float scale)
{
    attention_job j = {seqs, S, H, G, C, scale};
    int64_t rows = 0;
    for (int64_t s = 0; s < S; s++) rows += seqs[s].n;
    threads_for(k->pool, rows * H, 1, attention_pieces, &j);
}

// ---- bidirectional, inside spans ----

typedef struct spans_job {
    float *out;
    const float *qkv;
    int64_t span, H, C;
    float scale;
} spans_job;

// Pieces are (row, head).
static void spans_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const spans_job *j = arg;
    const int64_t C = j->C, D = j->H * C;
    for (int64_t i = begin; i < end; i++) {
        const int64_t row = i / j->H, h = i % j->H, first = row / j->span * j->span;
        const float *q = j->qkv + row * 3 * D + h * C;
        softmax_sum s;
        softmax_start(&s, j->out + row * D + h * C, C);
        for (int64_t t = first; t < first + j->span; t++) {
            const float *key = j->qkv + t * 3 * D + D + h * C, *value = key + D;
            float score = 0;
            for (int64_t c = 0; c < C; c++) score += q[c] * key[c];
            const float share = softmax_weigh(&s, score * j->scale);
            for (int64_t c = 0; c < C; c++) s.out[c] += share * value[c];
        }
        softmax_finish(&s);
    }
}

static void attention_spans(kernels *k, float *out, const float *qkv, int64_t spans, int64_t span,
                            int64_t H, int64_t C, float scale)
{
    spans_job j = {out, qkv, span, H, C, scale};
    threads_for(k->pool, spans * span * H, 8, spans_pieces, &j);
}

void attention_plain_fill(backend_ops *ops)
{
    ops->attention = attention;
    ops->attention_spans = attention_spans;
}
