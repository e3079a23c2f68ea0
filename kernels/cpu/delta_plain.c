// kernels/cpu/delta_plain.c - the gated delta rule, one token at a time: op_delta_rule_naive in
// double, straight from the formula, and the plain level of op_delta_rule in float.
#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/backend.h"

#define L2_EPS 1e-6

// ---- naive ----

#define NAIVE_MAX_DK 2048 // 16 KiB of stack

static double inverse_norm_naive(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return 1 / sqrt(sum + L2_EPS);
}

// Column c of value head h: the columns of a state do not touch each other.
static void naive_column(const delta_seq *seq, const delta_shape *shape, int64_t h, int64_t c)
{
    const int64_t Dk = shape->Dk, Dv = shape->Dv;
    const int64_t key_head = delta_key_head(shape, h);
    float *state = seq->state + h * Dk * Dv + c;
    double s[NAIVE_MAX_DK];
    const float *from = seq->before ? seq->before + h * Dk * Dv + c : state;
    for (int64_t i = 0; i < Dk; i++) s[i] = from[i * Dv];
    for (int64_t t = 0; t < seq->n; t++) {
        const float *q = seq->qkv + t * shape->stride + key_head * Dk;
        const float *k = q + shape->key_heads * Dk;
        const float *v = seq->qkv + t * shape->stride + 2 * shape->key_heads * Dk + h * Dv;
        const double q_scale = inverse_norm_naive(q, Dk) / sqrt((double)Dk);
        const double k_scale = inverse_norm_naive(k, Dk);
        const double decay = exp((double)seq->g[t * shape->value_heads + h]);
        double read = 0, out = 0;
        for (int64_t i = 0; i < Dk; i++) read += (s[i] *= decay) * k[i] * k_scale;
        const double d = (v[c] - read) * seq->beta[t * shape->value_heads + h];
        for (int64_t i = 0; i < Dk; i++) {
            s[i] += k[i] * k_scale * d;
            out += s[i] * q[i] * q_scale;
        }
        seq->out[(t * shape->value_heads + h) * Dv + c] = (float)out;
    }
    for (int64_t i = 0; i < Dk; i++) state[i * Dv] = (float)s[i];
}

void op_delta_rule_naive(const delta_seq *seq, const delta_shape *shape)
{
    assert(shape->Dk <= NAIVE_MAX_DK);
    for (int64_t h = 0; h < shape->value_heads; h++) {
        for (int64_t c = 0; c < shape->Dv; c++) naive_column(seq, shape, h, c);
    }
}

// ---- step form in float ----

typedef struct delta_job {
    kernels *k;
    const delta_seq *seqs;
    const delta_shape *shape;
} delta_job;

static void l2_normalise(float *y, const float *x, int64_t n, float scale)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    const float inverse = scale / sqrtf(sum + (float)L2_EPS);
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * inverse;
}

// One token of one head. q, k [Dk] are normalised; d [Dv] is scratch; out [Dv].
static void delta_step(float *S, float *out, float *d, const float *q, const float *k,
                       const float *v, float g, float beta, int64_t Dk, int64_t Dv)
{
    const float decay = expf(g);
    for (int64_t c = 0; c < Dv; c++) d[c] = out[c] = 0;
    for (int64_t i = 0; i < Dk; i++) {
        for (int64_t c = 0; c < Dv; c++) d[c] += (S[i * Dv + c] *= decay) * k[i];
    }
    for (int64_t c = 0; c < Dv; c++) d[c] = (v[c] - d[c]) * beta;
    for (int64_t i = 0; i < Dk; i++) {
        for (int64_t c = 0; c < Dv; c++) out[c] += (S[i * Dv + c] += k[i] * d[c]) * q[i];
    }
}

// Pieces are (sequence, value head).
static void delta_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const delta_job *j = arg;
    const delta_shape *shape = j->shape;
    const int64_t Dk = shape->Dk, Dv = shape->Dv, heads = shape->value_heads;
    float *q = kernels_scratch(j->k, worker, (size_t)(2 * Dk + Dv));
    float *k = q + Dk, *d = k + Dk;
    for (int64_t i = begin; i < end; i++) {
        const delta_seq *seq = &j->seqs[i / heads];
        const int64_t h = i % heads, key_head = delta_key_head(shape, h);
        float *state = seq->state + h * Dk * Dv;
        if (seq->before) {
            memcpy(state, seq->before + h * Dk * Dv, (size_t)(Dk * Dv) * sizeof *state);
        }
        for (int64_t t = 0; t < seq->n; t++) {
            const float *row = seq->qkv + t * shape->stride, *keys = row + shape->key_heads * Dk;
            l2_normalise(q, row + key_head * Dk, Dk, 1.0f / sqrtf((float)Dk));
            l2_normalise(k, keys + key_head * Dk, Dk, 1.0f);
            delta_step(state, seq->out + (t * heads + h) * Dv, d, q, k,
                       keys + shape->key_heads * Dk + h * Dv, seq->g[t * heads + h],
                       seq->beta[t * heads + h], Dk, Dv);
        }
    }
}

static void delta_rule(kernels *k, const delta_seq *seqs, int64_t S, const delta_shape *shape)
{
    delta_job j = {k, seqs, shape};
    threads_for(k->pool, S * shape->value_heads, 1, delta_pieces, &j);
}

void delta_plain_fill(backend_ops *ops)
{
    ops->delta_rule = delta_rule;
}
