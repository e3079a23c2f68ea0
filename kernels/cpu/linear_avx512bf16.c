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

// R rows times 32 outputs. stack holds the sums that wait for their partner in the tree.
INLINE void tile_rows(float *out, const float *x, const float *w, int64_t J, const int R)
{
    _Alignas(64) float stack[5][TILE * PANEL];
    int top = 0;
    for (int i = 0; i < LINEAR_LANES; i++) {
        const float *xp = x + lane_order(i) * J * TILE, *wp = w + lane_order(i) * J * PANEL;
        __m512 sum[TILE][2];
#pragma GCC unroll 14
        for (int r = 0; r < R; r++) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
        for (int64_t j = 0; j < J; j++, xp += TILE, wp += PANEL) {
            __m512i w0 = _mm512_load_si512(wp), w1 = _mm512_load_si512(wp + 16);
#pragma GCC unroll 14
            for (int r = 0; r < R; r++) {
                __m512i pairs = _mm512_castps_si512(_mm512_set1_ps(xp[r]));
                sum[r][0] = add_pairs(sum[r][0], pairs, w0);
                sum[r][1] = add_pairs(sum[r][1], pairs, w1);
            }
        }
        for (int bit = i; bit & 1; bit >>= 1) {
            const float *partner = stack[--top];
#pragma GCC unroll 14
            for (int r = 0; r < R; r++) {
                sum[r][0] = _mm512_add_ps(_mm512_load_ps(partner + r * PANEL), sum[r][0]);
                sum[r][1] = _mm512_add_ps(_mm512_load_ps(partner + r * PANEL + 16), sum[r][1]);
            }
        }
        float *place = i + 1 < LINEAR_LANES ? stack[top++] : out;
#pragma GCC unroll 14
        for (int r = 0; r < R; r++) {
            _mm512_store_ps(place + r * PANEL, sum[r][0]);
            _mm512_store_ps(place + r * PANEL + 16, sum[r][1]);
        }
    }
}

static void tile_product(float *out, const float *x, const float *w, int64_t J, int64_t rows)
{
    switch ((rows + 1) / 2) {
    case 1: tile_rows(out, x, w, J, 2); break;
    case 2: tile_rows(out, x, w, J, 4); break;
    case 3: tile_rows(out, x, w, J, 6); break;
    case 4: tile_rows(out, x, w, J, 8); break;
    case 5: tile_rows(out, x, w, J, 10); break;
    case 6: tile_rows(out, x, w, J, 12); break;
    default: tile_rows(out, x, w, J, TILE); break;
    }
}

static void finish(float *y, int64_t y_stride, const float *a, const float *b, int64_t in_stride,
                   const float *bias_a, const float *bias_b, int64_t rows, int64_t cols,
                   linear_mode mode)
{
    linear_finish(y, y_stride, a, b, in_stride, bias_a, bias_b, rows, cols, mode);
}

static const linear_kernels bf16_kernels = {
    .tile = TILE,
    .panel = PANEL,
    .units = 1,
    .dot_rows = 16,
    .lane_rows = lane_rows,
    .dot = dot,
    .pack_rows = pack_rows,
    .pack_weights = pack_weights,
    .tile_product = tile_product,
    .finish = finish,
};

void linear_avx512bf16_fill(backend_ops *ops)
{
    ops->linear_bf16 = &bf16_kernels;
}

#endif
