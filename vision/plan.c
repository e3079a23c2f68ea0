#include "vision/plan.h"

#include <math.h>

// Sides and areas stay far below 2^53, where doubles are exact, as Python's integers are.
#define MAX_SIDE (1 << 24)
#define MAX_ASPECT 200

static sight_err check_sides(int32_t height, int32_t width)
{
    if (height < 1 || width < 1) {
        return sight_fail(SIGHT_E_MEDIA, "a picture of %d x %d has no pixels", width, height);
    }
    if (height > MAX_SIDE || width > MAX_SIDE) {
        return sight_fail(SIGHT_E_MEDIA, "a side of %d x %d is over %d", width, height, MAX_SIDE);
    }
    return SIGHT_OK;
}

static sight_err fail_aspect(int64_t height, int64_t width)
{
    return sight_fail(SIGHT_E_MEDIA,
                      "a picture of %lld x %lld: one side is over %d times the other",
                      (long long)width, (long long)height, MAX_ASPECT);
}

static sight_err check_aspect(int64_t height, int64_t width)
{
    double longer = (double)(height > width ? height : width);
    double shorter = (double)(height > width ? width : height);
    return longer / shorter > MAX_ASPECT ? fail_aspect(height, width) : SIGHT_OK;
}

// Both sides scaled by `by` and cut down (never to nothing) or up to a multiple of factor.
static int64_t side_down(int64_t side, double beta, int32_t factor)
{
    int64_t scaled = (int64_t)floor((double)side / beta / factor) * factor;
    return scaled > factor ? scaled : factor;
}

static int64_t side_up(int64_t side, double beta, int32_t factor)
{
    return (int64_t)ceil((double)side * beta / factor) * factor;
}

// frames: the count that areas are multiplied by when scaling; counted: the count compared with
// the bounds (rounded to whole pairs for video).
static sight_err fit(int32_t *out_height, int32_t *out_width, int64_t height, int64_t width,
                     int64_t frames, int64_t counted, int32_t factor, int64_t min_pixels,
                     int64_t max_pixels)
{
    // rint rounds half to even, as Python's round does.
    int64_t h = (int64_t)rint((double)height / factor) * factor;
    int64_t w = (int64_t)rint((double)width / factor) * factor;
    double area = (double)(frames * height * width);
    if (counted * h * w > max_pixels) {
        double beta = sqrt(area / (double)max_pixels);
        h = side_down(height, beta, factor);
        w = side_down(width, beta, factor);
    } else if (counted * h * w < min_pixels) {
        double beta = sqrt((double)min_pixels / area);
        h = side_up(height, beta, factor);
        w = side_up(width, beta, factor);
    }
    if (h < factor) h = factor;
    if (w < factor) w = factor;
    if (h > INT32_MAX || w > INT32_MAX) {
        return sight_fail(SIGHT_E_MEDIA, "a picture of %lld x %lld would become %lld x %lld",
                          (long long)width, (long long)height, (long long)w, (long long)h);
    }
    *out_height = (int32_t)h;
    *out_width = (int32_t)w;
    return SIGHT_OK;
}

static sight_err check_bounds(int32_t factor, int64_t min_pixels, int64_t max_pixels)
{
    if (factor < 1 || min_pixels < 0 || max_pixels < 1) {
        return sight_fail(SIGHT_E_ARGUMENT, "size rule of factor %d, %lld to %lld pixels", factor,
                          (long long)min_pixels, (long long)max_pixels);
    }
    return SIGHT_OK;
}

sight_err plan_image_size(int32_t *out_height, int32_t *out_width, int32_t height, int32_t width,
                          int32_t factor, int64_t min_pixels, int64_t max_pixels)
{
    sight_err err = check_bounds(factor, min_pixels, max_pixels);
    if (!err) err = check_sides(height, width);
    if (!err) err = check_aspect(height, width);
    if (err) return err;
    return fit(out_height, out_width, height, width, 1, 1, factor, min_pixels, max_pixels);
}

sight_err plan_video_size(int32_t *out_height, int32_t *out_width, int32_t n_frames,
                          int32_t height, int32_t width, int32_t temporal, int32_t factor,
                          int64_t min_pixels, int64_t max_pixels)
{
    sight_err err = check_bounds(factor, min_pixels, max_pixels);
    if (!err) err = check_sides(height, width);
    if (err) return err;
    if (temporal < 1 || n_frames < temporal || n_frames > MAX_SIDE) {
        return sight_fail(SIGHT_E_ARGUMENT, "%d frames, needed are %d to %d", n_frames, temporal,
                          MAX_SIDE);
    }
    int64_t h = height, w = width;
    if (h < factor || w < factor) {
        double scale = fmax((double)factor / (double)h, (double)factor / (double)w);
        h = (int64_t)((double)h * scale);
        w = (int64_t)((double)w * scale);
    }
    // A thin clip's scaled sides count, and its own are named.
    if (check_aspect(h, w)) return fail_aspect(height, width);
    int64_t counted = (int64_t)rint((double)n_frames / temporal) * temporal;
    return fit(out_height, out_width, h, w, n_frames, counted, factor, min_pixels, max_pixels);
}

static void fill(vision_plan *out, int32_t height, int32_t width, int32_t t,
                 const vision_config *vision)
{
    vision_plan p = {.width = width, .height = height};
    p.grid = (vision_grid){t, height / vision->patch, width / vision->patch};
    p.patches = (int64_t)p.grid.t * p.grid.h * p.grid.w;
    p.tokens = p.patches / ((int64_t)vision->merge * vision->merge);
    *out = p;
}

sight_err plan_image(vision_plan *out, int32_t width, int32_t height, const vision_config *vision,
                     const image_config *limits)
{
    int32_t h, w;
    sight_err err = plan_image_size(&h, &w, height, width, vision->patch * vision->merge,
                                    limits->min_pixels, limits->max_pixels);
    if (!err) fill(out, h, w, 1, vision);
    return err;
}

sight_err plan_video(vision_plan *out, int32_t width, int32_t height, int32_t n_frames,
                     const vision_config *vision, const video_config *limits)
{
    int32_t temporal = vision->temporal_patch, h, w;
    if (n_frames < 1) return sight_fail(SIGHT_E_MEDIA, "a clip of %d frames", n_frames);
    // A lone frame is repeated to a pair before it is encoded, and priced as one.
    int32_t frames = n_frames < temporal ? temporal : n_frames;
    sight_err err = plan_video_size(&h, &w, frames, height, width, temporal,
                                    vision->patch * vision->merge, limits->min_pixels,
                                    limits->max_pixels);
    if (!err) fill(out, h, w, (frames + temporal - 1) / temporal, vision);
    return err;
}
