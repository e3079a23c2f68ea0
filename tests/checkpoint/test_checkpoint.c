// Opens the golden models and the made-up ones: every tensor there, in its place.
#include "support/test.h"

#include <math.h>

#include "base/clock.h"
#include "checkpoint/checkpoint.h"

static checkpoint *open_golden(const char *name)
{
    char path[1024];
    checkpoint *c = NULL;
    snprintf(path, sizeof path, "%s/%s/model", TEST_GOLDEN_DIR, name);
    assert_ok(checkpoint_open(&c, path));
    assert_string_equal(checkpoint_dir(c), path);
    return c;
}

static void assert_shape(const checkpoint *c, const char *name, int64_t rows, int64_t columns)
{
    tensor_view v;
    assert_ok(checkpoint_tensor(c, &v, name));
    assert_int_equal(v.n_dims, columns ? 2 : 1);
    assert_int_equal(v.shape[0], rows);
    if (columns) assert_int_equal(v.shape[1], columns);
}

static void hybrid(void **state)
{
    checkpoint *c = open_golden("hybrid");
    const model_config *config = checkpoint_config(c);
    assert_int_equal(config->family, MODEL_QWEN3_5);
    assert_int_equal(config->text.mtp_layers, 1);
    assert_false(config->text.tied);
    assert_true(config->has_vision);
    assert_shape(c, "lm_head.weight", 2056, 64);
    assert_shape(c, "model.language_model.layers.3.self_attn.q_proj.weight", 256, 64);
    assert_shape(c, "mtp.fc.weight", 64, 128);
    assert_shape(c, "model.visual.blocks.0.attn.qkv.bias", 144, 0);
    tensor_view v;
    assert_ok(checkpoint_tensor(c, &v, "model.visual.patch_embed.proj.weight"));
    assert_int_equal(v.n_dims, 5);
    assert_int_equal(v.shape[2], 2);
    assert_fails(checkpoint_tensor(c, &v, "model.nothing"), SIGHT_E_MODEL, "model.nothing");
    checkpoint_close(&c);
    assert_null(c);
    checkpoint_close(&c);
}

static void deepstack_is_tied(void **state)
{
    checkpoint *c = open_golden("hybrid-deepstack");
    const model_config *config = checkpoint_config(c);
    tensor_view v;
    assert_true(config->text.tied);
    assert_int_equal(config->vision.n_deepstack, 2);
    assert_int_equal(config->vision.deepstack[1], 2);
    assert_fails(checkpoint_tensor(c, &v, "lm_head.weight"), SIGHT_E_MODEL, "lm_head.weight");
    assert_shape(c, "model.visual.deepstack_merger_list.1.norm.weight", 192, 0);
    checkpoint_close(&c);
}

static void yarn_and_plain(void **state)
{
    checkpoint *c = open_golden("hybrid-yarn");
    const rope_config *rope = &checkpoint_config(c)->text.rope;
    assert_true(rope->yarn);
    assert_true(rope->factor == 4 && rope->original_max_positions == 128 && rope->truncate);
    assert_int_equal(checkpoint_config(c)->text.max_positions, 4096);
    checkpoint_close(&c);
    c = open_golden("qwen3vl");
    assert_int_equal(checkpoint_config(c)->family, MODEL_QWEN3_VL);
    assert_false(checkpoint_config(c)->text.zero_centred_norm);
    assert_shape(c, "model.language_model.layers.0.self_attn.q_proj.weight", 128, 64);
    checkpoint_close(&c);
}

static void copies_as_float(void **state)
{
    checkpoint *c = open_golden("hybrid");
    const char *name = "model.language_model.norm.weight";
    tensor_view v;
    float *copy = NULL;
    assert_ok(checkpoint_tensor(c, &v, name));
    assert_ok(checkpoint_copy_f32(c, &copy, name, 1));
    for (int64_t i = 0; i < 64; i++) assert_true(copy[i] == tensor_get_f32(&v, i) + 1);
    free(copy);
    assert_fails(checkpoint_copy_f32(c, &copy, "none", 1), SIGHT_E_MODEL, "'none'");
    checkpoint_close(&c);
}

// Mean 0, and the deviation that keeps a product's output of order 1.
static void assert_spread(const tensor_view *v, double fan_in)
{
    int64_t n = tensor_count(v) < 100000 ? tensor_count(v) : 100000;
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = tensor_get_f32(v, i);
        sum += x;
        squares += x * x;
    }
    double rms = sqrt(squares / (double)n) * sqrt(fan_in);
    assert_true(rms > 0.7 && rms < 1.45);
    assert_true(fabs(sum / (double)n) * sqrt(fan_in) < 0.02);
}

static uint64_t sum_of_bytes(const tensor_view *v)
{
    const uint16_t *p = v->data;
    uint64_t h = 0;
    for (int64_t i = 0; i < tensor_count(v); i++) h = h * 31 + p[i];
    return h;
}

static uint64_t sum_of_tensor(const char *name, uint64_t seed)
{
    checkpoint *c = NULL;
    tensor_view v;
    assert_ok(checkpoint_made_up(&c, "0.8b", seed));
    assert_ok(checkpoint_tensor(c, &v, name));
    uint64_t sum = sum_of_bytes(&v);
    checkpoint_close(&c);
    return sum;
}

static void made_up(void **state)
{
    const char *name = "model.language_model.layers.0.mlp.down_proj.weight";
    checkpoint *c = NULL;
    double start = clock_now_s();
    assert_ok(checkpoint_made_up(&c, "0.8b", 7));
    print_message("0.8b made up in %.2f s\n", clock_now_s() - start);
    const model_config *config = checkpoint_config(c);
    assert_string_equal(checkpoint_dir(c), "");
    assert_true(config->text.tied && config->has_vision && config->text.mtp_layers == 1);
    assert_int_equal(config->text.hidden, 1024);
    assert_true(checkpoint_bytes(c) > 1700000000 && checkpoint_bytes(c) < 1800000000);
    tensor_view v;
    assert_ok(checkpoint_tensor(c, &v, name));
    assert_spread(&v, 3584);
    uint64_t sum = sum_of_bytes(&v);
    assert_ok(checkpoint_tensor(c, &v, "model.language_model.layers.0.linear_attn.A_log"));
    for (int64_t i = 0; i < v.shape[0]; i++) {
        assert_true(tensor_get_f32(&v, i) > -4 && tensor_get_f32(&v, i) < 1.4);
    }
    checkpoint_close(&c);
    assert_true(sum_of_tensor(name, 7) == sum);
    assert_fails(checkpoint_made_up(&c, "3b", 0), SIGHT_E_ARGUMENT, "no shape '3b'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hybrid),         cmocka_unit_test(deepstack_is_tied),
        cmocka_unit_test(yarn_and_plain), cmocka_unit_test(copies_as_float),
        cmocka_unit_test(made_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
