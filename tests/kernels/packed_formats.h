// tests/kernels/packed_formats.h - formats of every kind that packed weights come in, and random rows of them.
#ifndef TESTS_KERNELS_PACKED_FORMATS_H
#define TESTS_KERNELS_PACKED_FORMATS_H

#include "support/test.h"

#include "kernels/packed.h"

static const packed_format formats[] = {
    {.bits = 8, .offset = 128, .group = 32, .scales = PACKED_FLAT, .factor = 1},                // Q8_0
    {.bits = 4, .offset = 8, .group = 32, .scales = PACKED_FLAT, .factor = 1},                  // Q4_0
    {.bits = 8, .offset = 32, .group = 16, .scales = PACKED_TWO_LEVEL, .per_super = 16,
     .signed_sub = true, .factor = 1},                                                          // Q6_K
    {.bits = 4, .group = 32, .scales = PACKED_TWO_LEVEL, .per_super = 8, .has_min = true,
     .factor = 1},                                                                              // Q4_K
    {.bits = 8, .group = 32, .scales = PACKED_TWO_LEVEL, .per_super = 8, .has_min = true,
     .factor = 1},                                                                              // Q5_K
    {.bits = 4, .has_table = true, .offset = 128, .group = 32, .scales = PACKED_TWO_LEVEL,
     .per_super = 8, .signed_sub = true, .factor = 1,
     .table = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241}},      // IQ4_XS
    {.bits = 4, .has_table = true, .offset = 128, .group = 16, .scales = PACKED_FLAT_F32,
     .factor = 0.37f,
     .table = {128, 129, 130, 131, 132, 134, 136, 140, 128, 127, 126, 125, 124, 122, 120, 116}}, // NVFP4
    {.bits = 4, .offset = 8, .group = 128, .scales = PACKED_FLAT, .factor = 1},                 // GPTQ
    {.bits = 4, .group = 64, .scales = PACKED_TWO_LEVEL, .per_super = 1, .has_min = true,
     .factor = 1},                                                                              // AWQ
    {.bits = 8, .group = 16, .offset = 200, .scales = PACKED_FLAT_F32, .factor = -2},           // any
    {.bits = 8, .f8 = true, .group = 128, .scales = PACKED_FLAT_F32, .factor = 1.5f},           // FP8
    {.bits = 8, .f8 = true, .group = 32, .scales = PACKED_FLAT, .factor = 1},
    {.bits = 8, .f8 = true, .group = 16, .scales = PACKED_FLAT, .factor = 1},
};
#define N_FORMATS ((int)(sizeof formats / sizeof *formats))
#define N_MADE 2 // and those that quantise.c makes

static inline packed_format format(int i)
{
    if (i == N_FORMATS) return packed_format_int8();
    if (i == N_FORMATS + 1) return packed_format_int4();
    return formats[i];
}

static inline void random_scales(packed_rows *rows, const packed_format *f, test_random *r, int64_t n, int64_t supers)
{
    static const uint16_t halves[] = {0x3c00, 0x2e66, 0xb555, 0x0123, 0x3001, 0x0000};
    for (int64_t i = 0; i < n; i++) {
        const uint64_t bits = test_random_bits(r) >> 13;
        if (f->scales == PACKED_FLAT) ((uint16_t *)rows->scales)[i] = halves[bits % 6];
        else if (f->scales == PACKED_FLAT_F32) ((float *)rows->scales)[i] = test_random_normal(r);
        else ((uint8_t *)rows->scales)[i] = (uint8_t)bits;
        if (f->has_min) rows->mins[i] = (uint8_t)(bits >> 8);
    }
    for (int64_t i = 0; i < supers; i++) {
        rows->super[i] = 0.01f * test_random_normal(r);
        if (f->has_min) rows->super_min[i] = 0.01f * test_random_normal(r);
    }
}

// Random codes and scales for M rows of K, into rows that were allocated for them.
static inline void random_packed_rows(packed_rows *rows, const packed_format *f, test_random *r, int64_t M, int64_t K)
{
    for (int64_t j = 0; j < M * K; j++) {
        uint8_t code = (uint8_t)(test_random_bits(r) >> 20);
        if (f->bits == 4) code &= 15;
        if (f->f8 && (code & 0x7f) == 0x7f) code ^= 1; // no NaN
        rows->codes[j] = code;
    }
    random_scales(rows, f, r, M * packed_groups(f, K), M * packed_supers(f, K));
}

#endif
