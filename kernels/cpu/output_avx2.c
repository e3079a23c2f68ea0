// The output layer's looks with AVX2: bytes multiplied in pairs, eight quads to a 16-bit sum.
//
// A group's sum of a lane is at most 16 products of 15 and 127: it fits.
#include "kernels/cpu/output.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

INLINE __m256i low_halves(__m256i v)
{
    return _mm256_and_si256(v, _mm256_set1_epi8(15));
}

INLINE __m256i high_halves(__m256i v)
{
    return low_halves(_mm256_srli_epi16(v, 4));
}

INLINE __m256i quad(const int8_t *q)
{
    int32_t v;
    memcpy(&v, q, 4);
    return _mm256_set1_epi32(v);
}

INLINE __m256 eight_scales(const int8_t *scale)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)scale)));
}

INLINE __m256 magnitude(__m256 v)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v);
}

// Sums of 8 rows: lines of one group, the rows' half of them, times its 32 bytes.
INLINE __m256 group_dots(const uint8_t *line, const int8_t *q, float offset)
{
    __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++, line += 64, q += 8) {
        const __m256i v = _mm256_loadu_si256((const __m256i *)line);
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(low_halves(v), quad(q)));
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(high_halves(v), quad(q + 4)));
    }
    const __m256i whole = _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
    return _mm256_add_ps(_mm256_cvtepi32_ps(whole), _mm256_set1_ps(offset));
}

typedef struct eight {
    __m256 value, reach;
} eight;

// 8 rows of a panel.
static eight scan_eight(const output_look *look, const output_planes *p, int64_t m,
                        const output_x *x)
{
    const int64_t groups = output_groups(p->K), panel = m / OUTPUT_PANEL, r = m % OUTPUT_PANEL;
    const uint8_t *line = p->high + panel * output_panel_bytes(p->K) + 4 * r;
    const int8_t *scale = p->scale + panel * groups * OUTPUT_PANEL + r;
    __m256 sum = _mm256_setzero_ps(), norm = sum, error = sum;
    for (int64_t g = 0; g < groups; g++, line += 256, scale += OUTPUT_PANEL) {
        _mm_prefetch((const char *)line + 4096, _MM_HINT_T0);
        _mm_prefetch((const char *)line + 4096 + 128, _MM_HINT_T0);
        const __m256 s = eight_scales(scale), a = magnitude(s);
        const __m256 dots = group_dots(line, x->q + g * OUTPUT_GROUP, x->offset[g]);
        sum = _mm256_fmadd_ps(_mm256_mul_ps(dots, _mm256_set1_ps(x->scale[g])), s, sum);
        norm = _mm256_fmadd_ps(a, _mm256_set1_ps(x->norm[g]), norm);
        error = _mm256_fmadd_ps(a, _mm256_set1_ps(x->error[g]), error);
    }
    const __m256i slack = _mm256_loadu_si256((const __m256i *)(p->slack + m));
    const __m256 first = _mm256_castsi256_ps(_mm256_and_si256(slack, _mm256_set1_epi32(-65536)));
    const __m256 second = _mm256_castsi256_ps(_mm256_slli_epi32(slack, 16));
    const __m256 unit = _mm256_loadu_ps(p->unit + m);
    const __m256 both = _mm256_fmadd_ps(first, norm, _mm256_mul_ps(second, error));
    const __m256 value = _mm256_mul_ps(_mm256_mul_ps(_mm256_set1_ps(16), unit), sum);
    const __m256 bound = _mm256_fmadd_ps(unit, both, _mm256_set1_ps(OUTPUT_LEAST_BOUND));
    _mm256_storeu_ps(look->value + m, value);
    _mm256_storeu_ps(look->bound + m, bound);
    return (eight){value, _mm256_add_ps(value, bound)};
}

INLINE float greatest_of(__m256 a, __m256 b)
{
    const __m256 v = _mm256_max_ps(a, b);
    __m128 h = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    h = _mm_max_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_max_ss(h, _mm_movehdup_ps(h)));
}

static void scan(const output_look *looks, const output_planes *p, int64_t panel, const output_x *x,
                 int64_t N)
{
    const int64_t m = panel * OUTPUT_PANEL;
    for (int64_t n = 0; n < N; n++) {
        const eight a = scan_eight(&looks[n], p, m, &x[n]);
        const eight b = scan_eight(&looks[n], p, m + 8, &x[n]);
        looks[n].peak[panel] = greatest_of(a.value, b.value);
        looks[n].reach[panel] = greatest_of(a.reach, b.reach);
    }
}

// ---- second look ----

INLINE float sum_of(__m256 v)
{
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
}

// sum += codes of one group times its bytes, times s.
INLINE __m256 add_group(__m256 sum, __m256i codes, const int8_t *q, float s)
{
    const __m256i x = _mm256_loadu_si256((const __m256i *)q);
    const __m256i dots = _mm256_madd_epi16(_mm256_maddubs_epi16(codes, x), _mm256_set1_epi16(1));
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), _mm256_set1_ps(s), sum);
}

typedef struct sums {
    float sum, norm, error;
} sums;

static sums look_at(const output_planes *p, const uint8_t *record, const output_x *x)
{
    const int64_t groups = output_groups(p->K);
    const int8_t *scale = (const int8_t *)record + output_width(p->K) / 2;
    __m256 sum = _mm256_setzero_ps();
    sums l = {0, 0, 0};
    for (int64_t g = 0; g < groups; g += 4, record += 64) {
        const int8_t *q = x->q + g * OUTPUT_GROUP;
        const __m256i a = _mm256_loadu_si256((const __m256i *)record);
        const __m256i b = _mm256_loadu_si256((const __m256i *)record + 1);
        const __m256i codes[4] = {low_halves(a), low_halves(b), high_halves(a), high_halves(b)};
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            const float u = scale[g + i], s = u * x->scale[g + i];
            sum = add_group(sum, codes[i], q + i * OUTPUT_GROUP, s);
            l.sum += s * x->offset[g + i];
            l.norm += fabsf(u) * x->norm[g + i];
            l.error += fabsf(u) * x->error[g + i];
        }
    }
    l.sum += sum_of(sum);
    return l;
}

static void refine(const output_look *look, const output_planes *p, const output_x *x,
                   const int32_t *ids, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const sums l = look_at(p, output_record(p, ids[i]), x);
        output_put_second(look, p, ids[i], l.sum, l.norm, l.error);
    }
}

static const output_kernels avx2_kernels = {output_make_row, scan, refine, 2};

void output_avx2_fill(backend_ops *ops)
{
    ops->output = &avx2_kernels;
}

#endif
