#include "checkpoint/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "checkpoint/config_parts.h"

#define MAX_FILE_BYTES ((size_t)16 << 20)

sight_err config_ints(const json_fields *f, void *base, const int_field *fields, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int32_t *out = (int32_t *)((char *)base + fields[i].offset);
        sight_err err = json_get_int32(f, out, fields[i].key, fields[i].min, fields[i].max);
        if (err) return err;
    }
    return SIGHT_OK;
}

bool config_has(const json_fields *f, const char *key)
{
    const json_t *v = json_object_get(f->object, key);
    return v && !json_is_null(v);
}

sight_err config_sub(const json_fields *f, json_fields *out, const char *key, const char *what)
{
    *out = (json_fields){NULL, what, f->code};
    if (!config_has(f, key)) return SIGHT_OK;
    out->object = json_object_get(f->object, key);
    if (!json_is_object(out->object)) {
        return sight_fail(f->code, "%s: '%s' must be an object", f->what, key);
    }
    return SIGHT_OK;
}

sight_err config_only_string(const json_fields *f, const char *key, const char *value)
{
    const char *found = value;
    sight_err err = json_get_string(f, &found, key);
    if (err || strcmp(found, value) == 0) return err;
    return sight_fail(SIGHT_E_UNSUPPORTED, "%s: %s '%s' is not supported, only '%s'", f->what, key,
                      found, value);
}

sight_err config_only_bool(const json_fields *f, const char *key, bool value)
{
    bool found = value;
    sight_err err = json_get_bool(f, &found, key);
    if (err || found == value) return err;
    return sight_fail(SIGHT_E_UNSUPPORTED, "%s: %s = %s is not supported", f->what, key,
                      found ? "true" : "false");
}

// ---- the whole ----

// The five parsed files; NULL where missing.
typedef struct parsed {
    json_t *config, *generation, *preprocessor, *video_preprocessor, *processor;
} parsed;

static void parsed_done(parsed *p)
{
    json_decref(p->config);
    json_decref(p->generation);
    json_decref(p->preprocessor);
    json_decref(p->video_preprocessor);
    json_decref(p->processor);
}

static sight_err parse_file(json_t **out, const config_file *file, const char *name)
{
    if (!file->data) return SIGHT_OK;
    if (!file->size) {
        return sight_fail(SIGHT_E_MODEL, "%s is empty (unfinished download?)", name);
    }
    sight_err err = json_parse(out, file->data, file->size, MAX_FILE_BYTES, name, SIGHT_E_MODEL);
    if (err) return err;
    if (!json_is_object(*out)) return sight_fail(SIGHT_E_MODEL, "%s: not a JSON object", name);
    return SIGHT_OK;
}

static sight_err parse_files(parsed *p, const config_files *files)
{
    if (!files->config.data) return sight_fail(SIGHT_E_NOT_FOUND, "config.json is missing");
    sight_err err = parse_file(&p->config, &files->config, "config.json");
    if (!err) err = parse_file(&p->generation, &files->generation, "generation_config.json");
    if (!err) err = parse_file(&p->preprocessor, &files->preprocessor, "preprocessor_config.json");
    if (!err) {
        err = parse_file(&p->video_preprocessor, &files->video_preprocessor,
                         "video_preprocessor_config.json");
    }
    if (!err) err = parse_file(&p->processor, &files->processor, "processor_config.json");
    return err;
}

// Which family, and whether the object is the text part alone.
static sight_err read_family(model_config *c, const json_fields *f, bool *text_only)
{
    const char *type = NULL;
    sight_err err = json_need(f, "model_type");
    if (!err) err = json_get_string(f, &type, "model_type");
    if (err) return err;
    *text_only = strcmp(type, "qwen3_5_text") == 0 || strcmp(type, "qwen3_vl_text") == 0;
    if (strcmp(type, "qwen3_5") == 0 || strcmp(type, "qwen3_5_text") == 0) {
        c->family = MODEL_QWEN3_5;
    } else if (strcmp(type, "qwen3_vl") == 0 || strcmp(type, "qwen3_vl_text") == 0) {
        c->family = MODEL_QWEN3_VL;
    } else {
        return sight_fail(SIGHT_E_UNSUPPORTED,
                          "%s: model_type '%s' is not supported, only qwen3_5 and qwen3_vl (dense)",
                          f->what, type);
    }
    return SIGHT_OK;
}

// The token ids that stand for pictures and videos; defaults are those of transformers.
static sight_err read_tokens(model_config *c, const json_fields *f)
{
    bool q35 = c->family == MODEL_QWEN3_5;
    int32_t max = c->text.vocab - 1;
    const int_field fields[] = {
        {"image_token_id", offsetof(model_config, image_token), 0, max},
        {"video_token_id", offsetof(model_config, video_token), 0, max},
        {"vision_start_token_id", offsetof(model_config, vision_start_token), 0, max},
        {"vision_end_token_id", offsetof(model_config, vision_end_token), 0, max},
    };
    c->image_token = q35 ? 248056 : 151655;
    c->video_token = q35 ? 248057 : 151656;
    c->vision_start_token = q35 ? 248053 : 151652;
    c->vision_end_token = q35 ? 248054 : 151653;
    sight_err err = config_ints(f, c, fields, 4);
    if (err) return err;
    for (int i = 0; i < 4; i++) {
        int32_t a = *(int32_t *)((char *)c + fields[i].offset);
        if (a > max) {
            return sight_fail(SIGHT_E_MODEL, "%s: '%s' is missing, and its default %d is past the "
                              "vocabulary of %d", f->what, fields[i].key, a, c->text.vocab);
        }
        for (int j = 0; j < i; j++) {
            if (a != *(int32_t *)((char *)c + fields[j].offset)) continue;
            return sight_fail(SIGHT_E_MODEL, "%s: '%s' and '%s' are both %d", f->what,
                              fields[j].key, fields[i].key, a);
        }
    }
    return SIGHT_OK;
}

// One of the two preprocessors: nested in processor_config.json if there, else its own file.
static sight_err media_fields(json_fields *out, const parsed *p, bool video)
{
    json_fields whole = {p->processor, "processor_config.json", SIGHT_E_MODEL};
    sight_err err = video ? config_sub(&whole, out, "video_processor",
                                       "processor_config.json: video_processor")
                          : config_sub(&whole, out, "image_processor",
                                       "processor_config.json: image_processor");
    if (err || out->object) return err;
    // As in transformers, a missing video file is stood in for by the picture file.
    if (video && p->video_preprocessor) {
        *out = (json_fields){p->video_preprocessor, "video_preprocessor_config.json",
                             SIGHT_E_MODEL};
    } else {
        *out = (json_fields){p->preprocessor, "preprocessor_config.json", SIGHT_E_MODEL};
    }
    return SIGHT_OK;
}

static sight_err read_media(model_config *c, const parsed *p)
{
    json_fields f;
    sight_err err = media_fields(&f, p, false);
    if (!err) err = config_read_image(&c->image, &f, &c->vision);
    if (!err) err = media_fields(&f, p, true);
    if (!err) err = config_read_video(&c->video, &f, &c->vision);
    return err;
}

static sight_err read_vision(model_config *c, const json_fields *f, const parsed *p)
{
    json_fields vision;
    sight_err err = config_sub(f, &vision, "vision_config", "config.json: vision_config");
    if (err || !vision.object) return err;
    c->has_vision = true;
    err = config_read_vision(&c->vision, &vision, c->family, &c->text);
    if (!err) err = read_tokens(c, f);
    if (!err) err = read_media(c, p);
    return err;
}

static sight_err read_all(model_config *c, const parsed *p)
{
    json_fields f = {p->config, "config.json", SIGHT_E_MODEL}, text = f;
    json_fields generation = {p->generation, "generation_config.json", SIGHT_E_MODEL};
    bool text_only = false;
    c->image_token = c->video_token = c->vision_start_token = c->vision_end_token = -1;
    sight_err err = read_family(c, &f, &text_only);
    if (!err && !text_only) {
        err = json_need(&f, "text_config");
        if (!err) err = config_sub(&f, &text, "text_config", "config.json: text_config");
    }
    if (!err) err = config_read_text(&c->text, &text, c->family);
    // The outer object's word counts; older files have it in the text part alone.
    if (!err) err = json_get_bool(&text, &c->text.tied, "tie_word_embeddings");
    if (!err) err = json_get_bool(&f, &c->text.tied, "tie_word_embeddings");
    if (!err && !text_only) err = read_vision(c, &f, p);
    if (!err) err = config_read_generation(&c->generation, &generation, &f, &text, c->text.vocab);
    return err;
}

sight_err config_parse(model_config *out, const config_files *files)
{
    parsed p = {0};
    model_config *c = calloc(1, sizeof *c);
    if (!c) return sight_fail(SIGHT_E_MEMORY, "no memory for a model's config");
    sight_err err = parse_files(&p, files);
    if (!err) err = read_all(c, &p);
    if (!err) *out = *c;
    parsed_done(&p);
    free(c);
    return err;
}

// A missing file leaves *out without data.
static sight_err read_optional(config_file *out, const char *dir, const char *name)
{
    buf path;
    buf_init(&path);
    buf_printf(&path, "%s/%s", dir, name);
    char *text = NULL;
    size_t size;
    sight_err err = buf_failed(&path) ? sight_fail(SIGHT_E_MEMORY, "no memory for a path")
                                      : file_read(&text, &size, buf_text(&path), MAX_FILE_BYTES);
    buf_done(&path);
    if (err == SIGHT_E_NOT_FOUND) return SIGHT_OK;
    if (!err) *out = (config_file){text, size};
    return err;
}

sight_err config_load(model_config *out, const char *dir)
{
    config_files files = {0};
    sight_err err = read_optional(&files.config, dir, "config.json");
    if (!err) err = read_optional(&files.generation, dir, "generation_config.json");
    if (!err) err = read_optional(&files.preprocessor, dir, "preprocessor_config.json");
    if (!err) {
        err = read_optional(&files.video_preprocessor, dir, "video_preprocessor_config.json");
    }
    if (!err) err = read_optional(&files.processor, dir, "processor_config.json");
    if (!err) {
        err = config_parse(out, &files);
        if (err) err = sight_fail_in(err, "'%s'", dir);
    }
    free((void *)files.config.data);
    free((void *)files.generation.data);
    free((void *)files.preprocessor.data);
    free((void *)files.video_preprocessor.data);
    free((void *)files.processor.data);
    return err;
}
