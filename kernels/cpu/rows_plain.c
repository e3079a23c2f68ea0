// kernels/cpu/rows_plain.c - the row-wise ops in portable C: what the other levels are held against.
#include <math.h>

#include "kernels/cpu/rows_split.h"

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

static float silu(float x)
{
    return x * sigmoid(x);
}

static float inverse_rms(const float *x, int64_t n, float eps)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    return 1.0f / sqrtf(sum / (float)n + eps);
}

static void row_rms_norm(float *y, const float *x, const float *w, int64_t D, float eps)
{
    const float scale = inverse_rms(x, D, eps);
    for (int64_t d = 0; d < D; d++) y[d] = x[d] * scale * w[d];
}

static void row_layer_norm(float *y, const float *x, const float *w, const float *b, int64_t D,
                           float eps)
{
    float sum = 0, squares = 0;
    for (int64_t d = 0; d < D; d++) sum += x[d];
    const float mean = sum / (float)D;
    for (int64_t d = 0; d < D; d++) squares += (x[d] - mean) * (x[d] - mean);
    const float scale = 1.0f / sqrtf(squares / (float)D + eps);
    for (int64_t d = 0; d < D; d++) y[d] = (x[d] - mean) * scale * w[d] + b[d];
}

static void row_rms_norm_gated(float *y, const float *o, const float *z, const float *w,
                               int64_t C, float eps)
{
    const float scale = inverse_rms(o, C, eps);
    for (int64_t c = 0; c < C; c++) y[c] = o[c] * scale * w[c] * silu(z[c]);
}

static void row_add(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] += x[i];
}

// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
static void row_gelu_tanh(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const float u = 0.7978845608f * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
        y[i] = 0.5f * x[i] * (1.0f + tanhf(u));
    }
}

static void row_gelu_erf(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.7071067812f));
}

static void row_sigmoid_mul(float *y, const float *gate, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] *= sigmoid(gate[i]);
}

static void row_norm_rope(float *y, const float *x, const float *w, const float *cosine,
                          const float *sine, int64_t C, int64_t R, float eps)
{
    if (w) row_rms_norm(y, x, w, C, eps);
    else if (y != x) memcpy(y, x, (size_t)C * sizeof *y);
    for (int64_t j = 0; j < R / 2; j++) {
        const float a = y[j], b = y[j + R / 2];
        y[j] = a * cosine[j] - b * sine[j];
        y[j + R / 2] = b * cosine[j] + a * sine[j];
    }
}

static void conv_channels(const conv_seq *seq, const float *w, int64_t c0, int64_t c1,
                          int64_t channels, int64_t width, int64_t x_stride)
{
    for (int64_t t = 0; t < seq->n; t++) {
        float *y = seq->y + t * channels;
        for (int64_t c = c0; c < c1; c++) {
            float sum = 0;
            for (int64_t i = 0; i < width; i++) {
                const float *x = conv_row(seq, t - (width - 1) + i, channels, width, x_stride);
                sum += x[c] * w[c * width + i];
            }
            y[c] = silu(sum);
        }
    }
    conv_leave_tail(seq, c0, c1, channels, width, x_stride);
}

static void row_from_bf16(float *y, const uint16_t *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = bf16_to_f32(x[i]);
}

static void row_to_bf16(uint16_t *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = f32_to_bf16(x[i]);
}

void rows_plain_fill(backend_ops *ops)
{
    rows_fill(ops);
}
