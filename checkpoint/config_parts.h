// checkpoint/config_parts.h - the readers behind config.h, one per JSON object. Room-private.
//
// Each fills its struct from a parsed object, or leaves it in an undefined state on failure (the
// caller works on a copy). Codes: SIGHT_E_MODEL, SIGHT_E_UNSUPPORTED. Threads: any.
#ifndef SIGHT_CHECKPOINT_CONFIG_PARTS_H
#define SIGHT_CHECKPOINT_CONFIG_PARTS_H

#include "base/json.h"
#include "checkpoint/config.h"

sight_err config_read_text(text_config *out, const json_fields *f, model_family family);
sight_err config_read_rope(text_config *out, const json_fields *f, model_family family);
sight_err config_read_vision(vision_config *out, const json_fields *f, model_family family,
                             const text_config *text);
// A NULL object: the file is missing, and the values of the published checkpoints stand in.
sight_err config_read_image(image_config *out, const json_fields *f, const vision_config *vision);
sight_err config_read_video(video_config *out, const json_fields *f, const vision_config *vision);
// config, text_fields: where the end tokens stand when f has none.
sight_err config_read_generation(generation_config *out, const json_fields *f,
                                 const json_fields *config, const json_fields *text_fields,
                                 int32_t vocab);

// ---- helpers ----

// Whole-number fields of a struct, each with its range; missing ones stay as they are.
typedef struct int_field {
    const char *key;
    size_t offset; // of an int32_t
    int32_t min, max;
} int_field;

sight_err config_ints(const json_fields *f, void *base, const int_field *fields, size_t n);

// Present and not null.
bool config_has(const json_fields *f, const char *key);

// An object-valued field as fields of its own; *out has a NULL object when it is missing.
// what: the name for errors, kept by the caller.
sight_err config_sub(const json_fields *f, json_fields *out, const char *key, const char *what);

// A field that only may have one value (missing: that one), as it changes the arithmetic.
sight_err config_only_string(const json_fields *f, const char *key, const char *value);
sight_err config_only_bool(const json_fields *f, const char *key, bool value);

#endif
