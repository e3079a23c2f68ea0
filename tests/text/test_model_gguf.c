// The same made-up models as safetensors and as GGUF give the same logits and features; the same
// numbers in blocks and multiplied out do too.
#include "support/gguf_golden.h"
#include "text/golden.h"

#include "checkpoint/prepare.h"

typedef struct bench {
    checkpoint *c;
    kernels *k;
    text_model *m;
    tower *t;
    cache_pool *pool;
} bench;

// Takes c.
static bench setup(checkpoint *c)
{
    bench b = {.c = c, .k = golden_kernels(2, true)};
    const prepare_options as_stored = {.form = WEIGHTS_STORED};
    const cache_options co = {.kv_type = TENSOR_F32};
    assert_ok(checkpoint_prepare(c, &as_stored));
    assert_ok(text_model_create(&b.m, c, b.k, 1024));
    assert_ok(tower_create(&b.t, c, b.k));
    assert_ok(cache_pool_create(&b.pool, &checkpoint_config(c)->text, &co));
    return b;
}

static void teardown(bench *b)
{
    cache_pool_destroy(&b->pool);
    tower_destroy(&b->t);
    text_model_destroy(&b->m);
    kernels_destroy(&b->k);
    checkpoint_close(&b->c);
}

// Logits of a whole case, with the model's own features (free them).
static float *run(bench *b, const char *model, const char *name, int64_t *n)
{
    golden_case g;
    sequence *s = NULL;
    const model_config *config = checkpoint_config(b->c);
    const float *levels[CONFIG_MAX_DEEPSTACK];
    golden_load(&g, model, name, config);
    golden_encode(&g, b->t, &config->vision);
    *n = (int64_t)g.n * config->text.vocab;
    float *logits = golden_alloc(*n, sizeof *logits);
    assert_ok(sequence_create(&s, b->pool));
    segment seg = golden_segment(&g, s, 0, g.n, levels, config->text.hidden);
    seg.logits = logits;
    seg.n_logits = g.n;
    assert_ok(text_model_step(b->m, &seg, 1));
    sequence_drop(&s);
    golden_free(&g);
    return logits;
}

static void compare(bench *a, bench *b, const char *model, const char *name, double limit)
{
    int64_t n = 0, same = 0;
    float *x = run(a, model, name, &n), *y = run(b, model, name, &same);
    assert_int_equal(n, same);
    assert_close(y, x, n, limit, name);
    free(x);
    free(y);
}

static checkpoint *open_gguf(const char *model, bool q8, bool q8_values)
{
    checkpoint *c = NULL;
    gguf_golden *g = gguf_golden_new(model, q8, q8_values);
    char *path = gguf_golden_write(g);
    assert_ok(checkpoint_open(&c, path));
    free(path);
    gguf_golden_free(g);
    return c;
}

// Sums of out_proj run in another order where value heads are tiled, and A_log went through exp
// and log: float32 rounding, which the layers carry on.
static void same_logits(void **state)
{
    for (int i = 0; i < GOLDEN_MODELS; i++) {
        char path[600];
        bench a = setup(golden_open(golden_models[i]));
        bench b = setup(open_gguf(golden_models[i], false, false));
        snprintf(path, sizeof path, "%s/%s/cases", TEST_GOLDEN_DIR, golden_models[i]);
        DIR *d = opendir(path);
        assert_non_null(d);
        for (struct dirent *e; (e = readdir(d));) {
            if (e->d_name[0] != '.') compare(&a, &b, golden_models[i], e->d_name, 1e-4);
        }
        closedir(d);
        teardown(&a);
        teardown(&b);
    }
}

static void same_logits_from_blocks(void **state)
{
    bench a = setup(open_gguf("hybrid", false, true));
    bench b = setup(open_gguf("hybrid", true, false));
    compare(&a, &b, "hybrid", "text", 5e-5);
    teardown(&a);
    teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_logits),
        cmocka_unit_test(same_logits_from_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
