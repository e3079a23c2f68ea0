#include "kernels/packed.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/f8.h"
#include "kernels/tensor.h"

#define ALIGN 64

static size_t aligned(size_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

static size_t scale_bytes(const packed_format *f)
{
    return f->scales == PACKED_FLAT ? 2 : f->scales == PACKED_FLAT_F32 ? 4 : 1;
}

// ---- formats ----

bool packed_format_check(const packed_format *f, const char **why)
{
    *why = NULL;
    if (f->bits != 4 && f->bits != 8) *why = "bits";
    else if (f->f8 && f->bits != 8) *why = "f8";
    else if (f->f8_rows && !f->f8) *why = "f8_rows";
    else if (f->has_table && f->bits != 4) *why = "has_table";
    else if (f->group != 16 && f->group != 32 && f->group != 64 && f->group != 128) *why = "group";
    else if (f->scales == PACKED_TWO_LEVEL && f->per_super < 1) *why = "per_super";
    else if (f->scales != PACKED_TWO_LEVEL && f->per_super) *why = "per_super";
    else if (f->scales != PACKED_TWO_LEVEL && f->has_min) *why = "has_min";
    return !*why;
}

// ---- layout ----

typedef struct layout {
    size_t codes, scales, mins, super, super_min; // bytes of each plane
} layout;

static layout layout_of(const packed_format *f, int64_t M, int64_t K)
{
    const size_t groups = (size_t)packed_groups(f, K);
    const size_t rows = (size_t)packed_panels(M) * PACKED_PANEL;
    const size_t supers = (size_t)packed_supers(f, K) * rows * sizeof(float);
    return (layout){
        .codes = aligned(rows * groups * (size_t)f->group * f->bits / 8),
        .scales = aligned(rows * groups * scale_bytes(f)),
        .mins = f->has_min ? aligned(rows * groups) : 0,
        .super = aligned(supers),
        .super_min = f->has_min ? aligned(supers) : 0,
    };
}

size_t packed_bytes(const packed_format *f, int64_t M, int64_t K)
{
    const layout l = layout_of(f, M, K);
    return l.codes + l.scales + l.mins + l.super + l.super_min;
}

void packed_init(packed *out, const packed_format *f, int64_t M, int64_t K, const void *block)
{
    const layout l = layout_of(f, M, K);
    const char *at = block;
    *out = (packed){.format = *f, .M = M, .K = K, .codes = (const uint8_t *)at};
    at += l.codes;
    out->scales = at;
    at += l.scales;
    if (l.mins) out->mins = (const uint8_t *)at;
    at += l.mins;
    if (l.super) out->super = (const float *)(const void *)at;
    at += l.super;
    if (l.super_min) out->super_min = (const float *)(const void *)at;
}

bool packed_rows_alloc(packed_rows *rows, const packed_format *f, int64_t n, int64_t K)
{
    const size_t groups = (size_t)(n * packed_groups(f, K));
    const size_t supers = (size_t)(n * packed_supers(f, K)) * sizeof(float);
    const size_t codes = aligned((size_t)(n * K)), scales = aligned(groups * scale_bytes(f));
    const size_t mins = f->has_min ? aligned(groups) : 0;
    const size_t bytes = codes + scales + mins + 2 * aligned(supers);
    char *at = malloc(bytes);
    *rows = (packed_rows){0};
    if (!at) return false;
    rows->codes = (uint8_t *)at;
    rows->scales = at + codes;
    at += codes + scales;
    if (f->has_min) rows->mins = (uint8_t *)at;
    at += mins;
    if (supers) rows->super = (float *)(void *)at;
    if (supers && f->has_min) rows->super_min = (float *)(void *)(at + aligned(supers));
    return true;
}

// ---- writing ----

// The byte of the code of row r (of its panel) and input k, from the start of the panel.
static size_t code_at(const packed_format *f, int64_t k, int64_t r)
{
    const size_t in_line = (size_t)r * 4 + (size_t)(k % 4);
    const size_t quad = (size_t)(k / 4);
    return (f->bits == 8 ? quad : quad / 2) * 64 + in_line;
}

static uint8_t zero_code(const packed_format *f)
{
    if (f->f8) return 0;
    for (uint8_t i = 0; f->has_table && i < 16; i++) {
        if (f->table[i] == f->offset) return i;
    }
    return f->has_table ? 0 : f->offset;
}

static void put_codes(const packed *p, int64_t panel, int64_t r, const uint8_t *codes)
{
    const packed_format *f = &p->format;
    const int64_t width = packed_groups(f, p->K) * f->group;
    const size_t panel_bytes = (size_t)(PACKED_PANEL * width) * f->bits / 8;
    uint8_t *to = (uint8_t *)p->codes + (size_t)panel * panel_bytes;
    const uint8_t pad = zero_code(f);
    for (int64_t k = 0; k < width; k++) {
        const uint8_t code = codes && k < p->K ? codes[k] : pad;
        uint8_t *b = to + code_at(f, k, r);
        if (f->bits == 8) *b = code;
        else if (k / 4 % 2 == 0) *b = (uint8_t)((*b & 0xf0) | code);
        else *b = (uint8_t)((*b & 0x0f) | code << 4);
    }
}

// One row's numbers into a plane [panel][n][16], elements of `size` bytes; from NULL: zeros.
static void put_plane(const void *plane, int64_t panel, int64_t r, const void *from, int64_t n,
                      size_t size)
{
    if (!plane) return;
    char *to = (char *)plane + (size_t)(panel * n * PACKED_PANEL + r) * size;
    for (int64_t g = 0; g < n; g++, to += PACKED_PANEL * size) {
        if (from) memcpy(to, (const char *)from + (size_t)g * size, size);
        else memset(to, 0, size);
    }
}

static const void *row_of(const void *array, int64_t i, int64_t n, size_t size)
{
    return array ? (const char *)array + (size_t)(i * n) * size : NULL;
}

void packed_put(const packed *p, int64_t first, int64_t n, const packed_rows *rows)
{
    const packed_format *f = &p->format;
    const int64_t groups = packed_groups(f, p->K), supers = packed_supers(f, p->K);
    const int64_t end = first + n == p->M ? packed_panels(p->M) * PACKED_PANEL : first + n;
    for (int64_t m = first; m < end; m++) {
        const bool real = m < p->M;
        const int64_t i = m - first, panel = m / PACKED_PANEL, r = m % PACKED_PANEL;
        put_codes(p, panel, r, real ? rows->codes + i * p->K : NULL);
        put_plane(p->scales, panel, r, real ? row_of(rows->scales, i, groups, scale_bytes(f)) : NULL,
                  groups, scale_bytes(f));
        put_plane(p->mins, panel, r, real ? row_of(rows->mins, i, groups, 1) : NULL, groups, 1);
        put_plane(p->super, panel, r, real ? row_of(rows->super, i, supers, 4) : NULL, supers, 4);
        put_plane(p->super_min, panel, r, real ? row_of(rows->super_min, i, supers, 4) : NULL, supers,
                  4);
    }
}

// ---- reading ----

static float scale_of(const packed *p, int64_t panel, int64_t g, int64_t r, float *shift)
{
    const packed_format *f = &p->format;
    const size_t i = (size_t)((panel * packed_groups(f, p->K) + g) * PACKED_PANEL + r);
    *shift = 0;
    if (f->scales == PACKED_FLAT) return f->factor * f16_to_f32(((const uint16_t *)p->scales)[i]);
    if (f->scales == PACKED_FLAT_F32) return f->factor * ((const float *)p->scales)[i];
    const int64_t s = (panel * packed_supers(f, p->K) + g / f->per_super) * PACKED_PANEL + r;
    const float sub = f->signed_sub ? (float)((const int8_t *)p->scales)[i]
                                    : (float)((const uint8_t *)p->scales)[i];
    if (f->has_min) *shift = p->super_min[s] * (float)p->mins[i];
    return p->super[s] * sub;
}

static const uint8_t *panel_codes(const packed *p, int64_t panel)
{
    const packed_format *f = &p->format;
    const int64_t width = packed_groups(f, p->K) * f->group;
    return p->codes + (size_t)(panel * PACKED_PANEL * width) * f->bits / 8;
}

float packed_get_scale(const packed *p, int64_t m, int64_t g, float *shift)
{
    return scale_of(p, m / PACKED_PANEL, g, m % PACKED_PANEL, shift);
}

int packed_get_value(const packed *p, int64_t m, int64_t k)
{
    const packed_format *f = &p->format;
    uint8_t code = panel_codes(p, m / PACKED_PANEL)[code_at(f, k, m % PACKED_PANEL)];
    if (f->bits == 4) code = k / 4 % 2 ? code >> 4 : code & 15;
    return f->has_table ? f->table[code] : code;
}

// The number that each code stands for, before its scale.
static void numbers_of(const packed_format *f, float numbers[256])
{
    for (int code = 0; code < 256; code++) {
        const int value = f->has_table ? f->table[code & 15] : code;
        numbers[code] = f->f8 ? f8_to_f32((uint8_t)code) : (float)(value - f->offset);
    }
}

// Row r of a panel.
static void panel_row(const packed *p, float *out, int64_t panel, int64_t r, const float *numbers)
{
    const packed_format *f = &p->format;
    const uint8_t *codes = panel_codes(p, panel);
    float scale = 0, shift = 0;
    for (int64_t k = 0; k < p->K; k++) {
        if (k % f->group == 0) scale = scale_of(p, panel, k / f->group, r, &shift);
        uint8_t code = codes[code_at(f, k, r)];
        if (f->bits == 4) code = k / 4 % 2 ? code >> 4 : code & 15;
        out[k] = scale * numbers[code] - shift;
    }
}

void packed_get_row(const packed *p, float *out, int64_t m)
{
    float numbers[256];
    numbers_of(&p->format, numbers);
    panel_row(p, out, m / PACKED_PANEL, m % PACKED_PANEL, numbers);
}

// Quads first .. last of rows from .. to of a panel, line by line as they lie.
static void panel_quads(const packed *p, float *out, const uint8_t *codes, const float *numbers,
                        const float *scale, const float *shift, const int64_t quad[2],
                        const int64_t row[2])
{
    const bool nibbles = p->format.bits == 4;
    for (int64_t q = quad[0]; q < quad[1]; q++) {
        const uint8_t *line = codes + (nibbles ? q / 2 : q) * 64;
        const int64_t left = p->K - 4 * q, n = left < 4 ? left : 4;
        for (int64_t r = row[0]; r < row[1]; r++) {
            float *to = out + (r - row[0]) * p->K + 4 * q;
            for (int64_t j = 0; j < n; j++) {
                uint8_t code = line[4 * r + j];
                if (nibbles) code = q & 1 ? code >> 4 : code & 15;
                to[j] = scale[r] * numbers[code] - shift[r];
            }
        }
    }
}

void packed_get_rows(const packed *p, float *out, int64_t first, int64_t n)
{
    const packed_format *f = &p->format;
    float numbers[256], scale[PACKED_PANEL], shift[PACKED_PANEL];
    numbers_of(f, numbers);
    for (int64_t m = first, rows; m < first + n; m += rows, out += rows * p->K) {
        const int64_t panel = m / PACKED_PANEL, r = m % PACKED_PANEL;
        rows = first + n - m < PACKED_PANEL - r ? first + n - m : PACKED_PANEL - r;
        for (int64_t g = 0; g < packed_groups(f, p->K); g++) {
            const int64_t k = (g + 1) * f->group, end = k < p->K ? k : p->K;
            const int64_t quads[2] = {g * f->group / 4, (end + 3) / 4};
            for (int64_t i = r; i < r + rows; i++) scale[i] = scale_of(p, panel, g, i, &shift[i]);
            panel_quads(p, out, panel_codes(p, panel), numbers, scale, shift, quads,
                        (const int64_t[2]){r, r + rows});
        }
    }
}
