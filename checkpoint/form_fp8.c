// FP8: weights in E4M3, a byte each, with scales of the tensor, of rows or of blocks. Published by Qwen ("fp8",
// weight_scale_inv per 128 x 128), compressed-tensors ("float-quantized") and ModelOpt ("FP8").
#include <stdio.h>
#include <string.h>

#include "checkpoint/form.h"

static sight_err read_rows(const stored *s, packed_rows *rows, int64_t first, int64_t n)
{
    const form_matrix *f = (const form_matrix *)s;
    const uint8_t *from = f->codes + (size_t)(first * s->K);
    const size_t count = (size_t)(n * s->K);
    for (size_t i = 0; i < count; i++) {
        if ((from[i] & 0x7f) != 0x7f) continue;
        return sight_fail(SIGHT_E_MODEL, "'%s': matrix '%s' (%s): row %lld, input %lld is NaN", s->path,
                          s->name, s->form, (long long)(first + (int64_t)i / s->K),
                          (long long)((int64_t)i % s->K));
    }
    memcpy(rows->codes, from, count);
    return form_read_scales(f, rows, first, n);
}

// Where the config does not say: one scale, or one a row, or ModelOpt's blocks of 128 x 128.
static void guess_scope(const form_source *s, form_part part, int64_t *group, int64_t *rows)
{
    const weight *w = s->parts[part];
    const int64_t n = w ? tensor_count(&w->view) : 1;
    *group = 0;
    *rows = n == 1 ? 0 : 1;
    if (n == 1 || n == s->M) return;
    *group = *rows = 128;
}

sight_err form_fp8(form_matrix *f, form_source *s)
{
    tensor_view codes;
    const form_part part = form_has(s, PART_SCALE_INV) ? PART_SCALE_INV : PART_SCALE;
    int64_t group = s->scheme->group, rows = s->scheme->rows;
    if (group < 0) guess_scope(s, part, &group, &rows);
    f->s.format = (packed_format){.bits = 8, .f8 = true, .f8_rows = s->scheme->f8_inputs};
    sight_err err = form_take(s, &codes, PART_WEIGHT, "F8_E4M3", s->M, s->K);
    if (!err) err = form_take_scales(f, s, part, "BF16 F16 F32", group, rows, false);
    if (err) return err;
    form_choose_planes(f, 0);
    f->codes = codes.data;
    f->s.read = read_rows;
    if (!group) snprintf(f->form, sizeof f->form, "FP8 per %s", rows ? "row" : "tensor");
    else snprintf(f->form, sizeof f->form, "FP8 %lldx%lld", (long long)rows, (long long)group);
    return SIGHT_OK;
}
