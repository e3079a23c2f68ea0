// Clips that are cut off, damaged, no clips or too much, and reading that is stopped: a sentence, and no more frames than there are.
#include "collect.h"

#include <sys/stat.h>

#include "base/file.h"

static char *read_clip(size_t *size, const char *name, const char *arguments)
{
    char *path = clips_make(folder, 130, 98, N_FRAMES, "30", arguments, name), *bytes;
    assert_non_null(path);
    assert_ok(file_read(&bytes, size, path, 1 << 28));
    free(path);
    return bytes;
}

static void test_cut_off(void **state)
{
    static const char *const kept[][2] = {
        {"cut.mp4", "-c:v libx264 -g 24 -pix_fmt yuv420p -movflags faststart"},
        {"cut.mkv", "-c:v libx264 -g 24 -pix_fmt yuv420p"},
        {"cut.ts", "-c:v libx264 -g 24 -pix_fmt yuv420p"},
        {"cut.avi", "-c:v mpeg4 -g 24"},
    };
    for (int k = 0; k < 4; k++) {
        size_t size;
        char *bytes = read_clip(&size, kept[k][0], kept[k][1]);
        video *v = NULL;
        print_message("%s\n", kept[k][0]);
        assert_ok(video_open(&v, kept[k][0], bytes, size * 6 / 10, NULL, NULL));
        int64_t n = video_get_info(v)->n_frames;
        assert_true(n > 20 && n < 110);
        char *known = NULL; // before anything is decoded
        assert_ok(video_losses(v, &known));
        if (k == 0) assert_non_null(strstr(known, "cut off"));
        free(known);
        int64_t all[N_FRAMES];
        for (int i = 0; i < n; i++) all[i] = i;
        collect c = {0};
        char *warning = NULL;
        assert_ok(video_read(v, all, (int32_t)n, 0, 0, keep, &c, &warning));
        // The very last one may be half a packet.
        for (int i = 0; i + 4 < n; i++) assert_int_equal(clips_number(c.frames[i]), i);
        if (k == 0) {
            assert_non_null(warning);
            assert_non_null(strstr(warning, "cut off"));
        }
        print_message("  %s\n", warning ? warning : "no warning");
        free(warning);
        collect_done(&c);
        video_close(&v);
        free(bytes);
    }
    size_t size;
    char *bytes = read_clip(&size, "tail.mp4", "-c:v libx264 -pix_fmt yuv420p");
    video *v = NULL;
    assert_fails(video_open(&v, "tail.mp4", bytes, size * 6 / 10, NULL, NULL), SIGHT_E_MEDIA,
                 "moov");
    free(bytes);
}

// Damage in the middle: still an answer, most frames right, none of them from the future.
static void test_damage(void **state)
{
    static const char *const kinds_[][2] = {
        {"bad.mp4", "-c:v libx264 -g 24 -bf 2 -pix_fmt yuv420p -movflags faststart"},
        {"bad.mkv", "-c:v libx264 -g 24 -pix_fmt yuv420p"},
        {"bad.ts", "-c:v libx264 -g 24 -pix_fmt yuv420p"},
        {"bad.avi", "-c:v mjpeg"},
        {"bad.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 24"},
    };
    for (int k = 0; k < 5; k++) {
        size_t size;
        char *bytes = read_clip(&size, kinds_[k][0], kinds_[k][1]);
        test_random r = {(uint64_t)k + 1};
        size_t begin = size * 5 / 10, end = size * 6 / 10;
        for (size_t i = begin; i < end; i++) bytes[i] = (char)test_random_bits(&r);
        video *v = NULL;
        print_message("%s\n", kinds_[k][0]);
        assert_ok(video_open(&v, kinds_[k][0], bytes, size, NULL, NULL));
        int64_t n = video_get_info(v)->n_frames, all[N_FRAMES];
        assert_true(n > 50 && n <= N_FRAMES);
        for (int i = 0; i < n; i++) all[i] = i;
        collect c = {0};
        char *warning = NULL;
        assert_ok(video_read(v, all, (int32_t)n, 0, 0, keep, &c, &warning));
        assert_int_equal(c.n, n);
        int right = 0;
        for (int i = 0; i < n; i++) {
            int number = (int)(c.frames[i]->time_s * 30 + 0.5);
            right += clips_number(c.frames[i]) == number;
        }
        print_message("  %d of %d right; %s\n", right, (int)n, warning ? warning : "no warning");
        assert_true(right >= 45);
        assert_true(right >= n - 2 || warning); // a codec may conceal a frame unnoticed
        free(warning);
        collect_done(&c);
        int64_t few[] = {n / 2, n - 1}; // jumps into and over the damage
        assert_ok(video_read(v, few, 2, 0, 0, keep, &c, &warning));
        free(warning);
        collect_done(&c);
        video_close(&v);
        free(bytes);
    }
}

static void test_sink_stops(void **state)
{
    char *path = clips_make(folder, 130, 98, 30, "30", "-c:v mpeg4", "stop.mp4");
    video *v = NULL;
    assert_ok(video_open(&v, path, NULL, 0, NULL, NULL));
    int64_t all[] = {1, 2, 3, 4};
    collect c = {.stop_after = 2};
    assert_fails(video_read(v, all, 4, 32, 32, keep, &c, NULL), SIGHT_E_CANCELLED, "enough");
    assert_int_equal(c.n, 2);
    collect_done(&c);
    const int64_t bad[] = {3, 2};
    assert_int_equal(video_read(v, bad, 2, 32, 32, keep, &c, NULL), SIGHT_E_ARGUMENT);
    const int64_t past[] = {30};
    assert_int_equal(video_read(v, past, 1, 32, 32, keep, &c, NULL), SIGHT_E_ARGUMENT);
    video_close(&v);
    free(path);
}

static bool count_down(void *arg)
{
    return --*(int *)arg < 0;
}

static void test_stop(void **state)
{
    char *path = clips_make(folder, 130, 98, N_FRAMES, "30", "-c:v mpeg4", "stop.mkv");
    int left = 0;
    video_limits limits = {.stop = count_down, .stop_arg = &left};
    video *v = NULL;
    assert_fails(video_open(&v, path, NULL, 0, NULL, &limits), SIGHT_E_CANCELLED, "stop.mkv");
    assert_null(v);
    left = 1000;
    assert_ok(video_open(&v, path, NULL, 0, NULL, &limits));
    left = 2;
    const int64_t asked[] = {100};
    collect c = {0};
    assert_fails(video_read(v, asked, 1, 32, 32, keep, &c, NULL), SIGHT_E_CANCELLED, "stopped");
    assert_int_equal(c.n, 0);
    video_close(&v);
    free(path);
}

static void test_not_videos(void **state)
{
    video *v = NULL;
    char *text = test_write(folder, "text.mp4", "Dear diary,\nno video here.\n", 27);
    char *empty = test_write(folder, "empty.mp4", "", 0);
    char *list = test_write(folder, "list.mp4", "ffconcat version 1.0\nfile a.mp4\n", 32);
    static const char m3u[] = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n";
    char *playlist = test_write(folder, "list.m3u8", m3u, sizeof m3u - 1);
    assert_fails(video_open(&v, "/nowhere/a.mp4", NULL, 0, NULL, NULL), SIGHT_E_NOT_FOUND,
                 "/nowhere");
    assert_fails(video_open(&v, folder, NULL, 0, NULL, NULL), SIGHT_E_IO, "a folder");
    assert_fails(video_open(&v, text, NULL, 0, NULL, NULL), SIGHT_E_MEDIA, "not a video");
    assert_fails(video_open(&v, empty, NULL, 0, NULL, NULL), SIGHT_E_MEDIA, "empty");
    assert_fails(video_open(&v, list, NULL, 0, NULL, NULL), SIGHT_E_UNSUPPORTED, "other files");
    assert_fails(video_open(&v, playlist, NULL, 0, NULL, NULL), SIGHT_E_UNSUPPORTED,
                 "other files");
    assert_fails(video_open(&v, "x", "", 0, NULL, NULL), SIGHT_E_MEDIA, "empty");
    chmod(text, 0);
    if (geteuid() != 0) {
        assert_fails(video_open(&v, text, NULL, 0, NULL, NULL), SIGHT_E_PERMISSION, "text.mp4");
    }
    char command[1024], path[512];
    snprintf(path, sizeof path, "%s/audio.mp4", folder);
    snprintf(command, sizeof command,
             "ffmpeg -nostdin -y -loglevel error -f lavfi -i sine=d=1 -c:a aac '%s'", path);
    assert_int_equal(system(command), 0);
    assert_fails(video_open(&v, path, NULL, 0, NULL, NULL), SIGHT_E_MEDIA, "no picture track");
    snprintf(path, sizeof path, "%s/cover.mp3", folder);
    snprintf(command, sizeof command,
             "ffmpeg -nostdin -y -loglevel error -f lavfi -i sine=d=1 -f lavfi -i "
             "color=s=64x64:d=0.04 -map 0 -map 1 -c:v png -disposition:v attached_pic '%s'", path);
    if (system(command) == 0) {
        assert_fails(video_open(&v, path, NULL, 0, NULL, NULL), SIGHT_E_MEDIA, "no picture track");
    }
    snprintf(path, sizeof path, "%s/still.png", folder);
    snprintf(command, sizeof command,
             "ffmpeg -nostdin -y -loglevel error -f lavfi -i color=s=64x64:d=0.04 '%s'", path);
    assert_int_equal(system(command), 0);
    assert_fails(video_open(&v, path, NULL, 0, NULL, NULL), SIGHT_E_MEDIA, "is a picture");
    assert_null(v);
    free(text);
    free(empty);
    free(list);
    free(playlist);
}

static void test_limits(void **state)
{
    char *path = clips_make(folder, 130, 98, 60, "30", "-c:v mpeg4", "limits.mp4");
    video *v = NULL;
    video_limits limits = {.max_pixels = 10000};
    assert_fails(video_open(&v, path, NULL, 0, NULL, &limits), SIGHT_E_LIMIT, "130 x 98");
    limits = (video_limits){.max_seconds = 1};
    assert_fails(video_open(&v, path, NULL, 0, NULL, &limits), SIGHT_E_LIMIT, "2.0 s");
    video_range range = {0.5, 1};
    assert_ok(video_open(&v, path, NULL, 0, &range, &limits)); // a second is allowed
    video_close(&v);
    limits = (video_limits){.max_bytes = 100};
    assert_fails(video_open(&v, "x", limits.max_bytes ? "abc" : "", 1000, NULL, &limits),
                 SIGHT_E_LIMIT, "1000 bytes");
    free(path);
}

int main(void)
{
    if (!clips_possible()) {
        printf("skipped: no ffmpeg program to make clips with\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_off),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_sink_stops),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_not_videos),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, prepare, NULL);
}
