// decoder/planes.h - a decoded picture as its decoder left it, for those who convert it themselves.
//
// Threads: any.
#ifndef SIGHT_DECODER_PLANES_H
#define SIGHT_DECODER_PLANES_H

#include <stdbool.h>
#include <stdint.h>

// From YUV to RGB in 16 bits after the point, for samples of 8 bits:
// r = luma_gain (y - luma_zero) + v_to_r (v - 128), g takes off u_to_g and v_to_g, b adds u_to_b.
typedef struct planes_colours {
    int32_t luma_gain, luma_zero, v_to_r, u_to_g, v_to_g, u_to_b;
} planes_colours;

// YUV 4:2:0 with both sides even.
typedef struct planes {
    const uint8_t *y, *u, *v;  // borrowed from the frame
    int64_t y_pitch, uv_pitch; // bytes
    int uv_step;               // samples from a u to the next: 1, or 2 with v between them
    int bits, shift; // of a sample, and zeros below them; two bytes a sample where bits is more than 8
    int32_t width, height;
    bool on_gpu; // memory of the GPU that decoded it
    planes_colours colours;
} planes;

struct AVFrame;

// false: the frame is of another kind. *out is untouched then.
bool planes_of(planes *out, const struct AVFrame *f);

#endif
