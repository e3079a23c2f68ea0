// Clips through the feed on a device: the patches that the CPU's way gives, within what colours may differ by.
#include "decoder/clips.h"
#include "daemon/tasks.h"

#include <math.h>

#include "checkpoint/safetensors.h"
#include "daemon/media/feed.h"
#include "daemon/trace.h"
#include "kernels/memory.h"
#include "vision/preprocess.h"
#ifdef SIGHT_CUDA_SHIM
#include "shim.h"
#endif

// Bytes of colour before resizing, and what filters make of them: tests/cuda/test_frames.c.
#define OFF (3 * 1.25 * 1.25 + 1)

static engine *open_engine(device_kind kind)
{
    engine_options o = engine_options_exact();
    o.model = TEST_GOLDEN_DIR "/hybrid/model";
    o.device = (device_id){kind, 0};
    engine *e;
    assert_ok(engine_open(&e, &o));
    return e;
}

static void write_request(char *json, size_t size, const char *path)
{
    snprintf(json, size, "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"video\", \"video\": "
             "\"%s\", \"max_pixels\": 60000}, {\"type\": \"text\", \"text\": \"what?\"}]}], \"max_tokens\": 2}",
             path);
}

static task *make(engine *e, const char *path)
{
    char json[1024];
    write_request(json, sizeof json, path);
    return task_of(e, json);
}

typedef struct fed {
    float *rows;
    int64_t n;
    int on_gpu, pieces;
} fed;

// All patches of the clip, in host memory.
static fed feed_all(engine *e, const char *path)
{
    static const atomic_bool never;
    task *t = make(e, path);
    const vision_plan *plan = &t->media[0].plan;
    const int64_t row = preprocess_row_size(&engine_config(e)->vision);
    const int64_t pair = (int64_t)plan->grid.h * plan->grid.w * row;
    fed all = {.n = plan->grid.t * pair};
    all.rows = malloc((size_t)all.n * sizeof *all.rows);
    assert_non_null(all.rows);
    feed *f;
    assert_ok(feed_open(&f, t, &(feed_range){0, 0, 1, 0}, &never));
    for (feed_piece p;;) {
        sight_err err = feed_next(f, &p, 1000);
        if (err == SIGHT_E_TIMEOUT) continue;
        assert_ok(err);
        if (p.n_pairs == 0) break;
        float *to = all.rows + p.first_pair * pair;
        const size_t bytes = (size_t)(p.n_pairs * pair) * sizeof *to;
        if (p.owner) assert_ok(kernels_read(engine_kernels(e), to, p.patches, bytes));
        else memcpy(to, p.patches, bytes);
        all.on_gpu += p.owner != NULL;
        all.pieces++;
        feed_piece_done(&p, engine_kernels(e));
    }
    assert_int_equal(feed_frames(f), t->media[0].n_frames);
    feed_close(&f);
    task_destroy(&t);
    return all;
}

typedef struct both {
    engine *cpu, *gpu;
} both;

static int open_both(void **state)
{
    static both b;
    b = (both){open_engine(DEVICE_CPU), open_engine(DEVICE_CUDA)};
    *state = &b;
    return 0;
}

static int close_both(void **state)
{
    both *b = *state;
    engine_close(&b->cpu);
    engine_close(&b->gpu);
    return 0;
}

// The greatest difference of a clip's patches, in bytes of colour. on_gpu: of how many pieces it had the patches.
static double difference(const both *b, const char *path, int *on_gpu, int *pieces)
{
    fed want = feed_all(b->cpu, path), got = feed_all(b->gpu, path);
    const double *std = engine_config(b->cpu)->video.std;
    double worst = 0;
    assert_int_equal(got.n, want.n);
    for (int64_t i = 0; i < want.n; i++) {
        const double off = fabs((double)got.rows[i] - want.rows[i]) * std[0] * 255;
        if (!(off <= worst)) worst = off;
    }
    *on_gpu = got.on_gpu;
    *pieces = got.pieces;
    assert_int_equal(want.on_gpu, 0);
    free(want.rows);
    free(got.rows);
    return worst;
}

static void clips(void **state)
{
    static const struct {
        const char *arguments, *name;
        bool on_gpu;
        double off;
    } some[] = {
        {"-c:v ffv1 -pix_fmt yuv420p", "plain.mkv", true, OFF},
        {"-c:v mpeg4 -q:v 3", "mpeg4.mp4", true, OFF},
        {"-c:v libx264 -pix_fmt yuv420p", "h264.mp4", true, OFF},
        {"-c:v ffv1 -pix_fmt yuv420p10le", "ten.mkv", true, OFF},
        {"-c:v ffv1 -pix_fmt yuv444p", "full.mkv", false, 0}, // the same machine converts it
        {"-c:v ffv1 -pix_fmt bgr0", "rgb.mkv", false, 0},
    };
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        char *path = clips_make(test_folder(), 160, 120, 33, "8", some[i].arguments, some[i].name);
        int on_gpu, pieces;
        if (!path) continue;
        const double off = difference(*state, path, &on_gpu, &pieces);
        if (!(off <= some[i].off)) fail_msg("%s: off by %.2f of 255", some[i].name, off);
        assert_int_equal(on_gpu, some[i].on_gpu ? pieces : 0);
        free(path);
    }
}

// Stored on its side.
static void turned(void **state)
{
    char *flat = clips_make(test_folder(), 160, 96, 9, "8", "-c:v mpeg4 -q:v 3", "flat.mp4");
    if (!flat) skip();
    char command[1200], path[600];
    snprintf(path, sizeof path, "%s/turned.mp4", test_folder());
    snprintf(command, sizeof command,
             "ffmpeg -nostdin -y -loglevel error -i '%s' -c copy -metadata:s:v:0 rotate=90 '%s'", flat, path);
    assert_int_equal(system(command), 0);
    int on_gpu, pieces;
    const double off = difference(*state, path, &on_gpu, &pieces);
    if (!(off <= OFF)) fail_msg("off by %.2f of 255", off);
    assert_int_equal(on_gpu, pieces);
    free(flat);
}

static float *traced(engine *e, const char *path, safetensors **file, const char *name, int64_t *n)
{
    char json[1024], out[600];
    write_request(json, sizeof json, path);
    snprintf(out, sizeof out, "%s/trace.safetensors", test_folder());
    const request_source source = {.json = json, .size = strlen(json)};
    const request_limits limits = request_limits_default();
    assert_ok(trace_run(e, &source, &limits, out));
    assert_ok(safetensors_open(file, out));
    tensor_view v;
    const int64_t i = safetensors_find(*file, name);
    assert_true(i >= 0 && safetensors_view(*file, &v, (size_t)i));
    *n = tensor_count(&v);
    float *values = malloc((size_t)*n * sizeof *values);
    assert_non_null(values);
    for (int64_t j = 0; j < *n; j++) values[j] = tensor_get_f32(&v, j);
    safetensors_close(file);
    return values;
}

// Encoded from where they lie. The limit is that of pictures whose bytes differ (tests/daemon/golden_trace.h).
static void the_tower_reads_them(void **state)
{
    const both *b = *state;
    char *path = clips_make(test_folder(), 160, 120, 17, "8", "-c:v ffv1 -pix_fmt yuv420p", "tower.mkv");
    if (!path) skip();
    safetensors *file;
    int64_t n, m;
    float *want = traced(b->cpu, path, &file, "video_features", &n);
    float *got = traced(b->gpu, path, &file, "video_features", &m);
    assert_int_equal(n, m);
    double worst = 0, largest = 0;
    for (int64_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)got[i] - want[i]));
        largest = fmax(largest, fabs((double)want[i]));
    }
    if (!(worst <= 3e-2 * largest)) fail_msg("features are off by %.2e", worst / largest);
    free(want);
    free(got);
    free(path);
}

#ifdef SIGHT_CUDA_SHIM
// Memory that is not there for one thing after another: this machine converts frames then.
static void no_memory(void **state)
{
    char *path = clips_make(test_folder(), 160, 120, 9, "8", "-c:v ffv1 -pix_fmt yuv420p", "memory.mkv");
    if (!path) skip();
    for (int after = 0; after < 3; after++) {
        int on_gpu, pieces;
        shim_fail_malloc_after(after);
        const double off = difference(*state, path, &on_gpu, &pieces);
        shim_fail_malloc_after(-1);
        if (!(off <= OFF)) fail_msg("after %d: off by %.2f of 255", after, off);
        assert_true(on_gpu == 0 || after == 2);
    }
    free(path);
}
#endif

// A request that ends early leaves nothing.
static void stopped(void **state)
{
    const both *b = *state;
    static const atomic_bool never;
    char *path = clips_make(test_folder(), 160, 120, 33, "8", "-c:v ffv1 -pix_fmt yuv420p", "stopped.mkv");
    if (!path) skip();
    task *t = make(b->gpu, path);
    feed *f;
    feed_piece p;
    assert_ok(feed_open(&f, t, &(feed_range){0, 0, 1, 0}, &never));
    feed_close(&f);
    assert_ok(feed_open(&f, t, &(feed_range){0, 0, 1, 0}, &never));
    assert_ok(feed_next(f, &p, 60000));
    feed_piece_done(&p, engine_kernels(b->gpu));
    feed_close(&f);
    task_destroy(&t);
    free(path);
}

int main(void)
{
    if (device_gpus() == 0) {
        printf("skipped: %s\n", device_without_gpu());
        return 77;
    }
    if (!clips_possible()) {
        printf("skipped: no ffmpeg program to make clips\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clips),
        cmocka_unit_test(turned),
        cmocka_unit_test(the_tower_reads_them),
#ifdef SIGHT_CUDA_SHIM
        cmocka_unit_test(no_memory),
#endif
        cmocka_unit_test(stopped),
    };
    return cmocka_run_group_tests(tests, open_both, close_both);
}
