// What the readers of the forms share: parts with exact dtypes and shapes, scales and zero points.
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/form.h"
#include "kernels/f8.h"

#define ROW_GROUP 128 // packed groups of a matrix whose rows have one scale each

static const char *const names[PART_COUNT] = {
    "weight",      "weight_packed",       "weight_scale",      "weight_scale_inv",
    "weight_scale_2", "weight_global_scale", "weight_zero_point", "weight_shape",
    "weight_g_idx", "qweight",            "qzeros",            "scales",
    "g_idx"};

bool form_has(const form_source *s, form_part part)
{
    return s->parts[part] != NULL;
}

const char *form_dtype(const form_source *s, form_part part)
{
    return s->parts[part] ? s->parts[part]->dtype : "";
}

sight_err form_fail(const form_source *s, sight_err code, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return sight_fail(code, "'%s': matrix '%s' (%s): %s", s->path, s->module,
                      quant_config_name(s->config), text);
}

// ---- parts ----

static bool dtype_in(const char *dtype, const char *list)
{
    const size_t n = strlen(dtype);
    for (const char *at = list; (at = strstr(at, dtype)); at += n) {
        if ((at == list || at[-1] == ' ') && (at[n] == ' ' || !at[n])) return true;
    }
    return false;
}

// Sides of 1 do not count: scales are kept as [], [1], [M] and [M, 1].
static bool same_shape(const tensor_view *v, int64_t rows, int64_t columns)
{
    const int64_t wanted[] = {rows, columns};
    int32_t i = 0;
    for (int j = 0; j < 2; j++) {
        if (wanted[j] == 1) continue;
        while (i < v->n_dims && v->shape[i] == 1) i++;
        if (i == v->n_dims || v->shape[i++] != wanted[j]) return false;
    }
    while (i < v->n_dims && v->shape[i] == 1) i++;
    return i == v->n_dims;
}

static sight_err fail_missing(const form_source *s, form_part part)
{
    return sight_fail(SIGHT_E_MODEL, "'%s': tensor '%s.%s' is missing beside '%s' parts of that matrix",
                      s->path, s->module, names[part], quant_config_name(s->config));
}

sight_err form_take(form_source *s, tensor_view *out, form_part part, const char *dtypes, int64_t rows,
                    int64_t columns)
{
    const weight *w = s->parts[part];
    if (!w) return fail_missing(s, part);
    if (!w->has_view || !dtype_in(w->dtype, dtypes)) {
        return sight_fail(SIGHT_E_MODEL, "'%s': tensor '%s' is %s, expected %s", w->path, w->name,
                          w->dtype, dtypes);
    }
    if (!same_shape(&w->view, rows, columns)) {
        char found[EXPECT_SHAPE_TEXT];
        expect_shape_text(found, w->view.shape, w->view.n_dims);
        return sight_fail(SIGHT_E_MODEL, "'%s': tensor '%s': expected shape [%lld, %lld], found %s",
                          w->path, w->name, (long long)rows, (long long)columns, found);
    }
    *out = w->view;
    s->used |= 1u << part;
    return SIGHT_OK;
}

// ---- scales ----

static int64_t cut(int64_t n, int64_t by)
{
    return (n + by - 1) / by;
}

// The group of the packed matrix: scales of longer ones repeat, to the last one of a row.
static int32_t packed_group(int64_t inputs, int64_t K)
{
    static const int32_t sizes[] = {128, 64, 32, 16};
    if (inputs >= K) return ROW_GROUP;
    for (int i = 0; i < 4; i++) {
        if (inputs % sizes[i] == 0) return sizes[i];
    }
    return 0;
}

sight_err form_take_scales(form_matrix *f, form_source *s, form_part part, const char *dtypes,
                           int64_t group, int64_t rows, bool transposed)
{
    f->inputs = group ? group : s->K;
    f->rows = rows ? rows : s->M;
    const int64_t down = cut(s->M, f->rows), across = cut(s->K, f->inputs);
    f->row_step = transposed ? 1 : across;
    f->group_step = transposed ? down : 1;
    sight_err err = transposed ? form_take(s, &f->scales, part, dtypes, across, down)
                               : form_take(s, &f->scales, part, dtypes, down, across);
    if (err) return err;
    const char *dtype = form_dtype(s, part);
    f->number = strcmp(dtype, "F8_E4M3") == 0                          ? NUMBER_E4M3
                : strcmp(dtype, "F8_E8M0") == 0 || strcmp(dtype, "U8") == 0 ? NUMBER_E8M0
                                                                           : NUMBER_FLOAT;
    f->s.format.group = packed_group(f->inputs, s->K);
    if (f->s.format.group) return SIGHT_OK;
    return form_fail(s, SIGHT_E_UNSUPPORTED,
                     "groups of %lld inputs are not supported, only multiples of 16",
                     (long long)f->inputs);
}

void form_choose_planes(form_matrix *f, uint8_t offset)
{
    packed_format *to = &f->s.format;
    const bool half = f->number == NUMBER_E4M3 ||
                      (f->number == NUMBER_FLOAT && f->scales.type == TENSOR_F16);
    to->factor = 1;
    if (f->zero && !f->check_zero) {
        to->scales = PACKED_TWO_LEVEL;
        to->per_super = 1;
        to->has_min = true;
        return;
    }
    to->scales = half ? PACKED_FLAT : PACKED_FLAT_F32;
    to->offset = offset;
}

// An E4M3 number as f16: both are exact, its smallest ones are normal there.
static uint16_t f16_of_e4m3(uint8_t b)
{
    int exponent = b >> 3 & 15, mantissa = b & 7;
    const uint16_t sign = (uint16_t)((b & 0x80) << 8);
    if (!exponent && !mantissa) return sign;
    if (!exponent) {
        for (exponent = 1; mantissa < 8; exponent--) mantissa *= 2;
        mantissa &= 7;
    }
    return (uint16_t)(sign | (exponent + 8) << 10 | mantissa << 7);
}

static float scale_at(const form_matrix *f, int64_t at)
{
    const uint8_t *bytes = f->scales.data;
    if (f->number == NUMBER_E4M3) return f8_to_f32(bytes[at]);
    if (f->number == NUMBER_E8M0) return bytes[at] == 255 ? NAN : ldexpf(1, bytes[at] - 127);
    return tensor_get_f32(&f->scales, at);
}

static sight_err fail_scale(const form_matrix *f, int64_t m, float scale)
{
    return sight_fail(SIGHT_E_MODEL, "'%s': matrix '%s' (%s): a scale of row %lld is %s", f->s.path,
                      f->s.name, f->s.form, (long long)m, isnan(scale) ? "NaN" : "infinity");
}

static sight_err check_zero(const form_matrix *f, int64_t m, uint8_t zero)
{
    if (!f->check_zero || zero == f->s.format.offset) return SIGHT_OK;
    return sight_fail(SIGHT_E_MODEL,
                      "'%s': matrix '%s' (%s): a zero point of row %lld is %d, %d is expected of "
                      "symmetric weights",
                      f->s.path, f->s.name, f->s.form, (long long)m, zero, f->s.format.offset);
}

// Scale and zero point of one group into the planes that the format has, at place i of the rows.
static void put_group(const form_matrix *f, packed_rows *rows, int64_t i, int64_t at, float scale,
                      uint8_t zero)
{
    const packed_format *to = &f->s.format;
    if (to->scales == PACKED_FLAT_F32) {
        ((float *)rows->scales)[i] = scale;
    } else if (to->scales == PACKED_TWO_LEVEL) { // scale * code - scale * zero
        ((uint8_t *)rows->scales)[i] = 1;
        rows->super[i] = scale;
        rows->super_min[i] = scale;
        rows->mins[i] = zero;
    } else if (f->number == NUMBER_E4M3) {
        ((uint16_t *)rows->scales)[i] = f16_of_e4m3(((const uint8_t *)f->scales.data)[at]);
    } else {
        memcpy((uint16_t *)rows->scales + i, (const char *)f->scales.data + 2 * at, 2);
    }
}

sight_err form_read_scales(const form_matrix *f, packed_rows *rows, int64_t first, int64_t n)
{
    const int64_t groups = packed_groups(&f->s.format, f->s.K);
    for (int64_t i = 0; i < n * groups; i++) {
        const int64_t m = first + i / groups, k = i % groups * f->s.format.group;
        const int64_t group = k / f->inputs;
        const int64_t at = m / f->rows * f->row_step + group * f->group_step;
        const float scale = scale_at(f, at);
        if (!isfinite(scale)) return fail_scale(f, m, scale);
        const uint8_t zero = f->zero ? f->zero(f, m, group) : 0;
        sight_err err = check_zero(f, m, zero);
        if (err) return err;
        put_group(f, rows, i, at, scale, zero);
    }
    return SIGHT_OK;
}

void form_set_e2m1(packed_format *f)
{
    static const int8_t doubled[] = {0, 1, 2, 3, 4, 6, 8, 12};
    f->has_table = true;
    f->offset = 12;
    for (int i = 0; i < 8; i++) {
        f->table[i] = (uint8_t)(12 + doubled[i]);
        f->table[i + 8] = (uint8_t)(12 - doubled[i]);
    }
}
