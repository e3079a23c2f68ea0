#include "decoder/resize_passes.h"

#include <stddef.h>
#include <string.h>

static uint8_t narrow(int32_t sum, int precision)
{
    sum >>= precision;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static int32_t half(int precision)
{
    return precision ? 1 << (precision - 1) : 0;
}

static void across_plain(uint8_t *out, const uint8_t *in, const resize_axis *a)
{
    for (int32_t i = 0; i < a->n; i++, out += 3) {
        const uint8_t *p = in + 3 * (int64_t)a->first[i];
        const int16_t *w = a->weights + (int64_t)i * a->taps;
        int32_t r = half(a->precision), g = r, b = r;
        for (int32_t j = 0; j < a->count[i]; j++, p += 3) {
            r += w[j] * p[0];
            g += w[j] * p[1];
            b += w[j] * p[2];
        }
        out[0] = narrow(r, a->precision);
        out[1] = narrow(g, a->precision);
        out[2] = narrow(b, a->precision);
    }
}

static void down_from(uint8_t *out, const uint8_t *const *rows, const int16_t *w, int32_t count,
                      int precision, int64_t begin, int64_t end)
{
    for (int64_t x = begin; x < end; x++) {
        int32_t sum = half(precision);
        for (int32_t j = 0; j < count; j++) sum += w[j] * rows[j][x];
        out[x] = narrow(sum, precision);
    }
}

static void down_plain(uint8_t *out, const uint8_t *const *rows, const int16_t *w, int32_t count,
                       int precision, int64_t n)
{
    down_from(out, rows, w, count, precision, 0, n);
}

static const resize_passes plain = {"plain", across_plain, down_plain};

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2   __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx2,avx512f,avx512bw,avx512vl")))

// Two weights in every 32-bit lane, for multiply-add of byte pairs.
static inline int32_t weight_couple(int16_t a, int16_t b)
{
    return (int32_t)((uint32_t)(uint16_t)a | (uint32_t)(uint16_t)b << 16);
}

// Four taps a step: the lower half takes pixels 0 and 1, the upper half 2 and 3, as 16-bit pairs
// (r0 r1, g0 g1, b0 b1, 0 0).
AVX2 static void across_avx2(uint8_t *out, const uint8_t *in, const resize_axis *a)
{
    const __m256i spread = _mm256_setr_epi8(
        0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,
        6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
    const __m256i pairs = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    const __m128i shift = _mm_cvtsi32_si128(a->precision);
    for (int32_t i = 0; i < a->n; i++, out += 3) {
        const uint8_t *p = in + 3 * (int64_t)a->first[i];
        const int16_t *w = a->weights + (int64_t)i * a->taps;
        __m256i sum = _mm256_setzero_si256();
        for (int32_t j = 0; j < a->count[i]; j += 4, p += 12) {
            __m256i x = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p));
            __m256i k = _mm256_broadcastq_epi64(_mm_loadl_epi64((const __m128i *)(w + j)));
            k = _mm256_permutevar8x32_epi32(k, pairs);
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_shuffle_epi8(x, spread), k));
        }
        __m128i s = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
        s = _mm_sra_epi32(_mm_add_epi32(s, _mm_set1_epi32(half(a->precision))), shift);
        s = _mm_packus_epi16(_mm_packs_epi32(s, s), s);
        uint32_t rgb = (uint32_t)_mm_cvtsi128_si32(s);
        memcpy(out, &rgb, 3);
    }
}

AVX2 static void down_avx2(uint8_t *out, const uint8_t *const *rows, const int16_t *w,
                           int32_t count, int precision, int64_t n)
{
    const __m128i shift = _mm_cvtsi32_si128(precision);
    const __m256i rounding = _mm256_set1_epi32(half(precision));
    int64_t x = 0;
    for (; x + 16 <= n; x += 16) {
        __m256i lo = rounding, hi = rounding;
        for (int32_t j = 0; j < count; j += 2) {
            // The last of an odd count goes with itself at weight 0.
            const uint8_t *second = j + 1 < count ? rows[j + 1] : rows[j];
            __m256i k = _mm256_set1_epi32(weight_couple(w[j], j + 1 < count ? w[j + 1] : 0));
            __m256i a = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(rows[j] + x)));
            __m256i b = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(second + x)));
            lo = _mm256_add_epi32(lo, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), k));
            hi = _mm256_add_epi32(hi, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), k));
        }
        __m256i v = _mm256_packs_epi32(_mm256_sra_epi32(lo, shift), _mm256_sra_epi32(hi, shift));
        __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(v),
                                         _mm256_extracti128_si256(v, 1));
        _mm_storeu_si128((__m128i *)(out + x), bytes);
    }
    down_from(out, rows, w, count, precision, x, n);
}

AVX512 static void down_avx512(uint8_t *out, const uint8_t *const *rows, const int16_t *w,
                               int32_t count, int precision, int64_t n)
{
    const __m128i shift = _mm_cvtsi32_si128(precision);
    const __m512i rounding = _mm512_set1_epi32(half(precision));
    for (int64_t x = 0; x < n; x += 32) {
        __mmask32 keep = n - x >= 32 ? 0xffffffffu : (1u << (n - x)) - 1;
        __m512i lo = rounding, hi = rounding;
        for (int32_t j = 0; j < count; j += 2) {
            const uint8_t *second = j + 1 < count ? rows[j + 1] : rows[j];
            __m512i k = _mm512_set1_epi32(weight_couple(w[j], j + 1 < count ? w[j + 1] : 0));
            __m512i a = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(keep, rows[j] + x));
            __m512i b = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(keep, second + x));
            lo = _mm512_add_epi32(lo, _mm512_madd_epi16(_mm512_unpacklo_epi16(a, b), k));
            hi = _mm512_add_epi32(hi, _mm512_madd_epi16(_mm512_unpackhi_epi16(a, b), k));
        }
        __m512i v = _mm512_packs_epi32(_mm512_sra_epi32(lo, shift), _mm512_sra_epi32(hi, shift));
        v = _mm512_max_epi16(v, _mm512_setzero_si512());
        _mm256_mask_storeu_epi8(out + x, keep, _mm512_cvtusepi16_epi8(v));
    }
}

static const resize_passes avx2 = {"avx2", across_avx2, down_avx2};
static const resize_passes avx512 = {"avx512", across_avx2, down_avx512};

const resize_passes *resize_passes_at(int i)
{
    if (i == 0) return &plain;
    if (i == 1 && __builtin_cpu_supports("avx2")) return &avx2;
    if (i == 2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
        return &avx512;
    }
    return NULL;
}

#else

const resize_passes *resize_passes_at(int i)
{
    return i == 0 ? &plain : NULL;
}

#endif

const resize_passes *resize_passes_best(void)
{
    const resize_passes *best = resize_passes_at(0);
    for (int i = 1; resize_passes_at(i); i++) best = resize_passes_at(i);
    return best;
}
