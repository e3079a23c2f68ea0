// tests/text/golden.h - reference cases of tests/golden, fed to the tower and the text model.
//
// Included by tests only; everything fails the test instead of returning an error.
#ifndef TESTS_TEXT_GOLDEN_H
#define TESTS_TEXT_GOLDEN_H

#include <dirent.h>
#include <math.h>
#include <stdbool.h>

#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"
#include "support/test.h"
#include "text/model.h"
#include "vision/tower.h"

static const char *const golden_models[] = {"hybrid", "hybrid-deepstack", "hybrid-yarn", "qwen3vl"};
enum { GOLDEN_MODELS = 4 };

static inline void *golden_alloc(int64_t n, size_t size)
{
    void *p = calloc((size_t)(n ? n : 1), size);
    if (!p) fail_msg("no memory for a test");
    return p;
}

static inline checkpoint *golden_open(const char *model)
{
    char dir[512];
    checkpoint *c = NULL;
    snprintf(dir, sizeof dir, "%s/%s/model", TEST_GOLDEN_DIR, model);
    assert_ok(checkpoint_open(&c, dir));
    return c;
}

// Inexact: with bf16 products where the processor has them, even if they are not its fastest.
static inline kernels *golden_kernels(int threads, bool exact)
{
    kernels *k = NULL;
    const kernels_options bf16 = {.threads = threads, .simd = SIMD_AVX512BF16};
    const kernels_options usual = {.threads = threads, .exact = exact};
    if (exact || kernels_create(&k, &bf16)) assert_ok(kernels_create(&k, &usual));
    return k;
}

static inline bool golden_find(const safetensors *s, tensor_view *v, const char *name)
{
    int64_t i = safetensors_find(s, name);
    if (i < 0) return false;
    assert_true(safetensors_view(s, v, (size_t)i));
    return true;
}

// Views in a file have any alignment: a copy that can be indexed. NULL when it is not there.
static inline void *golden_copy(const safetensors *s, const char *name, int64_t *count)
{
    tensor_view v;
    if (!golden_find(s, &v, name)) return NULL;
    int64_t n = tensor_count(&v);
    void *p = golden_alloc(n, tensor_type_bytes(v.type));
    memcpy(p, v.data, (size_t)n * tensor_type_bytes(v.type));
    if (count) *count = n;
    return p;
}

// max |a - b| / max |b|
static inline double golden_error(const float *a, const float *b, int64_t n)
{
    double diff = 0, most = 1e-9;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);
        if (!(d <= diff)) diff = d; // NaN stays
        if (fabs((double)b[i]) > most) most = fabs((double)b[i]);
    }
    return diff / most;
}

#define assert_close(a, b, n, limit, what)                                                         \
    do {                                                                                           \
        double error_ = golden_error(a, b, n);                                                     \
        if (!(error_ <= (limit))) fail_msg("%s: error %.2e, limit %.0e", what, error_, limit);     \
    } while (0)

static inline int32_t golden_argmax(const float *x, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++) {
        if (x[i] > x[best]) best = i;
    }
    return (int32_t)best;
}

typedef struct golden_case {
    char name[256];
    safetensors *file;
    int32_t n;
    int32_t *ids, *positions; // [n], [3, n]
    uint8_t *visual;          // [n]
    float *features;          // from our tower
    float *deepstack[CONFIG_MAX_DEEPSTACK];
    int64_t tokens; // rows of features
    int32_t *greedy;
    int32_t n_greedy;
    double margin; // of the closest choice in greedy
} golden_case;

static inline void golden_read_json(golden_case *g, const char *folder)
{
    char path[700];
    json_t *j = NULL;
    snprintf(path, sizeof path, "%s/case.json", folder);
    assert_ok(json_parse_file(&j, path, 1 << 22, SIGHT_E_IO));
    const json_t *list = json_object_get(j, "greedy_ids");
    g->n_greedy = (int32_t)json_array_size(list);
    g->greedy = golden_alloc(g->n_greedy, sizeof *g->greedy);
    for (int32_t i = 0; i < g->n_greedy; i++) {
        g->greedy[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    }
    g->margin = json_number_value(json_object_get(j, "min_top2_margin"));
    json_decref(j);
}

static inline void golden_load(golden_case *g, const char *model, const char *name,
                               const model_config *config)
{
    char folder[600], path[700];
    int64_t n = 0;
    memset(g, 0, sizeof *g);
    snprintf(g->name, sizeof g->name, "%s/%s", model, name);
    snprintf(folder, sizeof folder, "%s/%s/cases/%s", TEST_GOLDEN_DIR, model, name);
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    assert_ok(safetensors_open(&g->file, path));
    g->ids = golden_copy(g->file, "input_ids", &n);
    g->n = (int32_t)n;
    g->positions = golden_copy(g->file, "position_ids", NULL);
    g->visual = golden_alloc(n, 1);
    for (int32_t i = 0; i < g->n; i++) {
        g->visual[i] = g->ids[i] == config->image_token || g->ids[i] == config->video_token;
    }
    golden_read_json(g, folder);
}

static inline void golden_free(golden_case *g)
{
    safetensors_close(&g->file);
    free(g->ids);
    free(g->positions);
    free(g->visual);
    free(g->features);
    for (int i = 0; i < CONFIG_MAX_DEEPSTACK; i++) free(g->deepstack[i]);
    free(g->greedy);
}

// The case's patches as the tower takes them, from their 8-bit values.
static inline float *golden_patches(const golden_case *g, const char *name)
{
    int64_t n = 0;
    uint8_t *u = golden_copy(g->file, name, &n);
    if (!u) return NULL;
    float *p = golden_alloc(n, sizeof *p);
    for (int64_t i = 0; i < n; i++) p[i] = ((float)u[i] / 255 - 0.5f) / 0.5f;
    free(u);
    return p;
}

static inline void golden_encode_grid(golden_case *g, tower *t, const vision_config *v,
                                      const float *patches, const vision_grid *grid)
{
    float *deep[CONFIG_MAX_DEEPSTACK];
    for (int32_t i = 0; i < v->n_deepstack; i++) {
        deep[i] = g->deepstack[i] + g->tokens * v->out_hidden;
    }
    assert_ok(tower_encode(t, patches, grid, g->features + g->tokens * v->out_hidden, deep));
    g->tokens += (int64_t)grid->t * grid->h * grid->w / (v->merge * v->merge);
}

// Fills features and deepstack with our own tower's.
static inline void golden_encode(golden_case *g, tower *t, const vision_config *v)
{
    bool video = safetensors_find(g->file, "video_grid_thw") >= 0;
    int64_t n_grid = 0;
    int32_t *grids = golden_copy(g->file, video ? "video_grid_thw" : "image_grid_thw", &n_grid);
    float *patches = golden_patches(g, video ? "pixel_values_videos_u8" : "pixel_values_u8");
    if (!grids) return;
    g->features = golden_alloc((int64_t)g->n * v->out_hidden, sizeof(float));
    for (int32_t i = 0; i < v->n_deepstack; i++) {
        g->deepstack[i] = golden_alloc((int64_t)g->n * v->out_hidden, sizeof(float));
    }
    const float *at = patches;
    for (int64_t i = 0; i < n_grid; i += 3) {
        vision_grid grid = {grids[i], grids[i + 1], grids[i + 2]};
        golden_encode_grid(g, t, v, at, &grid);
        at += (int64_t)grid.t * grid.h * grid.w * v->channels * v->temporal_patch * v->patch *
              v->patch;
    }
    free(grids);
    free(patches);
}

// Rows first .. first + n - 1 of the case as a segment.
static inline segment golden_segment(const golden_case *g, sequence *s, int32_t first, int32_t n,
                                     const float **levels, int64_t hidden)
{
    int64_t before = 0;
    for (int32_t i = 0; i < first; i++) before += g->visual[i];
    for (int i = 0; i < CONFIG_MAX_DEEPSTACK; i++) {
        levels[i] = g->deepstack[i] ? g->deepstack[i] + before * hidden : NULL;
    }
    segment out = {
        .seq = s,
        .n = n,
        .ids = g->ids + first,
        .positions = g->positions + first,
        .position_stride = g->n,
        .visual = g->visual + first,
        .features = g->features ? g->features + before * hidden : NULL,
        .deepstack = levels[0] ? levels : NULL,
    };
    return out;
}

typedef void golden_fn(const checkpoint *c, const char *model, const char *name);

// Runs fn on every case of a model.
static inline void golden_each(const char *model, golden_fn *fn)
{
    char path[600];
    checkpoint *c = golden_open(model);
    snprintf(path, sizeof path, "%s/%s/cases", TEST_GOLDEN_DIR, model);
    DIR *d = opendir(path);
    assert_non_null(d);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        fn(c, model, e->d_name);
        n++;
    }
    closedir(d);
    assert_true(n > 0);
    checkpoint_close(&c);
}

#endif
