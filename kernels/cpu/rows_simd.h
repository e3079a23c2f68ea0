// kernels/cpu/rows_simd.h - the row-wise ops over vec, for rows_<level>.c to include.
#ifndef SIGHT_KERNELS_CPU_ROWS_SIMD_H
#define SIGHT_KERNELS_CPU_ROWS_SIMD_H

#include "kernels/cpu/math_vec.h"
#include "kernels/cpu/rows_split.h"

// Four sums side by side: their additions do not wait for each other.
static float sum_of_squares(const float *x, int64_t n, float minus)
{
    const vec m = vec_set(minus);
    vec s[4] = {vec_set(0), vec_set(0), vec_set(0), vec_set(0)};
    int64_t i = 0;
    for (; i + 4 * VEC_N <= n; i += 4 * VEC_N) {
        for (int j = 0; j < 4; j++) {
            const vec d = vec_load(x + i + j * VEC_N) - m;
            s[j] = vec_fma(d, d, s[j]);
        }
    }
    for (; i + VEC_N <= n; i += VEC_N) {
        const vec d = vec_load(x + i) - m;
        s[0] = vec_fma(d, d, s[0]);
    }
    float sum = vec_sum((s[0] + s[1]) + (s[2] + s[3]));
    for (; i < n; i++) sum += (x[i] - minus) * (x[i] - minus);
    return sum;
}

static float sum_of(const float *x, int64_t n)
{
    vec s[4] = {vec_set(0), vec_set(0), vec_set(0), vec_set(0)};
    int64_t i = 0;
    for (; i + 4 * VEC_N <= n; i += 4 * VEC_N) {
        for (int j = 0; j < 4; j++) s[j] = s[j] + vec_load(x + i + j * VEC_N);
    }
    for (; i < n; i += VEC_N) s[0] = s[0] + vec_get(x + i, n - i);
    return vec_sum((s[0] + s[1]) + (s[2] + s[3]));
}

static float inverse_rms(const float *x, int64_t n, float eps)
{
    return 1.0f / sqrtf(sum_of_squares(x, n, 0) / (float)n + eps);
}

static void row_rms_norm(float *y, const float *x, const float *w, int64_t D, float eps)
{
    const vec scale = vec_set(inverse_rms(x, D, eps));
    for (int64_t d = 0; d < D; d += VEC_N) {
        vec_put(y + d, vec_get(x + d, D - d) * scale * vec_get(w + d, D - d), D - d);
    }
}

static void row_layer_norm(float *y, const float *x, const float *w, const float *b, int64_t D,
                           float eps)
{
    const float mean = sum_of(x, D) / (float)D;
    const float variance = sum_of_squares(x, D, mean) / (float)D;
    const vec m = vec_set(mean), scale = vec_set(1.0f / sqrtf(variance + eps));
    for (int64_t d = 0; d < D; d += VEC_N) {
        const vec normal = (vec_get(x + d, D - d) - m) * scale;
        vec_put(y + d, vec_fma(normal, vec_get(w + d, D - d), vec_get(b + d, D - d)), D - d);
    }
}

static void row_rms_norm_gated(float *y, const float *o, const float *z, const float *w,
                               int64_t C, float eps)
{
    const vec scale = vec_set(inverse_rms(o, C, eps));
    for (int64_t c = 0; c < C; c += VEC_N) {
        const vec normal = vec_get(o + c, C - c) * scale * vec_get(w + c, C - c);
        vec_put(y + c, normal * vec_silu(vec_get(z + c, C - c)), C - c);
    }
}

static void row_add(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += VEC_N) {
        vec_put(y + i, vec_get(y + i, n - i) + vec_get(x + i, n - i), n - i);
    }
}

static void row_gelu_tanh(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += VEC_N) {
        vec_put(y + i, vec_gelu_tanh(vec_get(x + i, n - i)), n - i);
    }
}

static void row_gelu_erf(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += VEC_N) {
        vec_put(y + i, vec_gelu_erf(vec_get(x + i, n - i)), n - i);
    }
}

static void row_sigmoid_mul(float *y, const float *gate, int64_t n)
{
    for (int64_t i = 0; i < n; i += VEC_N) {
        const vec e = vec_exp(vec_set(0) - vec_get(gate + i, n - i));
        vec_put(y + i, vec_get(y + i, n - i) / (vec_set(1) + e), n - i);
    }
}

static void row_norm_rope(float *y, const float *x, const float *w, const float *cosine,
                          const float *sine, int64_t C, int64_t R, float eps)
{
    const int64_t half = R / 2;
    if (w) row_rms_norm(y, x, w, C, eps);
    else if (y != x) memcpy(y, x, (size_t)C * sizeof *y);
    for (int64_t j = 0; j < half; j += VEC_N) {
        const int64_t n = half - j;
        const vec a = vec_get(y + j, n), b = vec_get(y + half + j, n);
        const vec co = vec_get(cosine + j, n), si = vec_get(sine + j, n);
        vec_put(y + j, vec_fnma(b, si, a * co), n);
        vec_put(y + half + j, vec_fma(a, si, b * co), n);
    }
}

// The models' width: weights are turned once into four vectors per VEC_N channels.
static void conv_channels_of_4(const conv_seq *seq, const float *w, int64_t c, int64_t n,
                               int64_t channels, int64_t x_stride)
{
    float turned[4][VEC_N] = {{0}};
    for (int64_t i = 0; i < 4 * n; i++) turned[i % 4][i / 4] = w[c * 4 + i];
    const vec w0 = vec_load(turned[0]), w1 = vec_load(turned[1]);
    const vec w2 = vec_load(turned[2]), w3 = vec_load(turned[3]);
    vec x0 = vec_get(seq->tail + c, n);
    vec x1 = vec_get(seq->tail + channels + c, n);
    vec x2 = vec_get(seq->tail + 2 * channels + c, n);
    for (int64_t t = 0; t < seq->n; t++) {
        const vec x3 = vec_get(seq->x + t * x_stride + c, n);
        const vec sum = vec_fma(x3, w3, vec_fma(x2, w2, vec_fma(x1, w1, x0 * w0)));
        vec_put(seq->y + t * channels + c, vec_silu(sum), n);
        x0 = x1;
        x1 = x2;
        x2 = x3;
    }
}

static void conv_channels_of_any(const conv_seq *seq, const float *w, int64_t c, int64_t n,
                                 int64_t channels, int64_t width, int64_t x_stride)
{
    for (int64_t t = 0; t < seq->n; t++) {
        float sum[VEC_N] = {0};
        for (int64_t i = 0; i < width; i++) {
            const float *x = conv_row(seq, t - (width - 1) + i, channels, width, x_stride) + c;
            for (int64_t j = 0; j < n; j++) sum[j] += x[j] * w[(c + j) * width + i];
        }
        vec_put(seq->y + t * channels + c, vec_silu(vec_load(sum)), n);
    }
}

static void conv_channels(const conv_seq *seq, const float *w, int64_t c0, int64_t c1,
                          int64_t channels, int64_t width, int64_t x_stride)
{
    for (int64_t c = c0; c < c1; c += VEC_N) {
        const int64_t n = c1 - c < VEC_N ? c1 - c : VEC_N;
        if (width == 4) conv_channels_of_4(seq, w, c, n, channels, x_stride);
        else conv_channels_of_any(seq, w, c, n, channels, width, x_stride);
    }
    conv_leave_tail(seq, c0, c1, channels, width, x_stride);
}

static void row_from_bf16(float *y, const uint16_t *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += VEC_N) {
        if (n - i >= VEC_N) vec_store(y + i, vec_bf16(x + i));
        else vec_store_n(y + i, vec_bf16_n(x + i, n - i), n - i);
    }
}

// The compiler makes vectors of this one.
static void row_to_bf16(uint16_t *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        union {
            float f;
            uint32_t u;
        } v = {x[i]};
        const uint32_t rounded = (v.u + 0x7fff + (v.u >> 16 & 1)) >> 16;
        const uint32_t nan = v.u >> 16 | 0x40;
        y[i] = (uint16_t)((v.u & 0x7fffffff) > 0x7f800000 ? nan : rounded);
    }
}

#endif
