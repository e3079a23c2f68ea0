// GGUF models as checkpoints: config and tensors, the file with the vision tower, split models,
// names in caches, and what is refused.
#include "support/gguf_golden.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static char *golden_file(const char *model)
{
    gguf_golden *g = gguf_golden_new(model, false, false);
    char *path = gguf_golden_write(g);
    gguf_golden_free(g);
    return path;
}

// The folder of a path (malloc).
static char *folder_of(const char *path)
{
    return strndup(path, (size_t)(strrchr(path, '/') - path));
}

static void copy_file(const char *from, const char *to)
{
    char *text;
    size_t n;
    assert_ok(file_read(&text, &n, from, 1 << 26));
    FILE *f = fopen(to, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    fclose(f);
    free(text);
}

static void make_folders(const char *base, const char *path)
{
    char whole[1000];
    snprintf(whole, sizeof whole, "%s/%s", base, path);
    for (char *p = whole + strlen(base) + 1; *p; p++) {
        if (*p != '/') continue;
        *p = 0;
        mkdir(whole, 0700);
        *p = '/';
    }
    mkdir(whole, 0700);
}

// ---- what opens ----

static void same_text(const text_config *a, const text_config *b)
{
    assert_int_equal(a->hidden, b->hidden);
    assert_int_equal(a->intermediate, b->intermediate);
    assert_int_equal(a->n_layers, b->n_layers);
    assert_int_equal(a->vocab, b->vocab);
    assert_int_equal(a->heads, b->heads);
    assert_int_equal(a->kv_heads, b->kv_heads);
    assert_int_equal(a->head_dim, b->head_dim);
    assert_int_equal(a->linear_key_heads, b->linear_key_heads);
    assert_int_equal(a->linear_value_heads, b->linear_value_heads);
    assert_int_equal(a->linear_key_dim, b->linear_key_dim);
    assert_int_equal(a->linear_value_dim, b->linear_value_dim);
    assert_int_equal(a->conv_width, b->conv_width);
    assert_memory_equal(a->layers, b->layers, sizeof a->layers);
    assert_true((float)a->rms_eps == (float)b->rms_eps);
    assert_int_equal(a->max_positions, b->max_positions);
    assert_int_equal(a->attention_gate, b->attention_gate);
    assert_int_equal(a->tied, b->tied);
    assert_int_equal(a->mtp_layers, b->mtp_layers);
    assert_false(b->zero_centred_norm);
    assert_int_equal(b->tiled_value_heads, a->linear_key_heads != a->linear_value_heads);
}

static void same_rope(const rope_config *a, const rope_config *b)
{
    assert_true(a->theta == b->theta);
    assert_true(a->partial_rotary_factor == b->partial_rotary_factor);
    assert_memory_equal(a->mrope_section, b->mrope_section, sizeof a->mrope_section);
    assert_int_equal(a->yarn, b->yarn);
    assert_true(a->factor == b->factor);
    assert_true(a->beta_fast == b->beta_fast && a->beta_slow == b->beta_slow);
    assert_true(a->original_max_positions == b->original_max_positions);
}

static void same_rest(const model_config *a, const model_config *b)
{
    assert_int_equal(a->family, b->family);
    assert_true(b->has_vision);
    assert_memory_equal(&a->vision, &b->vision, sizeof a->vision);
    assert_int_equal(a->image.min_pixels, b->image.min_pixels);
    assert_int_equal(a->image.max_pixels, b->image.max_pixels);
    assert_true(b->image.mean[0] == 0.5 && b->image.std[2] == 0.5);
    assert_int_equal(b->video.max_pixels, 25165824); // as published: the files do not say
    assert_true(b->video.fps == 2);
    assert_int_equal(a->image_token, b->image_token);
    assert_int_equal(a->video_token, b->video_token);
    assert_int_equal(a->vision_start_token, b->vision_start_token);
    assert_int_equal(a->vision_end_token, b->vision_end_token);
    assert_int_equal(b->generation.n_eos, 2); // <|im_end|> and <|endoftext|>, by their texts
    for (int i = 0; i < 2; i++) {
        assert_true(b->generation.eos[i] == a->generation.eos[0] ||
                    b->generation.eos[i] == a->generation.eos[1]);
    }
}

static void configs(void **state)
{
    static const char *const models[] = {"hybrid", "hybrid-deepstack", "hybrid-yarn", "qwen3vl"};
    for (int i = 0; i < 4; i++) {
        char dir[512], *path = golden_file(models[i]);
        checkpoint *a = NULL, *b = NULL;
        snprintf(dir, sizeof dir, "%s/%s/model", TEST_GOLDEN_DIR, models[i]);
        assert_ok(checkpoint_open(&a, dir));
        assert_ok(checkpoint_open(&b, path));
        const model_config *x = checkpoint_config(a), *y = checkpoint_config(b);
        same_text(&x->text, &y->text);
        same_rope(&x->text.rope, &y->text.rope);
        same_rest(x, y);
        assert_string_equal(checkpoint_dir(b), path);
        model_config alone;
        assert_ok(checkpoint_load_config(&alone, path, NULL));
        assert_memory_equal(&alone.vision, &y->vision, sizeof alone.vision);
        checkpoint_close(&a);
        checkpoint_close(&b);
        free(path);
    }
}

static void tensors(void **state)
{
    static const char *const same[] = {
        "model.language_model.embed_tokens.weight", "lm_head.weight", "mtp.fc.weight",
        "model.language_model.layers.3.self_attn.q_proj.weight", "mtp.layers.0.mlp.up_proj.weight",
        "model.language_model.layers.0.linear_attn.norm.weight",
        "model.visual.patch_embed.proj.weight", "model.visual.merger.linear_fc2.bias",
        "model.visual.blocks.1.mlp.linear_fc2.weight",
    };
    char *path = golden_file("hybrid");
    checkpoint *a = NULL, *b = NULL;
    assert_ok(checkpoint_open(&a, TEST_GOLDEN_DIR "/hybrid/model"));
    assert_ok(checkpoint_open(&b, path));
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        float *x, *y;
        tensor_view v;
        assert_ok(checkpoint_tensor(a, &v, same[i]));
        assert_ok(checkpoint_copy_f32(a, &x, same[i], 0));
        assert_ok(checkpoint_copy_f32(b, &y, same[i], 0));
        assert_memory_equal(x, y, (size_t)tensor_count(&v) * sizeof *x);
        free(x);
        free(y);
    }
    float *x, *y;
    assert_ok(checkpoint_copy_f32(a, &x, "mtp.norm.weight", 1));
    assert_ok(checkpoint_copy_f32(b, &y, "mtp.norm.weight", 0));
    assert_memory_equal(x, y, 64 * sizeof *x);
    free(x);
    free(y);
    checkpoint_close(&a);
    checkpoint_close(&b);
    free(path);
}

// ---- the vision tower's file ----

static bool sees(const char *path, const char *mmproj)
{
    checkpoint *c = NULL;
    assert_ok(checkpoint_open_with(&c, path, mmproj));
    const bool seen = checkpoint_config(c)->has_vision;
    checkpoint_close(&c);
    return seen;
}

static void finds_mmproj(void **state)
{
    char *path = golden_file("hybrid"), *folder = folder_of(path), a[600], b[600];
    checkpoint *c = NULL;
    snprintf(a, sizeof a, "%s/mmproj-f32.gguf", folder);
    snprintf(b, sizeof b, "%s/owner_name_mmproj-f32.gguf", folder);
    assert_true(sees(path, NULL));
    assert_true(sees(path, a));
    assert_false(sees(path, "none"));
    copy_file(a, b);
    assert_fails(checkpoint_open(&c, path), SIGHT_E_ARGUMENT, "several mmproj files fit: '");
    assert_non_null(strstr(sight_error(), "owner_name_mmproj-f32.gguf'; give one with --mmproj"));
    assert_true(sees(path, a));
    // One that is named like the model goes before others.
    char named[600];
    snprintf(named, sizeof named, "%s/owner_name_model-f32.gguf", folder);
    copy_file(path, named);
    assert_true(sees(named, NULL));
    // None, or one of another width: text only.
    unlink(a);
    unlink(b);
    assert_false(sees(path, NULL));
    gguf_write *w = calloc(1, sizeof *w);
    gguf_string(w, "general.architecture", "clip");
    gguf_u32(w, "clip.vision.projection_dim", 65);
    free(gguf_write_file(w, folder, "mmproj-f32.gguf"));
    gguf_write_done(w);
    free(w);
    assert_false(sees(path, NULL));
    assert_fails(checkpoint_open_with(&c, path, a), SIGHT_E_UNSUPPORTED,
                 "projector 'without a name' is not supported, only qwen3vl_merger");
    assert_fails(checkpoint_open_with(&c, path, path), SIGHT_E_MODEL, "is no mmproj file");
    assert_fails(checkpoint_open_with(&c, TEST_GOLDEN_DIR "/hybrid/model", a), SIGHT_E_ARGUMENT,
                 "goes with a GGUF model");
    free(folder);
    free(path);
}

// Parts of a big model in a folder of their own, as repositories have them.
static void finds_mmproj_of_snapshot(void **state)
{
    static const char *const places[] = {"snapshots/aaa/BF16", "snapshots/aaa/b/BF16",
                                         "x/aaa/BF16"};
    char *path = golden_file("hybrid"), *folder = folder_of(path), from[600];
    snprintf(from, sizeof from, "%s/mmproj-f32.gguf", folder);
    for (int i = 0; i < 3; i++) {
        const char *base = test_folder();
        char model[700], above[700];
        make_folders(base, places[i]);
        snprintf(model, sizeof model, "%s/%s/m.gguf", base, places[i]);
        snprintf(above, sizeof above, "%s/%.*s/mmproj.gguf", base,
                 (int)(strrchr(places[i], '/') - places[i]), places[i]);
        copy_file(path, model);
        copy_file(from, above);
        assert_int_equal(sees(model, NULL), i == 0);
    }
    free(folder);
    free(path);
}

// ---- split models ----

static void put_split(gguf_write *w, int number)
{
    gguf_u32(w, "split.no", number);
    gguf_u32(w, "split.count", 2);
}

static void split(void **state)
{
    gguf_golden *g = gguf_golden_new("hybrid", false, false);
    gguf_write *second = calloc(1, sizeof *second);
    const char *folder = test_folder();
    checkpoint *c = NULL;
    second->n = g->text.n / 2;
    g->text.n -= second->n;
    memcpy(second->tensors, g->text.tensors + g->text.n, second->n * sizeof *second->tensors);
    put_split(&g->text, 0);
    put_split(second, 1);
    char *one = gguf_write_file(&g->text, folder, "m-00001-of-00002.gguf");
    assert_fails(checkpoint_open(&c, one), SIGHT_E_MODEL,
                 "m-00002-of-00002.gguf' is missing, part 2");
    char *two = gguf_write_file(second, folder, "m-00002-of-00002.gguf");
    assert_ok(checkpoint_open(&c, one));
    checkpoint_close(&c);
    assert_fails(checkpoint_open(&c, two), SIGHT_E_ARGUMENT, "is part 2 of 2, give the first one");
    char *found = NULL; // later parts are no models of their own
    assert_ok(checkpoint_find(&found, folder));
    assert_string_equal(found, one);
    free(found);
    char *other = gguf_write_file(&g->text, folder, "other.gguf");
    assert_fails(checkpoint_open(&c, other), SIGHT_E_MODEL, "should end in '-00001-of-00002.gguf'");
    free(one);
    free(two);
    free(other);
    gguf_write_done(second);
    free(second);
    gguf_golden_free(g);
}

// ---- names ----

static void put_file(const char *base, const char *folder, const char *name)
{
    char whole[1000];
    make_folders(base, folder);
    snprintf(whole, sizeof whole, "%s/%s", base, folder);
    free(test_write(whole, name, "GGUF", 4));
}

static void assert_finds(const char *model, const char *end)
{
    char *path = NULL;
    assert_ok(checkpoint_find(&path, model));
    if (!gguf_ends(path, end)) fail_msg("%s: found %s", model, path);
    free(path);
}

static const char *fresh_home(void)
{
    static const char *const unset[] = {"HF_HUB_CACHE", "HF_HOME", "MODELSCOPE_CACHE",
                                        "LLAMA_CACHE"};
    const char *home = test_folder();
    for (int i = 0; i < 4; i++) unsetenv(unset[i]);
    setenv("HOME", home, 1);
    return home;
}

static void folders(void **state)
{
    const char *home = fresh_home();
    char *path = NULL;
    put_file(home, "one", "m-Q8_0.gguf");
    put_file(home, "one", "mmproj-bf16.gguf");
    put_file(home, "one", "imatrix.gguf");
    put_file(home, "two", "m-Q8_0.gguf");
    put_file(home, "two", "m-Q4_K_M.gguf");
    put_file(home, "both", "m-Q8_0.gguf");
    put_file(home, "both", "model.safetensors");
    char dir[600];
    snprintf(dir, sizeof dir, "%s/one", home);
    assert_finds(dir, "/one/m-Q8_0.gguf");
    snprintf(dir, sizeof dir, "%s/both", home);
    assert_finds(dir, "/both");
    snprintf(dir, sizeof dir, "%s/two", home);
    assert_fails(checkpoint_find(&path, dir), SIGHT_E_ARGUMENT, "holds several models: '");
    assert_non_null(strstr(sight_error(), "m-Q4_K_M.gguf', '"));
    snprintf(dir, sizeof dir, "%s/two/m-Q4_K_M.gguf", home);
    assert_finds(dir, "/two/m-Q4_K_M.gguf");
}

static void caches(void **state)
{
    const char *home = fresh_home();
    const char *snapshot = ".cache/huggingface/hub/models--o--n-GGUF/snapshots/aaa";
    char *path = NULL;
    put_file(home, snapshot, "n-Q8_0.gguf");
    put_file(home, snapshot, "mmproj-n.gguf");
    assert_finds("o/n-GGUF", "/aaa/n-Q8_0.gguf");
    put_file(home, snapshot, "n-Q4_K_M.gguf");
    make_folders(home, ".cache/huggingface/hub/models--o--n-GGUF/snapshots/aaa/BF16");
    put_file(home, ".cache/huggingface/hub/models--o--n-GGUF/snapshots/aaa/BF16",
             "n-BF16-00001-of-00002.gguf");
    assert_finds("o/n-GGUF:q4_k_m", "/aaa/n-Q4_K_M.gguf");
    assert_finds("o/n-GGUF:BF16", "/aaa/BF16/n-BF16-00001-of-00002.gguf");
    assert_fails(checkpoint_find(&path, "o/n-GGUF"), SIGHT_E_ARGUMENT, "holds several models");
    assert_fails(checkpoint_find(&path, "o/n-GGUF:Q4"), SIGHT_E_NOT_FOUND,
                 "neither a folder nor in");
    assert_fails(checkpoint_find(&path, "o/n-GGUF:"), SIGHT_E_NOT_FOUND, "no model folder");
    put_file(home, ".cache/llama.cpp", "p_x-GGUF_x-Q6_K.gguf");
    put_file(home, ".cache/llama.cpp", "p_x-GGUF_mmproj-x.gguf");
    put_file(home, ".cache/llama.cpp", "p_xy-GGUF_xy-Q6_K.gguf");
    assert_finds("p/x-GGUF", "/llama.cpp/p_x-GGUF_x-Q6_K.gguf");
    assert_finds("p/x-GGUF:Q6_K", "/llama.cpp/p_x-GGUF_x-Q6_K.gguf");
    assert_fails(checkpoint_find(&path, "p/x"), SIGHT_E_NOT_FOUND, ".cache/llama.cpp'");
    char cache[600];
    snprintf(cache, sizeof cache, "%s/mine", home);
    setenv("LLAMA_CACHE", cache, 1);
    put_file(home, "mine", "q_z_z.gguf");
    assert_finds("q/z", "/mine/q_z_z.gguf");
    unsetenv("LLAMA_CACHE");
}

// ---- what is refused ----

typedef void change_fn(gguf_golden *g);

static void refuse(const char *model, change_fn *change, sight_err code, const char *sentence)
{
    gguf_golden *g = gguf_golden_new(model, false, false);
    checkpoint *c = NULL;
    change(g);
    char *path = gguf_golden_write(g);
    assert_fails(checkpoint_open(&c, path), code, sentence);
    assert_null(c);
    free(path);
    gguf_golden_free(g);
}

static gguf_write_tensor *tensor(gguf_write *w, const char *name)
{
    for (size_t i = 0; i < w->n; i++) {
        if (strcmp(w->tensors[i].name, name) == 0) return &w->tensors[i];
    }
    fail_msg("no tensor %s", name);
    return NULL;
}

static void drop(gguf_write *w, const char *name)
{
    gguf_write_tensor *t = tensor(w, name);
    *t = w->tensors[--w->n];
}

static void without_norm(gguf_golden *g)
{
    drop(&g->text, "blk.1.attn_norm.weight");
}

static void without_embedding(gguf_golden *g)
{
    drop(&g->text, "token_embd.weight");
}

static void without_frame(gguf_golden *g)
{
    drop(&g->vision, "v.patch_embd.weight.1");
}

static void with_more(gguf_golden *g)
{
    gguf_add(&g->text, "blk.0.ffn_gate_inp.weight", GGUF_F32, g, 4, 1, (int64_t)1);
}

static void in_other_blocks(gguf_golden *g)
{
    gguf_write_tensor *t = tensor(&g->text, "blk.0.ffn_up.weight");
    t->type = 3; // Q4_1
    t->bytes = t->bytes / 4 / 32 * 20;
}

static void conv_in_blocks(gguf_golden *g)
{
    gguf_write_tensor *t = tensor(&g->text, "blk.0.ssm_conv1d.weight");
    t->type = GGUF_Q8_0;
    t->shape[0] = 2;
    t->shape[1] = 64;
    t->bytes = 2 * 68;
}

static void positive_a(gguf_golden *g)
{
    ((float *)tensor(&g->text, "blk.0.ssm_a")->data)[1] = 1;
}

static void not_finite(gguf_golden *g)
{
    ((float *)tensor(&g->text, "blk.0.attn_norm.weight")->data)[3] = NAN;
}

static void refusals(void **state)
{
    refuse("hybrid", without_norm, SIGHT_E_MODEL,
           "'model.language_model.layers.1.input_layernorm.weight' is missing");
    refuse("hybrid", without_embedding, SIGHT_E_MODEL, "has no tensor 'token_embd.weight'");
    refuse("hybrid", without_frame, SIGHT_E_MODEL, "'v.patch_embd.weight.1' must both be there");
    refuse("hybrid", with_more, SIGHT_E_MODEL, "'blk.0.ffn_gate_inp.weight' is left over");
    refuse("hybrid", in_other_blocks, SIGHT_E_UNSUPPORTED, "is Q4_1, not supported");
    refuse("hybrid", conv_in_blocks, SIGHT_E_UNSUPPORTED, "where plain numbers are needed");
    refuse("hybrid", positive_a, SIGHT_E_MODEL, "expected negative numbers, found 1 at element 1");
    refuse("hybrid", not_finite, SIGHT_E_MODEL, "expected finite numbers, found NaN");
}

// Replaces the metadata of the text model by a few keys.
static sight_err open_with_keys(void (*put)(gguf_write *w))
{
    gguf_write *w = calloc(1, sizeof *w);
    checkpoint *c = NULL;
    static const float row[64];
    put(w);
    gguf_add(w, "token_embd.weight", GGUF_F32, row, sizeof row, 2, (int64_t)1, (int64_t)64);
    char *path = gguf_write_file(w, test_folder(), "m.gguf");
    sight_err err = checkpoint_open(&c, path);
    assert_null(c);
    free(path);
    gguf_write_done(w);
    free(w);
    return err;
}

static void put_nothing(gguf_write *w)
{
}

static void put_llama(gguf_write *w)
{
    gguf_string(w, "general.architecture", "llama");
}

static void put_clip(gguf_write *w)
{
    gguf_string(w, "general.architecture", "clip");
}

static void put_bare(gguf_write *w)
{
    gguf_string(w, "general.architecture", "qwen35");
}

static void put_wrong_kind(gguf_write *w)
{
    put_bare(w);
    gguf_string(w, "qwen35.embedding_length", "many");
}

static void put_odd_inner(gguf_write *w)
{
    static const char *const keys[] = {"embedding_length", "attention.head_count", "block_count",
                                       "feed_forward_length", "context_length", "ssm.inner_size"};
    char key[64];
    put_bare(w);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        snprintf(key, sizeof key, "qwen35.%s", keys[i]);
        gguf_u32(w, key, 64);
    }
    gguf_u32(w, "qwen35.ssm.time_step_rank", 3);
}

static void bad_metadata(void **state)
{
    assert_fails(open_with_keys(put_nothing), SIGHT_E_UNSUPPORTED, "architecture 'without a name'");
    assert_fails(open_with_keys(put_llama), SIGHT_E_UNSUPPORTED,
                 "architecture 'llama' is not supported, only qwen35 and qwen3vl");
    assert_fails(open_with_keys(put_clip), SIGHT_E_ARGUMENT, "give the text model's file");
    assert_fails(open_with_keys(put_bare), SIGHT_E_MODEL, "has no 'qwen35.embedding_length'");
    assert_fails(open_with_keys(put_wrong_kind), SIGHT_E_MODEL, "must be a whole number");
    assert_fails(open_with_keys(put_odd_inner), SIGHT_E_MODEL,
                 "ssm.inner_size 64 is not a multiple of ssm.time_step_rank 3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(configs), cmocka_unit_test(tensors),  cmocka_unit_test(finds_mmproj),
        cmocka_unit_test(finds_mmproj_of_snapshot),
        cmocka_unit_test(split),   cmocka_unit_test(folders),  cmocka_unit_test(caches),
        cmocka_unit_test(refusals), cmocka_unit_test(bad_metadata),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
