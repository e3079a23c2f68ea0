// Clips of many codecs, made at test time: exactly the asked frames must arrive.
#include "collect.h"

#include <dlfcn.h>
#include <math.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/file.h"

// Everything one by one, then a few with long gaps: both give the numbered frames, and the same
// bytes.
static void check_all(video *v, int n_frames)
{
    int64_t all[N_FRAMES];
    for (int i = 0; i < n_frames; i++) all[i] = i;
    collect whole = {0}, few = {0};
    char *warning = NULL;
    assert_ok(video_read(v, all, n_frames, 0, 0, keep, &whole, &warning));
    if (warning) fail_msg("%s", warning);
    for (int i = 0; i < n_frames; i++) {
        if (clips_number(whole.frames[i]) != i) {
            fail_msg("frame %d shows %d", i, clips_number(whole.frames[i]));
        }
    }
    int64_t some[] = {2, 3, 3, 49, 50, 77, n_frames - 2, n_frames - 1};
    assert_ok(video_read(v, some, 8, 0, 0, keep, &few, &warning));
    if (warning) fail_msg("%s", warning);
    for (int i = 0; i < 8; i++) {
        const frame *a = few.frames[i], *b = whole.frames[some[i]];
        assert_int_equal(clips_number(a), some[i]);
        assert_memory_equal(a->rgb, b->rgb, (size_t)a->width * (size_t)a->height * 3);
    }
    collect_done(&few);
    collect_done(&whole);
}

typedef struct kind {
    const char *file, *arguments, *codec;
    int width, height;
} kind;

static const kind kinds[] = {
    {"a.mp4", "-c:v libx264 -preset fast -g 24 -bf 3 -pix_fmt yuv420p", "h264", 130, 98},
    {"open.mkv", "-c:v libx264 -x264-params keyint=24:open-gop=1:bframes=3 -pix_fmt yuv420p",
     "h264", 130, 98},
    {"odd.mp4", "-c:v libx264 -g 30 -pix_fmt yuv444p", "h264", 131, 99},
    {"ten.mkv", "-c:v libx264 -g 30 -pix_fmt yuv420p10le", "h264", 130, 98},
    {"a.ts", "-c:v libx264 -g 24 -bf 2 -pix_fmt yuv420p", "h264", 130, 98},
    {"laced.mkv", "-c:v libx264 -g 24 -flags +ildct+ilme -pix_fmt yuv420p", "h264", 132, 96},
    {"frag.mp4", "-c:v libx264 -g 24 -pix_fmt yuv420p -movflags frag_keyframe+empty_moov", "h264",
     130, 98},
    {"hevc.mp4", "-c:v libx265 -preset fast -x265-params log-level=none:keyint=24 -tag:v hvc1",
     "hevc", 130, 98},
    {"vp9.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 40 -pix_fmt yuv420p", "vp9",
     131, 99},
    {"vp8.webm", "-c:v libvpx -deadline good -cpu-used 4 -auto-alt-ref 1 -lag-in-frames 12 -g 40 "
                 "-b:v 2M", "vp8", 131, 99},
    {"av1.mkv", "-c:v libaom-av1 -usage realtime -cpu-used 8 -g 40 -pix_fmt yuv420p", "av1", 130,
     98},
    {"a.avi", "-c:v mjpeg -q:v 3 -pix_fmt yuvj444p", "mjpeg", 131, 99},
    {"a.gif", "", "gif", 131, 99},
    {"mpeg4.avi", "-c:v mpeg4 -q:v 3 -bf 2 -g 24", "mpeg4", 130, 98},
    {"mpeg4.mp4", "-c:v mpeg4 -q:v 3 -bf 2 -g 24", "mpeg4", 130, 98},
    {"mpeg2.mpg", "-c:v mpeg2video -q:v 3 -bf 2 -g 15", "mpeg2video", 130, 98},
    {"ffv1.mkv", "-c:v ffv1 -g 10 -pix_fmt bgr0", "ffv1", 131, 99},
    {"prores.mov", "-c:v prores -pix_fmt yuv422p10le", "prores", 130, 98},
    {"theora.ogv", "-c:v libtheora -q:v 8 -g 32", "theora", 131, 99},
    {"png.mov", "-c:v png -pix_fmt rgba", "png", 131, 99},
    {"a.flv", "-c:v flv1 -q:v 3 -g 30", "flv1", 130, 98},
    {"a.wmv", "-c:v wmv2 -q:v 3 -g 30", "wmv2", 130, 98},
    {"huff.nut", "-c:v huffyuv -pix_fmt yuv422p", "huffyuv", 130, 98},
};

static void test_codecs(void **state)
{
    int made = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const kind *k = &kinds[i];
        const char *rate = strstr(k->file, ".gif") ? "25" : "30";
        char *path = clips_make(folder, k->width, k->height, N_FRAMES, rate, k->arguments, k->file);
        if (!path) continue;
        made++;
        print_message("%s\n", k->file);
        video *v = NULL;
        video_limits limits = {.threads = 1 + (int)(i % 2)};
        assert_ok(video_open(&v, path, NULL, 0, NULL, &limits));
        const video_info *info = video_get_info(v);
        assert_string_equal(info->codec, k->codec);
        assert_int_equal(info->width, k->width);
        assert_int_equal(info->height, k->height);
        assert_int_equal(info->n_frames, N_FRAMES);
        assert_false(info->variable_rate);
        assert_true(fabs(info->fps - atoi(rate)) < 1e-9);
        assert_true(fabs(info->duration_s - N_FRAMES / info->fps) < 1e-9);
        check_all(v, N_FRAMES);
        video_close(&v);
        assert_null(v);
        free(path);
    }
    assert_true(made >= 12);
}

// No times in the stream at all.
static void test_raw_streams(void **state)
{
    static const kind raw[] = {
        {"raw.h264", "-c:v libx264 -g 24 -bf 2 -pix_fmt yuv420p", "h264", 130, 98},
        {"raw.h265", "-c:v libx265 -x265-params log-level=none:keyint=24", "hevc", 130, 98},
        {"raw.m2v", "-c:v mpeg2video -q:v 3 -bf 2", "mpeg2video", 130, 98},
        {"h264.avi", "-c:v libx264 -g 24 -bf 2 -pix_fmt yuv420p", "h264", 130, 98},
        {"pipe.ivf", "-c:v libvpx -b:v 2M -auto-alt-ref 0", "vp8", 130, 98},
    };
    for (size_t i = 0; i < sizeof raw / sizeof *raw; i++) {
        char *path = clips_make(folder, 130, 98, N_FRAMES, "25", raw[i].arguments, raw[i].file);
        if (!path) continue;
        print_message("%s\n", raw[i].file);
        video *v = NULL;
        assert_ok(video_open(&v, path, NULL, 0, NULL, NULL));
        assert_int_equal(video_get_info(v)->n_frames, N_FRAMES);
        assert_true(fabs(video_get_info(v)->fps - 25) < 1e-9);
        check_all(v, N_FRAMES);
        video_close(&v);
        free(path);
    }
}

// A header without duration, as a pipe leaves it; and the same bytes from memory.
static void test_unfinished_header_and_memory(void **state)
{
    char *path = clips_make(folder, 130, 98, N_FRAMES, "30000/1001",
                            "-c:v libx264 -g 24 -pix_fmt yuv420p -f matroska - | cat >",
                            "pipe.mkv");
    assert_non_null(path);
    char *bytes;
    size_t size;
    assert_ok(file_read(&bytes, &size, path, 1 << 28));
    video *v = NULL;
    assert_ok(video_open(&v, "clip", bytes, size, NULL, NULL));
    assert_int_equal(video_get_info(v)->n_frames, N_FRAMES);
    assert_true(video_get_info(v)->fps == 30000.0 / 1001);
    check_all(v, N_FRAMES);
    video_close(&v);
    free(bytes);
    free(path);
}

static void test_choice_is_the_reference_s(void **state)
{
    char *path = clips_make(folder, 130, 98, N_FRAMES, "30", "-c:v mpeg4 -q:v 3", "choice.mp4");
    video *v = NULL;
    assert_ok(video_open(&v, path, NULL, 0, NULL, NULL));
    video_choice choice = {.fps = 2, .min_frames = 4, .max_frames = 768};
    int64_t *indices, want[16];
    double *times;
    int32_t n;
    assert_ok(video_choose(v, &choice, &indices, &times, &n));
    assert_int_equal(n, 8);
    assert_int_equal(video_sample_indices(want, 16, N_FRAMES, 30, &choice), 8);
    assert_memory_equal(indices, want, 8 * sizeof *want);
    for (int i = 0; i < n; i++) assert_true(times[i] == (double)indices[i] / 30);
    free(indices);
    free(times);
    choice.n_frames = 3;
    assert_ok(video_choose(v, &choice, &indices, &times, &n));
    assert_int_equal(n, 3);
    assert_int_equal(indices[1], 60);
    free(indices);
    free(times);
    const video_choice bad[] = {{.fps = 0, .max_frames = 8},
                                {.fps = -1, .max_frames = 8},
                                {.fps = NAN, .max_frames = 8},
                                {.fps = INFINITY, .max_frames = 8},
                                {.fps = 1, .min_frames = 9, .max_frames = 8},
                                {.n_frames = -1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(video_choose(v, &bad[i], &indices, &times, &n), SIGHT_E_ARGUMENT);
    }
    video_close(&v);
    free(path);
}

static void test_range(void **state)
{
    char *path = clips_make(folder, 130, 98, N_FRAMES, "30", "-c:v libx264 -g 24 -pix_fmt yuv420p",
                            "range.mp4");
    video *v = NULL;
    video_range range = {1.0, 2.5};
    assert_ok(video_open(&v, path, NULL, 0, &range, NULL));
    assert_int_equal(video_get_info(v)->n_frames, 45);
    assert_true(video_get_info(v)->start_s == 1.0);
    video_choice choice = {.n_frames = 4};
    int64_t *indices;
    double *times;
    int32_t n;
    assert_ok(video_choose(v, &choice, &indices, &times, &n));
    collect c = {0};
    assert_ok(video_read(v, indices, n, 64, 64, keep, &c, NULL));
    assert_int_equal(c.n, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(clips_number(c.frames[i]), indices[i]);
        assert_true(indices[i] >= 30 && indices[i] < 75);
        assert_true(c.frames[i]->time_s == times[i]);
        assert_int_equal(c.frames[i]->width, 64);
    }
    assert_int_equal(indices[0], 30);
    assert_int_equal(indices[3], 74);
    collect_done(&c);
    free(indices);
    free(times);
    video_close(&v);
    const video_range bad[] = {{-1, 0}, {NAN, 0}, {0, NAN}, {2, 1},
                               {2, 2},  {4.5, 0},  {INFINITY, 0}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(video_open(&v, path, NULL, 0, &bad[i], NULL), SIGHT_E_ARGUMENT);
        assert_null(v);
    }
    free(path);
}

static void test_variable_rate(void **state)
{
    static const char *const files[] = {"vfr.mkv", "vfr.mp4"};
    for (int k = 0; k < 2; k++) {
        // 30 frames at 30 per second, then 90 at 7.5.
        char *path = clips_make(folder, 130, 98, N_FRAMES, "30",
                                "-vf \"setpts='if(lt(N,30),N,30+(N-30)*4)/30/TB'\" -vsync vfr "
                                "-c:v libx264 -g 24 -bf 2 -pix_fmt yuv420p", files[k]);
        assert_non_null(path);
        video *v = NULL;
        assert_ok(video_open(&v, path, NULL, 0, NULL, NULL));
        const video_info *info = video_get_info(v);
        assert_int_equal(info->n_frames, N_FRAMES);
        assert_true(info->variable_rate);
        assert_true(fabs(info->duration_s - 13) < 0.2);
        video_choice choice = {.fps = 2, .min_frames = 4, .max_frames = 768};
        int64_t *indices;
        double *times;
        int32_t n;
        assert_ok(video_choose(v, &choice, &indices, &times, &n));
        assert_true(n == 25 || n == 26);
        collect c = {0};
        char *warning = NULL;
        assert_ok(video_read(v, indices, n, 0, 0, keep, &c, &warning));
        assert_null(warning);
        double last = 1 + 89 * 4 / 30.0;
        for (int i = 0; i < n; i++) {
            double asked = last * i / (n - 1);
            double shown = indices[i] < 30 ? (double)indices[i] / 30
                                           : 1 + (double)(indices[i] - 30) * 4 / 30;
            assert_int_equal(clips_number(c.frames[i]), indices[i]);
            assert_true(fabs(times[i] - shown) < 0.002);
            assert_true(shown <= asked + 0.002 && asked - shown < 4 / 30.0 + 0.002);
        }
        collect_done(&c);
        check_all(v, N_FRAMES);
        free(indices);
        free(times);
        video_close(&v);
        free(path);
    }
}

static void test_rotation(void **state)
{
    static const char *const turns[] = {"90", "180", "270"};
    char *plain = clips_make(folder, 130, 98, 8, "30", "-c:v mpeg4 -q:v 2", "turn.mp4");
    char command[1024], path[512];
    for (int k = 0; k < 3; k++) {
        snprintf(path, sizeof path, "%s/turned.mp4", folder);
        snprintf(command, sizeof command,
                 "ffmpeg -nostdin -y -loglevel error -i '%s' -c copy -metadata:s:v rotate=%s '%s'",
                 plain, turns[k], path);
        if (system(command)) continue;
        video *a = NULL, *b = NULL;
        assert_ok(video_open(&a, plain, NULL, 0, NULL, NULL));
        assert_ok(video_open(&b, path, NULL, 0, NULL, NULL));
        bool swap = k != 1;
        assert_int_equal(video_get_info(b)->width, swap ? 98 : 130);
        assert_int_equal(video_get_info(b)->height, swap ? 130 : 98);
        int64_t which[] = {5};
        collect ca = {0}, cb = {0};
        assert_ok(video_read(a, which, 1, 0, 0, keep, &ca, NULL));
        assert_ok(video_read(b, which, 1, 0, 0, keep, &cb, NULL));
        const frame *fa = ca.frames[0], *fb = cb.frames[0];
        for (int y = 0; y < fb->height; y++) {
            for (int x = 0; x < fb->width; x++) {
                // Anticlockwise from stored to shown, as ffmpeg itself shows the result.
                int sx = k == 0 ? 129 - y : k == 1 ? 129 - x : y;
                int sy = k == 0 ? x : k == 1 ? 97 - y : 97 - x;
                if (memcmp(fb->rgb + 3 * (y * fb->width + x), fa->rgb + 3 * (sy * 130 + sx), 3)) {
                    fail_msg("turned by %s: pixel %d %d", turns[k], x, y);
                }
            }
        }
        collect_done(&ca);
        collect_done(&cb);
        video_close(&a);
        video_close(&b);
    }
    free(plain);
}

static void test_pixel_aspect(void **state)
{
    char *path = clips_make(folder, 130, 98, 8, "25", "-vf setsar=2/1 -c:v mpeg4 -q:v 2",
                            "sar.mp4");
    video *v = NULL;
    assert_ok(video_open(&v, path, NULL, 0, NULL, NULL));
    assert_int_equal(video_get_info(v)->width, 260);
    assert_int_equal(video_get_info(v)->height, 98);
    int64_t which[] = {5};
    collect c = {0};
    assert_ok(video_read(v, which, 1, 0, 0, keep, &c, NULL));
    assert_int_equal(c.frames[0]->width, 260);
    assert_int_equal(clips_number(c.frames[0]), 5);
    collect_done(&c);
    video_close(&v);
    free(path);
}

static void test_one_frame(void **state)
{
    char *path = clips_make(folder, 131, 99, 1, "25", "", "one.gif");
    video *v = NULL;
    assert_ok(video_open(&v, path, NULL, 0, NULL, NULL));
    assert_int_equal(video_get_info(v)->n_frames, 1);
    video_choice choice = {.fps = 2, .min_frames = 4, .max_frames = 768};
    int64_t *indices;
    double *times;
    int32_t n;
    assert_ok(video_choose(v, &choice, &indices, &times, &n));
    assert_int_equal(n, 1);
    assert_true(times[0] == 0);
    collect c = {0};
    assert_ok(video_read(v, indices, n, 64, 32, keep, &c, NULL));
    collect_done(&c);
    free(indices);
    free(times);
    video_close(&v);
    free(path);
}

static sight_err drop(void *arg, int32_t i, frame *f)
{
    frame_unref(&f);
    return SIGHT_OK;
}

static long peak_mib(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss / 1024;
}

// 600 frames of 1280x720 are 1.5 GiB; reading some of them takes a few frames' memory.
static void test_memory(void **state)
{
    char command[1024], path[512];
    snprintf(path, sizeof path, "%s/long.mp4", folder);
    snprintf(command, sizeof command,
             "ffmpeg -nostdin -y -loglevel error -f lavfi -i color=red:s=1280x720:r=30:d=20 "
             "-threads 2 -c:v libx264 -preset ultrafast -pix_fmt yuv420p '%s'", path);
    assert_int_equal(system(command), 0);
    video *v = NULL;
    assert_ok(video_open(&v, path, NULL, 0, NULL, NULL));
    int64_t *indices;
    double *times;
    int32_t n;
    video_choice choice = {.n_frames = 600};
    assert_ok(video_choose(v, &choice, &indices, &times, &n));
    assert_int_equal(n, 600);
    long before = peak_mib();
    assert_ok(video_read(v, indices, n, 64, 32, drop, NULL, NULL));
    print_message("%ld MiB more\n", peak_mib() - before);
    assert_true(peak_mib() - before < 400);
    free(indices);
    free(times);
    video_close(&v);
}

typedef struct shared {
    int next, raw;
} shared;

static sight_err take_every_third(void *arg, int32_t i, const planes *p, bool *taken)
{
    shared *s = arg;
    assert_int_equal(i, s->next);
    assert_true(p->width == 160 && p->height == 120 && p->bits == 8 && p->uv_step == 1);
    assert_true(p->y && p->u && p->v && !p->on_gpu);
    *taken = i % 3 == 0;
    s->raw += *taken;
    s->next += *taken;
    return SIGHT_OK;
}

static sight_err keep_others(void *arg, int32_t i, frame *f)
{
    shared *s = arg;
    assert_int_equal(i, s->next++);
    assert_int_equal(clips_number(f), i);
    frame_unref(&f);
    return SIGHT_OK;
}

static int here;

// Frames as they were decoded, for who wants them; where a GPU is asked for that cannot, the CPU decodes.
static void test_raw_frames(void **state)
{
    char *path = clips_make(folder, 160, 120, 12, "10", "-c:v mpeg4 -q:v 2", "raw.mp4");
    if (!path) skip();
    for (int with_gpu = 0; with_gpu < 2; with_gpu++) {
        video *v;
        int64_t indices[12];
        shared s = {0};
        void *driver = dlopen("libcuda.so.1", RTLD_NOW);
        if (driver) dlclose(driver);
        if (with_gpu && driver) continue; // it would take the place for one
        const video_raw raw = {.sink = take_every_third, .cuda_context = with_gpu ? &here : NULL};
        for (int i = 0; i < 12; i++) indices[i] = i;
        assert_ok(video_open(&v, path, NULL, 0, NULL, NULL));
        assert_int_equal(video_get_info(v)->orientation, 1);
        char *warning = NULL;
        assert_ok(video_read_raw(v, indices, 12, 80, 60, keep_others, &s, &raw, &warning));
        assert_null(warning);
        assert_int_equal(s.next, 12);
        assert_int_equal(s.raw, 4);
        video_close(&v);
    }
    free(path);
}

int main(void)
{
    if (!clips_possible()) {
        printf("skipped: no ffmpeg program to make clips with\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codecs),
        cmocka_unit_test(test_raw_streams),
        cmocka_unit_test(test_raw_frames),
        cmocka_unit_test(test_unfinished_header_and_memory),
        cmocka_unit_test(test_choice_is_the_reference_s),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_variable_rate),
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_pixel_aspect),
        cmocka_unit_test(test_one_frame),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, prepare, NULL);
}
