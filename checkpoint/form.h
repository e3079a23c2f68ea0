// checkpoint/form.h - matrices of a safetensors folder in a quantised form. Room-private.
//
// Each form keeps a matrix as several tensors beside each other ("X.weight_packed", "X.weight_scale", ...). A
// reader per form checks that set, exactly and by name, and makes a `stored` of it; form.c puts that in the
// place of the tensors. Nothing is converted here: rows are read when weights are prepared.
// Threads: one while opening; `read` of a stored: any.
#ifndef SIGHT_CHECKPOINT_FORM_H
#define SIGHT_CHECKPOINT_FORM_H

#include <string.h>

#include "checkpoint/checkpoint_parts.h"
#include "checkpoint/expect.h"
#include "checkpoint/quant_config.h"

typedef struct form_matrix form_matrix;

// Replaces the parts of every matrix in `list` that is quantised by one weight. c->quant says how; NULL:
// nothing is done. SIGHT_E_MODEL, SIGHT_E_UNSUPPORTED, SIGHT_E_MEMORY.
sight_err forms_apply(checkpoint *c, const expect_list *list);
void forms_free(checkpoint *c);

// ---- for the readers ----

typedef enum form_part {
    PART_WEIGHT,       // F8, int8, or two E2M1 a byte
    PART_PACKED,       // compressed-tensors' words or pairs
    PART_SCALE,
    PART_SCALE_INV,
    PART_SCALE_2,      // ModelOpt: of the tensor
    PART_GLOBAL_SCALE, // compressed-tensors: of the tensor, divides
    PART_ZERO_POINT,
    PART_SHAPE,
    PART_WEIGHT_G_IDX,
    PART_QWEIGHT, // AWQ and GPTQ
    PART_QZEROS,
    PART_SCALES,
    PART_G_IDX,
    PART_COUNT
} form_part;

// The tensors of one matrix.
typedef struct form_source {
    const char *module; // the published name without ".weight"
    const char *path;
    int64_t M, K;
    const quant_config *config;
    const quant_scheme *scheme;
    weight *parts[PART_COUNT]; // NULL: not there
    unsigned used;             // a bit for each part that was taken
} form_source;

typedef enum form_number { NUMBER_FLOAT, NUMBER_E4M3, NUMBER_E8M0 } form_number; // of a scale

struct form_matrix {
    stored s; // first: read() gets its address
    char form[48];
    const uint8_t *codes;
    int64_t bits, code_step; // of a code; 32-bit words or bytes between rows of the tensor
    // The scale of row m and input k stands at (m / rows) * row_step + (k / inputs) * group_step.
    tensor_view scales;
    form_number number;
    int64_t rows, inputs, row_step, group_step;
    // The zero point that goes with that scale, or NULL: the format's offset is all of them.
    uint8_t (*zero)(const form_matrix *f, int64_t m, int64_t group);
    tensor_view zeros;
    bool less_one;   // zero points are stored less one
    bool check_zero; // they must all be the offset: said so by the config, held when rows are read
};

// A part that must be there, in one of the dtypes ("BF16 F16 F32"), of that shape (sides of 1 do not
// count). SIGHT_E_MODEL names it.
sight_err form_take(form_source *s, tensor_view *out, form_part part, const char *dtypes, int64_t rows,
                    int64_t columns);
bool form_has(const form_source *s, form_part part);
const char *form_dtype(const form_source *s, form_part part);
// "'FILE': matrix 'X' (gptq int4): ..." with code UNSUPPORTED or MODEL.
sight_err form_fail(const form_source *s, sight_err code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Scales of groups of `group` inputs (0: whole rows) and `rows` outputs (0: all), row-major from the part, or
// (transposed) [groups, M]. Sets what form_read_scales needs and the packed group.
sight_err form_take_scales(form_matrix *f, form_source *s, form_part part, const char *dtypes,
                           int64_t group, int64_t rows, bool transposed);
// Chooses among packed's planes: flat scales, or two levels where zero points differ.
void form_choose_planes(form_matrix *f, uint8_t offset);

// Fills scales (and zero points) of rows first .. first + n - 1.
sight_err form_read_scales(const form_matrix *f, packed_rows *rows, int64_t first, int64_t n);

// What one half-byte of E2M1 is, doubled, plus 12: packed's table.
void form_set_e2m1(packed_format *f);

// Word i of a tensor of 32-bit words, which may stand anywhere in its file.
static inline uint32_t form_word(const void *words, int64_t i)
{
    uint32_t w;
    memcpy(&w, (const char *)words + 4 * i, 4);
    return w;
}

sight_err form_fp8(form_matrix *f, form_source *s);
sight_err form_nvfp4(form_matrix *f, form_source *s); // and MXFP4
sight_err form_packed_int(form_matrix *f, form_source *s); // pack-quantized, and int8 a byte each
sight_err form_awq(form_matrix *f, form_source *s);
sight_err form_gptq(form_matrix *f, form_source *s);

#endif
