// Media through confined children are what they are in this process, bit for bit and word for word.
#include "support/test.h"

#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include "base/file.h"
#include "clips.h"
#include "decoder/decoders.h"
#include "decoder/image.h"
#include "decoder/video.h"

#define CORPUS TEST_SOURCE_DIR "/tests/fuzz/corpus/"

static decoders *children;

static int open_children(void **state)
{
    const decoders_options o = {.program = TEST_BINARY_DIR "/sight-decoder"};
    assert_ok(decoders_create(&children, &o));
    return 0;
}

static int close_children(void **state)
{
    decoders_destroy(&children);
    return 0;
}

typedef struct outcome {
    sight_err err;
    char line[1024];
} outcome;

static outcome note(sight_err err)
{
    outcome o = {.err = err};
    if (err) snprintf(o.line, sizeof o.line, "%s", sight_error());
    return o;
}

static void assert_same_outcome(const outcome *here, const outcome *there, const char *what)
{
    if (here->err != there->err || strcmp(here->line, there->line)) {
        fail_msg("%s: here %s '%s', in a child %s '%s'", what, sight_err_name(here->err), here->line,
                 sight_err_name(there->err), there->line);
    }
}

static void assert_same_frame(const frame *a, const frame *b, const char *what)
{
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    assert_memory_equal(&a->time_s, &b->time_s, sizeof a->time_s);
    if (memcmp(a->rgb, b->rgb, (size_t)a->width * (size_t)a->height * 3)) fail_msg("%s: other pixels", what);
}

// ---- pictures ----

static void compare_picture(const char *path, int32_t width, int32_t height)
{
    const image_limits here = {.max_pixels = 1 << 22}, there = {.max_pixels = 1 << 22, .decoders = children};
    char *bytes;
    size_t size;
    image_info a, b;
    frame *f = NULL, *g = NULL;
    assert_ok(file_read(&bytes, &size, path, 1 << 24));
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    outcome x = note(image_probe(&a, bytes, size, path, &here)), y = note(image_probe(&b, bytes, size, path, &there));
    assert_same_outcome(&x, &y, path);
    if (!x.err) {
        assert_int_equal(a.width, b.width);
        assert_int_equal(a.height, b.height);
        assert_string_equal(a.format, b.format);
    }
    x = note(image_read(&f, &a, bytes, size, path, width, height, &here));
    y = note(image_read(&g, &b, bytes, size, path, width, height, &there));
    assert_same_outcome(&x, &y, path);
    if (!x.err) assert_same_frame(f, g, path);
    frame_unref(&f);
    frame_unref(&g);
    free(bytes);
}

static void for_all(const char *folder, void (*run)(const char *path))
{
    DIR *d = opendir(folder);
    assert_non_null(d);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        char path[1024];
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        run(path);
        n++;
    }
    closedir(d);
    assert_true(n > 3);
}

static void compare_corpus_picture(const char *path)
{
    compare_picture(path, 64, 32);
}

static void test_pictures(void **state)
{
    for_all(CORPUS "image", compare_corpus_picture);
    compare_picture(TEST_GOLDEN_DIR "/hybrid/cases/image-333x97/a.jpg", 320, 96);
    compare_picture(TEST_GOLDEN_DIR "/hybrid/cases/image-200x130/a.png", 448, 288);
}

// ---- clips ----

#define MAX_SEEN 64

typedef struct seen {
    frame *frames[MAX_SEEN];
    int32_t n;
    bool keep; // all of them, until the end
    sight_err stop_at; // the code after two frames
} seen;

static sight_err see(void *arg, int32_t i, frame *f)
{
    seen *s = arg;
    assert_int_equal(i, s->n);
    assert_true(s->n < MAX_SEEN);
    frame *own;
    if (s->keep) {
        s->frames[s->n++] = f;
        return SIGHT_OK;
    }
    assert_ok(frame_create(&own, f->width, f->height));
    memcpy(own->rgb, f->rgb, (size_t)f->width * (size_t)f->height * 3);
    own->time_s = f->time_s;
    frame_unref(&f);
    s->frames[s->n++] = own;
    return s->stop_at && s->n == 2 ? sight_fail(s->stop_at, "enough") : SIGHT_OK;
}

static void forget(seen *s)
{
    for (int32_t i = 0; i < s->n; i++) frame_unref(&s->frames[i]);
    s->n = 0;
}

static void compare_reading(video *a, video *b, const int64_t *indices, int32_t n, int32_t width, int32_t height,
                            seen how, const char *what)
{
    seen s = how, t = how;
    char *warning = NULL, *other = NULL;
    const outcome x = note(video_read(a, indices, n, width, height, see, &s, &warning));
    const outcome y = note(video_read(b, indices, n, width, height, see, &t, &other));
    assert_same_outcome(&x, &y, what);
    assert_int_equal(s.n, t.n);
    for (int32_t i = 0; i < s.n; i++) assert_same_frame(s.frames[i], t.frames[i], what);
    if (!x.err) assert_string_equal(warning ? warning : "", other ? other : "");
    free(warning);
    free(other);
    forget(&s);
    forget(&t);
}

static void compare_choice(video *a, video *b, const char *what)
{
    const video_choice choice = {.fps = 5, .min_frames = 4, .max_frames = 40};
    int64_t *indices, *others;
    double *times, *other_times;
    int32_t n, m;
    char *losses, *other_losses;
    assert_ok(video_choose(a, &choice, &indices, &times, &n));
    assert_ok(video_choose(b, &choice, &others, &other_times, &m));
    assert_int_equal(n, m);
    assert_memory_equal(indices, others, (size_t)n * sizeof *indices);
    assert_memory_equal(times, other_times, (size_t)n * sizeof *times);
    assert_ok(video_losses(a, &losses));
    assert_ok(video_losses(b, &other_losses));
    assert_string_equal(losses ? losses : "", other_losses ? other_losses : "");
    compare_reading(a, b, indices, n, 96, 64, (seen){0}, what);
    compare_reading(a, b, indices, n, 96, 64, (seen){.keep = true}, what);
    compare_reading(a, b, indices, n, 0, 0, (seen){.stop_at = SIGHT_E_BUSY}, what);
    free(indices);
    free(others);
    free(times);
    free(other_times);
    free(losses);
    free(other_losses);
}

static void compare_infos(const video_info *a, const video_info *b)
{
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    assert_int_equal(a->n_frames, b->n_frames);
    assert_int_equal(a->orientation, b->orientation);
    assert_int_equal(a->variable_rate, b->variable_rate);
    assert_true(a->fps == b->fps && a->duration_s == b->duration_s && a->start_s == b->start_s);
    assert_string_equal(a->codec, b->codec);
    assert_string_equal(a->container, b->container);
}

static void compare_clip_range(const char *path, const video_range *range, int how)
{
    const video_limits here = {.max_pixels = 1 << 20, .threads = 2};
    video_limits there = here;
    there.decoders = children;
    video *a = NULL, *b = NULL;
    char *bytes = NULL;
    size_t size = 0;
    int fd = -1;
    if (how == 1) assert_ok(file_read(&bytes, &size, path, 1 << 26));
    if (how == 2) assert_ok(file_open(&fd, path));
    const outcome x = note(video_open(&a, path, bytes, size, range, &here));
    const outcome y = note(fd >= 0 ? video_open_fd(&b, fd, path, range, &there)
                                   : video_open(&b, path, bytes, size, range, &there));
    assert_same_outcome(&x, &y, path);
    if (!x.err) {
        compare_infos(video_get_info(a), video_get_info(b));
        compare_choice(a, b, path);
    }
    video_close(&a);
    video_close(&b);
    free(bytes);
    if (fd >= 0) close(fd);
}

static void compare_clip(const char *path)
{
    for (int how = 0; how < 3; how++) compare_clip_range(path, NULL, how);
}

static void test_corpus_clips(void **state)
{
    for_all(CORPUS "video", compare_clip);
}

static void test_made_clips(void **state)
{
    static const struct {
        const char *name, *arguments;
    } kinds[] = {
        {"plain.mp4", "-c:v libx264 -g 12 -pix_fmt yuv420p"},
        {"turned.mp4", "-c:v libx264 -metadata:s:v:0 rotate=90 -pix_fmt yuv420p"},
        {"uneven.mkv", "-vf setpts=N*N/60/TB -vsync vfr -c:v libx264 -pix_fmt yuv420p"},
        {"vp9.webm", "-c:v libvpx-vp9 -b:v 300k"},
        {"deep.mkv", "-c:v ffv1 -pix_fmt yuv420p10le"},
        {"small.gif", ""},
        {"old.avi", "-c:v mpeg4"},
        {"raw.h264", "-c:v libx264 -pix_fmt yuv420p"},
    };
    if (!clips_possible()) skip();
    const char *folder = test_folder();
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char *path = clips_make(folder, 160, 120, 48, "12", kinds[i].arguments, kinds[i].name);
        if (!path) continue;
        compare_clip(path);
        const video_range part = {1.0, 2.5}, none = {100, 0};
        compare_clip_range(path, &part, 2);
        compare_clip_range(path, &none, 0);
        // Cut off in the middle.
        char *bytes;
        size_t size;
        assert_ok(file_read(&bytes, &size, path, 1 << 26));
        char *cut = test_write(folder, "cut", bytes, size * 2 / 3);
        compare_clip_range(cut, NULL, 0);
        free(cut);
        free(bytes);
        free(path);
    }
}

static void test_repeats(void **state)
{
    if (!clips_possible()) skip();
    char *path = clips_make(test_folder(), 64, 48, 30, "10", "-c:v libx264 -pix_fmt yuv420p", "r.mp4");
    if (!path) skip();
    const video_limits here = {0}, there = {.decoders = children};
    const int64_t asked[] = {0, 3, 3, 3, 3, 3, 3, 7, 7, 29, 29, 29};
    video *a, *b;
    assert_ok(video_open(&a, path, NULL, 0, NULL, &here));
    assert_ok(video_open(&b, path, NULL, 0, NULL, &there));
    compare_reading(a, b, asked, 12, 64, 32, (seen){0}, path);
    compare_reading(a, b, asked, 12, 64, 32, (seen){.keep = true}, path);
    const int64_t wrong[] = {5, 4};
    compare_reading(a, b, wrong, 2, 64, 32, (seen){0}, path);
    video_close(&a);
    video_close(&b);
    free(path);
}

// ---- planes ----

typedef struct raw_seen {
    uint64_t sums[MAX_SEEN];
    planes shapes[MAX_SEEN];
    int32_t n, frames;
    int refuse; // every which
} raw_seen;

static uint64_t sum_rows(const uint8_t *at, int64_t pitch, int64_t bytes, int32_t rows)
{
    uint64_t sum = 0;
    for (int32_t y = 0; y < rows; y++) {
        for (int64_t x = 0; x < bytes; x++) sum = sum * 31 + at[y * pitch + x];
    }
    return sum;
}

static sight_err see_planes(void *arg, int32_t i, const planes *p, bool *taken)
{
    raw_seen *s = arg;
    const int64_t row = p->width * (p->bits > 8 ? 2 : 1), uv_row = row / 2 * p->uv_step;
    s->shapes[s->n] = *p;
    s->sums[s->n] = sum_rows(p->y, p->y_pitch, row, p->height) ^ sum_rows(p->u, p->uv_pitch, uv_row, p->height / 2);
    if (p->uv_step == 1) s->sums[s->n] += sum_rows(p->v, p->uv_pitch, uv_row, p->height / 2);
    s->n++;
    *taken = !s->refuse || i % s->refuse;
    return SIGHT_OK;
}

static sight_err count_frame(void *arg, int32_t i, frame *f)
{
    raw_seen *s = arg;
    s->sums[s->n++] = sum_rows(f->rgb, f->width * 3, f->width * 3, f->height);
    s->frames++;
    frame_unref(&f);
    return SIGHT_OK;
}

static void compare_planes(const char *path, int refuse)
{
    const video_limits here = {0}, there = {.decoders = children};
    const int64_t asked[] = {0, 1, 5, 5, 9, 20, 29};
    const video_raw raw = {.sink = see_planes};
    raw_seen s = {.refuse = refuse}, t = {.refuse = refuse};
    video *a, *b;
    assert_ok(video_open(&a, path, NULL, 0, NULL, &here));
    assert_ok(video_open(&b, path, NULL, 0, NULL, &there));
    assert_true(video_may_use_gpu(a));
    assert_false(video_may_use_gpu(b));
    assert_ok(video_read_raw(a, asked, 7, 96, 64, count_frame, &s, &raw, NULL));
    assert_ok(video_read_raw(b, asked, 7, 96, 64, count_frame, &t, &raw, NULL));
    assert_int_equal(s.n, t.n);
    assert_int_equal(s.frames, t.frames);
    assert_memory_equal(s.sums, t.sums, sizeof s.sums);
    for (int32_t i = 0; i < s.n; i++) {
        assert_memory_equal(&s.shapes[i].colours, &t.shapes[i].colours, sizeof s.shapes[i].colours);
        assert_int_equal(s.shapes[i].bits, t.shapes[i].bits);
        assert_int_equal(s.shapes[i].width, t.shapes[i].width);
    }
    video_close(&a);
    video_close(&b);
}

static void test_planes(void **state)
{
    if (!clips_possible()) skip();
    const char *folder = test_folder();
    char *path = clips_make(folder, 64, 48, 30, "10", "-c:v libx264 -pix_fmt yuv420p", "p.mp4");
    char *deep = clips_make(folder, 64, 48, 30, "10", "-c:v ffv1 -pix_fmt yuv420p10le", "p.mkv");
    for (int refuse = 0; path && refuse < 4; refuse++) compare_planes(path, refuse);
    if (deep) compare_planes(deep, 2);
    free(path);
    free(deep);
}

// ---- lives ----

static int count_files(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

// Processes whose parent is the keeper.
static int count_children(int64_t keeper)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%lld/task/%lld/children", (long long)keeper, (long long)keeper);
    FILE *f = fopen(path, "r");
    if (!f) return -1;
    int n = 0;
    long pid;
    while (fscanf(f, "%ld", &pid) == 1) n++;
    fclose(f);
    return n;
}

static void wait_for_children(int64_t keeper, int most)
{
    for (int i = 0; i < 2000 && count_children(keeper) > most; i++) usleep(5000);
    const int n = count_children(keeper);
    if (n > most) fail_msg("%d children are left", n);
}

static void test_hundred_media(void **state)
{
    const int files = count_files();
    const decoders_status before = decoders_get_status(children);
    for (int i = 0; i < 25; i++) { // each is probed and read
        compare_picture(CORPUS "image/420.jpg", 32, 32);
        compare_picture(CORPUS "image/cut.png", 32, 32);
    }
    const decoders_status s = decoders_get_status(children);
    assert_int_equal(s.working, 0);
    assert_int_equal(s.crashed, before.crashed);
    assert_true(s.started - before.started >= 100); // a child for each
    assert_true(s.started - before.started <= 103);
    assert_true(count_files() <= files + 2 * 2); // those of children that wait
    wait_for_children(s.keeper_pid, s.waiting);
}

static void test_frames_outlive_children(void **state)
{
    decoders *own;
    const decoders_options o = {.program = TEST_BINARY_DIR "/sight-decoder"};
    const int files = count_files();
    assert_ok(decoders_create(&own, &o));
    const decoders_status s = decoders_get_status(own);
    const image_limits there = {.decoders = own};
    char *bytes;
    size_t size;
    frame *f;
    image_info info;
    assert_ok(file_read(&bytes, &size, CORPUS "image/p.png", 1 << 24));
    assert_ok(image_read(&f, &info, bytes, size, "p.png", 16, 16, &there));
    decoders_destroy(&own);
    assert_null(own);
    uint64_t sum = sum_rows(f->rgb, 48, 48, 16);
    assert_true(sum != 0);
    frame_unref(&f);
    free(bytes);
    assert_int_equal(count_files(), files);
    assert_int_equal(kill((pid_t)s.keeper_pid, 0), -1); // and nothing is left of the keeper
}

typedef struct killer {
    int64_t keeper;
    int32_t next;
    bool killed;
} killer;

static sight_err kill_at_first(void *arg, int32_t number, frame *f)
{
    killer *k = arg;
    assert_int_equal(number, k->next++);
    frame_unref(&f);
    if (k->killed) return SIGHT_OK;
    char path[64];
    long pid;
    snprintf(path, sizeof path, "/proc/%lld/task/%lld/children", (long long)k->keeper, (long long)k->keeper);
    FILE *list = fopen(path, "r");
    while (list && fscanf(list, "%ld", &pid) == 1) k->killed |= kill((pid_t)pid, SIGKILL) == 0;
    if (list) fclose(list);
    return SIGHT_OK;
}

// Frames that were handed on cannot be taken back, so a child that is killed among them is not replaced.
static void test_killed_while_reading(void **state)
{
    if (!clips_possible()) skip();
    char *path = clips_make(test_folder(), 64, 48, 60, "10", "-c:v libx264 -pix_fmt yuv420p", "k.mp4");
    if (!path) skip();
    const video_limits there = {.decoders = children};
    int64_t asked[60];
    for (int i = 0; i < 60; i++) asked[i] = i;
    video *v;
    char *warning = NULL;
    assert_ok(video_open(&v, path, NULL, 0, NULL, &there));
    killer k = {.keeper = decoders_get_status(children).keeper_pid};
    sight_err err = video_read(v, asked, 60, 64, 48, kill_at_first, &k, &warning);
    if (k.killed) { // where the kernel tells of children
        assert_int_equal(err, SIGHT_E_MEDIA);
        assert_non_null(strstr(sight_error(), "the decoder ended on signal 9"));
        assert_in_range(k.next, 1, 8); // those that were on their way
    }
    free(warning);
    video_close(&v);
    free(path);
}

static void test_program_missing(void **state)
{
    decoders *own = NULL;
    const decoders_options o = {.program = "/nonexistent/decoder"}, other = {.program = "/bin/true"};
    assert_fails(decoders_create(&own, &o), SIGHT_E_NOT_FOUND, "'/nonexistent/decoder'");
    assert_fails(decoders_create(&own, &other), SIGHT_E_INTERNAL, "'/bin/true' does not start decoders");
    assert_null(own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pictures),      cmocka_unit_test(test_corpus_clips),
        cmocka_unit_test(test_made_clips),    cmocka_unit_test(test_repeats),
        cmocka_unit_test(test_planes),        cmocka_unit_test(test_hundred_media),
        cmocka_unit_test(test_frames_outlive_children), cmocka_unit_test(test_program_missing),
        cmocka_unit_test(test_killed_while_reading),
    };
    return cmocka_run_group_tests(tests, open_children, close_children);
}
