#include "text/golden.h"

static void compare(const golden_case *g, const char *short_name, const float *got, int level,
                    int64_t n, double limit)
{
    char name[64];
    if (level < 0) snprintf(name, sizeof name, "%s_features", short_name);
    else snprintf(name, sizeof name, "%s_deepstack_%d", short_name, level);
    int64_t count = 0;
    float *want = golden_copy(g->file, name, &count);
    assert_non_null(want);
    assert_int_equal(count, n);
    char what[400];
    snprintf(what, sizeof what, "%s %s", g->name, name);
    assert_close(got, want, n, limit, what);
    free(want);
}

static void check_case(const checkpoint *c, const char *model, const char *name, bool exact,
                       double limit)
{
    const model_config *config = checkpoint_config(c);
    golden_case g;
    golden_load(&g, model, name, config);
    kernels *k = golden_kernels(2, exact);
    tower *t = NULL;
    assert_ok(tower_create(&t, c, k));
    golden_encode(&g, t, &config->vision);
    if (g.features) {
        bool video = safetensors_find(g.file, "video_features") >= 0;
        const char *kind = video ? "video" : "image";
        int64_t n = g.tokens * config->vision.out_hidden;
        compare(&g, kind, g.features, -1, n, limit);
        for (int i = 0; i < config->vision.n_deepstack; i++) {
            compare(&g, kind, g.deepstack[i], i, n, limit);
        }
    }
    tower_destroy(&t);
    kernels_destroy(&k);
    golden_free(&g);
}

static void exact_case(const checkpoint *c, const char *model, const char *name)
{
    check_case(c, model, name, true, 1e-5);
}

static void default_case(const checkpoint *c, const char *model, const char *name)
{
    check_case(c, model, name, false, 2e-2); // products of bf16 inputs: 8 bits
}

static void reference_exact(void **state)
{
    (void)state;
    for (int i = 0; i < GOLDEN_MODELS; i++) golden_each(golden_models[i], exact_case);
}

static void reference_default(void **state)
{
    (void)state;
    for (int i = 0; i < GOLDEN_MODELS; i++) golden_each(golden_models[i], default_case);
}

// ---- jobs over made-up patches ----

typedef struct made_up {
    checkpoint *c;
    const vision_config *v;
    vision_grid grid;
    int64_t row, floats; // of a patch; of an output
    float *patches;
} made_up;

static made_up make(vision_grid grid)
{
    made_up m = {.c = golden_open("hybrid-deepstack"), .grid = grid};
    m.v = &checkpoint_config(m.c)->vision;
    m.row = (int64_t)m.v->channels * m.v->temporal_patch * m.v->patch * m.v->patch;
    int64_t n = (int64_t)grid.t * grid.h * grid.w;
    m.floats = n / (m.v->merge * m.v->merge) * m.v->out_hidden;
    m.patches = golden_alloc(n * m.row, sizeof(float));
    test_random r = {7};
    for (int64_t i = 0; i < n * m.row; i++) m.patches[i] = 0.5f * test_random_normal(&r);
    return m;
}

static void done(made_up *m)
{
    free(m->patches);
    checkpoint_close(&m->c);
}

// features and both levels, one after another; step 0: all at once, else so many operations a call.
static float *encode(const made_up *m, int threads, double step)
{
    kernels *k = golden_kernels(threads, true);
    tower *t = NULL;
    assert_ok(tower_create(&t, m->c, k));
    float *out = golden_alloc(3 * m->floats, sizeof *out);
    float *deep[] = {out + m->floats, out + 2 * m->floats};
    if (step == 0) {
        assert_ok(tower_encode(t, m->patches, &m->grid, out, deep));
    } else {
        tower_job *job = NULL;
        bool finished = false;
        assert_ok(tower_job_create(&job, t, m->patches, &m->grid, out, deep));
        while (!finished) assert_ok(tower_job_run(job, step, &finished));
        assert_ok(tower_job_run(job, step, &finished)); // nothing more to do
        assert_true(finished);
        tower_job_destroy(&job);
        assert_null(job);
    }
    tower_destroy(&t);
    kernels_destroy(&k);
    return out;
}

static void slices_and_threads_change_nothing(void **state)
{
    (void)state;
    made_up m = make((vision_grid){3, 30, 34}); // two groups of pairs, two pieces of rows
    float *want = encode(&m, 1, 0);
    const int threads[] = {1, 2, 3};
    for (int i = 0; i < 3; i++) {
        float *got = encode(&m, threads[i], i ? 3e7 * i : 1);
        assert_memory_equal(got, want, (size_t)(3 * m.floats) * sizeof *got);
        free(got);
    }
    free(want);
    done(&m);
}

static void pairs_are_independent(void **state)
{
    (void)state;
    made_up m = make((vision_grid){5, 8, 6});
    float *all = encode(&m, 2, 0);
    float *patches = m.patches;
    int64_t floats = m.floats, pair = m.floats / 5;
    m.grid.t = 1;
    m.floats = pair;
    for (int64_t i = 0; i < 5; i++) {
        m.patches = patches + i * 8 * 6 * m.row;
        float *one = encode(&m, 2, 0);
        for (int64_t level = 0; level < 3; level++) {
            assert_close(one + level * pair, all + level * floats + i * pair, pair, 1e-6, "pair");
        }
        free(one);
    }
    m.patches = patches;
    free(all);
    done(&m);
}

static void memory_does_not_grow_with_length(void **state)
{
    (void)state;
    checkpoint *c = golden_open("hybrid");
    kernels *k = golden_kernels(1, true);
    tower *t = NULL;
    assert_ok(tower_create(&t, c, k));
    const vision_grid brief = {40, 8, 8}, lengthy = {400, 8, 8}, large = {1, 96, 96};
    assert_true(tower_workspace_bytes(t, &lengthy) == tower_workspace_bytes(t, &brief));
    assert_true(tower_workspace_bytes(t, &large) > tower_workspace_bytes(t, &brief));
    tower_destroy(&t);
    kernels_destroy(&k);
    checkpoint_close(&c);
}

static void bad_grids(void **state)
{
    (void)state;
    made_up m = make((vision_grid){1, 4, 4});
    kernels *k = golden_kernels(1, true);
    tower *t = NULL;
    tower_job *job = NULL;
    assert_ok(tower_create(&t, m.c, k));
    const vision_grid bad[] = {{0, 4, 4}, {1, 3, 4}, {1, 4, 0}, {1, -2, 4}};
    for (int i = 0; i < 4; i++) {
        assert_fails(tower_job_create(&job, t, m.patches, &bad[i], NULL, NULL), SIGHT_E_ARGUMENT,
                     "grid");
        assert_null(job);
    }
    tower_job_destroy(&job);
    tower_destroy(&t);
    tower_destroy(&t);
    kernels_destroy(&k);
    done(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_exact),
        cmocka_unit_test(reference_default),
        cmocka_unit_test(slices_and_threads_change_nothing),
        cmocka_unit_test(pairs_are_independent),
        cmocka_unit_test(memory_does_not_grow_with_length),
        cmocka_unit_test(bad_grids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
