// Products of bf16 weights with rows rounded to bf16: pairs multiplied, sums in float32.
#include "kernels/cpu/linear.h"

#if defined(__x86_64__)

#include "kernels/cpu/linear_avx512.h"

// A unit is a pair of bf16 in 32 bits; it travels as float and is never computed with as one.
#define LANE_STEP (LINEAR_LANES) // units of a row and step

INLINE __m512 add_pairs(__m512 sum, __m512i a, __m512i b)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}

// 32 neighbours of a row, rounded; n < 32 at its end.
INLINE __m512i round_step(const float *x, int64_t n)
{
    __mmask32 m = n >= LINEAR_STEP ? 0xffffffff : (__mmask32)((1u << n) - 1);
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps((__mmask16)(m >> 16), x + 16),
                                        _mm512_maskz_loadu_ps((__mmask16)m, x));
}

INLINE __m512i load_weights(const char *w, int64_t n)
{
    if (n >= LINEAR_STEP) return _mm512_loadu_si512(w);
    return _mm512_maskz_loadu_epi16((__mmask32)((1u << n) - 1), w);
}

// ---- dot form ----

static void lane_rows(float *out, const float *x, int64_t K, int64_t rows)
{
    for (int64_t k = 0; k < K; k += LINEAR_STEP) {
        for (int64_t r = 0; r < rows; r++, out += LANE_STEP) {
            _mm512_store_si512(out, round_step(x + r * K + k, K - k));
        }
    }
}

// One block of R rows times W rows of weights.
INLINE void dot_block(float *out, int64_t out_stride, const float *x, const char *const *w,
                      int64_t K, const int R, const int W, int64_t cols, ahead a)
{
    __m512 sum[LINEAR_BLOCK][MAX_W];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 6
        for (int c = 0; c < W; c++) sum[r][c] = _mm512_setzero_ps();
    }
    for (int64_t k = 0; k < K; k += LINEAR_STEP, x += R * LANE_STEP) {
        __m512i v[MAX_W];
#pragma GCC unroll 6
        for (int c = 0; c < W; c++) v[c] = load_weights(w[c] + 2 * k, K - k);
        if (a.turn-- == 0) {
            a.turn = a.turns - 1;
#pragma GCC unroll 6
            for (int c = 0; c < W; c++) _mm_prefetch(w[c] + 2 * k + a.bytes, _MM_HINT_T1);
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            __m512i pairs = _mm512_load_si512(x + r * LANE_STEP);
#pragma GCC unroll 6
            for (int c = 0; c < W; c++) sum[r][c] = add_pairs(sum[r][c], pairs, v[c]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 6
        for (int c = 0; c < W; c++) {
            if (c < cols) out[r * out_stride + c] = lanes_sum(sum[r][c]);
        }
    }
}

// More rows than a block: whole blocks and the rest of them times three rows of weights.
static void dot_blocks(float *out, int64_t out_stride, const float *x, const char *const *w,
                       int64_t K, int64_t rows, int64_t cols, ahead a)
{
    for (; rows > 0; rows -= LINEAR_BLOCK, a.turn++) {
#define DOT(R, W) dot_block(out, out_stride, x, w, K, R, 3, cols, a)
        DOT_CASES(rows)
#undef DOT
        x += LINEAR_BLOCK * linear_steps(K) * LANE_STEP;
        out += LINEAR_BLOCK * out_stride;
    }
}

static void dot(float *out, int64_t out_stride, const float *x, const void *w, tensor_type type,
                int64_t K, int64_t rows, int64_t cols)
{
    const int width = dot_width(rows);
    ahead a = plan_ahead(K * 2, rows);
    for (int64_t c = 0; c < cols; c += width) {
        const char *p[MAX_W];
        for (int i = 0; i < width; i++) p[i] = (const char *)w + (c + i < cols ? c + i : c) * K * 2;
        if (rows > LINEAR_BLOCK) {
            dot_blocks(out + c, out_stride, x, p, K, rows, cols - c, a);
        } else {
#define DOT(R, W) dot_block(out + c, out_stride, x, p, K, R, W, cols - c, a)
            DOT_CASES(rows)
#undef DOT
        }
    }
}

// ---- packing ----

static void pack_rows(float *out, const float *x, int64_t K, int64_t rows)
{
    int64_t lane = linear_steps(K) * TILE;
    for (int64_t k = 0; k < K; k += LINEAR_STEP, out += TILE) {
        __m512 v[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            v[i] = _mm512_setzero_ps();
            if (i < rows) v[i] = _mm512_castsi512_ps(round_step(x + i * K + k, K - k));
        }
        transpose(v);
#pragma GCC unroll 16
        for (int p = 0; p < 16; p++) {
            _mm512_mask_storeu_ps(out + p * lane, (1 << TILE) - 1, v[p]);
        }
    }
}

static void pack_weights(float *out, const void *w, tensor_type type, int64_t K, int64_t cols)
{
    int64_t lane = linear_steps(K) * PANEL;
    for (int64_t k = 0; k < K; k += LINEAR_STEP, out += PANEL) {
        for (int64_t c = 0; c < PANEL; c += 16) {
            const char *p = (const char *)w + (c * K + k) * 2;
            __m512 v[16];
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++) {
                v[i] = _mm512_setzero_ps();
                if (i < cols - c) v[i] = _mm512_castsi512_ps(load_weights(p + i * K * 2, K - k));
            }
            transpose(v);
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++) _mm512_store_ps(out + i * lane + c, v[i]);
        }
    }
}

// ---- tile form ----

#define UNITS 1

INLINE void tile_lane(__m512 sum[TILE][2], const float *x, const float *w, int64_t steps, const int R)
{
    for (int64_t s = 0; s < steps; s++, x += TILE, w += PANEL) {
        __m512i w0 = _mm512_load_si512(w), w1 = _mm512_load_si512(w + 16);
#pragma GCC unroll 14
        for (int r = 0; r < R; r++) {
            __m512i pairs = _mm512_castps_si512(_mm512_set1_ps(x[r]));
            sum[r][0] = add_pairs(sum[r][0], pairs, w0);
            sum[r][1] = add_pairs(sum[r][1], pairs, w1);
        }
    }
}

#include "kernels/cpu/linear_tile512.h"

static const linear_kernels bf16_kernels = {
    .tile = TILE,
    .panel = PANEL,
    .units = UNITS,
    .dot_rows = 16,
    .lane_rows = lane_rows,
    .dot = dot,
    .pack_rows = pack_rows,
    .pack_weights = pack_weights,
    .tile_product = tile_product,
    .finish = linear_finish,
};

void linear_avx512bf16_fill(backend_ops *ops)
{
    ops->linear_bf16 = &bf16_kernels;
}

#endif
