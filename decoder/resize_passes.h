// decoder/resize_passes.h - the filter of resize.c and its two inner loops, one table per instruction set.
//
// Taps of one output value are int16 fixed point; a result is
// clamp((1 << (precision - 1)) + sum of tap * byte) >> precision, 0..255.
// Every row buffer is readable RESIZE_PAD bytes past its end. Threads: any.
#ifndef SIGHT_DECODER_RESIZE_PASSES_H
#define SIGHT_DECODER_RESIZE_PASSES_H

#include <stdint.h>

#include "base/err.h"

#define RESIZE_PAD 64

// The filter along one axis.
typedef struct resize_axis {
    int32_t n;         // outputs
    int32_t taps;      // per output, a multiple of 4, zeros at the end
    int precision;     // bits after the point
    int32_t *first;    // [n] first input of each output
    int32_t *count;    // [n] taps that are not padding
    int16_t *weights;  // [n, taps]
} resize_axis;

// The bicubic filter of resize.h. Of as many outputs as inputs it gives these back. SIGHT_E_MEMORY.
sight_err resize_axis_init(resize_axis *a, int32_t inputs, int32_t outputs); // resize.c
void resize_axis_done(resize_axis *a); // accepts a zeroed one

typedef struct resize_passes {
    const char *name;
    // One RGB row: out [axis->n * 3], in [inputs * 3].
    void (*across)(uint8_t *out, const uint8_t *in, const resize_axis *axis);
    // n bytes of one output row from `count` input rows.
    void (*down)(uint8_t *out, const uint8_t *const *rows, const int16_t *weights, int32_t count,
                 int precision, int64_t n);
} resize_passes;

// What this processor runs best.
const resize_passes *resize_passes_best(void);
// All that this processor runs, plain first; NULL past the end. For tests.
const resize_passes *resize_passes_at(int i);

#endif
