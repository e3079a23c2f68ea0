// kernels/frames.h - decoded pictures to patch rows on a GPU: colour, size, turn and norm in one kernel.
//
// The CPU's way is decoder/av (colour), decoder/resize, decoder/orient and vision/preprocess. From RGB bytes on a
// GPU computes the same floats. Its colours are exact sums, rounded once; swscale's of 8 bits, which cut products
// down, are off by less than 3 of 255 (tests/cuda/test_frames.c).
//
// For the thread that decodes: an object has a stream and memory of its own, beside the kernels objects of its
// GPU. Threads: one at a time, but frames_give, which any thread may call.
#ifndef SIGHT_KERNELS_FRAMES_H
#define SIGHT_KERNELS_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/ops.h"

typedef struct frames frames;

// A filter along one axis, as decoder/resize_passes.h has it.
typedef struct frames_axis {
    int32_t n;              // outputs
    int32_t taps;           // per output
    int32_t precision;      // bits after the point
    const int32_t *first;   // [n] first input of each output, rising
    const int32_t *count;   // [n]
    const int16_t *weights; // [n, taps]
} frames_axis;

typedef struct frames_shape {
    int32_t width, height;    // of pictures as decoded; both even
    frames_axis across, down; // to the size that is looked at, before turning
    int orientation;          // EXIF's number
    int32_t grid_w;           // patches beside each other, once turned
    int32_t patch, merge, temporal;
    float mean[3], std[3]; // (byte - mean) / std
} frames_shape;

// YUV 4:2:0. Sums are (luma_gain (y - luma_zero) + gains of u, v about the middle) / 2^(8 + bits).
typedef struct frames_colours {
    int32_t luma_gain, luma_zero; // luma_zero in 8 bits
    int32_t v_to_r, u_to_g, v_to_g, u_to_b; // those to green are taken off
} frames_colours;

typedef struct frames_picture {
    int32_t width, height;
    const void *y, *u, *v;     // bytes, or with bits > 8 two bytes a sample
    int64_t y_pitch, uv_pitch; // bytes from row to row; on the device whole groups of 4 pixels, aligned so
    int uv_step;               // samples from a u to the next: 1, or 2 with v between them
    int bits, shift;           // of a sample: 8 to 12 bits, above so many that do not count
    bool on_device;            // else host memory
    frames_colours colours;
} frames_picture;

// SIGHT_E_UNSUPPORTED (no GPU), SIGHT_E_MEMORY, SIGHT_E_INTERNAL.
sight_err frames_create(frames **out, device_id device);
// Once, before any picture. Copies the shape. SIGHT_E_UNSUPPORTED (odd sides; a shrinkage that no block's
// memory holds), SIGHT_E_MEMORY, SIGHT_E_INTERNAL.
sight_err frames_set_shape(frames *f, const frames_shape *shape);
void frames_destroy(frames **f); // with all its rows; accepts NULL; leaves NULL

// Device memory for n floats of patch rows. Its contents may be anything. SIGHT_E_MEMORY.
sight_err frames_take(frames *f, float **rows, int64_t n);
// It may be taken again after what was asked of k until now. k NULL: at once. Accepts rows NULL.
void frames_give(frames *f, float *rows, kernels *k);

// Writes a picture as slot `slot` (of `temporal`) of the rows of one group of frames, and as the slots that follow
// where `slots` is more than 1. Waits until p is not needed any more and the rows are there.
// SIGHT_E_UNSUPPORTED (another size, bits, rows that are not aligned), SIGHT_E_MEMORY, SIGHT_E_INTERNAL.
sight_err frames_add(frames *f, float *rows, const frames_picture *p, int slot, int slots);
// The same for rows [patches, row] in host memory, of which that slot counts.
sight_err frames_add_rows(frames *f, float *rows, const float *host, int64_t patches, int slot,
                          int slots);

// What a hardware decoder shares with it: CUcontext and CUstream. The context is NULL where there is none
// (tests on the CPU).
void *frames_context(const frames *f);
void *frames_stream(const frames *f);

#endif
