// The output layer's looks with AVX-512 and VNNI: a line of codes is 16 rows times a quad.
#include "kernels/cpu/output.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
#define MAX_ROWS 4 // of x at once
#define AHEAD 4096 // bytes

INLINE __m512i low_halves(__m512i v)
{
    return _mm512_and_si512(v, _mm512_set1_epi8(15));
}

INLINE __m512i high_halves(__m512i v)
{
    return low_halves(_mm512_srli_epi16(v, 4));
}

INLINE __m512i quad(const int8_t *q)
{
    int32_t v;
    memcpy(&v, q, 4);
    return _mm512_set1_epi32(v);
}

INLINE __m512 sixteen_scales(const int8_t *scale)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)scale)));
}

// The sums of one group over R rows of x, codes fetched once.
INLINE void group_dots(__m512i dots[MAX_ROWS], const uint8_t *line, const output_x *x, int64_t g,
                       const int R)
{
#pragma GCC unroll 4
    for (int n = 0; n < R; n++) dots[n] = _mm512_set1_epi32(x[n].start[g]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const __m512i v = _mm512_loadu_si512(line + 64 * i);
        const __m512i a = low_halves(v), b = high_halves(v);
        _mm_prefetch((const char *)line + 64 * i + AHEAD, _MM_HINT_T0);
#pragma GCC unroll 4
        for (int n = 0; n < R; n++) {
            const int8_t *q = x[n].q + g * OUTPUT_GROUP + 8 * i;
            dots[n] = _mm512_dpbusd_epi32(dots[n], a, quad(q));
            dots[n] = _mm512_dpbusd_epi32(dots[n], b, quad(q + 4));
        }
    }
}

INLINE void scan_rows(const output_look *looks, const output_planes *p, int64_t panel,
                      const output_x *x, const int R, const bool whole)
{
    const int64_t groups = output_groups(p->K), m = panel * OUTPUT_PANEL;
    const uint8_t *line = p->high + panel * output_panel_bytes(p->K);
    const int8_t *scale = p->scale + m * groups;
    __m512 sum[MAX_ROWS], norm[MAX_ROWS], error[MAX_ROWS];
#pragma GCC unroll 4
    for (int n = 0; n < R; n++) sum[n] = norm[n] = error[n] = _mm512_setzero_ps();
    for (int64_t g = 0; g < groups; g++, line += 256, scale += OUTPUT_PANEL) {
        __m512i dots[MAX_ROWS];
        group_dots(dots, line, x, g, R);
        const __m512 s = sixteen_scales(scale), a = _mm512_abs_ps(s);
#pragma GCC unroll 4
        for (int n = 0; n < R; n++) {
            const __m512 dot = _mm512_cvtepi32_ps(dots[n]);
            sum[n] = _mm512_fmadd_ps(_mm512_mul_ps(dot, _mm512_set1_ps(x[n].scale[g])), s, sum[n]);
            norm[n] = _mm512_fmadd_ps(a, _mm512_set1_ps(x[n].norm[g]), norm[n]);
            if (!whole) error[n] = _mm512_fmadd_ps(a, _mm512_set1_ps(x[n].error[g]), error[n]);
        }
    }
    const __m512i slack = _mm512_loadu_si512(p->slack + m);
    const __m512 first = _mm512_castsi512_ps(_mm512_and_si512(slack, _mm512_set1_epi32(-65536)));
    const __m512 second = _mm512_castsi512_ps(_mm512_slli_epi32(slack, 16));
    const __m512 unit = _mm512_loadu_ps(p->unit + m);
#pragma GCC unroll 4
    for (int n = 0; n < R; n++) {
        const __m512 both = _mm512_fmadd_ps(first, norm[n], _mm512_mul_ps(second, error[n]));
        const __m512 value = _mm512_mul_ps(_mm512_mul_ps(_mm512_set1_ps(16), unit), sum[n]);
        const __m512 bound = _mm512_fmadd_ps(unit, both, _mm512_set1_ps(OUTPUT_LEAST_BOUND));
        _mm512_storeu_ps(looks[n].value + m, value);
        _mm512_storeu_ps(looks[n].bound + m, bound);
        looks[n].peak[panel] = _mm512_reduce_max_ps(value);
        looks[n].reach[panel] = _mm512_reduce_max_ps(_mm512_add_ps(value, bound));
    }
}

INLINE void scan_some(const output_look *looks, const output_planes *p, int64_t panel,
                      const output_x *x, int64_t N, const bool whole)
{
    for (; N > 0; N -= MAX_ROWS, x += MAX_ROWS, looks += MAX_ROWS) {
        switch (N) {
        case 1: scan_rows(looks, p, panel, x, 1, whole); break;
        case 2: scan_rows(looks, p, panel, x, 2, whole); break;
        case 3: scan_rows(looks, p, panel, x, 3, whole); break;
        default: scan_rows(looks, p, panel, x, MAX_ROWS, whole); break;
        }
    }
}

static void scan(const output_look *looks, const output_planes *p, int64_t panel, const output_x *x,
                 int64_t N)
{
    if (x->whole) scan_some(looks, p, panel, x, N, true); // one head: so are the other rows
    else scan_some(looks, p, panel, x, N, false);
}

// ---- second look ----

typedef struct sums {
    __m512 sum, norm, error;
} sums;

// A line: groups 4 i and 4 i + 1 of its 16 in the low halves, the next two in the high ones.
INLINE __m512 add_line(__m512 sum, const uint8_t *line, const int8_t *q, __m512 scales, int i)
{
    const __m512i v = _mm512_loadu_si512(line);
    const __m512i step = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    const __m512i first = _mm512_add_epi32(step, _mm512_set1_epi32(4 * i));
    const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(2));
    const __m512i zero = _mm512_setzero_si512();
    const __m512i a = _mm512_dpbusd_epi32(zero, low_halves(v), _mm512_loadu_si512(q));
    const __m512i b = _mm512_dpbusd_epi32(zero, high_halves(v), _mm512_loadu_si512(q + 64));
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a), _mm512_permutexvar_ps(first, scales), sum);
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(b), _mm512_permutexvar_ps(second, scales), sum);
}

INLINE sums look_at(const output_planes *p, const uint8_t *record, const output_x *x)
{
    const int64_t groups = output_groups(p->K);
    const int8_t *scale = (const int8_t *)record + output_width(p->K) / 2;
    const int8_t *q = x->q;
    sums l;
    l.sum = l.norm = l.error = _mm512_setzero_ps();
    for (int64_t g = 0; g < groups; g += 16) {
        const int64_t left = groups - g;
        const __mmask16 m = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
        const __m512 s = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(m, scale + g)));
        const __m512 scales = _mm512_mul_ps(s, _mm512_loadu_ps(x->scale + g));
        const __m512 a = _mm512_abs_ps(s);
        l.norm = _mm512_fmadd_ps(a, _mm512_loadu_ps(x->norm + g), l.norm);
        l.error = _mm512_fmadd_ps(a, _mm512_loadu_ps(x->error + g), l.error);
        l.sum = _mm512_fmadd_ps(scales, _mm512_loadu_ps(x->offset + g), l.sum);
        for (int i = 0; i < 4 && 4 * i < left; i++, record += 64, q += OUTPUT_LINE) {
            l.sum = add_line(l.sum, record, q, scales, i);
        }
    }
    return l;
}

static void refine(const output_look *look, const output_planes *p, const output_x *x,
                   const int32_t *ids, int64_t n)
{
    const int64_t bytes = output_record_bytes(p->K);
    for (int64_t i = 0; i < n; i++) {
        const char *next = (const char *)output_record(p, ids[i + 2 < n ? i + 2 : i]);
        for (int64_t b = 0; b < bytes; b += 64) _mm_prefetch(next + b, _MM_HINT_T0);
        const sums l = look_at(p, output_record(p, ids[i]), x);
        output_put_second(look, p, ids[i], _mm512_reduce_add_ps(l.sum), _mm512_reduce_add_ps(l.norm),
                          _mm512_reduce_add_ps(l.error));
    }
}

static const output_kernels vnni_kernels = {output_make_row, scan, refine, 4};

void output_avx512vnni_fill(backend_ops *ops)
{
    ops->output = &vnni_kernels;
}

#endif
