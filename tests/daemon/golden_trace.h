// tests/daemon/golden_trace.h - a model's golden cases traced, and compared number by number, by the limits of
// compare_trace.py.
//
// Included by tests only; everything fails the test instead of returning an error.
#ifndef TESTS_DAEMON_GOLDEN_TRACE_H
#define TESTS_DAEMON_GOLDEN_TRACE_H

#include "support/test.h"

#include <dirent.h>
#include <math.h>

#include "base/file.h"
#include "base/json.h"
#include "checkpoint/safetensors.h"
#include "daemon/engine.h"
#include "daemon/trace.h"

typedef struct comparison {
    safetensors *wanted, *got;
    json_t *golden; // case.json
    bool jpeg, media;
    const char *name;
} comparison;

static inline bool view_of(const safetensors *s, const char *name, tensor_view *v)
{
    const int64_t i = safetensors_find(s, name);
    return i >= 0 && safetensors_view(s, v, (size_t)i);
}

static inline tensor_view need(const comparison *c, const safetensors *s, const char *name)
{
    tensor_view v;
    if (!view_of(s, name, &v)) fail_msg("%s: no '%s'", c->name, name);
    return v;
}

static inline void equal(const comparison *c, const char *name)
{
    const tensor_view a = need(c, c->got, name), b = need(c, c->wanted, name);
    if (tensor_count(&a) != tensor_count(&b)) fail_msg("%s: %s has another size", c->name, name);
    for (int64_t i = 0; i < tensor_count(&b); i++) {
        const int32_t x = ((const int32_t *)a.data)[i], y = ((const int32_t *)b.data)[i];
        if (x != y) fail_msg("%s: %s[%lld] is %d, not %d", c->name, name, (long long)i, x, y);
    }
}

// The largest difference, over the largest wanted value. rows: which rows of a stand for b's.
static inline void close_to(const comparison *c, const char *name, const int32_t *rows, double limit)
{
    const tensor_view a = need(c, c->got, name), b = need(c, c->wanted, name);
    const int64_t width = b.shape[b.n_dims - 1], n = tensor_count(&b) / width;
    if (a.shape[a.n_dims - 1] != width) fail_msg("%s: %s has another width", c->name, name);
    double worst = 0, largest = 1e-9;
    for (int64_t r = 0; r < n; r++) {
        for (int64_t i = 0; i < width; i++) {
            const double y = tensor_get_f32(&b, r * width + i);
            const double x = tensor_get_f32(&a, (rows ? rows[r] : r) * width + i);
            if (!(fabs(x - y) <= worst)) worst = fabs(x - y);
            if (fabs(y) > largest) largest = fabs(y);
        }
    }
    if (!(worst / largest <= limit)) {
        fail_msg("%s: %s is off by %.2e, the limit is %.0e", c->name, name, worst / largest, limit);
    }
}

static inline void same_pixels(const comparison *c, const char *name, const char *wanted)
{
    const tensor_view a = need(c, c->got, name), b = need(c, c->wanted, wanted);
    assert_int_equal(tensor_count(&a), tensor_count(&b));
    int64_t off = 0;
    for (int64_t i = 0; i < tensor_count(&b); i++) {
        const int u = (int)lrint((tensor_get_f32(&a, i) * 0.5 + 0.5) * 255);
        const int d = abs(u - ((const uint8_t *)b.data)[i]);
        if (d > (c->jpeg ? 3 : 1)) fail_msg("%s: a pixel is off by %d", c->name, d);
        off += d > 0;
    }
    assert_true(off * 20 < tensor_count(&b));
}

static inline void compare_media(const comparison *c)
{
    const double limit = c->jpeg ? 3e-2 : 1e-2;
    for (size_t i = 0; i < safetensors_count(c->wanted); i++) {
        const char *name = safetensors_name(c->wanted, i);
        if (strstr(name, "grid_thw")) equal(c, name);
        if (strstr(name, "_features") || strstr(name, "_deepstack_"))
            close_to(c, name, NULL, limit);
        if (!strcmp(name, "pixel_values_u8")) same_pixels(c, "pixel_values", name);
        if (!strcmp(name, "pixel_values_videos_u8")) same_pixels(c, "pixel_values_videos", name);
    }
}

static inline void compare_output(const comparison *c)
{
    const tensor_view out = need(c, c->got, "output_ids");
    const json_t *ids = json_object_get(c->golden, "greedy_ids");
    const double margin = json_number_value(json_object_get(c->golden, "min_top2_margin"));
    const size_t n = json_array_size(ids);
    size_t same = 0;
    assert_true(tensor_count(&out) >= (int64_t)n);
    while (same < n &&
           ((const int32_t *)out.data)[same] == json_integer_value(json_array_get(ids, same))) {
        same++;
    }
    if (same < n && !(margin < 0.05 && same >= n / 2)) {
        fail_msg("%s: token %zu differs (margin %g)", c->name, same, margin);
    }
}

static inline void compare(const comparison *c)
{
    equal(c, "input_ids");
    equal(c, "position_ids");
    compare_media(c);
    const tensor_view rows = need(c, c->wanted, "logit_positions");
    const double limit = c->media ? 3e-2 : 2e-3;
    tensor_view v;
    close_to(c, "logits", rows.data, limit);
    if (view_of(c->wanted, "mtp_logits", &v)) close_to(c, "mtp_logits", rows.data, limit);
    compare_output(c);
}

static inline void trace_case(engine *e, const char *folder)
{
    char path[600], out[600];
    comparison c = {.name = folder};
    snprintf(path, sizeof path, "%s/case.json", folder);
    snprintf(out, sizeof out, "%s/trace.safetensors", test_folder());
    char *json;
    size_t size;
    assert_ok(file_read(&json, &size, path, 1 << 24));
    assert_ok(json_parse(&c.golden, json, size, size, path, SIGHT_E_ARGUMENT));
    const request_source source = {.json = json, .size = size, .base_dir = folder};
    const request_limits limits = request_limits_default();
    assert_ok(trace_run(e, &source, &limits, out));
    const json_t *media = json_object_get(c.golden, "media");
    c.media = json_array_size(media) > 0;
    c.jpeg = c.media && strstr(json_string_value(json_array_get(media, 0)), ".jp");
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    assert_ok(safetensors_open(&c.wanted, path));
    assert_ok(safetensors_open(&c.got, out));
    compare(&c);
    safetensors_close(&c.wanted);
    safetensors_close(&c.got);
    json_decref(c.golden);
    free(json);
}

// Every case of the model but the one of that name (NULL: all), with an engine opened by these options.
static inline void trace_model(const char *model, engine_options options, const char *but)
{
    char path[512];
    snprintf(path, sizeof path, TEST_GOLDEN_DIR "/%s/model", model);
    options.model = path;
    engine *e;
    assert_ok(engine_open(&e, &options));
    snprintf(path, sizeof path, TEST_GOLDEN_DIR "/%s/cases", model);
    DIR *d = opendir(path);
    assert_non_null(d);
    int n = 0;
    for (struct dirent *entry; (entry = readdir(d));) {
        if (entry->d_name[0] == '.' || (but && !strcmp(entry->d_name, but))) continue;
        char folder[800];
        snprintf(folder, sizeof folder, "%s/%s", path, entry->d_name);
        trace_case(e, folder);
        n++;
    }
    closedir(d);
    assert_true(n > 0);
    assert_int_equal(cache_bytes_used(engine_pool(e)), 0); // nothing is left of a trace
    engine_close(&e);
}

#endif
