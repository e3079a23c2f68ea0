// kernels/packed.h - a matrix in few bits, laid out for the integer products.
//
// Every quantised form that people publish, and the two that are made here from bf16, is one of
// these without loss. An element of row m and input k, in its group g = k / group:
//
//     w[m, k] = scale(m, g) * (value(code[m, k]) - offset) - shift(m, g)
//
//   value  the code itself (8 bits, or 4 bits without a table), or table[code]: always 0 to 255,
//          so that a signed number s is kept as s + offset and products are unsigned by signed
//          bytes. With `f8` the code is a float in E4M3 (no offset).
//   scale  PACKED_FLAT       factor * f16 scales[m, g]
//          PACKED_FLAT_F32   factor * f32 scales[m, g]
//          PACKED_TWO_LEVEL  f32 super[m, g / per_super] * sub[m, g], sub a byte, signed or not
//   shift  0, or (has_min, two-level only) f32 super_min[m, g / per_super] * u8 sub_min[m, g]
//
// In memory: a panel is PACKED_PANEL rows side by side. Codes run panel by panel, group by group,
// quad (4 inputs) by quad, row by row: a 64-byte line of 8-bit codes holds [16 rows][4 inputs]; a
// line of 4-bit codes holds two quads, quad 2i in the low halves of its bytes and quad 2i + 1
// in the high ones. Scales, sub-scales and minima lie in planes of their own, [panel][group][16
// rows]. Rows past M have scale 0, inputs past K the code of 0 (they meet zeros of x). Each
// plane begins at 64 bytes.
//
// Threads: plain data.
#ifndef SIGHT_KERNELS_PACKED_H
#define SIGHT_KERNELS_PACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PACKED_PANEL 16
#define PACKED_MAX_GROUP 128

typedef enum packed_scales { PACKED_FLAT, PACKED_FLAT_F32, PACKED_TWO_LEVEL } packed_scales;

// What the codes of a matrix mean.
typedef struct packed_format {
    uint8_t bits;   // 4 or 8
    bool f8;        // codes are E4M3 numbers (bits 8)
    bool f8_rows;   // with f8: they were published for rows of x in E4M3 too, so a chip with such
                    // products may round them so (kernels/cuda/linear_f8.h)
    bool has_table; // bits 4: value = table[code]
    uint8_t table[16];
    uint8_t offset;
    int32_t group;  // inputs that share a scale: 16, 32, 64 or 128
    packed_scales scales;
    int32_t per_super; // groups per super-scale; two-level only
    bool signed_sub;   // sub-scales are int8, else uint8
    bool has_min;
    float factor;      // of the whole matrix; flat only (1 where the form has none)
} packed_format;

// A packed matrix [M, K] as kernels read it. The planes point into one block of packed_bytes().
typedef struct packed {
    packed_format format;
    int64_t M, K;
    const uint8_t *codes;
    const void *scales;    // f16 or f32 [panel][groups][16]; two-level: bytes
    const uint8_t *mins;   // [panel][groups][16], or NULL
    const float *super;    // [panel][supers][16], or NULL
    const float *super_min; // as super, or NULL
} packed;

static inline int64_t packed_panels(int64_t M)
{
    return (M + PACKED_PANEL - 1) / PACKED_PANEL;
}

static inline int64_t packed_groups(const packed_format *f, int64_t K)
{
    return (K + f->group - 1) / f->group;
}

static inline int64_t packed_supers(const packed_format *f, int64_t K)
{
    return f->per_super ? (packed_groups(f, K) + f->per_super - 1) / f->per_super : 0;
}

// Whether kernels run that format; *why names the first field that they do not.
bool packed_format_check(const packed_format *f, const char **why);

// Bytes of the block that holds a matrix [M, K].
size_t packed_bytes(const packed_format *f, int64_t M, int64_t K);
// Points the planes of *out into a block (64-byte aligned) of that size.
void packed_init(packed *out, const packed_format *f, int64_t M, int64_t K, const void *block);

// Some rows as a form's reader gives them, row-major and not yet side by side. Arrays that the
// format does not have are NULL.
typedef struct packed_rows {
    uint8_t *codes;    // [n, K], one a byte, also of 4 bits
    void *scales;      // [n, groups]: f16 bits, f32, or sub-scale bytes
    uint8_t *mins;     // [n, groups]
    float *super;      // [n, supers]
    float *super_min;  // [n, supers]
} packed_rows;

// Bytes for n rows of each array, and the arrays cut from one malloced block (free rows->codes).
bool packed_rows_alloc(packed_rows *rows, const packed_format *f, int64_t n, int64_t K);

// Lays rows first .. first + n - 1 into the block. first is a multiple of PACKED_PANEL, and so
// is n unless the rows are the last ones (padding is then written too). Different panels may be
// put at the same time.
void packed_put(const packed *p, int64_t first, int64_t n, const packed_rows *rows);

// Row m as float32 [K]: the oracle of every product, and what the embedding reads.
void packed_get_row(const packed *p, float *out, int64_t m);
// Rows first .. first + n - 1 as float32 [n, K], for n near 16 or more; the same numbers.
void packed_get_rows(const packed *p, float *out, int64_t first, int64_t n);

// One element's parts: its value (0 to 255, or an E4M3 code), and the scale and shift of row m
// in group g.
int packed_get_value(const packed *p, int64_t m, int64_t k);
float packed_get_scale(const packed *p, int64_t m, int64_t g, float *shift);

// ---- made here from float32: quantise.c ----

// int8: 8.28 bits a weight, groups of 32. int4: 4.53 bits, groups of 16, a table of numbers
// that are closer together near zero. Both two-level.
packed_format packed_format_int8(void);
packed_format packed_format_int4(void);
// E4M3, 8.25 bits a weight, groups of 128, flat: the greatest of a group is the greatest number. For rows in E4M3.
packed_format packed_format_fp8(void);
// Rows w [n, K] in one of these formats; scales of whole numbers are searched for the least squared error,
// where importance [K] weighs the inputs (NULL: all alike).
void packed_quantise(packed_rows *out, const packed_format *f, const float *w, int64_t n,
                     int64_t K, const float *importance);

#endif
