// kernels/cpu/linear_avx512.h - what float32 and bf16 products with AVX-512 share.
#ifndef SIGHT_KERNELS_CPU_LINEAR_AVX512_H
#define SIGHT_KERNELS_CPU_LINEAR_AVX512_H

#include <immintrin.h>

#include "kernels/cpu/linear.h"

// 28 sums, 2 vectors of weights and a number of x fill the 32 registers.
#define TILE 14
#define PANEL 32
#define MAX_W 6 // rows of weights at once in the dot form

#define INLINE static inline __attribute__((always_inline))

INLINE float lanes_sum(__m512 v)
{
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

// Rows of weights that go with a number of rows of x: at most 24 sums, and as many as that allows,
// for x may have to come from the second cache each time. Divides the driver's pieces.
static inline int dot_width(int64_t rows)
{
    return rows <= 4 ? 6 : rows <= 6 ? 4 : 3;
}

// The form for a number of rows: DOT(rows of a block, rows of weights).
#define DOT_CASES(rows)                                                                            \
    switch (rows) {                                                                                \
    case 1: DOT(1, 6); break;                                                                      \
    case 2: DOT(2, 6); break;                                                                      \
    case 3: DOT(3, 6); break;                                                                      \
    case 4: DOT(4, 6); break;                                                                      \
    case 5: DOT(5, 4); break;                                                                      \
    case 6: DOT(6, 4); break;                                                                      \
    case 7: DOT(7, 3); break;                                                                      \
    default: DOT(8, 3); break;                                                                     \
    }

// Which lines of the weights to ask for early: those of the next rows, into the second cache (the
// first may be busy with x). The processor's own reading ahead stops at each page of 4 KiB. Where
// several blocks of rows pass over the same weights, they share the asking out.
typedef struct ahead {
    int64_t bytes;
    int turn, turns; // in every turns-th step, from step `turn`
} ahead;

static inline ahead plan_ahead(int64_t row_bytes, int64_t rows)
{
    int blocks = (int)((rows + LINEAR_BLOCK - 1) / LINEAR_BLOCK);
    return (ahead){dot_width(rows) * row_bytes, 0, blocks};
}

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

// The lane that comes i-th, so that each sum meets its partner in the tree next: bits reversed.
static inline int lane_order(int i)
{
    return (i & 1) << 3 | (i & 2) << 1 | (i & 4) >> 1 | (i & 8) >> 3;
}

#endif
