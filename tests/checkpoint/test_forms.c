// Published quantised forms: what each form's own library makes of its rows, and ways to be broken.
#include "checkpoint/quantised_copy.h"

#include <math.h>

#include "checkpoint/checkpoint_parts.h"
#include "checkpoint/prepare.h"
#include "checkpoint/quant_config.h"

#define DOWN "model.language_model.layers.3.mlp.down_proj"
#define KEY  "model.language_model.layers.3.self_attn.k_proj"

typedef struct form_case {
    const char *name, *form; // of DOWN
    const char *key_form;    // of KEY, where another
} form_case;

static const form_case cases[] = {
    {"ct-fp8-tensor", "FP8 per tensor", NULL},
    {"ct-fp8-channel", "FP8 per row", NULL},
    {"ct-fp8-block", "FP8 128x128", NULL},
    {"ct-int4", "pack-quantized int4 32", NULL},
    {"ct-int4-asym", "pack-quantized int4 32", NULL},
    {"ct-int4-channel", "pack-quantized int4 160", "pack-quantized int4 64"},
    {"ct-int8-pack-asym", "pack-quantized int8 160", "pack-quantized int8 64"},
    {"ct-int8", "int-quantized int8 160", "int-quantized int8 64"},
    {"ct-int8-asym", "int-quantized int8 160", "int-quantized int8 64"},
    {"ct-nvfp4", "NVFP4", NULL},
    {"ct-mxfp4", "MXFP4", NULL},
    {"ct-mixed", "NVFP4", "FP8 per row"},
    {"qwen-fp8", "FP8 128x128", ""},
    {"modelopt-mixed", "NVFP4", "FP8 per tensor"},
    {"awq", "awq int4 32", NULL},
    {"auto-round-awq", "awq int4 32", NULL},
    {"gptq", "gptq int4 32", NULL},
    {"gptq-asym", "gptq int4 32", NULL},
    {"gptq-v2-int8", "gptq int8 160", "gptq int8 64"},
    {"auto-round-gptq", "gptq int8 32", NULL},
    {"auto-round", "gptq int4 32", NULL},
};

static void prepare(checkpoint *c)
{
    const prepare_options o = {.form = WEIGHTS_STORED};
    assert_ok(checkpoint_prepare(c, &o));
}

static void assert_form(const checkpoint *c, const char *module, const char *form)
{
    char name[160];
    snprintf(name, sizeof name, "%s.weight", module);
    const weight *w = checkpoint_find_weight(c, name);
    assert_non_null(w);
    assert_non_null(w->stored);
    assert_string_equal(w->dtype, form);
}

// compressed-tensors divides by the global scale where we multiply by its inverse: two roundings of
// float32 more. All else is the same numbers.
static float allowed(const form_case *t, float expected)
{
    const bool divides = strcmp(t->name, "ct-nvfp4") == 0 || strcmp(t->name, "ct-mixed") == 0;
    return divides ? 2.4e-7f * fabsf(expected) : 0;
}

// Every seventh row is in the file.
static void compare_rows(const checkpoint *c, const form_case *t, const char *name,
                         const tensor_view *expected)
{
    tensor_view v;
    const packed *p = NULL;
    assert_ok(checkpoint_matrix(c, &v, &p, name));
    assert_non_null(p);
    assert_int_equal(v.shape[1], expected->shape[1]);
    assert_int_equal((v.shape[0] + 6) / 7, expected->shape[0]);
    float *row = malloc((size_t)p->K * sizeof *row);
    for (int64_t i = 0; i < expected->shape[0]; i++) {
        packed_get_row(p, row, 7 * i);
        for (int64_t k = 0; k < p->K; k++) {
            const float e = tensor_get_f32(expected, i * p->K + k);
            if (fabsf(row[k] - e) <= allowed(t, e)) continue;
            fail_msg("%s: %s row %d, input %d: %.9g, expected %.9g", t->name, name, (int)(7 * i),
                     (int)k, (double)row[k], (double)e);
        }
    }
    free(row);
}

static void rows_of_every_form(void **state)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[1100];
        quantised_copy q = quantised_load(cases[i].name);
        checkpoint *c = NULL;
        safetensors *s = NULL;
        assert_ok(checkpoint_open(&c, quantised_write(&q)));
        assert_form(c, DOWN, cases[i].form);
        if (!cases[i].key_form) assert_form(c, KEY, cases[i].form);
        else if (*cases[i].key_form) assert_form(c, KEY, cases[i].key_form);
        prepare(c);
        quantised_path(path, sizeof path, cases[i].name, "expected.safetensors");
        assert_ok(safetensors_open(&s, path));
        for (size_t j = 0; j < safetensors_count(s); j++) {
            tensor_view v;
            assert_true(safetensors_view(s, &v, j));
            compare_rows(c, &cases[i], safetensors_name(s, j), &v);
        }
        safetensors_close(&s);
        checkpoint_close(&c);
        quantised_free(&q);
    }
}

// ---- what is refused ----

static void refuse(quantised_copy *q, sight_err code, const char *text)
{
    checkpoint *c = NULL;
    sight_err err = checkpoint_open(&c, quantised_write(q));
    if (!err) { // numbers are looked at when they are laid out
        const prepare_options o = {.form = WEIGHTS_STORED};
        assert_fails(checkpoint_prepare(c, &o), code, text);
        checkpoint_close(&c);
    } else {
        assert_fails(err, code, text);
    }
    quantised_free(q);
}

static void refuse_edited(const char *name, const char *from, const char *to, sight_err code,
                          const char *text)
{
    quantised_copy q = quantised_load(name);
    quantised_edit(&q, from, to);
    refuse(&q, code, text);
}

static void incomplete_sets(void **state)
{
    static const char *const names[][4] = {
        {"ct-fp8-channel", "down_proj.weight_scale", "down_proj.weight_scalx", "weight_scale"},
        {"ct-int4", "down_proj.weight_shape", "down_proj.weight_shapx", "weight_shape"},
        {"ct-int4-asym", "k_proj.weight_zero_point", "k_proj.weight_zero_poinx", "weight_zero_point"},
        {"ct-nvfp4", "down_proj.weight_packed", "down_proj.weight_packex", "weight"},
        {"qwen-fp8", "down_proj.weight_scale_inv", "down_proj.weight_scale_inx", "weight_scale"},
        {"awq", "down_proj.qzeros", "down_proj.qzerox", "qzeros"},
        {"awq", "down_proj.scales", "down_proj.scalex", "scales"},
        {"gptq", "k_proj.qweight", "k_proj.qweighx", "qweight"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char text[200];
        const char *module = strncmp(names[i][1], "down", 4) == 0 ? DOWN : KEY;
        snprintf(text, sizeof text, "tensor '%s.%s' is missing", module,
                 names[i][3]);
        refuse_edited(names[i][0], names[i][1], names[i][2], SIGHT_E_MODEL, text);
    }
    refuse_edited("gptq", "k_proj.g_idx", "k_proj.h_idx", SIGHT_E_UNSUPPORTED,
                  "tensor '" KEY ".h_idx' is I32, expected BF16, F16 or F32");
    refuse_edited("ct-mixed", "k_proj.input_scale", "k_proj.imput_scale", SIGHT_E_MODEL, "is left over");
}

static void both_forms_of_a_matrix(void **state)
{
    quantised_copy q = quantised_load("awq");
    copy_add(q.m, DOWN ".weight", "model.language_model.layers.0.mlp.down_proj.weight");
    refuse(&q, SIGHT_E_MODEL, "tensor '" DOWN ".weight' is left over");
    q = quantised_load("qwen-fp8");
    json_object_del(q.m->config, "quantization_config");
    refuse(&q, SIGHT_E_UNSUPPORTED, "in_proj_a.weight' is F8_E4M3, expected BF16, F16 or F32, or a");
}

static void shapes_and_types(void **state)
{
    refuse_edited("ct-fp8-channel", "\"shape\":[64,1]", "\"shape\":[32,2]", SIGHT_E_MODEL,
                  "weight_scale': expected shape [64, 1], found [32, 2]");
    refuse_edited("ct-int4", "\"shape\":[64,20]", "\"shape\":[20,64]", SIGHT_E_MODEL,
                  "weight_packed': expected shape [64, 20], found [20, 64]");
    refuse_edited("qwen-fp8", "\"dtype\":\"F8_E4M3\"", "\"dtype\":\"F8_E5M2\"", SIGHT_E_MODEL,
                  "is F8_E5M2, expected F8_E4M3");
}

// Numbers that cannot be are found when rows are read.
static void impossible_numbers(void **state)
{
    quantised_copy q = quantised_load("ct-fp8-channel");
    quantised_data(&q, DOWN ".weight")[160 * 3 + 7] = 0xff;
    refuse(&q, SIGHT_E_MODEL, "(FP8 per row): row 3, input 7 is NaN");
    q = quantised_load("ct-fp8-channel"); // bf16
    memcpy(quantised_data(&q, DOWN ".weight_scale") + 2 * 5, "\x80\x7f", 2);
    refuse(&q, SIGHT_E_MODEL, "a scale of row 5 is infinity");
    q = quantised_load("ct-nvfp4");
    quantised_data(&q, KEY ".weight_scale")[4 * 2 + 1] = 0x7f;
    refuse(&q, SIGHT_E_MODEL, "(NVFP4): a scale of row 2 is NaN");
    q = quantised_load("ct-nvfp4");
    memset(quantised_data(&q, KEY ".weight_global_scale"), 0, 4);
    refuse(&q, SIGHT_E_MODEL, "weight_global_scale is 0");
    q = quantised_load("gptq"); // zero points of the second row of words: 8 stands as 7
    quantised_data(&q, DOWN ".qzeros")[4 * 8 + 1] = 0x76;
    refuse(&q, SIGHT_E_MODEL, "a zero point of row 2 is 7, 8 is expected of symmetric weights");
    q = quantised_load("ct-int4");
    quantised_data(&q, DOWN ".weight_shape")[0] = 65;
    refuse(&q, SIGHT_E_MODEL, "weight_shape is [65, 160], expected [64, 160]");
    q = quantised_load("ct-mxfp4");
    quantised_data(&q, DOWN ".weight_scale")[0] = 255;
    refuse(&q, SIGHT_E_MODEL, "(MXFP4): a scale of row 0 is NaN");
}

// desc_act with an order of its own.
static void inputs_out_of_order(void **state)
{
    quantised_copy q = quantised_load("gptq");
    quantised_data(&q, DOWN ".g_idx")[4 * 9] = 3;
    refuse(&q, SIGHT_E_UNSUPPORTED,
           "matrix '" DOWN "' (gptq): inputs in an order of their own (desc_act: g_idx[9] is 3, not 0)");
}

static void lists_of_modules(void **state)
{
    quantised_copy q = quantised_load("ct-int4");
    json_array_append_new(json_object_get(q.quantisation, "ignore"), json_string("re:.*k_proj"));
    refuse(&q, SIGHT_E_MODEL, "matrix '" KEY "' is quantised, but config.json's quantization_config "
                              "lists it under 'ignore'");
    q = quantised_load("ct-mixed");
    json_t *group = json_object_get(json_object_get(q.quantisation, "config_groups"), "group_1");
    json_object_set_new(group, "targets", json_pack("[s]", "re:.*q_proj"));
    refuse(&q, SIGHT_E_MODEL, "has no group that targets it");
}

// ModelOpt's own file, where config.json says nothing.
static void modelopt_file(void **state)
{
    quantised_copy q = quantised_load("modelopt-mixed");
    json_t *hf = json_pack("{s:{s:s}, s:O}", "producer", "name", "modelopt", "quantization",
                           q.quantisation);
    json_object_del(q.m->config, "quantization_config");
    const char *folder = quantised_write(&q);
    char *text = json_dumps(hf, 0);
    free(test_write(folder, "hf_quant_config.json", text, strlen(text)));
    checkpoint *c = NULL;
    assert_ok(checkpoint_open(&c, folder));
    assert_form(c, DOWN, "NVFP4");
    assert_form(c, KEY, "FP8 per tensor");
    checkpoint_close(&c);
    free(text);
    json_decref(hf);
    quantised_free(&q);
}

// ---- what is not supported, by name ----

static void refuse_config(const char *text, sight_err code, const char *words)
{
    char whole[2048];
    quant_config *c = NULL;
    snprintf(whole, sizeof whole, "{\"quantization_config\": %s}", text);
    assert_fails(quant_config_parse(&c, whole, strlen(whole), NULL, 0), code, words);
    assert_null(c);
}

static void refuse_group(const char *weights, sight_err code, const char *words)
{
    char text[1024];
    snprintf(text, sizeof text,
             "{\"quant_method\": \"compressed-tensors\", \"config_groups\": {\"g\": {\"targets\": "
             "[\"Linear\"], \"weights\": {%s}}}}",
             weights);
    refuse_config(text, code, words);
}

static void methods(void **state)
{
    static const char *const others[] = {"bitsandbytes", "hqq", "aqlm", "torchao", "quark", "eetq"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char text[100], words[100];
        snprintf(text, sizeof text, "{\"quant_method\": \"%s\"}", others[i]);
        snprintf(words, sizeof words, "quant_method '%s' is not supported", others[i]);
        refuse_config(text, SIGHT_E_UNSUPPORTED, words);
    }
    refuse_config("{}", SIGHT_E_UNSUPPORTED, "quant_method 'without a name'");
    refuse_config("[]", SIGHT_E_MODEL, "quantization_config must be an object");
    refuse_config("{\"quant_method\": \"awq\", \"bits\": 3}", SIGHT_E_UNSUPPORTED, "awq in 3 bits");
    refuse_config("{\"quant_method\": \"awq\", \"bits\": 4, \"version\": \"gemv\"}", SIGHT_E_UNSUPPORTED,
                  "version 'gemv' is not supported");
    refuse_config("{\"quant_method\": \"gptq\", \"bits\": 2}", SIGHT_E_UNSUPPORTED, "gptq in 2 bits");
    refuse_config("{\"quant_method\": \"gptq\", \"bits\": 4, \"checkpoint_format\": \"marlin\"}",
                  SIGHT_E_UNSUPPORTED, "checkpoint_format 'marlin'");
    refuse_config("{\"quant_method\": \"gptq\"}", SIGHT_E_MODEL, "'bits' is missing");
    refuse_config("{\"quant_method\": \"fp8\", \"fmt\": \"e5m2\"}", SIGHT_E_UNSUPPORTED, "fmt 'e5m2'");
    refuse_config("{\"quant_method\": \"fp8\", \"weight_block_size\": [128]}", SIGHT_E_MODEL,
                  "'weight_block_size' must be two whole numbers");
    refuse_config("{\"quant_method\": \"modelopt\", \"quant_algo\": \"W4A8_AWQ\"}", SIGHT_E_UNSUPPORTED,
                  "quant_algo 'W4A8_AWQ'");
    refuse_config("{\"quant_method\": \"auto-round\", \"bits\": 4, \"packing_format\": "
                  "\"auto_round:llm_compressor\"}",
                  SIGHT_E_UNSUPPORTED, "packing_format 'auto_round:llm_compressor'");
}

static void groups(void **state)
{
    refuse_group("\"num_bits\": 3", SIGHT_E_UNSUPPORTED, "with 3-bit int weights");
    refuse_group("\"num_bits\": 8, \"type\": \"float\", \"symmetric\": false", SIGHT_E_UNSUPPORTED,
                 "symmetric");
    refuse_group("\"num_bits\": 4, \"group_size\": 128, \"actorder\": \"group\"", SIGHT_E_UNSUPPORTED,
                 "actorder 'group'");
    refuse_group("\"num_bits\": 4, \"strategy\": \"group\"", SIGHT_E_MODEL, "needs a group_size");
    refuse_group("\"num_bits\": 8, \"strategy\": \"attn_head\"", SIGHT_E_UNSUPPORTED, "'attn_head'");
    refuse_group("\"num_bits\": 8, \"type\": \"float\", \"strategy\": \"block\"", SIGHT_E_MODEL,
                 "block_structure must be");
    const char *start = "{\"quant_method\": \"compressed-tensors\", ";
    static const char *const more[][2] = {
        {"\"config_groups\": {}}", "'config_groups' must be"},
        {"\"config_groups\": {\"g\": {}}, \"quantization_status\": \"frozen\"}", "'frozen'"},
        {"\"config_groups\": {\"g\": {}}, \"sparsity_config\": {\"format\": \"marlin-24\"}}", "'marlin-24'"},
        {"\"config_groups\": {\"g\": {}}, \"transform_config\": {\"config_groups\": {\"R1\": {}}}}", "'R1'"},
        {"\"config_groups\": {\"g\": {}}, \"ignore\": [\"re:(\"]}", "is not understood"},
        {"\"config_groups\": {\"g\": {}}, \"ignore\": [7]}", "must be a list of names"},
    };
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        char text[512], whole[600];
        quant_config *c = NULL;
        snprintf(text, sizeof text, "%s%s", start, more[i][0]);
        snprintf(whole, sizeof whole, "{\"quantization_config\": %s}", text);
        assert_true(quant_config_parse(&c, whole, strlen(whole), NULL, 0) != SIGHT_OK);
        if (!strstr(sight_error(), more[i][1])) fail_msg("'%s' of %s", sight_error(), text);
    }
}

// Also of the text part, under its older name.
static void where_it_stands(void **state)
{
    static const char *const places[] = {
        "{\"quantization_config\": %s}", "{\"compression_config\": %s}",
        "{\"text_config\": {\"quantization_config\": %s}}"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char text[256];
        quant_config *c = NULL;
        snprintf(text, sizeof text, places[i], "{\"quant_method\": \"fp8\"}");
        assert_ok(quant_config_parse(&c, text, strlen(text), NULL, 0));
        assert_non_null(c);
        assert_int_equal(quant_config_method(c), QUANT_FP8);
        quant_config_free(&c);
    }
    quant_config *c = NULL;
    assert_ok(quant_config_parse(&c, "{\"quantization_config\": null}", 29, NULL, 0));
    assert_null(c);
}

// Whether activations are E4M3 beside E4M3 weights.
static void activations(void **state)
{
#define CT(inputs) "{\"quant_method\": \"compressed-tensors\", \"format\": \"float-quantized\", \"config_groups\": {\"g\": " \
    "{\"targets\": [\"Linear\"], \"weights\": {\"num_bits\": 8, \"type\": \"float\", \"strategy\": \"channel\"}" inputs "}}}"
#define MO(algorithms) "{\"quant_method\": \"modelopt\", " algorithms "}"
    static const struct {
        const char *config;
        bool f8;
    } all[] = {
        {"{\"quant_method\": \"fp8\", \"activation_scheme\": \"dynamic\", \"weight_block_size\": [128, 128]}", true},
        {"{\"quant_method\": \"fp8\", \"activation_scheme\": \"static\"}", true},
        {"{\"quant_method\": \"fbgemm_fp8\"}", true},
        {CT(""), false},
        {CT(", \"input_activations\": null"), false},
        {CT(", \"input_activations\": {\"num_bits\": 8, \"type\": \"float\", \"dynamic\": true}"), true},
        {CT(", \"input_activations\": {\"num_bits\": 8, \"type\": \"float\", \"dynamic\": false}"), true},
        {CT(", \"input_activations\": {\"num_bits\": 8, \"type\": \"int\"}"), false},
        {CT(", \"input_activations\": {\"num_bits\": 4, \"type\": \"float\"}"), false},
        {CT(", \"input_activations\": [8, \"float\"]"), false},
        {MO("\"quant_algo\": \"FP8\""), true},
        {MO("\"quant_algo\": \"FP8_PER_CHANNEL_PER_TOKEN\""), true},
        {MO("\"quant_algo\": \"FP8_PB_WO\""), false},
        {MO("\"quant_algo\": \"MIXED_PRECISION\", \"quantized_layers\": {\"a\": {\"quant_algo\": \"FP8\"}}"), true},
        {MO("\"quant_algo\": \"MIXED_PRECISION\", \"quantized_layers\": {\"a\": {\"quant_algo\": \"FP8_PB_WO\"}, "
            "\"b\": {\"quant_algo\": \"FP8\"}}"), false},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char text[1024];
        quant_config *c = NULL;
        bool ignored;
        snprintf(text, sizeof text, "{\"quantization_config\": %s}", all[i].config);
        assert_ok(quant_config_parse(&c, text, strlen(text), NULL, 0));
        const quant_scheme *s = quant_config_scheme(c, "model.layers.0.mlp.up_proj", &ignored);
        if (!s) fail_msg("no scheme in %s", text);
        if (s->f8_inputs != all[i].f8) fail_msg("activations in E4M3: %d of %s", s->f8_inputs, text);
        quant_config_free(&c);
    }
}

// What the config says reaches the matrix.
static void activations_of_a_matrix(void **state)
{
    static const char *const names[] = {"qwen-fp8", "ct-fp8-channel"};
    for (int i = 0; i < 2; i++) {
        quantised_copy q = quantised_load(names[i]);
        checkpoint *c = NULL;
        tensor_view v;
        const packed *p = NULL;
        assert_ok(checkpoint_open(&c, quantised_write(&q)));
        assert_ok(checkpoint_prepare(c, &(prepare_options){.form = WEIGHTS_STORED}));
        assert_ok(checkpoint_matrix(c, &v, &p, DOWN ".weight"));
        assert_true(p->format.f8);
        assert_int_equal(p->format.f8_rows, i == 0);
        checkpoint_close(&c);
        quantised_free(&q);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_every_form),   cmocka_unit_test(incomplete_sets),
        cmocka_unit_test(both_forms_of_a_matrix), cmocka_unit_test(shapes_and_types),
        cmocka_unit_test(impossible_numbers),   cmocka_unit_test(inputs_out_of_order),
        cmocka_unit_test(lists_of_modules),     cmocka_unit_test(modelopt_file),
        cmocka_unit_test(methods),              cmocka_unit_test(groups),
        cmocka_unit_test(where_it_stands),      cmocka_unit_test(activations),
        cmocka_unit_test(activations_of_a_matrix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
