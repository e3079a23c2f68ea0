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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_every_form),
        cmocka_unit_test(incomplete_sets),
        cmocka_unit_test(both_forms_of_a_matrix),
        cmocka_unit_test(shapes_and_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
