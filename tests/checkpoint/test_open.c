// What published folders look like, and every way in which one may be broken.
#include "checkpoint/model_copy.h"

#include <math.h>
#include <unistd.h>

#define MLP "model.language_model.layers.1.mlp.up_proj.weight"

// Writes the copy, expects the failure, frees the copy.
static void refuse(model_copy *m, sight_err code, const char *text)
{
    checkpoint *c = NULL;
    const char *folder = copy_write(m);
    assert_fails(checkpoint_open(&c, folder), code, text);
    assert_non_null(strstr(sight_error(), folder));
    assert_null(c);
    copy_free(m);
}

static checkpoint *accept_folder(const char *folder)
{
    checkpoint *c = NULL;
    assert_ok(checkpoint_open(&c, folder));
    return c;
}

static checkpoint *accept(model_copy *m)
{
    checkpoint *c = accept_folder(copy_write(m));
    copy_free(m);
    return c;
}

// ---- tensors ----

static void missing(void **state)
{
    model_copy *m = copy_load("hybrid");
    copy_remove(m, MLP);
    refuse(m, SIGHT_E_MODEL,
           "/model.safetensors': tensor '" MLP "' is missing: expected shape [160, 64], found none "
           "of that name");
}

static void left_over(void **state)
{
    model_copy *m = copy_load("hybrid");
    copy_add(m, "model.language_model.layers.1.mlp.extra.weight", MLP);
    refuse(m, SIGHT_E_MODEL,
           "/model.safetensors': tensor 'model.language_model.layers.1.mlp.extra.weight' is left "
           "over: expected none of that name by config.json, found BF16 [160, 64]");
}

static void renamed(void **state)
{
    model_copy *m = copy_load("hybrid");
    copy_entry(m, MLP)->name = "model.language_model.layers.1.mlp.app_proj.weight";
    refuse(m, SIGHT_E_MODEL, "tensor '" MLP "' is missing");
}

static void misshapen(void **state)
{
    model_copy *m = copy_load("hybrid");
    safetensors_entry *e = copy_entry(m, MLP);
    e->view.shape[0] = 64;
    e->view.shape[1] = 160;
    refuse(m, SIGHT_E_MODEL,
           "/model.safetensors': tensor '" MLP "': expected shape [160, 64], found [64, 160]");
    m = copy_load("hybrid");
    copy_entry(m, "model.visual.patch_embed.proj.weight")->view.n_dims = 2;
    copy_entry(m, "model.visual.patch_embed.proj.weight")->view.shape[1] = 1536;
    refuse(m, SIGHT_E_MODEL, "expected shape [48, 3, 2, 16, 16], found [48, 1536]");
}

static void wrong_dtype(void **state)
{
    model_copy *m = copy_load("hybrid");
    safetensors_entry *e = copy_entry(m, MLP);
    e->view.type = TENSOR_U8;
    refuse(m, SIGHT_E_UNSUPPORTED,
           "tensor '" MLP "' is U8, expected BF16, F16 or F32, or a quantised form that "
           "config.json names");
}

static void not_finite(void **state)
{
    static const char *const names[] = {
        "model.language_model.layers.2.input_layernorm.weight", "model.visual.blocks.1.norm1.bias",
        "model.language_model.layers.0.linear_attn.A_log", "mtp.norm.weight"};
    for (int i = 0; i < 4; i++) {
        char text[256];
        model_copy *m = copy_load("hybrid");
        uint16_t *data = copy_writable(m, copy_entry(m, names[i]));
        data[2] = i % 2 ? f32_to_bf16(-INFINITY) : f32_to_bf16(NAN);
        snprintf(text, sizeof text, "tensor '%s': expected finite numbers, found %s at element 2",
                 names[i], i % 2 ? "infinity" : "NaN");
        refuse(m, SIGHT_E_MODEL, text);
    }
}

static void mtp_block(void **state)
{
    model_copy *m = copy_load("hybrid");
    copy_remove_all(m, "mtp.");
    checkpoint *c = accept(m);
    assert_int_equal(checkpoint_config(c)->text.mtp_layers, 0);
    checkpoint_close(&c);
    m = copy_load("hybrid");
    copy_remove(m, "mtp.fc.weight");
    refuse(m, SIGHT_E_MODEL, "tensor 'mtp.fc.weight' is missing: expected shape [64, 128]");
    m = copy_load("hybrid");
    json_object_del(json_object_get(m->config, "text_config"), "mtp_num_hidden_layers");
    refuse(m, SIGHT_E_MODEL, "tensor 'mtp.fc.weight' is left over");
}

static void tied_head(void **state)
{
    const char *embedding = "model.language_model.embed_tokens.weight";
    tensor_view v;
    model_copy *m = copy_load("hybrid-deepstack"); // an equal copy is dropped
    copy_add(m, "lm_head.weight", embedding);
    checkpoint *c = accept(m);
    assert_true(checkpoint_config(c)->text.tied);
    assert_fails(checkpoint_tensor(c, &v, "lm_head.weight"), SIGHT_E_MODEL, "lm_head.weight");
    size_t bytes = checkpoint_bytes(c);
    checkpoint_close(&c);
    m = copy_load("hybrid-deepstack"); // a different one is used
    copy_add(m, "lm_head.weight", embedding);
    uint16_t *data = copy_writable(m, copy_entry(m, "lm_head.weight"));
    data[100] ^= 1;
    c = accept(m);
    assert_false(checkpoint_config(c)->text.tied);
    assert_ok(checkpoint_tensor(c, &v, "lm_head.weight"));
    assert_int_equal(checkpoint_bytes(c), bytes + 2056 * 64 * 2);
    checkpoint_close(&c);
    m = copy_load("hybrid-deepstack");
    copy_add(m, "lm_head.weight", embedding);
    copy_entry(m, "lm_head.weight")->view.shape[0] = 2000;
    refuse(m, SIGHT_E_MODEL, "'lm_head.weight': expected shape [2056, 64], found [2000, 64]");
    m = copy_load("hybrid"); // not tied: it must be there
    copy_remove(m, "lm_head.weight");
    refuse(m, SIGHT_E_MODEL, "tensor 'lm_head.weight' is missing");
}

// ---- other forms of the same model ----

static uint16_t f16_of(float f) // for normal values that f16 holds
{
    int exponent;
    float m = frexpf(fabsf(f), &exponent); // [0.5, 1)
    if (m == 0 || exponent < -13) return 0;
    uint16_t h = (uint16_t)((exponent + 14) << 10 | ((int)(m * 2048) & 1023));
    return f < 0 ? h | 0x8000 : h;
}

// Tensor after tensor in another type, to mix all three in one file.
static void floats_of_all_kinds(void **state)
{
    model_copy *m = copy_load("qwen3vl");
    for (size_t i = 0; i < m->n; i++) {
        safetensors_entry *e = &m->entries[i];
        int64_t n = tensor_count(&e->view);
        if (i % 3 == 0) continue;
        float *f = copy_own(m, malloc((size_t)n * sizeof *f));
        uint16_t *h = copy_own(m, malloc((size_t)n * sizeof *h));
        for (int64_t j = 0; j < n; j++) {
            f[j] = tensor_get_f32(&e->view, j);
            h[j] = f16_of(f[j]);
        }
        e->view.data = i % 3 == 1 ? (void *)f : h;
        e->view.type = i % 3 == 1 ? TENSOR_F32 : TENSOR_F16;
    }
    safetensors_entry third = m->entries[2];
    checkpoint *c = accept_folder(copy_write(m));
    float *copy = NULL;
    assert_ok(checkpoint_copy_f32(c, &copy, third.name, 0));
    for (int64_t j = 0; j < 16; j++) assert_true(copy[j] == tensor_get_f32(&third.view, j));
    free(copy);
    checkpoint_close(&c);
    copy_free(m);
}

// Drops the vision part of the config and the tensors; names as in a text-only export.
static model_copy *text_only(const char *golden)
{
    model_copy *m = copy_load(golden);
    copy_remove_all(m, "model.visual.");
    json_t *text = json_incref(json_object_get(m->config, "text_config"));
    json_object_set(text, "tie_word_embeddings",
                    json_object_get(m->config, "tie_word_embeddings"));
    json_decref(m->config);
    m->config = text;
    for (size_t i = 0; i < m->n; i++) {
        const char *at = strstr(m->entries[i].name, "language_model.");
        if (!at) continue;
        char *name = copy_own(m, malloc(200));
        snprintf(name, 200, "model.%s", at + strlen("language_model."));
        m->entries[i].name = name;
    }
    return m;
}

static void text_only_export(void **state)
{
    static const char *const names[] = {"hybrid", "qwen3vl"};
    for (int i = 0; i < 2; i++) {
        checkpoint *c = accept(text_only(names[i]));
        tensor_view v;
        assert_false(checkpoint_config(c)->has_vision);
        assert_int_equal(checkpoint_config(c)->image_token, -1);
        assert_int_equal(checkpoint_config(c)->text.mtp_layers, i == 0);
        assert_ok(checkpoint_tensor(c, &v, MLP));
        assert_ok(checkpoint_tensor(c, &v, "model.language_model.norm.weight"));
        checkpoint_close(&c);
    }
    model_copy *m = copy_load("hybrid"); // the whole names serve as well
    copy_remove_all(m, "model.visual.");
    json_object_del(m->config, "vision_config");
    checkpoint *c = accept(m);
    assert_false(checkpoint_config(c)->has_vision);
    checkpoint_close(&c);
    m = copy_load("hybrid");
    json_object_del(m->config, "vision_config");
    refuse(m, SIGHT_E_MODEL, "tensor 'model.visual.blocks.0.attn.proj.bias' is left over");
    m = copy_load("hybrid"); // one tensor under both of its names
    copy_add(m, "model.norm.weight", "model.language_model.norm.weight");
    refuse(m, SIGHT_E_MODEL, "tensor 'model.language_model.norm.weight' stands twice");
}

// ---- shards ----

static const char *write_shards(model_copy *m, const char *stem, bool index)
{
    const char *folder = test_folder();
    json_t *map = json_object();
    copy_other_files(m, folder);
    for (int i = 0; i < 3; i++) {
        char name[200];
        size_t begin = m->n * (size_t)i / 3, end = m->n * (size_t)(i + 1) / 3;
        snprintf(name, sizeof name, "%s-%05d-of-00003.safetensors", stem, i + 1);
        copy_write_part(m, folder, name, begin, end);
        for (size_t j = begin; j < end; j++) {
            json_object_set_new(map, m->entries[j].name, json_string(name));
        }
    }
    json_t *whole = json_pack("{s:{s:i}, s:o}", "metadata", "total_size", 1, "weight_map", map);
    char *text = json_dumps(whole, 0);
    if (index) free(test_write(folder, "model.safetensors.index.json", text, strlen(text)));
    free(text);
    json_decref(whole);
    return folder;
}

static void many_files(void **state)
{
    model_copy *m = copy_load("hybrid");
    size_t bytes = 0;
    for (int i = 0; i < 4; i++) { // both ways of naming, with and without an index
        const char *stem = i % 2 ? "model.safetensors" : "model";
        checkpoint *c = accept_folder(write_shards(m, stem, i / 2));
        if (bytes) assert_int_equal(checkpoint_bytes(c), bytes);
        bytes = checkpoint_bytes(c);
        checkpoint_close(&c);
    }
    copy_free(m);
}

static void missing_shard(void **state)
{
    model_copy *m = copy_load("hybrid");
    for (int i = 0; i < 2; i++) {
        char path[300];
        checkpoint *c = NULL;
        const char *folder = write_shards(m, "model", i);
        snprintf(path, sizeof path, "%s/model-00002-of-00003.safetensors", folder);
        assert_int_equal(unlink(path), 0);
        assert_fails(checkpoint_open(&c, folder), SIGHT_E_MODEL,
                     i ? "shard 'model-00002-of-00003.safetensors' named in "
                         "model.safetensors.index.json is missing"
                       : "shard 'model-00002-of-00003.safetensors' is missing");
        free(test_write(folder, "model-00002-of-00003.safetensors.incomplete", "x", 1));
        assert_fails(checkpoint_open(&c, folder), SIGHT_E_MODEL,
                     "'model-00002-of-00003.safetensors.incomplete' is an unfinished download");
    }
    copy_free(m);
}

static void broken_shards(void **state)
{
    model_copy *m = copy_load("hybrid");
    checkpoint *c = NULL;
    const char *folder = write_shards(m, "model", true);
    free(test_write(folder, "model-00003-of-00003.safetensors", "", 0));
    assert_fails(checkpoint_open(&c, folder), SIGHT_E_MODEL,
                 "/model-00003-of-00003.safetensors' is empty (unfinished download?)");
    // Twice the first part: the third's tensors are missing, the first's stand twice.
    copy_write_part(m, folder, "model-00003-of-00003.safetensors", 0, m->n / 3);
    assert_fails(checkpoint_open(&c, folder), SIGHT_E_MODEL, "stands twice, in '");
    copy_write_part(m, folder, "model-00003-of-00003.safetensors", 0, 0);
    assert_fails(checkpoint_open(&c, folder), SIGHT_E_MODEL,
                 "/model-00003-of-00003.safetensors': tensor 'model.visual.");
    assert_non_null(strstr(sight_error(), "is missing: expected shape"));
    free(test_write(folder, "model.safetensors.index.json", "{}", 2));
    assert_fails(checkpoint_open(&c, folder), SIGHT_E_MODEL, "has no weight_map");
    const char *bad = "{\"weight_map\": {\"a\": \"../a.safetensors\"}}";
    free(test_write(folder, "model.safetensors.index.json", bad, strlen(bad)));
    assert_fails(checkpoint_open(&c, folder), SIGHT_E_MODEL,
                 "weight_map of 'a' is no safetensors file name");
    folder = write_shards(m, "model", false);
    copy_write_part(m, folder, "other-00001-of-00001.safetensors", 0, 1);
    assert_fails(checkpoint_open(&c, folder), SIGHT_E_MODEL, "holds two sets of shards");
    copy_free(m);
}

// ---- folders ----

static void truncated(void **state)
{
    model_copy *m = copy_load("hybrid");
    const char *folder = copy_write(m);
    checkpoint *c = NULL;
    char path[300];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_int_equal(truncate(path, 100000), 0);
    assert_fails(checkpoint_open(&c, folder), SIGHT_E_MODEL,
                 "/model.safetensors' is truncated: tensor '");
    assert_non_null(strstr(sight_error(), "the file has 100000"));
    assert_int_equal(truncate(path, 1000), 0);
    assert_fails(checkpoint_open(&c, folder), SIGHT_E_MODEL,
                 "is truncated: the header ends at byte");
    assert_int_equal(truncate(path, 5), 0);
    assert_fails(checkpoint_open(&c, folder), SIGHT_E_MODEL, "is truncated: 5 bytes");
    const char *lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n";
    free(test_write(folder, "model.safetensors", lfs, strlen(lfs)));
    assert_fails(checkpoint_open(&c, folder), SIGHT_E_MODEL, "is a git-lfs pointer");
    assert_int_equal(unlink(path), 0);
    assert_fails(checkpoint_open(&c, folder), SIGHT_E_MODEL, "no weights: no model.safetensors");
    copy_free(m);
}

static void half_a_folder(void **state)
{
    model_copy *m = copy_load("hybrid");
    const char *folder = copy_write(m);
    checkpoint *c = NULL;
    char path[300];
    free(test_write(folder, "tokenizer.json", "", 0));
    assert_fails(checkpoint_open(&c, folder), SIGHT_E_MODEL,
                 "/tokenizer.json' is empty (unfinished download?)");
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    assert_int_equal(unlink(path), 0);
    assert_fails(checkpoint_open(&c, folder), SIGHT_E_MODEL, "/tokenizer.json' is missing");
    free(test_write(folder, "config.json", "", 0));
    assert_fails(checkpoint_open(&c, folder), SIGHT_E_MODEL,
                 "config.json is empty (unfinished download?)");
    snprintf(path, sizeof path, "%s/config.json", folder);
    assert_int_equal(unlink(path), 0);
    assert_fails(checkpoint_open(&c, folder), SIGHT_E_NOT_FOUND, "config.json is missing");
    assert_fails(checkpoint_open(&c, "/no/such/folder"), SIGHT_E_NOT_FOUND, "/no/such/folder");
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_fails(checkpoint_open(&c, path), SIGHT_E_MODEL, "is a file, a model folder is expected");
    copy_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing),       cmocka_unit_test(left_over),
        cmocka_unit_test(renamed),       cmocka_unit_test(misshapen),
        cmocka_unit_test(wrong_dtype),   cmocka_unit_test(not_finite),
        cmocka_unit_test(mtp_block),     cmocka_unit_test(tied_head),
        cmocka_unit_test(floats_of_all_kinds), cmocka_unit_test(text_only_export),
        cmocka_unit_test(many_files),    cmocka_unit_test(missing_shard),
        cmocka_unit_test(broken_shards), cmocka_unit_test(truncated),
        cmocka_unit_test(half_a_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
