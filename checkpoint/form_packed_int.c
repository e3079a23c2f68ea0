// compressed-tensors' integers: "pack-quantized" (4 or 8 bits in 32-bit words along the inputs, plus half
// the range) and "int-quantized" (int8, a byte each). compressed_tensors/compressors/pack_quantized.
#include <stdio.h>
#include <string.h>

#include "checkpoint/form.h"

// Words are little-endian: bytes in order, the low half of a byte first.
static sight_err read_rows(const stored *s, packed_rows *rows, int64_t first, int64_t n)
{
    const form_matrix *f = (const form_matrix *)s;
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *from = f->codes + (size_t)((first + i) * f->code_step);
        uint8_t *to = rows->codes + i * s->K;
        if (f->bits == 8) memcpy(to, from, (size_t)s->K);
        for (int64_t k = 0; f->bits == 4 && k < s->K; k++) to[k] = from[k / 2] >> (k % 2 * 4) & 15;
    }
    return form_read_scales(f, rows, first, n);
}

static sight_err read_bytes(const stored *s, packed_rows *rows, int64_t first, int64_t n)
{
    const form_matrix *f = (const form_matrix *)s;
    const uint8_t *from = f->codes + (size_t)(first * s->K);
    for (int64_t i = 0; i < n * s->K; i++) rows->codes[i] = from[i] ^ 0x80; // + 128
    return form_read_scales(f, rows, first, n);
}

// Zero points: packed as the weights are, but down the outputs; or int8, a byte each.
static uint8_t packed_zero(const form_matrix *f, int64_t m, int64_t group)
{
    const int64_t per_word = 32 / f->bits;
    uint32_t word;
    memcpy(&word, (const char *)f->zeros.data + 4 * (m / per_word * f->row_step + group), 4);
    return (uint8_t)(word >> (m % per_word * f->bits) & ((1u << f->bits) - 1));
}

static uint8_t byte_zero(const form_matrix *f, int64_t m, int64_t group)
{
    const int64_t at = m / f->rows * f->row_step + group * f->group_step;
    const int half = 1 << (f->bits - 1);
    return (uint8_t)((((const uint8_t *)f->zeros.data)[at] + half) & (2 * half - 1));
}

static sight_err take_zeros(form_matrix *f, form_source *s)
{
    const int64_t across = (s->K + f->inputs - 1) / f->inputs, down = (s->M + f->rows - 1) / f->rows;
    const bool in_bytes = strcmp(form_dtype(s, PART_ZERO_POINT), "I8") == 0;
    // Kept by older versions for symmetric weights too, where all are 0.
    if (s->scheme->symmetric && !form_has(s, PART_ZERO_POINT)) return SIGHT_OK;
    f->check_zero = s->scheme->symmetric;
    if (in_bytes || s->scheme->kind == QUANT_I8) {
        f->zero = byte_zero;
        return form_take(s, &f->zeros, PART_ZERO_POINT, "I8", down, across);
    }
    f->zero = packed_zero;
    return form_take(s, &f->zeros, PART_ZERO_POINT, "I32", (s->M * f->bits + 31) / 32, across);
}

static sight_err check_shape(form_source *s)
{
    tensor_view v;
    sight_err err = form_take(s, &v, PART_SHAPE, "I64 I32", 2, 1);
    if (err) return err;
    const float rows = tensor_get_f32(&v, 0), columns = tensor_get_f32(&v, 1);
    if (rows == (float)s->M && columns == (float)s->K) return SIGHT_OK;
    return form_fail(s, SIGHT_E_MODEL, "weight_shape is [%g, %g], expected [%lld, %lld]", (double)rows,
                     (double)columns, (long long)s->M, (long long)s->K);
}

static sight_err refuse_order(const form_source *s)
{
    return form_has(s, PART_WEIGHT_G_IDX)
               ? form_fail(s, SIGHT_E_UNSUPPORTED,
                           "inputs in an order of their own (weight_g_idx) are not supported")
               : SIGHT_OK;
}

sight_err form_packed_int(form_matrix *f, form_source *s)
{
    const quant_scheme *q = s->scheme;
    const bool words = q->kind == QUANT_INT;
    tensor_view codes;
    f->bits = q->bits;
    f->code_step = (s->K * f->bits + 31) / 32 * 4;
    f->s.format = (packed_format){.bits = (uint8_t)q->bits};
    sight_err err = refuse_order(s);
    if (!err && words) err = check_shape(s);
    if (!err) {
        err = words ? form_take(s, &codes, PART_PACKED, "I32", s->M, f->code_step / 4)
                    : form_take(s, &codes, PART_WEIGHT, "I8", s->M, s->K);
    }
    if (!err) err = form_take_scales(f, s, PART_SCALE, "BF16 F16 F32", q->group, q->rows, false);
    if (!err) err = take_zeros(f, s);
    if (err) return err;
    form_choose_planes(f, (uint8_t)(1 << (q->bits - 1)));
    f->codes = codes.data;
    f->s.read = words ? read_rows : read_bytes;
    snprintf(f->form, sizeof f->form, "%s int%d %lld", words ? "pack-quantized" : "int-quantized",
             (int)f->bits, (long long)f->inputs);
    return SIGHT_OK;
}
