// decoder/resize.h - Pillow's resampling: bicubic (a = -0.5) with antialiasing, separable, 8-bit
// result after each pass.
//
// Formula: Pillow, src/libImaging/Resample.c (ImagingResample). Weights are 16-bit fixed point, as
// many bits as fit, which is what torch's uint8 interpolation uses and so what the reference image
// and video processors feed the model; Pillow's own 32-bit weights differ by 1 in a few values.
// Plain, AVX2 and AVX-512 forms give the same bytes; the fastest is chosen at run time.
#ifndef SIGHT_DECODER_RESIZE_H
#define SIGHT_DECODER_RESIZE_H

#include <stdint.h>

#include "base/err.h"
#include "decoder/frame.h"

// *out is new, width x height. SIGHT_E_MEMORY. Threads: any.
sight_err resize_bicubic(frame **out, const frame *in, int32_t width, int32_t height);

// Into a frame that is there, which says the size; its time stays. SIGHT_E_MEMORY.
sight_err resize_into(frame *out, const uint8_t *rgb, int64_t stride, int32_t in_width, int32_t in_height);

// The same from rows that lie `stride` bytes apart.
sight_err resize_rows(frame **out, const uint8_t *rgb, int64_t stride, int32_t in_width,
                      int32_t in_height, int32_t width, int32_t height);

#endif
