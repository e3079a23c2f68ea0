// Products with AVX-512: float32 sums, weights of any type.
#include "kernels/cpu/linear.h"

#if defined(__x86_64__)

#include "kernels/cpu/linear_avx512.h"

// ---- 32 neighbours of a row as (even, odd) ----

typedef struct pair512 {
    __m512 even, odd;
} pair512;

INLINE pair512 unzip(__m512 a, __m512 b)
{
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
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

static void lane_rows(float *out, const float *x, int64_t K, int64_t rows)
{
    for (int64_t k = 0; k < K; k += LINEAR_STEP) {
        for (int64_t r = 0; r < rows; r++, out += LINEAR_STEP) {
            pair512 v = load_rest((const char *)(x + r * K + k), TENSOR_F32, K - k);
            _mm512_store_ps(out, v.even);
            _mm512_store_ps(out + 16, v.odd);
        }
    }
}

// sum[r][c] = one block of R rows times W rows of weights.
INLINE void dot_sums(__m512 sum[][MAX_W], const float *x, const char *const *w, tensor_type type,
                     int64_t K, const int R, const int W, ahead a)
{
    const int64_t bytes = type == TENSOR_F32 ? 4 : 2;
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 6
        for (int c = 0; c < W; c++) sum[r][c] = _mm512_setzero_ps();
    }
    for (int64_t k = 0; k < K; k += LINEAR_STEP, x += R * LINEAR_STEP) {
        pair512 v[MAX_W];
#pragma GCC unroll 6
        for (int c = 0; c < W; c++) v[c] = load_rest(w[c] + k * bytes, type, K - k);
        if (a.turn-- == 0) {
            a.turn = a.turns - 1;
#pragma GCC unroll 6
            for (int c = 0; c < W; c++) _mm_prefetch(w[c] + k * bytes + a.bytes, _MM_HINT_T1);
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            __m512 even = _mm512_load_ps(x + r * LINEAR_STEP);
            __m512 odd = _mm512_load_ps(x + r * LINEAR_STEP + 16);
#pragma GCC unroll 6
            for (int c = 0; c < W; c++) {
                sum[r][c] = _mm512_fmadd_ps(even, v[c].even, sum[r][c]);
                sum[r][c] = _mm512_fmadd_ps(odd, v[c].odd, sum[r][c]);
            }
        }
    }
}

INLINE void dot_block(float *out, int64_t out_stride, const float *x, const char *const *w,
                      tensor_type type, int64_t K, const int R, const int W, int64_t cols, ahead a)
{
    __m512 sum[LINEAR_BLOCK][MAX_W];
    dot_sums(sum, x, w, type, K, R, W, a);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 6
        for (int c = 0; c < W; c++) {
            if (c < cols) out[r * out_stride + c] = lanes_sum(sum[r][c]);
        }
    }
}

// More rows than a block: whole blocks and the rest of them times three rows of weights.
INLINE void dot_blocks(float *out, int64_t out_stride, const float *x, const char *const *w,
                       tensor_type type, int64_t K, int64_t rows, int64_t cols, ahead a)
{
    for (; rows > 0; rows -= LINEAR_BLOCK, a.turn++) {
#define DOT(R, W) dot_block(out, out_stride, x, w, type, K, R, 3, cols, a)
        DOT_CASES(rows)
#undef DOT
        x += LINEAR_BLOCK * linear_steps(K) * LINEAR_STEP;
        out += LINEAR_BLOCK * out_stride;
    }
}

INLINE void dot_typed(float *out, int64_t out_stride, const float *x, const char *w,
                      tensor_type type, int64_t K, int64_t rows, int64_t cols)
{
    const int64_t bytes = K * (type == TENSOR_F32 ? 4 : 2);
    const int width = dot_width(rows);
    ahead a = plan_ahead(bytes, rows);
    for (int64_t c = 0; c < cols; c += width) {
        const char *p[MAX_W];
        for (int i = 0; i < width; i++) p[i] = w + (c + i < cols ? c + i : c) * bytes;
        if (rows > LINEAR_BLOCK) {
            dot_blocks(out + c, out_stride, x, p, type, K, rows, cols - c, a);
        } else {
#define DOT(R, W) dot_block(out + c, out_stride, x, p, type, K, R, W, cols - c, a)
            DOT_CASES(rows)
#undef DOT
        }
    }
}

static void dot(float *out, int64_t out_stride, const float *x, const void *w, tensor_type type,
                int64_t K, int64_t rows, int64_t cols)
{
    switch (type) {
    case TENSOR_BF16: dot_typed(out, out_stride, x, w, TENSOR_BF16, K, rows, cols); break;
    case TENSOR_F16: dot_typed(out, out_stride, x, w, TENSOR_F16, K, rows, cols); break;
    default: dot_typed(out, out_stride, x, w, TENSOR_F32, K, rows, cols); break;
    }
}

// ---- packing ----

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

#define UNITS 2

INLINE void tile_lane(__m512 sum[TILE][2], const float *x, const float *w, int64_t steps, const int R)
{
    for (int64_t s = 0; s < steps; s++, x += TILE, w += PANEL) {
        // The panel comes from the second cache; x from there or further.
        _mm_prefetch((const char *)(w + 16 * PANEL), _MM_HINT_T0);
        _mm_prefetch((const char *)(w + 16 * PANEL + 16), _MM_HINT_T0);
        _mm_prefetch((const char *)(x + 16 * TILE), _MM_HINT_T0);
        __m512 w0 = _mm512_load_ps(w), w1 = _mm512_load_ps(w + 16);
#pragma GCC unroll 14
        for (int r = 0; r < R; r++) {
            __m512 b = _mm512_set1_ps(x[r]);
            sum[r][0] = _mm512_fmadd_ps(b, w0, sum[r][0]);
            sum[r][1] = _mm512_fmadd_ps(b, w1, sum[r][1]);
        }
    }
}

#include "kernels/cpu/linear_tile512.h"

static const linear_kernels avx512_kernels = {
    .tile = TILE,
    .panel = PANEL,
    .units = UNITS,
    .dot_rows = 16,
    .lane_rows = lane_rows,
    .dot = dot,
    .dot_f8 = linear_f8_avx512,
    .pack_rows = pack_rows,
    .pack_weights = pack_weights,
    .tile_product = tile_product,
    .finish = linear_finish,
};

void linear_avx512_fill(backend_ops *ops)
{
    ops->linear = linear_run;
    ops->linear_kernels = &avx512_kernels;
}

#endif
