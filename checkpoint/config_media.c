// preprocessor_config.json and video_preprocessor_config.json. Defaults for fields that a file
// leaves out: transformers, image_processing_qwen2_vl.py and video_processing_qwen3_vl.py.
#include <math.h>
#include <string.h>

#include "checkpoint/config_parts.h"

#define MAX_PIXELS ((int64_t)1 << 40)

// Without a file: the values of the published Qwen3.5 checkpoints.
static const image_config published_image = {65536, 16777216, {0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}};
static const video_config published_video = {
    4096, 25165824, 2, 4, 768, {0.5, 0.5, 0.5}, {0.5, 0.5, 0.5},
};

// The class defaults; the pictures' mean and std are CLIP's.
static const image_config class_image = {
    3136, 1003520, {0.48145466, 0.4578275, 0.40821073}, {0.26862954, 0.26130258, 0.27577711},
};
static const video_config class_video = {
    131072, 786432, 2, 4, 768, {0.5, 0.5, 0.5}, {0.5, 0.5, 0.5},
};

static sight_err read_triple(double out[3], const json_fields *f, const char *key, double min,
                             double max)
{
    if (!config_has(f, key)) return SIGHT_OK;
    const json_t *list = json_object_get(f->object, key);
    bool ok = json_is_array(list) && json_array_size(list) == 3;
    for (size_t i = 0; i < 3 && ok; i++) {
        const json_t *v = json_array_get(list, i);
        out[i] = json_number_value(v);
        ok = json_is_number(v) && out[i] >= min && out[i] <= max;
    }
    if (ok) return SIGHT_OK;
    return sight_fail(SIGHT_E_MODEL, "%s: '%s' must list three numbers of %g to %g", f->what, key,
                      min, max);
}

// Areas: `size`, or the older min_pixels and max_pixels, which win where both stand.
static sight_err read_areas(int64_t *min, int64_t *max, const json_fields *f)
{
    json_fields size;
    sight_err err = config_sub(f, &size, "size", f->what);
    if (!err) err = json_get_int(&size, min, "shortest_edge", 1, MAX_PIXELS);
    if (!err) err = json_get_int(&size, max, "longest_edge", 1, MAX_PIXELS);
    if (!err) err = json_get_int(f, min, "min_pixels", 1, MAX_PIXELS);
    if (!err) err = json_get_int(f, max, "max_pixels", 1, MAX_PIXELS);
    if (err || *min <= *max) return err;
    return sight_fail(SIGHT_E_MODEL, "%s: the smallest area, %lld, is over the largest, %lld",
                      f->what, (long long)*min, (long long)*max);
}

// Sizes that stand here and in vision_config alike.
static sight_err check_patches(const json_fields *f, const vision_config *vision)
{
    const struct {
        const char *key;
        int32_t expected;
    } sizes[] = {
        {"patch_size", vision->patch},
        {"temporal_patch_size", vision->temporal_patch},
        {"merge_size", vision->merge},
    };
    for (int i = 0; i < 3; i++) {
        int32_t found = sizes[i].expected;
        sight_err err = json_get_int32(f, &found, sizes[i].key, 1, 1 << 20);
        if (err) return err;
        if (found != sizes[i].expected) {
            return sight_fail(SIGHT_E_MODEL, "%s: '%s' is %d, vision_config of config.json has %d",
                              f->what, sizes[i].key, found, sizes[i].expected);
        }
    }
    return SIGHT_OK;
}

// Steps that a file may turn off or change; the arithmetic here has them all.
static sight_err refuse_variants(const json_fields *f)
{
    double rescale = 1.0 / 255;
    int32_t resample = 3; // Pillow's number for bicubic
    sight_err err = config_only_bool(f, "do_resize", true);
    if (!err) err = config_only_bool(f, "do_rescale", true);
    if (!err) err = config_only_bool(f, "do_normalize", true);
    if (!err) err = config_only_bool(f, "cap_pixels_per_frame", false);
    if (!err) err = json_get_double(f, &rescale, "rescale_factor", 0, 1e6);
    if (!err) err = json_get_int32(f, &resample, "resample", 0, 100);
    if (err) return err;
    if (fabs(rescale * 255 - 1) > 1e-6) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "%s: rescale_factor %g is not supported, only 1/255",
                          f->what, rescale);
    }
    if (resample != 3) {
        return sight_fail(SIGHT_E_UNSUPPORTED,
                          "%s: resample %d is not supported, only 3 (bicubic)", f->what, resample);
    }
    return SIGHT_OK;
}

static sight_err read_common(int64_t *min, int64_t *max, double mean[3], double std[3],
                             const json_fields *f, const vision_config *vision)
{
    sight_err err = refuse_variants(f);
    if (!err) err = check_patches(f, vision);
    if (!err) err = read_areas(min, max, f);
    if (!err) err = read_triple(mean, f, "image_mean", -1000, 1000);
    if (!err) err = read_triple(std, f, "image_std", 1e-6, 1000);
    return err;
}

sight_err config_read_image(image_config *out, const json_fields *f, const vision_config *vision)
{
    *out = f->object ? class_image : published_image;
    return read_common(&out->min_pixels, &out->max_pixels, out->mean, out->std, f, vision);
}

sight_err config_read_video(video_config *out, const json_fields *f, const vision_config *vision)
{
    *out = f->object ? class_video : published_video;
    sight_err err = read_common(&out->min_pixels, &out->max_pixels, out->mean, out->std, f, vision);
    if (!err) err = json_get_double(f, &out->fps, "fps", 1e-3, 1000);
    if (!err) err = json_get_int32(f, &out->min_frames, "min_frames", 1, 1 << 20);
    if (!err) err = json_get_int32(f, &out->max_frames, "max_frames", 1, 1 << 20);
    if (err) return err;
    if (config_has(f, "num_frames")) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "%s: num_frames is not supported, only fps",
                          f->what);
    }
    if (out->min_frames > out->max_frames) {
        return sight_fail(SIGHT_E_MODEL, "%s: min_frames %d is over max_frames %d", f->what,
                          out->min_frames, out->max_frames);
    }
    return SIGHT_OK;
}
