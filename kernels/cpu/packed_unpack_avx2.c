// Packed rows as float32 with AVX2 and F16C: for exact products and for E4M3. The numbers are
// those of packed_get_row, bit for bit.
#include "kernels/cpu/packed.h"

#if defined(__x86_64__)

#include <immintrin.h>

// The scales (and shifts) of the rows of a panel in one group.
typedef struct group_scales {
    float scale[PACKED_PANEL], shift[PACKED_PANEL];
} group_scales;

static inline __m256 from_bytes(const uint8_t *p, bool is_signed)
{
    const __m128i v = _mm_loadl_epi64((const __m128i *)p);
    return _mm256_cvtepi32_ps(is_signed ? _mm256_cvtepi8_epi32(v) : _mm256_cvtepu8_epi32(v));
}

static void load_scales(group_scales *out, const packed *p, int64_t panel, int64_t g)
{
    const packed_format *f = &p->format;
    const int64_t at = (panel * packed_groups(f, p->K) + g) * PACKED_PANEL;
    const int64_t super = f->per_super
                              ? (panel * packed_supers(f, p->K) + g / f->per_super) * PACKED_PANEL
                              : 0;
    const __m256 factor = _mm256_set1_ps(f->factor);
    for (int h = 0; h < PACKED_PANEL; h += 8) {
        __m256 v;
        if (f->scales == PACKED_FLAT) {
            const uint16_t *half = (const uint16_t *)p->scales + at + h;
            v = _mm256_mul_ps(factor, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)half)));
        } else if (f->scales == PACKED_FLAT_F32) {
            v = _mm256_mul_ps(factor, _mm256_loadu_ps((const float *)p->scales + at + h));
        } else {
            v = _mm256_mul_ps(_mm256_loadu_ps(p->super + super + h),
                              from_bytes((const uint8_t *)p->scales + at + h, f->signed_sub));
        }
        _mm256_storeu_ps(out->scale + h, v);
        if (!f->has_min) continue;
        v = _mm256_mul_ps(_mm256_loadu_ps(p->super_min + super + h),
                          from_bytes(p->mins + at + h, false));
        _mm256_storeu_ps(out->shift + h, v);
    }
}

// Eight E4M3 numbers. Moved into an f16 they are 2^8 too small, subnormal ones too.
static inline __m256 from_f8(__m128i bytes)
{
    const __m128i v = _mm_cvtepu8_epi16(bytes), size = _mm_and_si128(v, _mm_set1_epi16(0x7f));
    const __m128i sign = _mm_slli_epi16(_mm_and_si128(v, _mm_set1_epi16(0x80)), 8);
    const __m128i nan = _mm_srli_epi16(_mm_cmpeq_epi16(size, _mm_set1_epi16(0x7f)), 1);
    const __m128i half = _mm_or_si128(_mm_or_si128(_mm_slli_epi16(size, 7), sign), nan);
    return _mm256_mul_ps(_mm256_cvtph_ps(half), _mm256_set1_ps(256));
}

// Two quads of four rows, as the eight neighbours of each row.
typedef struct four_rows {
    __m128i pair[2];
} four_rows;

static inline four_rows load_rows(const packed_format *f, const uint8_t *codes, int64_t q, int i,
                                  __m128i table)
{
    const __m128i low = _mm_set1_epi8(15);
    __m128i a, b;
    if (f->bits == 8) {
        a = _mm_loadu_si128((const __m128i *)(codes + q * PACKED_LINE + 16 * i));
        b = _mm_loadu_si128((const __m128i *)(codes + (q + 1) * PACKED_LINE + 16 * i));
    } else {
        b = _mm_loadu_si128((const __m128i *)(codes + q / 2 * PACKED_LINE + 16 * i));
        a = _mm_and_si128(b, low);
        b = _mm_and_si128(_mm_srli_epi16(b, 4), low);
        if (f->has_table) {
            a = _mm_shuffle_epi8(table, a);
            b = _mm_shuffle_epi8(table, b);
        }
    }
    return (four_rows){{_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b)}};
}

static inline __m256 numbers(const packed_format *f, __m128i bytes)
{
    if (f->f8) return from_f8(bytes);
    const __m256i v = _mm256_cvtepu8_epi32(bytes);
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(v, _mm256_set1_epi32(f->offset)));
}

// Inputs k .. k + 7 of the panel's rows from .. to; out is the row `from`.
static inline void eight_inputs(float *out, const packed *p, const uint8_t *codes,
                                const group_scales *s, int64_t k, int from, int to, __m128i table)
{
    const packed_format *f = &p->format;
    for (int i = from / 4; 4 * i < to; i++) {
        const four_rows v = load_rows(f, codes, k / 4, i, table);
        for (int r = 4 * i; r < 4 * i + 4; r++) {
            if (r < from || r >= to) continue;
            const __m128i pair = v.pair[r / 2 % 2];
            __m256 n = numbers(f, r & 1 ? _mm_unpackhi_epi64(pair, pair) : pair);
            n = _mm256_mul_ps(_mm256_set1_ps(s->scale[r]), n);
            if (f->has_min) n = _mm256_sub_ps(n, _mm256_set1_ps(s->shift[r]));
            float *o = out + (r - from) * p->K + k;
            if (k + 8 <= p->K) {
                _mm256_storeu_ps(o, n);
                continue;
            }
            float last[8];
            _mm256_storeu_ps(last, n);
            for (int64_t j = 0; j < p->K - k; j++) o[j] = last[j];
        }
    }
}

static void panel_rows(const packed *p, float *out, int64_t panel, int from, int to)
{
    const packed_format *f = &p->format;
    const uint8_t *codes = p->codes + (size_t)panel * packed_panel_bytes(p);
    const __m128i table = _mm_loadu_si128((const __m128i *)f->table);
    group_scales s;
    for (int64_t g = 0; g < packed_groups(f, p->K); g++) {
        load_scales(&s, p, panel, g);
        const int64_t end = (g + 1) * f->group < p->K ? (g + 1) * f->group : p->K;
        if (from == 0 && to == PACKED_PANEL) { // constants, for the compiler
            for (int64_t k = g * f->group; k < end; k += 8) {
                eight_inputs(out, p, codes, &s, k, 0, PACKED_PANEL, table);
            }
            continue;
        }
        for (int64_t k = g * f->group; k < end; k += 8) {
            eight_inputs(out, p, codes, &s, k, from, to, table);
        }
    }
}

static void unpack(const packed *p, float *out, int64_t first, int64_t n)
{
    for (int64_t m = first, rows; m < first + n; m += rows, out += rows * p->K) {
        const int r = (int)(m % PACKED_PANEL);
        rows = first + n - m < PACKED_PANEL - r ? first + n - m : PACKED_PANEL - r;
        panel_rows(p, out, m / PACKED_PANEL, r, r + (int)rows);
    }
}

void packed_unpack_avx2_fill(backend_ops *ops)
{
    ops->unpack = unpack;
}

#endif
