// AWQ, gemm layout: qweight [K, M / 8] and qzeros [groups, M / 8] in 32-bit words that hold eight outputs,
// half-byte i the output order[i] of them; scales [groups, M]. w = (q - zero) * scale
// (AutoAWQ, awq/utils/packing_utils.py).
#include <stdio.h>

#include "checkpoint/form.h"

static const uint8_t order[] = {0, 2, 4, 6, 1, 3, 5, 7};  // of a word's half-bytes
static const uint8_t shifts[] = {0, 16, 4, 20, 8, 24, 12, 28}; // where output j of eight stands

#define SAME_ZEROS 0x88888888u // eight zero points of 8: symmetric weights

// first is a multiple of 16, so words are whole; the last rows may end within one.
static sight_err read_rows(const stored *s, packed_rows *rows, int64_t first, int64_t n)
{
    const form_matrix *f = (const form_matrix *)s;
    for (int64_t k = 0; k < s->K; k++) {
        for (int64_t j = 0; j < n; j += 8) {
            const uint32_t w = form_word(f->codes, k * f->code_step + (first + j) / 8);
            uint8_t *to = rows->codes + j * s->K + k;
            for (int i = 0; i < 8; i++) to[order[i] * s->K] = w >> (4 * i) & 15;
        }
    }
    return form_read_scales(f, rows, first, n);
}

static uint8_t zero_at(const form_matrix *f, int64_t m, int64_t group)
{
    return form_word(f->zeros.data, group * f->code_step + m / 8) >> shifts[m % 8] & 15;
}

// Groups as the config says them, or as the scales count them where it has exceptions.
static int64_t group_of(const form_source *s)
{
    const weight *w = s->parts[PART_SCALES];
    const int64_t groups = w && w->view.n_dims == 2 ? w->view.shape[0] : 0;
    if (!quant_config_overrides(s->config) || groups < 1) return s->scheme->group;
    return groups == 1 ? 0 : s->K / groups;
}

sight_err form_awq(form_matrix *f, form_source *s)
{
    tensor_view codes;
    const int64_t group = group_of(s);
    if (s->M % 8) return form_fail(s, SIGHT_E_MODEL, "%lld outputs are no words of 8", (long long)s->M);
    f->bits = 4;
    f->code_step = s->M / 8;
    f->s.format = (packed_format){.bits = 4};
    sight_err err = form_take(s, &codes, PART_QWEIGHT, "I32", s->K, s->M / 8);
    if (!err) err = form_take_scales(f, s, PART_SCALES, "F16 BF16 F32", group, 1, true);
    if (!err) {
        err = form_take(s, &f->zeros, PART_QZEROS, "I32", (s->K + f->inputs - 1) / f->inputs, s->M / 8);
    }
    if (err) return err;
    f->zero = zero_at;
    f->check_zero = s->scheme->symmetric && form_word(f->zeros.data, 0) == SAME_ZEROS;
    form_choose_planes(f, 8);
    f->codes = codes.data;
    f->s.read = read_rows;
    snprintf(f->form, sizeof f->form, "awq int4 %lld", (long long)f->inputs);
    return SIGHT_OK;
}
