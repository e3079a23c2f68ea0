// The constant-rate rule against tests/golden/sampling.
#include "support/test.h"

#include "base/json.h"
#include "decoder/video.h"

static void check_timestamps(const json_t *want, const int64_t *indices, int32_t n, double fps)
{
    for (size_t i = 0; i < json_array_size(want); i++) {
        int32_t a = (int32_t)(2 * i), b = a + 1 < n ? a + 1 : n - 1;
        char text[32];
        snprintf(text, sizeof text, "%.1f",
                 ((double)indices[a] / fps + (double)indices[b] / fps) / 2);
        assert_string_equal(text, json_string_value(json_array_get(want, i)));
    }
}

static void test_golden(void **state)
{
    json_t *cases = NULL, *row;
    assert_ok(json_parse_file(&cases, TEST_GOLDEN_DIR "/sampling/cases.json", 1 << 24,
                              SIGHT_E_ARGUMENT));
    size_t i;
    int done = 0;
    json_array_foreach(cases, i, row) {
        if (strcmp(json_string_value(json_object_get(row, "kind")), "sample")) continue;
        int64_t total = json_integer_value(json_object_get(row, "total_frames")), indices[768];
        double fps = json_number_value(json_object_get(row, "video_fps"));
        video_choice choice = {.fps = json_number_value(json_object_get(row, "target_fps")),
                               .min_frames = 4, .max_frames = 768};
        int32_t n = video_sample_indices(indices, 768, total, fps, &choice);
        assert_int_equal(n, json_integer_value(json_object_get(row, "count")));
        const json_t *want = json_object_get(row, "indices");
        for (size_t k = 0; k < json_array_size(want); k++) {
            assert_int_equal(indices[k], json_integer_value(json_array_get(want, k)));
        }
        check_timestamps(json_object_get(row, "timestamps"), indices, n, fps);
        done++;
    }
    assert_true(done >= 40);
    json_decref(cases);
}

static void test_bounds(void **state)
{
    int64_t indices[4] = {-1, -1, -1, -1};
    video_choice choice = {.fps = 2, .min_frames = 4, .max_frames = 768};
    assert_int_equal(video_sample_indices(indices, 2, 1000, 30, &choice), 66); // writes only two
    assert_int_equal(indices[2], -1);
    assert_int_equal(video_sample_indices(indices, 4, 0, 30, &choice), 0);
    assert_int_equal(video_sample_indices(indices, 4, 2, 30, &choice), 2);
    choice.fps = 1e300;
    assert_int_equal(video_sample_indices(indices, 4, 1LL << 40, 1e-300, &choice), 768);
    choice = (video_choice){.n_frames = 1};
    assert_int_equal(video_sample_indices(indices, 4, 100, 30, &choice), 1);
    assert_int_equal(indices[0], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
