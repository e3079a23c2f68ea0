// GPTQ: qweight [K * bits / 32, M] in 32-bit words of several inputs, the first lowest; qzeros
// [groups, M * bits / 32] likewise over outputs; scales [groups, M]; g_idx [K], the group of each input.
// w = (q - zero) * scale. The format's first version stores zero - 1 in the same bits, so the one stored for
// 0 is all ones (AutoGPTQ, auto_gptq/nn_modules/qlinear; GPTQModel calls the other version gptq_v2).
#include <stdio.h>

#include "checkpoint/form.h"

static sight_err read_rows(const stored *s, packed_rows *rows, int64_t first, int64_t n)
{
    const form_matrix *f = (const form_matrix *)s;
    const int64_t per_word = 32 / f->bits;
    const uint32_t mask = (1u << f->bits) - 1;
    for (int64_t k = 0; k < s->K; k += per_word) {
        for (int64_t i = 0; i < n; i++) {
            uint32_t w = form_word(f->codes, k / per_word * s->M + first + i);
            uint8_t *to = rows->codes + i * s->K + k;
            for (int64_t j = 0; j < per_word; j++, w >>= f->bits) to[j] = (uint8_t)(w & mask);
        }
    }
    return form_read_scales(f, rows, first, n);
}

static uint8_t zero_at(const form_matrix *f, int64_t m, int64_t group)
{
    const int64_t per_word = 32 / f->bits;
    const uint32_t mask = (1u << f->bits) - 1;
    const uint32_t w = form_word(f->zeros.data, group * f->code_step + m / per_word);
    return (uint8_t)(((w >> (m % per_word * f->bits)) + (f->less_one ? 1 : 0)) & mask);
}

// Bits and groups as the config says them, or as the shapes have them where it has exceptions.
static void read_numbers(const form_source *s, int64_t *bits, int64_t *group)
{
    const weight *q = s->parts[PART_QWEIGHT], *z = s->parts[PART_SCALES];
    *bits = s->scheme->bits;
    *group = s->scheme->group;
    if (!quant_config_overrides(s->config)) return;
    if (q && q->view.n_dims == 2 && q->view.shape[0] * 4 == s->K) *bits = 8;
    if (q && q->view.n_dims == 2 && q->view.shape[0] * 8 == s->K) *bits = 4;
    const int64_t groups = z && z->view.n_dims == 2 ? z->view.shape[0] : 0;
    if (groups > 0 && s->K % groups == 0) *group = groups == 1 ? 0 : s->K / groups;
}

// Inputs that belong to groups out of turn (desc_act) have no place in a packed matrix.
static sight_err check_order(const form_matrix *f, form_source *s)
{
    tensor_view v;
    if (!form_has(s, PART_G_IDX)) return SIGHT_OK;
    sight_err err = form_take(s, &v, PART_G_IDX, "I32", s->K, 1);
    for (int64_t k = 0; k < s->K && !err; k++) {
        if ((int32_t)form_word(v.data, k) == k / f->inputs) continue;
        return form_fail(s, SIGHT_E_UNSUPPORTED,
                         "inputs in an order of their own (desc_act: g_idx[%lld] is %d, not %lld) are not "
                         "supported",
                         (long long)k, (int32_t)form_word(v.data, k), (long long)(k / f->inputs));
    }
    return err;
}

// Whether the first zero point is the middle, so that all of them may be the format's offset.
static bool starts_symmetric(const form_matrix *f)
{
    return zero_at(f, 0, 0) == 1 << (f->bits - 1);
}

sight_err form_gptq(form_matrix *f, form_source *s)
{
    tensor_view codes;
    int64_t group;
    read_numbers(s, &f->bits, &group);
    const int64_t per_word = 32 / f->bits;
    if (s->M % per_word || s->K % per_word) {
        return form_fail(s, SIGHT_E_MODEL, "[%lld, %lld] are no words of %lld", (long long)s->M,
                         (long long)s->K, (long long)per_word);
    }
    f->code_step = s->M / per_word;
    f->s.format = (packed_format){.bits = (uint8_t)f->bits};
    sight_err err = form_take(s, &codes, PART_QWEIGHT, "I32", s->K / per_word, s->M);
    if (!err) err = form_take_scales(f, s, PART_SCALES, "F16 BF16 F32", group, 1, true);
    if (!err) {
        err = form_take(s, &f->zeros, PART_QZEROS, "I32", (s->K + f->inputs - 1) / f->inputs,
                        f->code_step);
    }
    if (!err) err = check_order(f, s);
    if (err) return err;
    f->zero = zero_at;
    f->less_one = quant_config_zeros_less_one(s->config);
    f->check_zero = s->scheme->symmetric && starts_symmetric(f);
    form_choose_planes(f, (uint8_t)(1 << (f->bits - 1)));
    f->codes = codes.data;
    f->s.read = read_rows;
    snprintf(f->form, sizeof f->form, "gptq int%d %lld", (int)f->bits, (long long)f->inputs);
    return SIGHT_OK;
}
