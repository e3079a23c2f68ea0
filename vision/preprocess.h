// vision/preprocess.h - frames to patch rows, in the order of the encoder.
//
// A patch row is [channels][temporal_patch][patch][patch], (u8 / 255 - mean) / std; rows go by
// frame pair, then by 2x2 merge block in raster order, then raster inside the block.
// Threads: any.
#ifndef SIGHT_VISION_PREPROCESS_H
#define SIGHT_VISION_PREPROCESS_H

#include <stdint.h>

#include "checkpoint/config.h"
#include "decoder/frame.h"
#include "vision/plan.h"

// Writes the grid.h * grid.w rows of one frame pair. a and b are the pair (b = a for a still
// picture or an odd last frame), already of the plan's size.
// rows  out  [grid.h * grid.w, channels * temporal_patch * patch^2]
void preprocess_pair(float *rows, const frame *a, const frame *b, const vision_plan *plan,
                     const vision_config *vision, const double mean[3], const double std[3]);

// Floats in one row.
int64_t preprocess_row_size(const vision_config *vision);

#endif
