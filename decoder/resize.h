// decoder/resize.h - Pillow's resampling: bicubic (a = -0.5) with antialiasing, separable, 8-bit
// result after each pass. Formula: Pillow, src/libImaging/Resample.c (ImagingResample).
#ifndef SIGHT_DECODER_RESIZE_H
#define SIGHT_DECODER_RESIZE_H

#include <stdint.h>

#include "base/err.h"
#include "decoder/frame.h"

// *out is new, width x height. SIGHT_E_MEMORY. Threads: any.
sight_err resize_bicubic(frame **out, const frame *in, int32_t width, int32_t height);

#endif
