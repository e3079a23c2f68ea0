// config.json and its neighbours: what is read, which defaults stand in, what is refused.
#include "support/test.h"

#include <math.h>

#include "base/buf.h"
#include "base/json.h"
#include "checkpoint/config.h"

// A small hybrid model with a vision tower; tests change one field of it.
static const char base[] =
    "{\"model_type\": \"qwen3_5\", \"tie_word_embeddings\": true,"
    " \"image_token_id\": 90, \"video_token_id\": 91, \"vision_start_token_id\": 92,"
    " \"vision_end_token_id\": 93,"
    " \"text_config\": {\"model_type\": \"qwen3_5_text\", \"vocab_size\": 100, \"hidden_size\": 64,"
    " \"intermediate_size\": 96, \"num_hidden_layers\": 6, \"num_attention_heads\": 4,"
    " \"num_key_value_heads\": 2, \"head_dim\": 32, \"linear_num_key_heads\": 2,"
    " \"linear_num_value_heads\": 4, \"linear_key_head_dim\": 16, \"linear_value_head_dim\": 16,"
    " \"max_position_embeddings\": 4096, \"eos_token_id\": 7,"
    " \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 1e7,"
    " \"partial_rotary_factor\": 0.25, \"mrope_section\": [2, 1, 1]}},"
    " \"vision_config\": {\"depth\": 4, \"hidden_size\": 48, \"intermediate_size\": 96,"
    " \"num_heads\": 3, \"out_hidden_size\": 64, \"num_position_embeddings\": 64}}";

static json_t *parse_text(const char *text)
{
    json_t *v = NULL;
    assert_ok(json_parse(&v, text, strlen(text), 1 << 20, "test", SIGHT_E_INTERNAL));
    return v;
}

// base with the field at a path ("text_config.head_dim") set, or deleted when value is NULL.
static char *changed(const char *path, const char *value)
{
    json_t *whole = parse_text(base), *at = whole;
    char copy[200];
    snprintf(copy, sizeof copy, "%s", path);
    char *key = copy, *dot;
    while ((dot = strchr(key, '.'))) {
        *dot = 0;
        if (!json_object_get(at, key)) json_object_set_new(at, key, json_object());
        at = json_object_get(at, key);
        key = dot + 1;
    }
    if (value) json_object_set_new(at, key, parse_text(value));
    else json_object_del(at, key);
    char *text = json_dumps(whole, 0);
    json_decref(whole);
    return text;
}

static sight_err parse(model_config *out, const char *text)
{
    config_files files = {.config = {text, strlen(text)}};
    return config_parse(out, &files);
}

static model_config accept(const char *path, const char *value)
{
    model_config c;
    char *text = changed(path, value);
    assert_ok(parse(&c, text));
    free(text);
    return c;
}

static void refuse(const char *path, const char *value, sight_err code, const char *sentence)
{
    model_config c;
    memset(&c, 0x5a, sizeof c);
    char *text = changed(path, value);
    assert_fails(parse(&c, text), code, sentence);
    assert_int_equal(c.text.hidden, 0x5a5a5a5a); // untouched
    free(text);
}

// ---- text ----

static void reads_the_base(void **state)
{
    model_config c = accept("unknown_field", "1");
    assert_int_equal(c.family, MODEL_QWEN3_5);
    assert_true(c.text.tied && c.text.attention_gate && c.text.zero_centred_norm);
    assert_int_equal(c.text.conv_width, 4);
    assert_true(c.text.rms_eps == 1e-6 && c.text.rope.theta == 1e7);
    assert_int_equal(c.text.mtp_layers, 0);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(c.text.layers[i], i == 3 ? LAYER_FULL : LAYER_LINEAR);
    }
    assert_int_equal(c.vision.patch, 16);
    assert_int_equal(c.vision.n_deepstack, 0);
    assert_int_equal(c.vision_end_token, 93);
    assert_int_equal(c.generation.n_eos, 1);
    assert_int_equal(c.generation.eos[0], 7);
    assert_false(c.video_outer_pair);
}

static void layer_kinds(void **state)
{
    model_config c = accept("text_config.full_attention_interval", "2");
    for (int i = 0; i < 6; i++) assert_int_equal(c.text.layers[i], i % 2);
    const char *list = "[\"full_attention\", \"linear_attention\", \"linear_attention\", "
                       "\"linear_attention\", \"linear_attention\", \"full_attention\"]";
    c = accept("text_config.layer_types", list);
    assert_int_equal(c.text.layers[0], LAYER_FULL);
    assert_int_equal(c.text.layers[1], LAYER_LINEAR);
    refuse("text_config.layer_types", "[\"full_attention\"]", SIGHT_E_MODEL,
           "'layer_types' must list num_hidden_layers = 6 kinds, it has 1");
    refuse("text_config.layer_types", "[1, 2, 3, 4, 5, 6]", SIGHT_E_UNSUPPORTED, "'?'");
    refuse("text_config.layer_types",
           "[\"sliding_attention\", \"a\", \"a\", \"a\", \"a\", \"a\"]", SIGHT_E_UNSUPPORTED,
           "layer_types: 'sliding_attention' is not supported");
}

static void older_rope(void **state)
{
    char *text = changed("text_config.rope_parameters", NULL);
    model_config c;
    // rope_scaling with theta and factor beside it, "type" for "rope_type".
    json_t *whole = parse_text(text), *t = json_object_get(whole, "text_config");
    free(text);
    json_object_set_new(t, "rope_scaling",
                        parse_text("{\"type\": \"yarn\", \"factor\": 2.0, \"mrope_section\": "
                                   "[4, 2, 2], \"beta_fast\": 16, \"attention_factor\": 1.5}"));
    json_object_set_new(t, "rope_theta", json_integer(5000000));
    json_object_set_new(t, "partial_rotary_factor", json_real(0.5));
    text = json_dumps(whole, 0);
    json_decref(whole);
    assert_ok(parse(&c, text));
    free(text);
    const rope_config *r = &c.text.rope;
    assert_true(r->yarn && r->factor == 2 && r->theta == 5e6 && r->partial_rotary_factor == 0.5);
    assert_true(r->beta_fast == 16 && r->beta_slow == 1 && r->attention_factor == 1.5);
    assert_true(r->original_max_positions == 4096); // max_position_embeddings stands for it
    assert_int_equal(c.text.max_positions, 8192);
    assert_int_equal(r->mrope_section[0], 4);
}

static void rope(void **state)
{
    model_config c = accept("text_config.rope_parameters.partial_rotary_factor", NULL);
    assert_true(c.text.rope.partial_rotary_factor == 0.25); // the class's default
    c = accept("text_config.rope_parameters.rope_theta", NULL);
    assert_true(c.text.rope.theta == 10000);
    c = accept("text_config.rope_parameters",
               "{\"rope_type\": \"yarn\", \"factor\": 4, \"original_max_position_embeddings\": "
               "128, \"mscale\": 0.7, \"truncate\": false, \"mrope_section\": [2, 1, 1]}");
    assert_true(c.text.rope.yarn && !c.text.rope.truncate && c.text.rope.mscale == 0.7);
    assert_true(c.text.rope.original_max_positions == 128 && c.text.rope.beta_fast == 32);
    assert_int_equal(c.text.max_positions, 4096);
    const char *at = "text_config.rope_parameters.rope_type";
    refuse(at, "\"longrope\"", SIGHT_E_UNSUPPORTED,
           "config.json: rope_parameters: rope_type 'longrope' is not supported, only default and "
           "yarn");
    refuse(at, "\"yarn\"", SIGHT_E_MODEL, "'factor' is missing");
    refuse(at, "3", SIGHT_E_MODEL, "'rope_type' must be a string");
    refuse("text_config.rope_parameters", "[]", SIGHT_E_MODEL,
           "'rope_parameters' must be an object");
    refuse("text_config.rope_parameters.full_attention", "{}", SIGHT_E_UNSUPPORTED,
           "parameters per kind of layer");
    refuse("text_config.rope_parameters.mrope_interleaved", "false", SIGHT_E_UNSUPPORTED,
           "mrope_interleaved = false is not supported");
    at = "text_config.rope_parameters.mrope_section";
    refuse(at, "[2, 2]", SIGHT_E_MODEL, "must list three numbers");
    refuse(at, "[4, -1, 1]", SIGHT_E_MODEL, "must hold whole numbers of 0 to 4096");
    refuse("text_config.rope_parameters.partial_rotary_factor", "0.1", SIGHT_E_MODEL,
           "rotates 3 components, an even number is needed");
    refuse("text_config.rope_parameters.rope_theta", "0", SIGHT_E_MODEL, "'rope_theta' is 0");
}

static void text_ranges(void **state)
{
    refuse("text_config", NULL, SIGHT_E_MODEL, "config.json: 'text_config' is missing");
    refuse("text_config", "3", SIGHT_E_MODEL, "'text_config' must be an object");
    refuse("text_config.hidden_size", "0", SIGHT_E_MODEL,
           "config.json: text_config: 'hidden_size' is 0, must be 1 to 65536");
    refuse("text_config.hidden_size", "\"64\"", SIGHT_E_MODEL, "must be a whole number");
    refuse("text_config.hidden_size", "1e300", SIGHT_E_MODEL, "must be a whole number");
    refuse("text_config.num_hidden_layers", "100000", SIGHT_E_MODEL, "must be 1 to 512");
    refuse("text_config.num_key_value_heads", "3", SIGHT_E_MODEL,
           "num_attention_heads 4 is not a multiple of num_key_value_heads 3");
    refuse("text_config.linear_num_key_heads", "3", SIGHT_E_MODEL,
           "linear_num_value_heads 4 is not a multiple of linear_num_key_heads 3");
    refuse("text_config.head_dim", "33", SIGHT_E_MODEL, "head_dim 33 is odd");
    refuse("text_config.rms_norm_eps", "-1", SIGHT_E_MODEL, "'rms_norm_eps' is -1");
    refuse("text_config.attention_bias", "true", SIGHT_E_UNSUPPORTED,
           "attention_bias = true is not supported");
    refuse("text_config.hidden_act", "\"gelu\"", SIGHT_E_UNSUPPORTED,
           "hidden_act 'gelu' is not supported, only 'silu'");
    refuse("text_config.mtp_num_hidden_layers", "2", SIGHT_E_UNSUPPORTED,
           "mtp_num_hidden_layers = 2 is not supported");
}

static void qwen3_vl(void **state)
{
    model_config c;
    const char *text =
        "{\"model_type\": \"qwen3_vl\", \"text_config\": {\"model_type\": \"qwen3_vl_text\","
        " \"vocab_size\": 151936, \"hidden_size\": 3584, \"rope_scaling\": {\"rope_type\":"
        " \"default\", \"mrope_interleaved\": true, \"mrope_section\": [24, 20, 20]},"
        " \"rope_theta\": 5000000, \"tie_word_embeddings\": true}, \"vision_config\":"
        " {\"model_type\": \"qwen3_vl\"}}";
    assert_ok(parse(&c, text));
    assert_int_equal(c.family, MODEL_QWEN3_VL);
    assert_true(!c.text.attention_gate && !c.text.zero_centred_norm && c.text.tied);
    assert_true(c.text.rope.theta == 5e6 && c.text.rope.partial_rotary_factor == 1);
    assert_int_equal(c.text.intermediate, 22016);
    assert_int_equal(c.text.kv_heads, 32);
    assert_int_equal(c.text.layers[31], LAYER_FULL);
    assert_int_equal(c.text.layers[0], LAYER_FULL);
    assert_int_equal(c.vision.n_deepstack, 3);
    assert_int_equal(c.vision.deepstack[2], 24);
    assert_int_equal(c.image_token, 151655);
    assert_int_equal(c.generation.n_eos, 0);
}

static void families(void **state)
{
    refuse("model_type", "\"qwen3_5_moe\"", SIGHT_E_UNSUPPORTED,
           "config.json: model_type 'qwen3_5_moe' is not supported, only qwen3_5 and qwen3_vl "
           "(dense)");
    refuse("model_type", "\"llama\"", SIGHT_E_UNSUPPORTED, "'llama'");
    refuse("model_type", NULL, SIGHT_E_MODEL, "'model_type' is missing");
    refuse("text_config.model_type", "\"qwen3_5_moe_text\"", SIGHT_E_UNSUPPORTED,
           "model_type 'qwen3_5_moe_text' is not supported");
    model_config c = accept("tie_word_embeddings", "false");
    assert_false(c.text.tied);
    c = accept("vision_config", NULL);
    assert_false(c.has_vision);
    assert_int_equal(c.video_token, -1);
}

// ---- vision ----

static void vision(void **state)
{
    model_config c = accept("vision_config.deepstack_visual_indexes", "[0, 3]");
    assert_int_equal(c.vision.n_deepstack, 2);
    c = accept("vision_config.patch_size", "[14, 14]");
    assert_int_equal(c.vision.patch, 14);
    c = accept("vision_config.hidden_act", "\"gelu\"");
    assert_false(c.vision.gelu_tanh);
    c = accept("vision_config.rope_parameters", "{\"rope_type\": \"axial\", \"rope_theta\": 500}");
    assert_true(c.vision.rope_theta == 500);
    const char *at = "vision_config.deepstack_visual_indexes";
    refuse(at, "[0, 4]", SIGHT_E_MODEL, "must ascend and stay below depth 4, found 4");
    refuse(at, "[2, 1]", SIGHT_E_MODEL, "must ascend");
    refuse(at, "[-1]", SIGHT_E_MODEL, "must list vision blocks");
    refuse(at, "[0, 1, 2, 3, 4, 5, 6]", SIGHT_E_MODEL, "at most 6 vision blocks");
    refuse(at, "{}", SIGHT_E_MODEL, "at most 6 vision blocks");
    refuse("vision_config.num_position_embeddings", "65", SIGHT_E_MODEL,
           "num_position_embeddings 65 is not a square");
    refuse("vision_config.num_heads", "5", SIGHT_E_MODEL,
           "hidden_size 48 over num_heads 5 must be a multiple of 4");
    refuse("vision_config.out_hidden_size", "65", SIGHT_E_MODEL,
           "out_hidden_size is 65, the text model's hidden_size is 64");
    refuse("vision_config.in_channels", "1", SIGHT_E_UNSUPPORTED, "in_channels 1");
    refuse("vision_config.hidden_act", "\"relu\"", SIGHT_E_UNSUPPORTED, "'relu'");
    refuse("vision_config.patch_size", "[14, 16]", SIGHT_E_MODEL, "'patch_size'");
    refuse("vision_config.rope_parameters", "{\"rope_type\": \"yarn\"}", SIGHT_E_UNSUPPORTED,
           "rope_type 'yarn'");
    refuse("vision_config.model_type", "\"siglip\"", SIGHT_E_UNSUPPORTED, "'siglip'");
    refuse("image_token_id", "100", SIGHT_E_MODEL, "'image_token_id' is 100, must be 0 to 99");
    refuse("image_token_id", "91", SIGHT_E_MODEL,
           "'image_token_id' and 'video_token_id' are both 91");
    refuse("image_token_id", NULL, SIGHT_E_MODEL, "'image_token_id' is missing");
}

// ---- pictures, videos, generation ----

static sight_err parse_with(model_config *out, const config_files *others)
{
    config_files files = *others;
    files.config = (config_file){base, sizeof base - 1};
    return config_parse(out, &files);
}

#define TEXT(s) (config_file){s, sizeof s - 1}

static void media_defaults(void **state)
{
    model_config c;
    config_files files = {0};
    assert_ok(parse_with(&c, &files)); // no file: what the published checkpoints have
    assert_int_equal(c.image.min_pixels, 65536);
    assert_int_equal(c.video.max_pixels, 25165824);
    assert_true(c.image.mean[1] == 0.5 && c.video.std[2] == 0.5 && c.video.fps == 2);
    files.preprocessor = files.video_preprocessor = TEXT("{}");
    assert_ok(parse_with(&c, &files)); // an empty file: the classes' own
    assert_int_equal(c.image.min_pixels, 3136);
    assert_int_equal(c.image.max_pixels, 1003520);
    assert_true(fabs(c.image.mean[0] - 0.48145466) < 1e-12);
    assert_int_equal(c.video.min_pixels, 131072);
    assert_int_equal(c.video.max_pixels, 786432);
    assert_int_equal(c.video.max_frames, 768);
    assert_true(c.video.mean[0] == 0.5);
}

static void media(void **state)
{
    model_config c;
    config_files files = {0};
    files.preprocessor = TEXT("{\"size\": {\"shortest_edge\": 100, \"longest_edge\": 2000},"
                              " \"image_mean\": [0.1, 0.2, 0.3], \"image_std\": [1, 2, 3],"
                              " \"patch_size\": 16, \"merge_size\": 2, \"resample\": 3,"
                              " \"rescale_factor\": 0.00392156862745098}");
    assert_ok(parse_with(&c, &files));
    assert_int_equal(c.image.max_pixels, 2000);
    assert_true(c.image.std[2] == 3);
    assert_int_equal(c.video.min_pixels, 100); // stands in for the video's file
    files.video_preprocessor = TEXT("{\"min_pixels\": 5, \"max_pixels\": 6, \"fps\": 1.5,"
                                    " \"min_frames\": 2, \"max_frames\": 9}");
    assert_ok(parse_with(&c, &files));
    assert_int_equal(c.video.min_pixels, 5);
    assert_true(c.video.fps == 1.5 && c.video.max_frames == 9);
    files.processor = TEXT("{\"video_processor\": {\"fps\": 4}, \"image_processor\":"
                           " {\"size\": {\"shortest_edge\": 7, \"longest_edge\": 8}}}");
    assert_ok(parse_with(&c, &files)); // newer saves nest both here
    assert_true(c.video.fps == 4);
    assert_int_equal(c.image.min_pixels, 7);
}

static void refuse_media(config_file image, config_file video, sight_err code, const char *text)
{
    model_config c;
    config_files files = {.preprocessor = image, .video_preprocessor = video};
    assert_fails(parse_with(&c, &files), code, text);
}

static void media_refused(void **state)
{
    config_file none = {0};
    refuse_media(TEXT("{\"patch_size\": 14}"), none, SIGHT_E_MODEL,
                 "preprocessor_config.json: 'patch_size' is 14, vision_config of config.json has "
                 "16");
    refuse_media(TEXT("{\"size\": {\"shortest_edge\": 9000, \"longest_edge\": 8000}}"), none,
                 SIGHT_E_MODEL, "the smallest area, 9000, is over the largest, 8000");
    refuse_media(TEXT("{\"image_std\": [0, 1, 1]}"), none, SIGHT_E_MODEL, "'image_std' must list");
    refuse_media(TEXT("{\"image_mean\": 3}"), none, SIGHT_E_MODEL, "'image_mean' must list");
    refuse_media(TEXT("{\"do_normalize\": false}"), none, SIGHT_E_UNSUPPORTED,
                 "do_normalize = false is not supported");
    refuse_media(TEXT("{\"resample\": 2}"), none, SIGHT_E_UNSUPPORTED, "resample 2");
    refuse_media(TEXT("[]"), none, SIGHT_E_MODEL, "preprocessor_config.json: not a JSON object");
    refuse_media(TEXT("{\"size\""), none, SIGHT_E_MODEL, "not valid JSON at line 1");
    refuse_media(none, TEXT("{\"fps\": 0}"), SIGHT_E_MODEL,
                 "video_preprocessor_config.json: 'fps' is 0");
    refuse_media(none, TEXT("{\"min_frames\": 800}"), SIGHT_E_MODEL,
                 "min_frames 800 is over max_frames 768");
    refuse_media(none, TEXT("{\"cap_pixels_per_frame\": true}"), SIGHT_E_UNSUPPORTED,
                 "cap_pixels_per_frame = true");
}

static void generation(void **state)
{
    model_config c;
    config_files files = {0};
    assert_ok(parse_with(&c, &files));
    assert_false(c.generation.do_sample);
    assert_int_equal(c.generation.top_k, 50);
    assert_true(c.generation.top_p == 1 && c.generation.repetition_penalty == 1);
    files.generation = TEXT("{\"eos_token_id\": [5, 6], \"do_sample\": true, \"temperature\": 0.7,"
                            " \"top_k\": 20, \"top_p\": 0.8, \"min_p\": 0.1,"
                            " \"presence_penalty\": 1.5, \"repetition_penalty\": 1.05}");
    assert_ok(parse_with(&c, &files));
    assert_int_equal(c.generation.n_eos, 2);
    assert_int_equal(c.generation.eos[1], 6);
    assert_true(c.generation.do_sample && c.generation.temperature == 0.7);
    assert_true(c.generation.presence_penalty == 1.5 && c.generation.min_p == 0.1);
    files.generation = TEXT("{\"eos_token_id\": 100}");
    assert_fails(parse_with(&c, &files), SIGHT_E_MODEL,
                 "generation_config.json: 'eos_token_id' must hold ids of 0 to 99");
    files.generation = TEXT("{\"eos_token_id\": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}");
    assert_fails(parse_with(&c, &files), SIGHT_E_MODEL, "lists more than 16 ids");
    files.generation = TEXT("{\"temperature\": -1}");
    assert_fails(parse_with(&c, &files), SIGHT_E_MODEL, "'temperature' is -1");
    files.generation = TEXT("{\"top_p\": \"1\"}");
    assert_fails(parse_with(&c, &files), SIGHT_E_MODEL, "'top_p' must be a number");
}

static void not_json(void **state)
{
    model_config c;
    assert_fails(parse(&c, "nonsense"), SIGHT_E_MODEL, "config.json: not valid JSON");
    assert_fails(parse(&c, "[]"), SIGHT_E_MODEL, "config.json: not a JSON object");
    assert_fails(parse(&c, "{\"a\": 1, \"a\": 2}"), SIGHT_E_MODEL, "not valid JSON");
    assert_fails(config_load(&c, "/no/such"), SIGHT_E_NOT_FOUND,
                 "'/no/such': config.json is missing");
    buf deep;
    buf_init(&deep);
    for (int i = 0; i < 10000; i++) buf_puts(&deep, "{\"a\":");
    assert_fails(parse(&c, buf_text(&deep)), SIGHT_E_MODEL, "not valid JSON");
    buf_done(&deep);
}

// What a load stretches is what a file with the same YaRN says.
static void stretching_equals_the_files_yarn(void **state)
{
    (void)state;
    model_config c, file;
    assert_ok(parse(&c, base));
    file = accept("text_config.rope_parameters",
                  "{\"rope_type\": \"yarn\", \"rope_theta\": 1e7, \"factor\": 4.0, "
                  "\"partial_rotary_factor\": 0.25, \"mrope_section\": [2, 1, 1], "
                  "\"original_max_position_embeddings\": 4096}");
    text_config t = c.text;
    assert_ok(config_stretch(&t, 4096, 0)); // fits as it is
    assert_memory_equal(&t, &c.text, sizeof t);
    assert_ok(config_stretch(&t, 8193, 0));
    assert_memory_equal(&t.rope, &file.text.rope, sizeof t.rope);
    assert_int_equal(t.max_positions, file.text.max_positions);
    assert_int_equal(t.max_positions, 16384);
    t = c.text;
    assert_ok(config_stretch(&t, 8192, 0));
    assert_true(t.rope.factor == 2);
    t = c.text;
    assert_ok(config_stretch(&t, 100, 1.5));
    assert_int_equal(t.max_positions, 6144);
    t = c.text;
    assert_fails(config_stretch(&t, 16385, 0), SIGHT_E_ARGUMENT, "must be 1 to 16384");
    assert_fails(config_stretch(&t, 8192, 1.5), SIGHT_E_ARGUMENT, "must be 1 to 6144");
    assert_fails(config_stretch(&t, 0, 0.5), SIGHT_E_ARGUMENT, "rope factor is 0.5");
    assert_fails(config_stretch(&t, 0, NAN), SIGHT_E_ARGUMENT, "rope factor is nan");
    assert_memory_equal(&t, &c.text, sizeof t);
    assert_ok(config_stretch(&file.text, 16384, 0)); // keeps its own
    assert_fails(config_stretch(&file.text, 16385, 0), SIGHT_E_ARGUMENT, "of its own");
    assert_fails(config_stretch(&file.text, 0, 2), SIGHT_E_ARGUMENT, "of its own");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stretching_equals_the_files_yarn),
        cmocka_unit_test(reads_the_base), cmocka_unit_test(layer_kinds),
        cmocka_unit_test(older_rope),     cmocka_unit_test(rope),
        cmocka_unit_test(text_ranges),    cmocka_unit_test(qwen3_vl),
        cmocka_unit_test(families),       cmocka_unit_test(vision),
        cmocka_unit_test(media_defaults), cmocka_unit_test(media),
        cmocka_unit_test(media_refused),  cmocka_unit_test(generation),
        cmocka_unit_test(not_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
