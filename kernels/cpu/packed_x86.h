// kernels/cpu/packed_x86.h - rows to int8, as packed products on every x86 level take them. AVX2 is
// enough.
#ifndef SIGHT_KERNELS_CPU_PACKED_X86_H
#define SIGHT_KERNELS_CPU_PACKED_X86_H

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu/packed.h"

// ---- rows ----

// A block in int8, its scale, and the sums of its halves.
typedef struct int8_block {
    __m256i q;
    float dx;
    int32_t low[2];
} int8_block;

static inline float largest_of(__m256 v)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

static inline int8_block to_int8(const float *x)
{
    const __m256 sign = _mm256_set1_ps(-0.0f), limit = _mm256_set1_ps(INFINITY);
    __m256 v[4], size = _mm256_setzero_ps(), finite = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_loadu_ps(x + 8 * i);
        const __m256 a = _mm256_andnot_ps(sign, v[i]);
        finite = _mm256_and_ps(finite, _mm256_cmp_ps(a, limit, _CMP_LT_OQ));
        size = _mm256_max_ps(size, a);
    }
    int8_block out = {.q = _mm256_setzero_si256()};
    const bool whole = _mm256_movemask_ps(finite) == 0xff;
    const float largest = largest_of(size);
    if (!whole) out.dx = NAN;
    if (!whole || largest < 0x1p-100f) return out;
    out.dx = largest / 127.0f;
    const __m256 inverse = _mm256_set1_ps(127.0f / largest);
    __m256i n[4];
    for (int i = 0; i < 4; i++) n[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    out.q = _mm256_packs_epi16(_mm256_packs_epi32(n[0], n[1]), _mm256_packs_epi32(n[2], n[3]));
    out.q = _mm256_permutevar8x32_epi32(out.q, order);
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), out.q);
    __m256i sums = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    sums = _mm256_hadd_epi32(sums, sums);
    sums = _mm256_hadd_epi32(sums, sums);
    out.low[0] = _mm256_extract_epi32(sums, 0);
    out.low[1] = _mm256_extract_epi32(sums, 4);
    return out;
}

// Row r of a tile's block.
static inline void put_block(char *to, const int8_block *v, int r, int tile, packed_x_form form)
{
    int32_t quads[8];
    float *dx = (float *)(void *)(to + tile * PACKED_BLOCK);
    int32_t *start = (int32_t *)(void *)(dx + tile);
    float *low = (float *)(void *)(start + form.steps * tile);
    _mm256_storeu_si256((__m256i *)quads, v->q);
    for (int i = 0; i < 8; i++) memcpy(to + (i * tile + r) * 4, &quads[i], 4);
    dx[r] = v->dx;
    for (int s = 0; s < form.steps; s++) {
        const int32_t sum = form.steps == 2 ? v->low[s] : v->low[0] + v->low[1];
        start[s * tile + r] = form.bias * sum;
        low[s * tile + r] = v->dx * (float)sum;
    }
}

static void pack_rows(void *out, const float *x, int64_t K, int rows, int tile, packed_x_form form)
{
    const int64_t blocks = packed_blocks(K);
    const int8_block none = {_mm256_setzero_si256(), 0, {0, 0}};
    char *to = out;
    for (int64_t b = 0; b < blocks; b++, to += packed_x_block(tile, form.steps)) {
        const int64_t k = b * PACKED_BLOCK, left = K - k;
        for (int r = 0; r < tile; r++) {
            int8_block v = none;
            if (r < rows && left >= PACKED_BLOCK) {
                v = to_int8(x + r * K + k);
            } else if (r < rows) {
                float last[PACKED_BLOCK] = {0};
                memcpy(last, x + r * K + k, (size_t)left * sizeof *last);
                v = to_int8(last);
            }
            put_block(to, &v, r, tile, form);
        }
    }
}

#endif
