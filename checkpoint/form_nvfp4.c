// E2M1 floats, two a byte, the first in the low half. NVFP4: an E4M3 scale per 16 and one of the
// tensor, which multiplies in ModelOpt's files (weight_scale_2) and divides in those of
// compressed-tensors (weight_global_scale). MXFP4: a power of two (E8M0) per 32. Open Compute Project,
// Microscaling Formats specification 1.0; compressed_tensors/compressors/nvfp4, mxfp4.
#include <math.h>
#include <stdio.h>

#include "checkpoint/form.h"

static sight_err read_rows(const stored *s, packed_rows *rows, int64_t first, int64_t n)
{
    const form_matrix *f = (const form_matrix *)s;
    const uint8_t *from = f->codes + (size_t)(first * s->K / 2);
    for (int64_t i = 0; i < n * s->K / 2; i++) {
        rows->codes[2 * i] = from[i] & 15;
        rows->codes[2 * i + 1] = from[i] >> 4;
    }
    return form_read_scales(f, rows, first, n);
}

// The one number of the tensor, as a factor.
static sight_err take_factor(form_source *s, float *factor)
{
    const bool divides = form_has(s, PART_GLOBAL_SCALE);
    const form_part part = divides ? PART_GLOBAL_SCALE : PART_SCALE_2;
    tensor_view v;
    sight_err err = form_take(s, &v, part, "F32", 1, 1);
    if (err) return err;
    const float scale = tensor_get_f32(&v, 0), f = divides ? 1 / scale : scale;
    if (!isfinite(scale) || !isfinite(f) || scale == 0) {
        return form_fail(s, SIGHT_E_MODEL, "%s is %g",
                         divides ? "weight_global_scale" : "weight_scale_2", (double)scale);
    }
    *factor = f;
    return SIGHT_OK;
}

sight_err form_nvfp4(form_matrix *f, form_source *s)
{
    const bool mx = s->scheme->kind == QUANT_MXFP4;
    const bool pairs = form_has(s, PART_PACKED); // compressed-tensors' name
    tensor_view codes;
    float factor = 1;
    const int64_t group = mx ? 32 : 16;
    if (s->K % group) {
        return form_fail(s, SIGHT_E_MODEL, "%lld inputs are no groups of %lld", (long long)s->K,
                         (long long)group);
    }
    f->s.format = (packed_format){.bits = 4};
    sight_err err = form_take(s, &codes, pairs ? PART_PACKED : PART_WEIGHT, "U8", s->M, s->K / 2);
    if (!err) err = form_take_scales(f, s, PART_SCALE, mx ? "U8 F8_E8M0" : "F8_E4M3", group, 1, false);
    if (!err && !mx) err = take_factor(s, &factor);
    if (err) return err;
    f->s.format.group = (int32_t)group; // also where a row is one group
    form_choose_planes(f, 0);
    form_set_e2m1(&f->s.format);
    f->s.format.factor = factor / 2; // the table is doubled
    f->codes = codes.data;
    f->s.read = read_rows;
    snprintf(f->form, sizeof f->form, mx ? "MXFP4" : "NVFP4");
    return SIGHT_OK;
}
