// A few float32 rows times E4M3 weights as they are packed, with AVX-512: decoding. Sums in the order of
// linear.h, so that the bits are those of the unpacked matrix.
#include "kernels/cpu/linear.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/packed.h"

#define QUADS 8 // of a step
#define AHEAD 4096
#define INLINE static inline __attribute__((always_inline))

// Bytes in the upper halves of 16-bit lanes, as f16: 2^8 too small, subnormal numbers too.
INLINE __m512i halves_of(__m512i high)
{
    const __m512i all = _mm512_set1_epi16(0x3f80);
    const __m512i v = _mm512_and_si512(_mm512_srai_epi16(high, 1), _mm512_set1_epi16((short)0xbf80));
    const __mmask32 nan = _mm512_cmpeq_epi16_mask(_mm512_and_si512(v, all), all);
    return _mm512_mask_mov_epi16(v, nan, _mm512_set1_epi16(0x7e00));
}

// Rows 0 to 7, then 8 to 15, two neighbours of each row.
typedef struct pairs {
    __m512 rows[2];
} pairs;

INLINE pairs floats_of(__m512i halves, const __m512 scale[2])
{
    const __m512 a = _mm512_cvtph_ps(_mm512_castsi512_si256(halves));
    const __m512 b = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1));
    return (pairs){{_mm512_mul_ps(scale[0], a), _mm512_mul_ps(scale[1], b)}};
}

INLINE __m512 two(const float *p)
{
    double v;
    memcpy(&v, p, sizeof v);
    return _mm512_castpd_ps(_mm512_set1_pd(v));
}

// The scales of a group, times 2^8, each row's twice.
INLINE void load_scales(__m512 out[2], const packed *p, int64_t panel, int64_t g)
{
    const packed_format *f = &p->format;
    const int64_t at = (panel * packed_groups(f, p->K) + g) * PACKED_PANEL;
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    __m512 v = f->scales == PACKED_FLAT
                   ? _mm512_cvtph_ps(_mm256_loadu_si256(
                         (const __m256i *)(const void *)((const uint16_t *)p->scales + at)))
                   : _mm512_loadu_ps((const float *)p->scales + at);
    v = _mm512_mul_ps(_mm512_set1_ps(f->factor), v);
    v = _mm512_mul_ps(v, _mm512_set1_ps(256));
    out[0] = _mm512_permutexvar_ps(twice, v);
    out[1] = _mm512_permutexvar_ps(_mm512_add_epi32(twice, _mm512_set1_epi32(8)), v);
}

// The tree over the 16 lanes of each row.
INLINE __m512 rows_sum(__m512 sum[QUADS][2])
{
    __m512 t[2];
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        const __m512 a = _mm512_add_ps(_mm512_add_ps(sum[0][h], sum[4][h]),
                                       _mm512_add_ps(sum[2][h], sum[6][h]));
        const __m512 b = _mm512_add_ps(_mm512_add_ps(sum[1][h], sum[5][h]),
                                       _mm512_add_ps(sum[3][h], sum[7][h]));
        t[h] = _mm512_add_ps(a, b);
        t[h] = _mm512_add_ps(t[h], _mm512_permute_ps(t[h], 0xb1));
    }
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutex2var_ps(t[0], even, t[1]);
}

// x: one row of a block in lanes, x_step floats from step to step.
static void one_row(float *out, const float *x, int64_t x_step, const packed *w, int64_t panel)
{
    const packed_format *f = &w->format;
    const int64_t quads = packed_groups(f, w->K) * f->group / 4, J = linear_steps(w->K);
    const uint8_t *codes = w->codes + (size_t)panel * packed_panel_bytes(w);
    __m512 sum[QUADS][2], scale[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
#pragma GCC unroll 8
    for (int q = 0; q < QUADS; q++) sum[q][0] = sum[q][1] = _mm512_setzero_ps();
    for (int64_t j = 0; j < J; j++, x += x_step) {
#pragma GCC unroll 8
        for (int q = 0; q < QUADS; q++) {
            const int64_t at = j * QUADS + q;
            if (q % 4 == 0) {
                if (at >= quads) break;
                if (4 * at % f->group == 0) load_scales(scale, w, panel, 4 * at / f->group);
            }
            const uint8_t *line = codes + at * PACKED_LINE;
            _mm_prefetch((const char *)line + AHEAD, _MM_HINT_T0);
            const __m512i v = _mm512_loadu_si512(line);
            const pairs even = floats_of(halves_of(_mm512_slli_epi16(v, 8)), scale);
            const pairs odd = floats_of(halves_of(v), scale);
            const __m512 x_even = two(x + 2 * q), x_odd = two(x + LINEAR_LANES + 2 * q);
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++) {
                sum[q][h] = _mm512_fmadd_ps(x_even, even.rows[h], sum[q][h]);
                sum[q][h] = _mm512_fmadd_ps(x_odd, odd.rows[h], sum[q][h]);
            }
        }
    }
    _mm512_storeu_ps(out, rows_sum(sum));
}

void linear_f8_avx512(float *out, int64_t out_stride, const float *x, const packed *w,
                      int64_t panel, int64_t rows)
{
    for (int64_t r = 0; r < rows; r++) {
        one_row(out + r * out_stride, x + r * LINEAR_STEP, rows * LINEAR_STEP, w, panel);
    }
}

#endif
