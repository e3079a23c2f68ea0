// Size rules against tests/golden/sampling, and the planner around them.
#include "support/test.h"

#include "base/json.h"
#include "vision/plan.h"

static json_t *load_cases(void)
{
    json_t *cases = NULL;
    assert_ok(json_parse_file(&cases, TEST_GOLDEN_DIR "/sampling/cases.json", 1 << 24,
                              SIGHT_E_ARGUMENT));
    return cases;
}

static int64_t integer(const json_t *row, const char *key)
{
    return json_integer_value(json_object_get(row, key));
}

static void check_size(const json_t *row, bool video)
{
    int32_t h = -1, w = -1, height = (int32_t)integer(row, "height");
    int32_t width = (int32_t)integer(row, "width");
    int64_t lo = integer(row, "min_pixels"), hi = integer(row, "max_pixels");
    if (!hi) lo = 4096, hi = 25165824; // refusals of video name no bounds
    sight_err err = video ? plan_video_size(&h, &w, (int32_t)integer(row, "frames"), height, width,
                                            2, 32, lo, hi)
                          : plan_image_size(&h, &w, height, width, 32, lo, hi);
    if (json_object_get(row, "error")) {
        assert_int_equal(err, SIGHT_E_MEDIA);
        assert_int_equal(h, -1);
        return;
    }
    assert_ok(err);
    const json_t *out = json_object_get(row, "out");
    assert_int_equal(h, json_integer_value(json_array_get(out, 0)));
    assert_int_equal(w, json_integer_value(json_array_get(out, 1)));
}

static void test_golden_sizes(void **state)
{
    json_t *cases = load_cases();
    size_t i;
    int n = 0;
    json_t *row;
    json_array_foreach(cases, i, row) {
        const char *kind = json_string_value(json_object_get(row, "kind"));
        if (!strcmp(kind, "sample")) continue;
        check_size(row, !strcmp(kind, "video"));
        n++;
    }
    assert_true(n > 50);
    json_decref(cases);
}

static void test_refusals(void **state)
{
    int32_t h = 7, w = 7;
    assert_fails(plan_image_size(&h, &w, 3000, 14, 32, 65536, 16777216), SIGHT_E_MEDIA, "200");
    assert_fails(plan_image_size(&h, &w, 0, 14, 32, 65536, 16777216), SIGHT_E_MEDIA, "no pixels");
    assert_fails(plan_image_size(&h, &w, 14, -1, 32, 65536, 16777216), SIGHT_E_MEDIA, "no pixels");
    assert_fails(plan_image_size(&h, &w, 14, 1 << 30, 32, 65536, 16777216), SIGHT_E_MEDIA, "over");
    assert_fails(plan_video_size(&h, &w, 1, 64, 64, 2, 32, 4096, 25165824), SIGHT_E_ARGUMENT,
                 "1 frames");
    assert_fails(plan_video_size(&h, &w, 8, 64, 64 * 201, 2, 32, 4096, 25165824), SIGHT_E_MEDIA,
                 "200");
    assert_fails(plan_image_size(&h, &w, 14, 14, 0, 65536, 16777216), SIGHT_E_ARGUMENT, "factor");
    assert_int_equal(h, 7);
    assert_int_equal(w, 7);
    // Exactly 200 is allowed.
    assert_ok(plan_image_size(&h, &w, 3200, 16, 32, 65536, 16777216));
    assert_ok(plan_image_size(&h, &w, 1, 1, 32, 65536, 16777216));
    assert_int_equal(h, 256);
    assert_int_equal(w, 256);
}

static const vision_config vision = {.patch = 16, .temporal_patch = 2, .merge = 2, .channels = 3};

static void test_plans(void **state)
{
    const image_config image = {.min_pixels = 65536, .max_pixels = 16777216};
    const video_config video = {.min_pixels = 4096, .max_pixels = 25165824};
    vision_plan p;
    assert_ok(plan_image(&p, 640, 480, &vision, &image));
    assert_int_equal(p.width, 640);
    assert_int_equal(p.height, 480);
    assert_int_equal(p.grid.t, 1);
    assert_int_equal(p.patches, 1200);
    assert_int_equal(p.tokens, 300);
    assert_ok(plan_video(&p, 640, 480, 7, &vision, &video));
    assert_int_equal(p.grid.t, 4);
    assert_int_equal(p.tokens, 1200);
    assert_ok(plan_video(&p, 640, 480, 1, &vision, &video)); // a lone frame is a pair
    assert_int_equal(p.grid.t, 1);
    assert_fails(plan_video(&p, 640, 480, 0, &vision, &video), SIGHT_E_MEDIA, "0 frames");
}

// Every plan keeps its promises: multiples of the factor, pixels within bounds where they can be.
static void test_random_sizes(void **state)
{
    test_random r = {42};
    for (int i = 0; i < 20000; i++) {
        int32_t height = (int32_t)test_random_range(&r, 1, 9000);
        int32_t width = (int32_t)test_random_range(&r, 1, 9000), h, w;
        sight_err err = plan_image_size(&h, &w, height, width, 32, 65536, 16777216);
        double ratio = height > width ? (double)height / width : (double)width / height;
        assert_int_equal(err, ratio > 200 ? SIGHT_E_MEDIA : SIGHT_OK);
        if (err) continue;
        assert_int_equal(h % 32 + w % 32, 0);
        assert_true(h >= 32 && w >= 32);
        assert_true((int64_t)h * w <= 16777216 && (int64_t)h * w >= 65536);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_sizes),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_plans),
        cmocka_unit_test(test_random_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
