// Media to patch rows, against the 8-bit values of every reference case.
#include "support/test.h"

#include <dirent.h>
#include <math.h>

#include "base/file.h"
#include "base/json.h"
#include "checkpoint/safetensors.h"
#include "decoder/image.h"
#include "decoder/resize.h"
#include "decoder/video.h"
#include "vision/plan.h"
#include "vision/preprocess.h"

static const char *const models[] = {"hybrid", "hybrid-deepstack", "hybrid-yarn", "qwen3vl"};

// The golden models share these sizes; bounds come from their processor files.
static const vision_config vision = {.patch = 16, .temporal_patch = 2, .merge = 2, .channels = 3};
static const double half[3] = {.5, .5, .5};

typedef struct tally {
    int64_t values, differ;
    int worst;
    int cases;
} tally;

static json_t *load(const char *format, const char *a, const char *b)
{
    char path[1024];
    snprintf(path, sizeof path, format, a, b);
    json_t *j = NULL;
    assert_ok(json_parse_file(&j, path, 1 << 26, SIGHT_E_ARGUMENT));
    return j;
}

static void load_bounds(const char *model, const char *file, int64_t *lo, int64_t *hi)
{
    json_t *j = load(TEST_GOLDEN_DIR "/%s/model/%s", model, file);
    const json_t *size = json_object_get(j, "size");
    *lo = json_integer_value(json_object_get(size, "shortest_edge"));
    *hi = json_integer_value(json_object_get(size, "longest_edge"));
    json_decref(j);
}

static const uint8_t *expected(safetensors **s, const char *path, const char *name, int64_t *n)
{
    assert_ok(safetensors_open(s, path));
    int64_t i = safetensors_find(*s, name);
    if (i < 0) return NULL;
    tensor_view v;
    assert_string_equal(safetensors_dtype(*s, (size_t)i), "U8");
    assert_true(safetensors_view(*s, &v, (size_t)i));
    *n = v.shape[0] * v.shape[1];
    return v.data;
}

static void compare(tally *t, const float *rows, const uint8_t *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        int got = (int)lrintf((rows[i] * .5f + .5f) * 255);
        int d = abs(got - want[i]);
        t->differ += d > 0;
        if (d > t->worst) t->worst = d;
    }
    t->values += n;
    t->cases++;
}

static frame *decode_picture(const char *path)
{
    char *bytes;
    size_t size;
    frame *f = NULL;
    assert_ok(file_read(&bytes, &size, path, 1 << 28));
    assert_ok(image_decode(&f, bytes, size, path, NULL));
    free(bytes);
    return f;
}

static float *picture_rows(const char *path, const image_config *bounds, int64_t *n)
{
    frame *f = decode_picture(path), *small = NULL;
    vision_plan p;
    assert_ok(plan_image(&p, f->width, f->height, &vision, bounds));
    assert_ok(resize_bicubic(&small, f, p.width, p.height));
    *n = p.patches * preprocess_row_size(&vision);
    float *rows = malloc((size_t)*n * sizeof *rows);
    preprocess_pair(rows, small, small, &p, &vision, half, half);
    frame_unref(&f);
    frame_unref(&small);
    return rows;
}

typedef struct collect {
    frame *frames[800];
} collect;

static sight_err keep(void *arg, int32_t i, frame *f)
{
    ((collect *)arg)->frames[i] = f;
    return SIGHT_OK;
}

static float *clip_rows(const char *path, const video_config *bounds, int64_t *count)
{
    video *v = NULL;
    assert_ok(video_open(&v, path, NULL, 0, NULL, NULL));
    const video_info *info = video_get_info(v);
    assert_false(info->variable_rate);
    video_choice choice = {.fps = 2, .min_frames = 4, .max_frames = 768};
    int64_t *indices;
    double *times;
    int32_t n;
    assert_ok(video_choose(v, &choice, &indices, &times, &n));
    vision_plan p;
    assert_ok(plan_video(&p, info->width, info->height, n, &vision, bounds));
    collect c = {0};
    char *warning = NULL;
    assert_ok(video_read(v, indices, n, p.width, p.height, keep, &c, &warning));
    assert_null(warning);
    int64_t pair = (int64_t)p.grid.h * p.grid.w * preprocess_row_size(&vision);
    *count = p.grid.t * pair;
    float *rows = malloc((size_t)*count * sizeof *rows);
    for (int32_t t = 0; t < p.grid.t; t++) {
        frame *a = c.frames[2 * t], *b = 2 * t + 1 < n ? c.frames[2 * t + 1] : a;
        preprocess_pair(rows + t * pair, a, b, &p, &vision, half, half);
    }
    for (int32_t i = 0; i < n; i++) frame_unref(&c.frames[i]);
    free(indices);
    free(times);
    video_close(&v);
    return rows;
}

static void run_case(tally *pictures, tally *clips, const char *model, const char *name)
{
    char folder[600], path[1024];
    snprintf(folder, sizeof folder, "%s/%s/cases/%s", TEST_GOLDEN_DIR, model, name);
    json_t *request = load("%s/%s", folder, "case.json");
    const json_t *media = json_object_get(request, "media");
    image_config image = {0};
    video_config clip_bounds = {0};
    load_bounds(model, "preprocessor_config.json", &image.min_pixels, &image.max_pixels);
    load_bounds(model, "video_preprocessor_config.json", &clip_bounds.min_pixels,
                &clip_bounds.max_pixels);
    int64_t at = 0, total = 0, total_clip = 0;
    safetensors *s = NULL, *s2 = NULL;
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    const uint8_t *want = expected(&s, path, "pixel_values_u8", &total);
    const uint8_t *want_clip = expected(&s2, path, "pixel_values_videos_u8", &total_clip);
    for (size_t i = 0; i < json_array_size(media); i++) {
        const char *file = json_string_value(json_array_get(media, i));
        snprintf(path, sizeof path, "%s/%s", folder, file);
        bool clip = strstr(file, ".mkv") != NULL;
        int64_t n;
        float *rows = clip ? clip_rows(path, &clip_bounds, &n) : picture_rows(path, &image, &n);
        assert_true(at + n <= (clip ? total_clip : total));
        compare(clip ? clips : pictures, rows, (clip ? want_clip : want) + at, n);
        at += n;
        free(rows);
    }
    assert_int_equal(at, total + total_clip);
    safetensors_close(&s);
    safetensors_close(&s2);
    json_decref(request);
}

static void test_golden(void **state)
{
    tally pictures = {0}, clips = {0};
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s/cases", TEST_GOLDEN_DIR, models[m]);
        DIR *d = opendir(path);
        assert_non_null(d);
        for (struct dirent *e; (e = readdir(d));) {
            if (e->d_name[0] != '.') run_case(&pictures, &clips, models[m], e->d_name);
        }
        closedir(d);
    }
    print_message("pictures: %lld of %lld differ, at most by %d\nclips: %lld of %lld, %d\n",
                  (long long)pictures.differ, (long long)pictures.values, pictures.worst,
                  (long long)clips.differ, (long long)clips.values, clips.worst);
    assert_true(pictures.cases >= 8 && clips.cases >= 4);
    assert_true(pictures.worst <= 1 && clips.worst <= 1);
    assert_true(pictures.differ * 100 <= pictures.values);
    assert_true(clips.differ * 100 <= clips.values);
}

static void test_row_order(void **state)
{
    vision_plan p = {.width = 64, .height = 64, .grid = {1, 4, 4}, .patches = 16, .tokens = 4};
    frame *a = NULL, *b = NULL;
    assert_ok(frame_create(&a, 64, 64));
    assert_ok(frame_create(&b, 64, 64));
    for (int y = 0; y < 64; y++) {
        for (int x = 0; x < 64; x++) {
            uint8_t *pa = a->rgb + 3 * (y * 64 + x), *pb = b->rgb + 3 * (y * 64 + x);
            pa[0] = (uint8_t)(x + 64 * (y % 4)), pa[1] = (uint8_t)y, pa[2] = 3;
            pb[0] = (uint8_t)(255 - pa[0]), pb[1] = (uint8_t)(255 - y), pb[2] = 9;
        }
    }
    const double mean[3] = {.1, .2, .3}, std[3] = {.5, .25, .125};
    float *rows = malloc(16 * 1536 * sizeof *rows);
    preprocess_pair(rows, a, b, &p, &vision, mean, std);
    static const int px[16] = {0, 1, 0, 1, 2, 3, 2, 3, 0, 1, 0, 1, 2, 3, 2, 3};
    static const int py[16] = {0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3};
    for (int i = 0; i < 16 * 1536; i++) {
        int k = i / 1536, c = i % 1536 / 512, t = i % 512 / 256, y = i % 256 / 16, x = i % 16;
        const frame *f = t ? b : a;
        int u8 = f->rgb[3 * ((py[k] * 16 + y) * 64 + px[k] * 16 + x) + c];
        double want = (u8 / 255.0 - mean[c]) / std[c];
        if (fabs(rows[i] - want) > 1e-5 * (1 + fabs(want))) fail_msg("row value %d", i);
    }
    free(rows);
    frame_unref(&a);
    frame_unref(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_row_order),
        cmocka_unit_test(test_golden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
