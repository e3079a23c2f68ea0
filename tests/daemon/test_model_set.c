#include "support/test.h"
#include "printed.h"

#include "daemon/models/model_set.h"

#define TWO                                                                                        \
    "kv = int8\nmemory = 10G\n[model small]\nmodel = /a/small\n memory = 30% \nlora = /x\nlora = /y:2\n" \
    "[model large]\nmodel=Qwen/Large\nkv = f32\nload = use\nunload-after = 900\ndevice-memory = 2G\ncontext = 5000\n"
#define ROUTER "[router auto]\nmodels = small ,large\nrule = confidence 0.6\n"

static sight_err make(model_set *set, const char *text)
{
    options o;
    options_set_defaults(&o);
    sight_err err = options_read_text(&o, text, "f");
    if (!err) err = options_check(&o);
    if (!err) err = model_set_make(set, &o);
    options_done(&o); // the set has its own texts
    return err;
}

static void expect_wrong(const char *text, const char *says)
{
    model_set set = {0};
    assert_fails(make(&set, text), SIGHT_E_ARGUMENT, says);
    assert_null(set.models);
}

static void sections_make_models(void **state)
{
    model_set set;
    assert_ok(make(&set, TWO ROUTER));
    assert_int_equal(set.n_models, 2);
    assert_int_equal(set.memory_bytes, (int64_t)10 << 30);
    assert_string_equal(set.first, "small");
    const model_spec *a = &set.models[0], *b = &set.models[1];
    assert_string_equal(a->engine.model, "/a/small");
    assert_string_equal(a->engine.name, "small");
    assert_int_equal(a->memory_percent, 30);
    assert_int_equal(a->engine.memory_bytes, 0); // that is for all
    assert_int_equal(a->engine.kv_type, TENSOR_I8);
    assert_int_equal(a->engine.n_lora, 2);
    assert_string_equal(a->engine.lora[1], "/y:2");
    assert_true(a->at_start);
    assert_string_equal(b->name, "large");
    assert_int_equal(b->engine.kv_type, TENSOR_F32);
    assert_int_equal(b->engine.n_lora, 0);
    assert_int_equal(b->engine.context_tokens, 5000);
    assert_int_equal(b->device_bytes, (int64_t)2 << 30);
    assert_false(b->at_start);
    assert_float_equal(b->unload_after_s, 900, 0);
    assert_int_equal(set.n_routers, 1);
    assert_string_equal(set.routers[0].models[1], "large");
    assert_int_equal(set.routers[0].n_models, 2);
    assert_float_equal(set.routers[0].confidence, 0.6, 0);
    assert_true(set.routers[0].first_tokens > 0);
    model_set_done(&set);
}

static void a_model_without_a_section_comes_first(void **state)
{
    model_set set;
    assert_ok(make(&set, "model = /m/mine\nlora = /l\ndefault-model = large\n" TWO));
    assert_int_equal(set.n_models, 3);
    assert_string_equal(set.models[0].name, "/m/mine"); // not there; else its folder's name
    assert_null(set.models[0].engine.name);
    assert_int_equal(set.models[0].engine.n_lora, 1);
    assert_string_equal(set.first, "large");
    model_set_done(&set);
    assert_ok(make(&set, "model = " TEST_GOLDEN_DIR "/hybrid/model/\n"));
    assert_string_equal(set.models[0].name, "model");
    model_set_done(&set);
}

static void the_command_line_names_more(void **state)
{
    char *argv[] = {(char *)"sightd", (char *)"--model", (char *)"a=/x=y", (char *)"--model=./b=c",
                    (char *)"--model", (char *)"d=/z", (char *)"--model=a=/w", NULL};
    options o;
    setenv("XDG_CONFIG_HOME", "/nonexistent", 1);
    assert_ok(options_read(&o, 7, argv));
    assert_string_equal(o.model, "./b=c"); // a path
    model_set set;
    assert_ok(model_set_make(&set, &o));
    assert_int_equal(set.n_models, 3);
    assert_string_equal(set.models[1].name, "a");
    assert_string_equal(set.models[1].model, "/w"); // the last one counts
    assert_string_equal(set.models[2].model, "/z");
    model_set_done(&set);
    options_done(&o);
}

static void wrong_sections_are_named(void **state)
{
    expect_wrong("[model]\n", "f:1: '[model]' is neither");
    expect_wrong("[model  ]\n", "f:1:");
    expect_wrong("[modelx a]\n", "is neither");
    expect_wrong("[camera a]\n", "neither [model NAME] nor [router NAME]");
    expect_wrong("[model a\n", "is neither");
    expect_wrong("[model a b]\n", "letters, digits");
    expect_wrong("[model a]\nmodel = x\n[router a]\n", "f:3: there is a 'a' already");
    expect_wrong("[model a]\nthreads = 2\n", "f:2: threads: there is no setting 'threads' of a model");
    expect_wrong("[model a]\nkv = int3\nmodel = x", "f:2: kv is 'int3'");
    expect_wrong("[model a]\nmemory = 101%\n", "f:2: memory is '101%'");
    expect_wrong("[model a]\ndevice = gpu\n", "f:2: device is 'gpu'");
    expect_wrong("[model a]\nload = soon\n", "must be start or use");
    expect_wrong("[model a]\nunload-after = -1\n", "unload-after is '-1'");
    expect_wrong("[model a]\nmodel =\n", "f:2: model is empty");
    expect_wrong("[model a]\nkv = f32\n", "[model a] needs a 'model'");
    expect_wrong("[router r]\nmodels = a\n", "must be 2 to 4 names");
    expect_wrong("[router r]\nmodels = a,,b\n", "must be 2 to 4 names");
    expect_wrong("[router r]\nmodels = a,b,c,d,e\n", "must be 2 to 4 names");
    expect_wrong("[router r]\nmodels = a b\n", "must be 2 to 4 names");
    expect_wrong("[router r]\nrule = confidence 1.1\n", "must be 'confidence F'");
    expect_wrong("[router r]\nrule = confidence\n", "must be 'confidence F'");
    expect_wrong("[router r]\nmax-first-tokens = -1\n", "max-first-tokens is '-1'");
    expect_wrong(TWO "[router r]\nmodels = small, large\n", "[router r] needs 'models' and a 'rule'");
    expect_wrong(TWO "[router r]\nmodels = small, medium\nrule = confidence 1\n", "there is no model 'medium'");
    expect_wrong(TWO "[router r]\nmodels = small, small\nrule = confidence 1\n", "'small' is named twice");
    expect_wrong("default-model = none\n" TWO, "default-model is 'none'");
    char many[4096] = "";
    for (int i = 0; i < MODELS_MAX; i++) snprintf(many + strlen(many), 100, "[model m%d]\nmodel = x\n", i);
    expect_wrong(many, "more than 15 models");
}

static void copies_are_whole_and_keys_tell_models_apart(void **state)
{
    model_set a, b, copy;
    assert_ok(make(&a, TWO ROUTER));
    assert_ok(make(&b, TWO "[model third]\nmodel = /a/small\n"));
    assert_string_equal(a.models[0].key, b.models[0].key);
    assert_string_not_equal(a.models[0].key, b.models[2].key);
    assert_ok(model_set_copy(&copy, &a));
    model_set_done(&a);
    assert_string_equal(copy.models[0].engine.lora[0], "/x");
    assert_string_equal(copy.models[0].key, b.models[0].key);
    assert_string_equal(copy.routers[0].name, "auto");
    model_set_done(&b);
    assert_ok(make(&b, "context = 100\n" TWO)); // what is for all is part of each that does not say otherwise
    assert_string_not_equal(copy.models[0].key, b.models[0].key);
    assert_string_equal(copy.models[1].key, b.models[1].key);
    model_set_done(&b);
    model_set_done(&copy);
}

static void sections_are_printed_as_they_are_read(void **state)
{
    options o;
    options_set_defaults(&o);
    assert_ok(options_read_text(&o, TWO ROUTER, "f"));
    assert_reads_back(&o, "[router auto]\nmodels = small ,large\n");
    options_done(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sections_make_models),
        cmocka_unit_test(a_model_without_a_section_comes_first),
        cmocka_unit_test(the_command_line_names_more),
        cmocka_unit_test(wrong_sections_are_named),
        cmocka_unit_test(copies_are_whole_and_keys_tell_models_apart),
        cmocka_unit_test(sections_are_printed_as_they_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
