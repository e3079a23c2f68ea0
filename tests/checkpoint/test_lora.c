// Adapters: which matrices they reach, with which factors, and everything that is refused by name.
#include "checkpoint/model_copy.h"

#include <math.h>

#include "checkpoint/lora.h"

#define LAYER3 "model.language_model.layers.3."

// A folder with an adapter of golden/lora, its config changed by a list of "key": value.
typedef struct adapter {
    json_t *config;
    safetensors *file;
    safetensors_entry entries[256];
    size_t n;
} adapter;

static adapter *adapter_load(const char *name)
{
    char path[1100];
    adapter *a = calloc(1, sizeof *a);
    snprintf(path, sizeof path, "%s/lora/%s/adapter_config.json", TEST_GOLDEN_DIR, name);
    assert_ok(json_parse_file(&a->config, path, 1 << 20, SIGHT_E_MODEL));
    snprintf(path, sizeof path, "%s/lora/%s/adapter_model.safetensors", TEST_GOLDEN_DIR, name);
    assert_ok(safetensors_open(&a->file, path));
    for (size_t i = 0; i < safetensors_count(a->file); i++) {
        a->entries[a->n].name = safetensors_name(a->file, i);
        assert_true(safetensors_view(a->file, &a->entries[a->n++].view, i));
    }
    return a;
}

static const char *adapter_write(const adapter *a)
{
    const char *folder = test_folder();
    char path[1100], *text = json_dumps(a->config, 0);
    free(test_write(folder, "adapter_config.json", text, strlen(text)));
    free(text);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    assert_ok(safetensors_write(path, a->entries, a->n));
    return folder;
}

static void adapter_free(adapter *a)
{
    json_decref(a->config);
    safetensors_close(&a->file);
    free(a);
}

static checkpoint *open_hybrid(void)
{
    checkpoint *c = NULL;
    assert_ok(checkpoint_open(&c, TEST_GOLDEN_DIR "/hybrid/model"));
    return c;
}

static void assert_pair(const checkpoint *c, const char *name, int64_t r, double scale)
{
    const low_rank *l = lora_find(c, name);
    tensor_view w;
    assert_non_null(l);
    assert_ok(checkpoint_tensor(c, &w, name));
    assert_int_equal(l->a.shape[0], r);
    assert_int_equal(l->b.shape[1], r);
    assert_int_equal(l->a.shape[1], w.shape[1]);
    assert_int_equal(l->b.shape[0], w.shape[0]);
    assert_true(fabs(l->scale - scale) < 1e-6);
}

static void ranks_and_factors(void **state)
{
    checkpoint *c = open_hybrid();
    assert_null(lora_find(c, LAYER3 "mlp.down_proj.weight"));
    assert_ok(lora_add(c, TEST_GOLDEN_DIR "/lora/first", 1));
    assert_pair(c, LAYER3 "mlp.down_proj.weight", 2, 9.0 / 2);
    assert_pair(c, LAYER3 "mlp.up_proj.weight", 4, 9.0 / 4);
    assert_pair(c, "model.language_model.layers.1.mlp.up_proj.weight", 4, 6.0 / 4);
    assert_pair(c, "model.visual.blocks.0.attn.qkv.weight", 4, 6.0 / 4);
    assert_null(lora_find(c, "model.language_model.layers.1.linear_attn.in_proj_a.weight"));
    const size_t bytes = lora_bytes(c);
    assert_ok(lora_add(c, TEST_GOLDEN_DIR "/lora/second", 0.5));
    assert_true(lora_bytes(c) > bytes);
    assert_pair(c, "model.language_model.layers.1.linear_attn.in_proj_a.weight", 3, 2.5 / sqrt(3));
    const low_rank *l = lora_find(c, LAYER3 "mlp.up_proj.weight");
    assert_int_equal(l->a.shape[0], 4);
    assert_non_null(l->next);
    assert_int_equal(l->next->a.shape[0], 3);
    assert_null(l->next->next);
    checkpoint_close(&c);
}

static void refuse(adapter *a, sight_err code, const char *text)
{
    checkpoint *c = open_hybrid();
    assert_fails(lora_add(c, adapter_write(a), 1), code, text);
    assert_int_equal(lora_bytes(c), 0);
    checkpoint_close(&c);
    adapter_free(a);
}

static void refuse_config(const char *key, const char *value, sight_err code, const char *text)
{
    adapter *a = adapter_load("second");
    json_object_set_new(a->config, key, json_loads(value, JSON_DECODE_ANY, NULL));
    refuse(a, code, text);
}

static void variants(void **state)
{
    refuse_config("peft_type", "\"LOHA\"", SIGHT_E_UNSUPPORTED, "peft_type LOHA is not supported");
    refuse_config("use_dora", "true", SIGHT_E_UNSUPPORTED, "use_dora (set) is not supported");
    refuse_config("bias", "\"all\"", SIGHT_E_UNSUPPORTED, "bias all is not supported");
    refuse_config("modules_to_save", "[\"lm_head\"]", SIGHT_E_UNSUPPORTED, "modules_to_save");
    refuse_config("init_lora_weights", "\"pissa\"", SIGHT_E_UNSUPPORTED, "init_lora_weights pissa");
    refuse_config("lora_bias", "true", SIGHT_E_UNSUPPORTED, "lora_bias");
    refuse_config("layer_replication", "[[0, 4]]", SIGHT_E_UNSUPPORTED, "layer_replication");
    refuse_config("trainable_token_indices", "[1]", SIGHT_E_UNSUPPORTED, "trainable_token_indices");
    refuse_config("r", "0", SIGHT_E_MODEL, "'r'");
    refuse_config("r", "5", SIGHT_E_MODEL, "expected shape [5, 64], found [3, 64]");
    refuse_config("rank_pattern", "{\"up_proj\": \"x\"}", SIGHT_E_MODEL, "must have a number over 0");
    refuse_config("rank_pattern", "{\"up_(proj\": 3}", SIGHT_E_UNSUPPORTED, "is not understood");
    refuse_config("rank_pattern", "{\"up_proj\": 2}", SIGHT_E_MODEL, "expected shape [2, 64]");
}

static size_t entry(adapter *a, const char *part)
{
    for (size_t i = 0; i < a->n; i++) {
        if (strstr(a->entries[i].name, part)) return i;
    }
    fail_msg("no %s", part);
    return 0;
}

static void refuse_renamed(const char *part, const char *name, sight_err code, const char *text)
{
    adapter *a = adapter_load("second");
    a->entries[entry(a, part)].name = name;
    refuse(a, code, text);
}

#define BASE "base_model.model.model.language_model.layers.3."

static void tensors(void **state)
{
    adapter *a = adapter_load("second");
    a->entries[entry(a, "layers.3.mlp.up_proj.lora_A")] = a->entries[--a->n];
    refuse(a, SIGHT_E_MODEL, "tensor '" BASE "mlp.up_proj.lora_A.weight' is missing beside its other half");
    a = adapter_load("second");
    a->entries[entry(a, "layers.3.mlp.up_proj.lora_B")] = a->entries[--a->n];
    refuse(a, SIGHT_E_MODEL, "tensor '" BASE "mlp.up_proj.lora_B.weight' is missing beside its other half");
    refuse_renamed("layers.3.mlp.up_proj.lora_A", BASE "mlp.nothing.lora_A.weight", SIGHT_E_MODEL,
                   "the model has no module 'model.language_model.layers.3.mlp.nothing'");
    refuse_renamed("layers.3.mlp.up_proj.lora_A", BASE "mlp.up_proj.lora_magnitude_vector",
                   SIGHT_E_UNSUPPORTED, "DoRA is not supported");
    refuse_renamed("layers.3.mlp.up_proj.lora_A", "something", SIGHT_E_MODEL, "'something' is left over");
    refuse_renamed("layers.3.mlp.up_proj.lora_A", "base_model.model.lm_head.lora_A.weight",
                   SIGHT_E_MODEL, "tensor 'base_model.model.lm_head.lora_B.weight' is missing");
    refuse_renamed("layers.3.mlp.up_proj.lora_A",
                   "base_model.model.model.language_model.embed_tokens.lora_A.weight",
                   SIGHT_E_UNSUPPORTED, "embed_tokens' is not supported (no product)");
    a = adapter_load("second");
    a->entries[entry(a, "layers.3.mlp.up_proj.lora_B")].view.type = TENSOR_U8;
    a->entries[entry(a, "layers.3.mlp.up_proj.lora_B")].view.shape[1] = 6;
    refuse(a, SIGHT_E_MODEL, "is U8, expected BF16, F16 or F32");
    a = adapter_load("second");
    static uint16_t bad[3 * 64] = {0x7fc0};
    a->entries[entry(a, "layers.3.mlp.up_proj.lora_A")].view.data = bad;
    refuse(a, SIGHT_E_MODEL, "expected finite numbers, element 0 is not");
    a = adapter_load("second");
    a->n = 0;
    refuse(a, SIGHT_E_MODEL, "holds no adapter");
}

static void other_names(void **state)
{
    static const char *const starts[] = {"base_model.model.model.", "base_model.model.language_model.model.",
                                         "base_model.model.language_model.", "base_model.model."};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        adapter *a = adapter_load("second");
        char names[256][256];
        for (size_t j = 0; j < a->n; j++) {
            snprintf(names[j], sizeof names[j], "%s%s", starts[i], strstr(a->entries[j].name, "layers."));
            a->entries[j].name = names[j];
        }
        checkpoint *c = open_hybrid();
        assert_ok(lora_add(c, adapter_write(a), 1));
        assert_non_null(lora_find(c, LAYER3 "mlp.up_proj.weight"));
        checkpoint_close(&c);
        adapter_free(a);
    }
}

static void missing_files(void **state)
{
    checkpoint *c = open_hybrid();
    const char *folder = test_folder();
    assert_fails(lora_add(c, folder, 1), SIGHT_E_NOT_FOUND, "adapter_config.json");
    free(test_write(folder, "adapter_config.json", "{\"peft_type\": \"LORA\"}", 21));
    assert_fails(lora_add(c, folder, 1), SIGHT_E_NOT_FOUND, "adapter_model.safetensors");
    free(test_write(folder, "adapter_config.json", "[]", 2));
    assert_fails(lora_add(c, folder, 1), SIGHT_E_MODEL, "not a JSON object");
    checkpoint_close(&c);
}

static void words(void **state)
{
    static const struct {
        const char *text, *dir;
        double scale;
    } good[] = {{"a", "a", 1}, {"a:0.5", "a", 0.5}, {"/x:y/a:-2", "/x:y/a", -2}, {"a:b", "a:b", 1},
                {"c:1/x", "c:1/x", 1}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char *dir = NULL;
        double scale = 0;
        assert_ok(lora_parse(&dir, &scale, good[i].text));
        assert_string_equal(dir, good[i].dir);
        assert_true(scale == good[i].scale);
        free(dir);
    }
    char *dir = NULL;
    double scale;
    assert_fails(lora_parse(&dir, &scale, ":1"), SIGHT_E_ARGUMENT, "names no folder");
    assert_fails(lora_parse(&dir, &scale, "a:1x"), SIGHT_E_ARGUMENT, "'1x' is no number");
    assert_fails(lora_parse(&dir, &scale, "a:1e999"), SIGHT_E_ARGUMENT, "is no number");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_and_factors), cmocka_unit_test(variants),
        cmocka_unit_test(tensors),           cmocka_unit_test(other_names),
        cmocka_unit_test(missing_files),     cmocka_unit_test(words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
