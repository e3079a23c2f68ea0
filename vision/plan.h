// vision/plan.h - how a picture or clip will be cut, without touching pixels.
//
// Pure arithmetic: prices a request before it is decoded. Rules: transformers, smart_resize of
// qwen2_vl (pictures) and qwen3_vl (video). Threads: any.
#ifndef SIGHT_VISION_PLAN_H
#define SIGHT_VISION_PLAN_H

#include <stdint.h>

#include "base/err.h"
#include "checkpoint/config.h"

// Patch counts before the merge. h and w are multiples of merge; t counts frame pairs.
typedef struct vision_grid {
    int32_t t, h, w;
} vision_grid;

typedef struct vision_plan {
    int32_t width, height; // pixels after resizing, multiples of patch * merge
    vision_grid grid;
    int64_t patches; // t * h * w
    int64_t tokens;  // patches / merge^2
} vision_plan;

// *out untouched on failure.
// SIGHT_E_MEDIA   a side is 0, or one side is over 200 times the other
sight_err plan_image(vision_plan *out, int32_t width, int32_t height, const vision_config *vision,
                     const image_config *limits);
// n_frames: frames chosen, before an odd count is padded.
sight_err plan_video(vision_plan *out, int32_t width, int32_t height, int32_t n_frames,
                     const vision_config *vision, const video_config *limits);

// The bare size rules, for tests: sides rounded half to even, scaled into [min, max] pixels.
sight_err plan_image_size(int32_t *out_height, int32_t *out_width, int32_t height, int32_t width,
                          int32_t factor, int64_t min_pixels, int64_t max_pixels);
sight_err plan_video_size(int32_t *out_height, int32_t *out_width, int32_t n_frames,
                          int32_t height, int32_t width, int32_t temporal, int32_t factor,
                          int64_t min_pixels, int64_t max_pixels);

#endif
