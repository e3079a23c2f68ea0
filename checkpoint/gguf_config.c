// A model's config from GGUF metadata. It is put together as the JSON that the checkpoint's
// folder has, and goes through the same checks. Keys: gguf-py's constants.py; meanings:
// llama.cpp's conversion/ (qwen.py, qwen3vl.py, base.py) and src/models/qwen35.cpp.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "checkpoint/gguf_model.h"

#define MAX_KEY 128

// Gathers: the first failure stays, later calls do nothing.
typedef struct reader {
    const gguf *g;
    const char *arch; // the prefix of its keys
    bool q35;
    sight_err err;
} reader;

static void set(reader *r, json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) && !r->err) {
        r->err = sight_fail(SIGHT_E_MEMORY, "no memory for the config of '%s'", gguf_path(r->g));
    }
}

static const char *full_key(char out[MAX_KEY], const reader *r, const char *key)
{
    snprintf(out, MAX_KEY, "%s.%s", r->arch, key);
    return out;
}

static bool has(const reader *r, const char *key)
{
    char full[MAX_KEY];
    return gguf_has(r->g, full_key(full, r, key));
}

// A whole number of 0 to 2^31 - 1; missing: `missing`, or, below 0, an error.
static int64_t whole(reader *r, const char *key, int64_t missing)
{
    char full[MAX_KEY];
    int64_t v = missing;
    full_key(full, r, key);
    if (!r->err && missing < 0) r->err = gguf_need(r->g, full);
    if (!r->err) r->err = gguf_get_int(r->g, &v, full, 0, INT32_MAX);
    return r->err ? 0 : v;
}

static double real(reader *r, const char *key, double missing)
{
    char full[MAX_KEY];
    double v = missing;
    if (!r->err) r->err = gguf_get_double(r->g, &v, full_key(full, r, key), -1e18, 1e18);
    return v;
}

// ---- text ----

static void read_layers(reader *r, json_t *text, int64_t n)
{
    char key[MAX_KEY];
    gguf_array list = {0};
    if (!r->err) {
        r->err = gguf_get_ints(r->g, &list, full_key(key, r, "attention.recurrent_layers"));
    }
    if (r->err) return;
    if (!list.n) {
        set(r, text, "full_attention_interval",
            json_integer(whole(r, "full_attention_interval", 4)));
        return;
    }
    if (list.n < (size_t)n) {
        r->err = sight_fail(SIGHT_E_MODEL, "'%s': '%s' lists %zu layers, the model has %lld",
                            gguf_path(r->g), key, list.n, (long long)n);
        return;
    }
    json_t *kinds = json_array();
    for (int64_t i = 0; i < n; i++) {
        json_array_append_new(kinds, json_string(gguf_array_int(&list) ? "linear_attention"
                                                                       : "full_attention"));
    }
    set(r, text, "layer_types", kinds);
}

static void read_linear(reader *r, json_t *text)
{
    const int64_t heads = whole(r, "ssm.time_step_rank", -1);
    const int64_t inner = whole(r, "ssm.inner_size", -1);
    if (!r->err && (heads < 1 || inner % heads)) {
        r->err = sight_fail(SIGHT_E_MODEL,
                            "'%s': ssm.inner_size %lld is not a multiple of ssm.time_step_rank "
                            "%lld",
                            gguf_path(r->g), (long long)inner, (long long)heads);
    }
    if (r->err) return;
    set(r, text, "linear_num_key_heads", json_integer(whole(r, "ssm.group_count", -1)));
    set(r, text, "linear_num_value_heads", json_integer(heads));
    set(r, text, "linear_key_head_dim", json_integer(whole(r, "ssm.state_size", -1)));
    set(r, text, "linear_value_head_dim", json_integer(inner / heads));
    set(r, text, "linear_conv_kernel_dim", json_integer(whole(r, "ssm.conv_kernel", -1)));
}

// The factor of which the config's reader makes exactly that many components.
static double partial_factor(int64_t rotated, int64_t head_dim)
{
    double f = (double)rotated / (double)head_dim;
    return (int64_t)((double)head_dim * f) < rotated ? nextafter(f, 2) : f;
}

static void read_yarn(reader *r, json_t *rope)
{
    static const struct {
        const char *theirs, *ours;
    } reals[] = {
        {"rope.scaling.factor", "factor"},
        {"rope.scaling.yarn_attn_factor", "attention_factor"},
        {"rope.scaling.yarn_beta_fast", "beta_fast"},
        {"rope.scaling.yarn_beta_slow", "beta_slow"},
    };
    set(r, rope, "rope_type", json_string("yarn"));
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        if (has(r, reals[i].theirs)) {
            set(r, rope, reals[i].ours, json_real(real(r, reals[i].theirs, 0)));
        }
    }
    if (has(r, "rope.scaling.original_context_length")) {
        set(r, rope, "original_max_position_embeddings",
            json_integer(whole(r, "rope.scaling.original_context_length", -1)));
    }
    if (!r->err && real(r, "rope.scaling.yarn_ext_factor", 1) != 1) {
        r->err = sight_fail(SIGHT_E_UNSUPPORTED,
                            "'%s': rope.scaling.yarn_ext_factor is not supported, only 1",
                            gguf_path(r->g));
    }
}

static void read_scaling(reader *r, json_t *rope)
{
    char key[MAX_KEY];
    gguf_text type = {"none", 4};
    if (!r->err) r->err = gguf_get_text(r->g, &type, full_key(key, r, "rope.scaling.type"));
    if (r->err) return;
    if (gguf_text_is(type, "yarn")) {
        read_yarn(r, rope);
    } else if (!gguf_text_is(type, "none")) {
        r->err = sight_fail(SIGHT_E_UNSUPPORTED,
                            "'%s': rope.scaling.type '%.*s' is not supported, only none and yarn",
                            gguf_path(r->g), (int)(type.n < 40 ? type.n : 40), type.data);
    }
}

static void read_rope(reader *r, json_t *text, int64_t head_dim)
{
    char key[MAX_KEY];
    gguf_array sections = {0};
    json_t *rope = json_object();
    set(r, text, "rope_parameters", rope);
    if (has(r, "rope.freq_base")) {
        set(r, rope, "rope_theta", json_real(real(r, "rope.freq_base", 0)));
    }
    if (has(r, "rope.dimension_count") && head_dim > 0) {
        const int64_t rotated = whole(r, "rope.dimension_count", -1);
        set(r, rope, "partial_rotary_factor", json_real(partial_factor(rotated, head_dim)));
    }
    read_scaling(r, rope);
    if (!r->err) {
        r->err = gguf_get_ints(r->g, &sections, full_key(key, r, "rope.dimension_sections"));
    }
    if (r->err || !sections.n) return;
    json_t *list = json_array();
    for (size_t i = 0; i < 3 && i < sections.n; i++) {
        json_array_append_new(list, json_integer(gguf_array_int(&sections)));
    }
    set(r, rope, "mrope_section", list);
}

static void read_sizes(reader *r, json_t *text)
{
    const int64_t hidden = whole(r, "embedding_length", -1);
    const int64_t heads = whole(r, "attention.head_count", -1);
    const int64_t head_dim = whole(r, "attention.key_length", heads > 0 ? hidden / heads : 0);
    const int64_t mtp = whole(r, "nextn_predict_layers", 0);
    const int64_t layers = whole(r, "block_count", -1) - mtp;
    if (!r->err && whole(r, "attention.value_length", head_dim) != head_dim) {
        r->err = sight_fail(SIGHT_E_UNSUPPORTED, "'%s': attention.value_length is not supported "
                            "where it is not attention.key_length", gguf_path(r->g));
    }
    set(r, text, "hidden_size", json_integer(hidden));
    set(r, text, "num_attention_heads", json_integer(heads));
    set(r, text, "num_key_value_heads", json_integer(whole(r, "attention.head_count_kv", heads)));
    set(r, text, "head_dim", json_integer(head_dim));
    set(r, text, "num_hidden_layers", json_integer(layers));
    if (r->q35) set(r, text, "mtp_num_hidden_layers", json_integer(mtp));
    set(r, text, "intermediate_size", json_integer(whole(r, "feed_forward_length", -1)));
    set(r, text, "max_position_embeddings", json_integer(whole(r, "context_length", -1)));
    set(r, text, "rms_norm_eps", json_real(real(r, "attention.layer_norm_rms_epsilon", 1e-6)));
    if (r->q35) read_layers(r, text, layers);
    if (r->q35) read_linear(r, text);
    read_rope(r, text, head_dim);
}

static int64_t rows_of(const gguf_model *m, const char *name)
{
    for (size_t i = 0; i < m->n; i++) {
        const gguf_tensor *t = gguf_find(m->parts[i], name);
        if (t) return t->n_dims == 2 ? t->shape[0] : 0;
    }
    return -1;
}

static json_t *read_text(reader *r, const gguf_model *m)
{
    json_t *text = json_object();
    const int64_t vocab = rows_of(m, "token_embd.weight");
    if (!r->err && vocab < 0) {
        r->err = sight_fail(SIGHT_E_MODEL, "'%s' has no tensor 'token_embd.weight'",
                            gguf_path(r->g));
    }
    set(r, text, "model_type", json_string(r->q35 ? "qwen3_5_text" : "qwen3_vl_text"));
    set(r, text, "vocab_size", json_integer(vocab));
    read_sizes(r, text);
    return text;
}

// ---- tokens that the config names ----

static const char *const pads[] = {"<|image_pad|>", "<|video_pad|>", "<|vision_start|>",
                                   "<|vision_end|>"};
static const char *const pad_keys[] = {"image_token_id", "video_token_id",
                                       "vision_start_token_id", "vision_end_token_id"};
static const char *const ends[] = {"<|im_end|>", "<|endoftext|>"};
static const char *const end_keys[] = {"tokenizer.ggml.eos_token_id",
                                       "tokenizer.ggml.eot_token_id"};

static void add_once(json_t *list, int64_t id)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (json_integer_value(json_array_get(list, i)) == id) return;
    }
    json_array_append_new(list, json_integer(id));
}

// Ids by their text: the file has no keys for those of pictures, and one end of answers at most.
static void read_tokens(reader *r, json_t *config, json_t *generation)
{
    gguf_array tokens = {0};
    json_t *eos = json_array();
    set(r, generation, "eos_token_id", eos);
    for (int i = 0; i < 2 && !r->err; i++) {
        int64_t id = -1;
        r->err = gguf_get_int(r->g, &id, end_keys[i], 0, INT32_MAX);
        if (id >= 0) add_once(eos, id);
    }
    if (!r->err) r->err = gguf_get_texts(r->g, &tokens, "tokenizer.ggml.tokens");
    if (r->err) return;
    for (size_t id = 0; id < tokens.n; id++) {
        const gguf_text t = gguf_array_text(&tokens);
        if (t.n < 4 || t.data[0] != '<') continue;
        for (int i = 0; i < 4; i++) {
            if (gguf_text_is(t, pads[i])) set(r, config, pad_keys[i], json_integer((json_int_t)id));
        }
        for (int i = 0; i < 2; i++) {
            if (gguf_text_is(t, ends[i])) add_once(eos, (int64_t)id);
        }
    }
    if (json_array_size(eos) == 0) json_object_del(generation, "eos_token_id");
}

// The authors' sampling, where the converter kept it.
static void read_sampling(reader *r, json_t *generation)
{
    double temperature = 0, top_p = 1, min_p = 0, repeat = 1;
    int64_t top_k = 50;
    if (!gguf_has(r->g, "general.sampling.temp") || r->err) return;
    r->err = gguf_get_double(r->g, &temperature, "general.sampling.temp", 0, 1000);
    if (!r->err) r->err = gguf_get_double(r->g, &top_p, "general.sampling.top_p", 0, 1);
    if (!r->err) r->err = gguf_get_double(r->g, &min_p, "general.sampling.min_p", 0, 1);
    if (!r->err) r->err = gguf_get_int(r->g, &top_k, "general.sampling.top_k", -1, INT32_MAX);
    if (!r->err) {
        r->err = gguf_get_double(r->g, &repeat, "general.sampling.penalty_repeat", 1e-3, 1000);
    }
    set(r, generation, "do_sample", json_boolean(temperature > 0));
    set(r, generation, "temperature", json_real(temperature));
    set(r, generation, "top_p", json_real(top_p));
    set(r, generation, "min_p", json_real(min_p));
    set(r, generation, "top_k", json_integer(top_k));
    set(r, generation, "repetition_penalty", json_real(repeat));
}

// ---- vision ----

static void check_mmproj(reader *r)
{
    gguf_text type = {"without a name", 14};
    double eps = 1e-6;
    bool gelu = true, silu = false, audio = false;
    const char *key = gguf_has(r->g, "clip.projector_type") ? "clip.projector_type"
                                                            : "clip.vision.projector_type";
    r->err = gguf_get_text(r->g, &type, key);
    if (!r->err) r->err = gguf_get_bool(r->g, &gelu, "clip.use_gelu");
    if (!r->err) r->err = gguf_get_bool(r->g, &silu, "clip.use_silu");
    if (!r->err) r->err = gguf_get_bool(r->g, &audio, "clip.has_audio_encoder");
    if (!r->err) {
        r->err = gguf_get_double(r->g, &eps, "clip.vision.attention.layer_norm_epsilon", 0, 1);
    }
    if (r->err) return;
    if (!gguf_text_is(type, "qwen3vl_merger") || audio) {
        r->err = sight_fail(SIGHT_E_UNSUPPORTED,
                            "'%s': projector '%.*s'%s is not supported, only qwen3vl_merger",
                            gguf_path(r->g), (int)(type.n < 60 ? type.n : 60), type.data,
                            audio ? " with audio" : "");
    } else if (!gelu || silu) {
        r->err = sight_fail(SIGHT_E_UNSUPPORTED, "'%s': an activation other than gelu is not "
                            "supported", gguf_path(r->g));
    } else if (fabs(eps - 1e-6) > 1e-9) {
        r->err = sight_fail(SIGHT_E_UNSUPPORTED,
                            "'%s': attention.layer_norm_epsilon %g is not supported, only 1e-6",
                            gguf_path(r->g), eps);
    }
}

static void read_deepstack(reader *r, json_t *vision)
{
    gguf_array levels = {0};
    json_t *list = json_array();
    set(r, vision, "deepstack_visual_indexes", list);
    if (!r->err) r->err = gguf_get_ints(r->g, &levels, "clip.vision.is_deepstack_layers");
    for (size_t i = 0; i < levels.n && !r->err; i++) {
        if (gguf_array_int(&levels)) json_array_append_new(list, json_integer((json_int_t)i));
    }
}

static json_t *read_vision(reader *r)
{
    json_t *vision = json_object();
    const gguf_tensor *positions = gguf_find(r->g, "v.position_embd.weight");
    check_mmproj(r);
    if (!r->err && !positions) {
        r->err = sight_fail(SIGHT_E_MODEL, "'%s' has no tensor 'v.position_embd.weight'",
                            gguf_path(r->g));
    }
    set(r, vision, "model_type", json_string(r->q35 ? "qwen3_5_vision" : "qwen3_vl_vision"));
    set(r, vision, "depth", json_integer(whole(r, "block_count", -1)));
    set(r, vision, "hidden_size", json_integer(whole(r, "embedding_length", -1)));
    set(r, vision, "intermediate_size", json_integer(whole(r, "feed_forward_length", -1)));
    set(r, vision, "num_heads", json_integer(whole(r, "attention.head_count", -1)));
    set(r, vision, "patch_size", json_integer(whole(r, "patch_size", -1)));
    set(r, vision, "spatial_merge_size", json_integer(whole(r, "spatial_merge_size", 2)));
    set(r, vision, "out_hidden_size", json_integer(whole(r, "projection_dim", -1)));
    set(r, vision, "num_position_embeddings",
        json_integer(positions ? positions->shape[0] : 0));
    read_deepstack(r, vision);
    return vision;
}

static void set_triple(reader *r, json_t *object, const char *key, const char *theirs)
{
    gguf_array a = {0};
    json_t *list = json_array();
    if (!r->err) r->err = gguf_get_doubles(r->g, &a, theirs);
    for (size_t i = 0; i < 3; i++) {
        json_array_append_new(list, json_real(i < a.n ? gguf_array_double(&a) : 0.5));
    }
    set(r, object, key, list);
}

// One of the two preprocessors, with the published areas where the file has none.
static json_t *read_preprocessor(reader *r, int64_t min_pixels, int64_t max_pixels, bool video)
{
    json_t *p = json_object(), *size = json_object();
    set(r, p, "size", size);
    if (!video) {
        min_pixels = whole(r, "image_min_pixels", min_pixels);
        max_pixels = whole(r, "image_max_pixels", max_pixels);
    }
    set(r, size, "shortest_edge", json_integer(min_pixels));
    set(r, size, "longest_edge", json_integer(max_pixels));
    set_triple(r, p, "image_mean", "clip.vision.image_mean");
    set_triple(r, p, "image_std", "clip.vision.image_std");
    return p;
}

// ---- the whole ----

static sight_err read_family(reader *r)
{
    gguf_text arch = {"without a name", 14};
    sight_err err = gguf_get_text(r->g, &arch, "general.architecture");
    if (err) return err;
    r->q35 = gguf_text_is(arch, "qwen35");
    r->arch = r->q35 ? "qwen35" : "qwen3vl";
    if (r->q35 || gguf_text_is(arch, "qwen3vl")) return SIGHT_OK;
    if (gguf_text_is(arch, "clip")) {
        return sight_fail(SIGHT_E_ARGUMENT,
                          "'%s' is the vision part of a model (mmproj), give the text model's file",
                          gguf_path(r->g));
    }
    return sight_fail(SIGHT_E_UNSUPPORTED,
                      "'%s': architecture '%.*s' is not supported, only qwen35 and qwen3vl (dense)",
                      gguf_path(r->g), (int)(arch.n < 60 ? arch.n : 60), arch.data);
}

// The texts of the files that a folder would have; NULL where it would have none.
typedef struct texts {
    char *config, *generation, *image, *video;
} texts;

static sight_err build(texts *out, const gguf_model *m)
{
    reader r = {.g = m->parts[0]};
    sight_err err = read_family(&r);
    if (err) return err;
    json_t *config = json_object(), *generation = json_object(), *image = NULL, *video = NULL;
    set(&r, config, "model_type", json_string(r.q35 ? "qwen3_5" : "qwen3_vl"));
    set(&r, config, "tie_word_embeddings", json_boolean(rows_of(m, "output.weight") < 0));
    set(&r, config, "text_config", read_text(&r, m));
    read_tokens(&r, config, generation);
    read_sampling(&r, generation);
    if (m->mmproj && !r.err) {
        r.g = m->mmproj;
        r.arch = "clip.vision";
        set(&r, config, "vision_config", read_vision(&r));
        image = read_preprocessor(&r, 65536, 16777216, false);
        video = read_preprocessor(&r, 4096, 25165824, true);
    }
    if (!r.err) {
        *out = (texts){json_dumps(config, 0), json_dumps(generation, 0),
                       image ? json_dumps(image, 0) : NULL, video ? json_dumps(video, 0) : NULL};
        if (!out->config || !out->generation || (image && (!out->image || !out->video))) {
            r.err = sight_fail(SIGHT_E_MEMORY, "no memory for the config of '%s'",
                               gguf_path(m->parts[0]));
        }
    }
    json_decref(config);
    json_decref(generation);
    json_decref(image);
    json_decref(video);
    return r.err;
}

static config_file file_of(const char *text)
{
    return (config_file){text, text ? strlen(text) : 0};
}

// What the converter did that changes the arithmetic's view of the weights, not the weights' place.
static void mark_changes(text_config *t)
{
    t->zero_centred_norm = false; // 1 was added
    t->tiled_value_heads = t->linear_value_heads != t->linear_key_heads;
}

sight_err gguf_config(model_config *out, const gguf_model *m)
{
    texts t = {0};
    sight_err err = build(&t, m);
    if (!err) {
        const config_files files = {
            .config = file_of(t.config),
            .generation = file_of(t.generation),
            .preprocessor = file_of(t.image),
            .video_preprocessor = file_of(t.video),
        };
        err = config_parse(out, &files);
        if (err) err = sight_fail_in(err, "'%s' (metadata)", gguf_path(m->parts[0]));
        else mark_changes(&out->text);
    }
    free(t.config);
    free(t.generation);
    free(t.image);
    free(t.video);
    return err;
}
