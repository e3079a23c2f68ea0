// The tower on a device against the CPU's: golden cases, and made-up patches on grids of many shapes.
#include "kernels/memory.h"
#include "text/golden.h"

// Sums of float32 in another order; what tests/vision/test_tower.c allows the CPU against the reference.
#define EXACT 1e-5
#define USUAL 2e-2 // products of bf16 inputs: 8 bits

static kernels *open_gpu(bool exact)
{
    kernels *k = NULL;
    const kernels_options o = {.threads = 2, .exact = exact, .device = {DEVICE_CUDA, 0},
                               .device_bytes = (int64_t)512 << 20};
    assert_ok(kernels_create(&k, &o));
    return k;
}

// How an encode is asked for on the device.
typedef struct manner {
    bool exact, placed, beside;
    double step; // operations of a call; 0: all at once
} manner;

typedef struct made_up {
    checkpoint *c;
    vision_grid grid;
    int64_t row, n, floats; // of a patch; of all patches; of an output
    float *patches;
} made_up;

static made_up make(const char *model, vision_grid grid)
{
    made_up m = {.c = golden_open(model), .grid = grid};
    const vision_config *v = &checkpoint_config(m.c)->vision;
    m.row = (int64_t)v->channels * v->temporal_patch * v->patch * v->patch;
    const int64_t patches = (int64_t)grid.t * grid.h * grid.w;
    m.n = patches * m.row;
    m.floats = patches / (v->merge * v->merge) * v->out_hidden;
    m.patches = golden_alloc(m.n, sizeof(float));
    test_random r = {7};
    for (int64_t i = 0; i < m.n; i++) m.patches[i] = 0.5f * test_random_normal(&r);
    return m;
}

static void done(made_up *m)
{
    free(m->patches);
    checkpoint_close(&m->c);
}

static int32_t levels_of(const made_up *m)
{
    return checkpoint_config(m->c)->vision.n_deepstack;
}

// features and all levels, one after another, on the CPU.
static float *encode_cpu(const made_up *m)
{
    kernels *k = golden_kernels(2, true);
    tower *t = NULL;
    float *deep[CONFIG_MAX_DEEPSTACK], *out = golden_alloc((1 + levels_of(m)) * m->floats, sizeof *out);
    for (int32_t i = 0; i < levels_of(m); i++) deep[i] = out + (i + 1) * m->floats;
    assert_ok(tower_create(&t, m->c, k));
    assert_ok(tower_encode(t, m->patches, &m->grid, out, deep));
    tower_destroy(&t);
    kernels_destroy(&k);
    return out;
}

static void run(tower *t, const made_up *m, const manner *how, const float *patches, float *features,
                float *const *deep)
{
    tower_job *job = NULL;
    bool finished = false;
    if (how->placed) assert_ok(tower_job_create_placed(&job, t, patches, &m->grid, features, deep));
    else assert_ok(tower_job_create(&job, t, patches, &m->grid, features, deep));
    while (!finished) assert_ok(tower_job_run(job, how->step ? how->step : INFINITY, &finished));
    tower_job_destroy(&job);
}

static float *encode_gpu(const made_up *m, const manner *how)
{
    kernels *first = open_gpu(how->exact), *k = first;
    const int64_t n = (1 + levels_of(m)) * m->floats;
    tower *t = NULL;
    float *deep[CONFIG_MAX_DEEPSTACK], *patches = NULL, *features = NULL, *out = golden_alloc(n, sizeof *out);
    if (how->beside) assert_ok(kernels_create_beside(&k, first));
    assert_ok(tower_create(&t, m->c, k));
    assert_ok(kernels_alloc((void **)&patches, k, sizeof *patches * (size_t)m->n, "patches"));
    assert_ok(kernels_alloc((void **)&features, k, sizeof *features * (size_t)n, "features"));
    kernels_write(k, patches, m->patches, sizeof *patches * (size_t)m->n);
    for (int32_t i = 0; i < levels_of(m); i++) deep[i] = features + (i + 1) * m->floats;
    run(t, m, how, how->placed ? patches : m->patches, features, deep);
    kernels_after(first, k);
    assert_ok(kernels_read(first, out, features, sizeof *out * (size_t)n));
    kernels_free(k, patches);
    kernels_free(k, features);
    tower_destroy(&t);
    kernels_destroy_beside(&k, first);
    kernels_destroy(&first);
    return out;
}

static void check(const char *model, vision_grid grid, const manner *how)
{
    char what[128];
    made_up m = make(model, grid);
    float *want = encode_cpu(&m), *got = encode_gpu(&m, how);
    for (int32_t i = 0; i <= levels_of(&m); i++) {
        snprintf(what, sizeof what, "%s, %d x %d x %d, output %d", model, grid.t, grid.h, grid.w, i);
        assert_close(got + i * m.floats, want + i * m.floats, m.floats, how->exact ? EXACT : USUAL, what);
    }
    free(want);
    free(got);
    done(&m);
}

static void grids(void **state)
{
    const vision_grid some[] = {{1, 2, 2}, {1, 14, 6}, {3, 10, 14}, {5, 4, 6}, {2, 2, 34}};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        check("hybrid-deepstack", some[i], &(manner){.exact = true, .placed = i % 2});
    }
}

static void usual_products(void **state)
{
    check("hybrid-deepstack", (vision_grid){2, 10, 6}, &(manner){.exact = false});
    check("qwen3vl", (vision_grid){1, 6, 10}, &(manner){.exact = false, .placed = true});
}

static void beside_text(void **state)
{
    check("qwen3vl", (vision_grid){2, 4, 10}, &(manner){.exact = true, .beside = true, .step = 1});
}

// Patches are brought there in several slices, of several pairs.
static void slices_of_patches(void **state)
{
    check("hybrid", (vision_grid){7, 18, 18}, &(manner){.exact = true, .step = 1e6});
}

static void calls_change_nothing(void **state)
{
    made_up m = make("hybrid-deepstack", (vision_grid){3, 6, 6});
    const int64_t n = 3 * m.floats;
    float *once = encode_gpu(&m, &(manner){.exact = true});
    float *cut = encode_gpu(&m, &(manner){.exact = true, .step = 1});
    assert_memory_equal(cut, once, sizeof *cut * (size_t)n);
    free(once);
    free(cut);
    done(&m);
}

static void no_memory(void **state)
{
    made_up m = make("hybrid-deepstack", (vision_grid){1, 4, 4});
    kernels *k = NULL;
    const kernels_options o = {.threads = 1, .device = {DEVICE_CUDA, 0}, .device_bytes = (int64_t)96 << 20};
    assert_ok(kernels_create(&k, &o));
    tower *t = NULL;
    assert_ok(tower_create(&t, m.c, k));
    tower_job *job = NULL;
    const vision_grid huge = {1, 600, 600};
    assert_fails(tower_job_create_placed(&job, t, NULL, &huge, NULL, NULL), SIGHT_E_MEMORY, "no memory");
    assert_null(job);
    tower_destroy(&t);
    kernels_destroy(&k);
    done(&m);
}

int main(void)
{
    if (device_gpus() == 0) {
        printf("skipped: %s\n", device_without_gpu());
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grids),
        cmocka_unit_test(usual_products),
        cmocka_unit_test(beside_text),
        cmocka_unit_test(slices_of_patches),
        cmocka_unit_test(calls_change_nothing),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
