// Products with AVX-512: float32 sums, weights of any type.
#include "kernels/cpu/linear.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define TILE 14
#define PANEL 32
#define DOT_ROWS 8 // rows of x at once
#define PREFETCH 4096 // bytes ahead of a weight row: a page, where the hardware's own run ends

#define INLINE static inline __attribute__((always_inline))

// ---- 32 neighbours of a row as (even, odd) ----

typedef struct pair512 {
    __m512 even, odd;
} pair512;

INLINE pair512 unzip(__m512 a, __m512 b)
{
    const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odd = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    return (pair512){_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b)};
}

INLINE pair512 split_bf16(__m512i v)
{
    const __m512i high = _mm512_set1_epi32((int)0xffff0000);
    return (pair512){_mm512_castsi512_ps(_mm512_slli_epi32(v, 16)),
                     _mm512_castsi512_ps(_mm512_and_si512(v, high))};
}

INLINE pair512 load_step(const char *p, tensor_type type)
{
    if (type == TENSOR_BF16) return split_bf16(_mm512_loadu_si512(p));
    if (type == TENSOR_F32) return unzip(_mm512_loadu_ps(p), _mm512_loadu_ps(p + 64));
    return unzip(_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)),
                 _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p + 32))));
}

// The same for the last n < 32 of a row; the rest is zero and not touched.
INLINE pair512 load_tail(const char *p, tensor_type type, int n)
{
    __mmask32 m = (__mmask32)((1u << n) - 1);
    if (type == TENSOR_BF16) return split_bf16(_mm512_maskz_loadu_epi16(m, p));
    if (type == TENSOR_F32) {
        return unzip(_mm512_maskz_loadu_ps((__mmask16)m, p),
                     _mm512_maskz_loadu_ps((__mmask16)(m >> 16), p + 64));
    }
    return unzip(_mm512_cvtph_ps(_mm256_maskz_loadu_epi16((__mmask16)m, p)),
                 _mm512_cvtph_ps(_mm256_maskz_loadu_epi16((__mmask16)(m >> 16), p + 32)));
}

INLINE pair512 load_rest(const char *p, tensor_type type, int64_t n)
{
    return n >= LINEAR_STEP ? load_step(p, type) : load_tail(p, type, (int)n);
}

// ---- dot form ----

INLINE float lanes_sum(__m512 v)
{
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

static void lane_rows(float *out, const float *x, int64_t K, int64_t rows)
{
    for (int64_t r = 0; r < rows; r++, x += K) {
        for (int64_t k = 0; k < K; k += LINEAR_STEP, out += LINEAR_STEP) {
            pair512 v = load_rest((const char *)(x + k), TENSOR_F32, K - k);
            _mm512_store_ps(out, v.even);
            _mm512_store_ps(out + 16, v.odd);
        }
    }
}

// R rows of x times W rows of weights.
INLINE void dot_block(float *out, int64_t out_stride, const float *x, const char *const *w,
                      tensor_type type, int64_t K, const int R, const int W, int64_t cols)
{
    __m512 sum[DOT_ROWS][4];
    const int64_t full = K / LINEAR_STEP * LINEAR_STEP, row = linear_steps(K) * LINEAR_STEP;
    const int64_t bytes = type == TENSOR_F32 ? 4 : 2;
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
        for (int c = 0; c < W; c++) sum[r][c] = _mm512_setzero_ps();
    }
    for (int64_t k = 0; k < row; k += LINEAR_STEP) {
        pair512 v[4];
#pragma GCC unroll 4
        for (int c = 0; c < W; c++) {
            const char *p = w[c] + k * bytes;
            v[c] = k < full ? load_step(p, type) : load_tail(p, type, (int)(K - k));
            _mm_prefetch(p + PREFETCH, _MM_HINT_T0);
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            __m512 even = _mm512_load_ps(x + r * row + k);
#pragma GCC unroll 4
            for (int c = 0; c < W; c++) sum[r][c] = _mm512_fmadd_ps(even, v[c].even, sum[r][c]);
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            __m512 odd = _mm512_load_ps(x + r * row + k + 16);
#pragma GCC unroll 4
            for (int c = 0; c < W; c++) sum[r][c] = _mm512_fmadd_ps(odd, v[c].odd, sum[r][c]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
        for (int c = 0; c < W; c++) {
            if (c < cols) out[r * out_stride + c] = lanes_sum(sum[r][c]);
        }
    }
}

// R rows of x times all rows of weights.
INLINE void dot_rows(float *out, int64_t out_stride, const float *x, const char *w,
                     tensor_type type, int64_t K, const int R, const int W, int64_t cols)
{
    const int64_t bytes = K * (type == TENSOR_F32 ? 4 : 2);
    for (int64_t c = 0; c < cols; c += W) {
        const char *rows[4];
        for (int i = 0; i < W; i++) rows[i] = w + (c + i < cols ? c + i : cols - 1) * bytes;
        dot_block(out + c, out_stride, x, rows, type, K, R, W, cols - c);
    }
}

INLINE void dot_typed(float *out, int64_t out_stride, const float *x, const char *w,
                      tensor_type type, int64_t K, int64_t rows, int64_t cols)
{
    switch (rows) {
    case 1: dot_rows(out, out_stride, x, w, type, K, 1, 4, cols); break;
    case 2: dot_rows(out, out_stride, x, w, type, K, 2, 4, cols); break;
    case 3: dot_rows(out, out_stride, x, w, type, K, 3, 4, cols); break;
    case 4: dot_rows(out, out_stride, x, w, type, K, 4, 4, cols); break;
    case 5: dot_rows(out, out_stride, x, w, type, K, 5, 4, cols); break;
    case 6: dot_rows(out, out_stride, x, w, type, K, 6, 4, cols); break;
    case 7: dot_rows(out, out_stride, x, w, type, K, 7, 3, cols); break;
    default: dot_rows(out, out_stride, x, w, type, K, 8, 3, cols); break;
    }
}

static void dot(float *out, int64_t out_stride, const float *x, const void *w, tensor_type type,
                int64_t K, int64_t rows, int64_t cols)
{
    int64_t row = linear_steps(K) * LINEAR_STEP;
    for (; rows > 0; rows -= DOT_ROWS, x += DOT_ROWS * row, out += DOT_ROWS * out_stride) {
        switch (type) {
        case TENSOR_BF16: dot_typed(out, out_stride, x, w, TENSOR_BF16, K, rows, cols); break;
        case TENSOR_F16: dot_typed(out, out_stride, x, w, TENSOR_F16, K, rows, cols); break;
        default: dot_typed(out, out_stride, x, w, TENSOR_F32, K, rows, cols); break;
        }
    }
}

// ---- packing ----

// Sixteen rows of sixteen become sixteen columns.
INLINE void transpose(__m512 v[16])
{
    __m512 t[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            __m512d a = _mm512_castps_pd(t[4 * i + h]), b = _mm512_castps_pd(t[4 * i + 2 + h]);
            v[4 * i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            v[4 * i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    // v[4 i + c] now holds, of rows 4 i .. 4 i + 3, columns c, 4 + c, 8 + c, 12 + c.
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        __m512 a = _mm512_shuffle_f32x4(v[c], v[4 + c], 0x88);
        __m512 b = _mm512_shuffle_f32x4(v[c], v[4 + c], 0xdd);
        __m512 d = _mm512_shuffle_f32x4(v[8 + c], v[12 + c], 0x88);
        __m512 e = _mm512_shuffle_f32x4(v[8 + c], v[12 + c], 0xdd);
        t[c] = _mm512_shuffle_f32x4(a, d, 0x88);
        t[8 + c] = _mm512_shuffle_f32x4(a, d, 0xdd);
        t[4 + c] = _mm512_shuffle_f32x4(b, e, 0x88);
        t[12 + c] = _mm512_shuffle_f32x4(b, e, 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) v[i] = t[i];
}

// One step (32 of K) of up to 16 rows, to out[p * lane + (0 or width)].
INLINE void pack_step(float *out, int64_t lane, int64_t width, __mmask16 keep, const char *w,
                      tensor_type type, int64_t row_bytes, int64_t left, int64_t rows)
{
    __m512 even[16], odd[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
        pair512 v = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        if (i < rows) v = load_rest(w + i * row_bytes, type, left);
        even[i] = v.even;
        odd[i] = v.odd;
    }
    transpose(even);
    transpose(odd);
#pragma GCC unroll 16
    for (int p = 0; p < 16; p++) {
        _mm512_mask_storeu_ps(out + p * lane, keep, even[p]);
        _mm512_mask_storeu_ps(out + p * lane + width, keep, odd[p]);
    }
}

static void pack_rows(float *out, const float *x, int64_t K, int64_t rows)
{
    int64_t lane = linear_steps(K) * 2 * TILE;
    for (int64_t k = 0; k < K; k += LINEAR_STEP, out += 2 * TILE) {
        pack_step(out, lane, TILE, (1 << TILE) - 1, (const char *)(x + k), TENSOR_F32, K * 4, K - k,
                  rows);
    }
}

// A bf16 pair is a 32-bit lane: transposed first, converted after, for half the shuffles.
INLINE void pack_step_bf16(float *out, int64_t lane, const char *w, int64_t row_bytes,
                           int64_t left, int64_t rows)
{
    __m512 v[16];
    __mmask32 m = left >= LINEAR_STEP ? 0xffffffff : (__mmask32)((1u << left) - 1);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
        v[i] = _mm512_setzero_ps();
        if (i < rows) v[i] = _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(m, w + i * row_bytes));
    }
    transpose(v);
#pragma GCC unroll 16
    for (int p = 0; p < 16; p++) {
        pair512 s = split_bf16(_mm512_castps_si512(v[p]));
        _mm512_store_ps(out + p * lane, s.even);
        _mm512_store_ps(out + p * lane + PANEL, s.odd);
    }
}

static void pack_weights(float *out, const void *w, tensor_type type, int64_t K, int64_t cols)
{
    const int64_t bytes = type == TENSOR_F32 ? 4 : 2, lane = linear_steps(K) * 2 * PANEL;
    for (int64_t k = 0; k < K; k += LINEAR_STEP, out += 2 * PANEL) {
        for (int64_t c = 0; c < PANEL; c += 16) {
            const char *p = (const char *)w + c * K * bytes + k * bytes;
            if (type == TENSOR_BF16) {
                pack_step_bf16(out + c, lane, p, K * 2, K - k, cols - c);
            } else if (type == TENSOR_F16) {
                pack_step(out + c, lane, PANEL, 0xffff, p, TENSOR_F16, K * 2, K - k, cols - c);
            } else {
                pack_step(out + c, lane, PANEL, 0xffff, p, TENSOR_F32, K * 4, K - k, cols - c);
            }
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
        int p = (i & 1) << 3 | (i & 2) << 1 | (i & 4) >> 1 | (i & 8) >> 3;
        const float *xp = x + p * J * 2 * TILE, *wp = w + p * J * 2 * PANEL;
        __m512 sum[TILE][2];
#pragma GCC unroll 14
        for (int r = 0; r < R; r++) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
        for (int64_t s = 0; s < 2 * J; s++, xp += TILE, wp += PANEL) {
            __m512 w0 = _mm512_load_ps(wp), w1 = _mm512_load_ps(wp + 16);
#pragma GCC unroll 14
            for (int r = 0; r < R; r++) {
                __m512 b = _mm512_set1_ps(xp[r]);
                sum[r][0] = _mm512_fmadd_ps(b, w0, sum[r][0]);
                sum[r][1] = _mm512_fmadd_ps(b, w1, sum[r][1]);
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
    switch (rows) {
    case 1: case 2: tile_rows(out, x, w, J, 2); break;
    case 3: case 4: tile_rows(out, x, w, J, 4); break;
    case 5: case 6: tile_rows(out, x, w, J, 6); break;
    case 7: case 8: tile_rows(out, x, w, J, 8); break;
    case 9: case 10: tile_rows(out, x, w, J, 10); break;
    case 11: case 12: tile_rows(out, x, w, J, 12); break;
    default: tile_rows(out, x, w, J, TILE); break;
    }
}

static void finish(float *y, int64_t y_stride, const float *a, const float *b, int64_t in_stride,
                   const float *bias_a, const float *bias_b, int64_t rows, int64_t cols,
                   linear_mode mode)
{
    linear_finish(y, y_stride, a, b, in_stride, bias_a, bias_b, rows, cols, mode);
}

static const linear_kernels avx512_kernels = {
    .tile = TILE,
    .panel = PANEL,
    .units = 2,
    .dot_rows = 24,
    .lane_rows = lane_rows,
    .dot = dot,
    .pack_rows = pack_rows,
    .pack_weights = pack_weights,
    .tile_product = tile_product,
    .finish = finish,
};

void linear_avx512_fill(cpu_ops *ops)
{
    ops->linear = linear_run;
    ops->linear_kernels = &avx512_kernels;
}

#endif
