// kernels/cuda/frames.h - what frames.c hands to the kernel of frames.cu.
#ifndef SIGHT_KERNELS_CUDA_FRAMES_H
#define SIGHT_KERNELS_CUDA_FRAMES_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FRAMES_TILE    32 // outputs beside each other in a block: one a lane
#define FRAMES_WARPS   8
#define FRAMES_ALIGNED 4  // pixels that a thread reads at once

typedef struct frames_args {
    const uint8_t *y, *u, *v; // v: planar only
    int64_t y_pitch, uv_pitch;
    float *rows;
    const int32_t *first_x, *count_x, *first_y, *count_y;
    const int16_t *weights_x, *weights_y;
    int32_t taps_x, taps_y, precision_x, precision_y;
    int32_t out_w, out_h;
    int32_t tile_h;     // outputs above each other in a block
    int32_t most_cols;  // input pixels of a row that any block needs, from an aligned one on
    int32_t most_rows;  // input rows that any block needs
    int32_t wide;       // samples of two bytes
    int32_t planar;
    int32_t bits, shift;
    int32_t luma_gain, luma_zero, v_to_r, u_to_g, v_to_g, u_to_b;
    // Shown column and row of stored (x, y): origin + x by_x + y by_y.
    int32_t col_origin, col_by_x, col_by_y, row_origin, row_by_x, row_by_y;
    int32_t grid_w, patch, merge, temporal, slot, slots;
    float mean[3], std[3];
} frames_args;

size_t frames_shared_bytes(const frames_args *a);
void launch_frames(cudaStream_t stream, const void *args);

#ifdef __cplusplus
}
#endif

#endif
