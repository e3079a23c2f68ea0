// Preparing weights: every form against the plain numbers, and the prepared file's life.
#include "support/test.h"

#include <fcntl.h>
#include <glob.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/model_copy.h"
#include "checkpoint/prepare.h"
#include "checkpoint/prepare_parts.h"

#define UP   "model.language_model.layers.0.mlp.up_proj.weight"
#define GATE "model.language_model.layers.0.linear_attn.in_proj_a.weight"
#define CONV "model.language_model.layers.0.linear_attn.conv1d.weight"

static checkpoint *open_golden(void)
{
    checkpoint *c = NULL;
    assert_ok(checkpoint_open(&c, TEST_GOLDEN_DIR "/hybrid/model"));
    return c;
}

static void prepare(checkpoint *c, weights_form form, const char *cache)
{
    const prepare_options o = {.form = form, .cache = cache};
    assert_ok(checkpoint_prepare(c, &o));
}

static weight *find(checkpoint *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++) {
        if (!strcmp(c->weights[i].name, name)) return &c->weights[i];
    }
    fail_msg("no tensor %s", name);
    return NULL;
}

// ---- forms ----

// Largest error of any element, against the root mean square of its row.
static double worst_error(const packed *p, const tensor_view *plain)
{
    float *row = calloc((size_t)p->K, sizeof *row);
    assert_non_null(row);
    double worst = 0;
    for (int64_t m = 0; m < p->M; m++) {
        double squares = 0, most = 0;
        packed_get_row(p, row, m);
        for (int64_t k = 0; k < p->K; k++) {
            const double w = tensor_get_f32(plain, m * p->K + k), e = fabs(row[k] - w);
            squares += w * w;
            most = e > most ? e : most;
        }
        if (squares > 0) worst = fmax(worst, most / sqrt(squares / (double)p->K));
    }
    free(row);
    return worst;
}

// In units of a row's root mean square: half a step of the widest group that a few dozen normally
// distributed numbers make (4 of 8 bits: 3.2 / 128 / 2; of 4 bits: about a tenth of 3.2).
static void assert_form(weights_form form, double tolerance)
{
    checkpoint *c = open_golden(), *plain = open_golden();
    const int64_t bytes = weights_form_bytes(c, form);
    assert_int_equal(weights_form_bytes(c, WEIGHTS_STORED), checkpoint_bytes(c));
    prepare(c, form, NULL);
    assert_int_equal(checkpoint_form(c), form);
    assert_int_equal(checkpoint_bytes(c), bytes);
    assert_true(bytes < (int64_t)checkpoint_bytes(plain));
    size_t n_packed = 0;
    for (size_t i = 0; i < c->n; i++) {
        const weight *w = &c->weights[i];
        tensor_view v, was;
        const packed *p = NULL;
        assert_ok(checkpoint_tensor(plain, &was, w->name));
        assert_ok(checkpoint_matrix(c, &v, &p, w->name));
        assert_memory_equal(v.shape, was.shape, sizeof v.shape);
        if (!p) {
            assert_memory_equal(v.data, was.data, (size_t)tensor_count(&v) * tensor_type_bytes(v.type));
            continue;
        }
        n_packed++;
        assert_null(v.data);
        assert_int_equal((uintptr_t)p->codes % 64, 0);
        if (worst_error(p, &was) > tolerance) {
            fail_msg("%s is off by %g", w->name, worst_error(p, &was));
        }
    }
    assert_true(n_packed > 40);
    assert_null(find(c, GATE)->packed);
    assert_null(find(c, CONV)->packed);
    checkpoint_close(&c);
    checkpoint_close(&plain);
}

static void int8(void **state)
{
    assert_form(WEIGHTS_INT8, 0.05);
}

static void int4(void **state)
{
    assert_form(WEIGHTS_INT4, 0.6);
}

static void stored_needs_nothing(void **state)
{
    checkpoint *c = open_golden();
    const size_t bytes = checkpoint_bytes(c);
    prepare(c, WEIGHTS_STORED, NULL);
    assert_int_equal(checkpoint_bytes(c), bytes);
    for (size_t i = 0; i < c->n; i++) assert_null(c->weights[i].packed);
    const prepare_options again = {.form = WEIGHTS_STORED};
    assert_fails(checkpoint_prepare(c, &again), SIGHT_E_INTERNAL, "once");
    checkpoint_close(&c);
}

// ---- a published quantised form ----

// Codes that tell row and input; scales that tell the group.
static sight_err read_made(const stored *s, packed_rows *rows, int64_t first, int64_t n)
{
    if (s->numbers[0] && first + n > s->numbers[0]) {
        return sight_fail(SIGHT_E_MODEL, "tensor '%s' has a scale that is not finite", s->name);
    }
    const int64_t groups = packed_groups(&s->format, s->K);
    float *scales = rows->scales;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < s->K; k++) {
            rows->codes[i * s->K + k] = (uint8_t)((first + i + 3 * k) % 16);
        }
        for (int64_t g = 0; g < groups; g++) scales[i * groups + g] = (float)(g + 1) / 8;
    }
    return SIGHT_OK;
}

static float made_value(int64_t m, int64_t k)
{
    return (float)((m + 3 * k) % 16 - 8) * (float)(k / 16 + 1) / 8;
}

static stored made_stored(const weight *w)
{
    return (stored){.format = {.bits = 4, .offset = 8, .group = 16, .scales = PACKED_FLAT_F32, .factor = 1},
                    .M = w->view.shape[0], .K = w->view.shape[1], .name = w->name, .path = w->path,
                    .form = "made int4", .read = read_made};
}

static void quantised_form(void **state)
{
    static const weights_form forms[] = {WEIGHTS_STORED, WEIGHTS_INT8, WEIGHTS_BF16};
    for (size_t i = 0; i < 3; i++) {
        checkpoint *c = open_golden();
        weight *w = find(c, UP);
        stored s = made_stored(w);
        tensor_view v;
        const packed *p = NULL;
        w->stored = &s;
        w->view.data = NULL;
        assert_int_equal(weights_choose(c, INT64_MAX), WEIGHTS_STORED);
        assert_fails(checkpoint_matrix(c, &v, &p, UP), SIGHT_E_UNSUPPORTED, "was not prepared");
        prepare(c, forms[i], NULL);
        assert_ok(checkpoint_matrix(c, &v, &p, UP));
        assert_true((p == NULL) == (forms[i] == WEIGHTS_BF16));
        float *row = calloc((size_t)s.K, sizeof *row);
        for (int64_t m = 0; m < s.M; m++) {
            if (p) packed_get_row(p, row, m);
            for (int64_t k = 0; k < s.K; k++) {
                const float got = p ? row[k] : tensor_get_f32(&v, m * s.K + k);
                assert_true(got == made_value(m, k));
            }
        }
        free(row);
        checkpoint_close(&c);
    }
}

static void bad_value(void **state)
{
    checkpoint *c = open_golden();
    weight *w = find(c, UP);
    stored s = made_stored(w);
    s.numbers[0] = 40;
    w->stored = &s;
    threads *pool = NULL;
    assert_ok(threads_create(&pool, 3));
    const prepare_options o = {.form = WEIGHTS_STORED, .pool = pool, .cache = test_folder()};
    assert_fails(checkpoint_prepare(c, &o), SIGHT_E_MODEL, "not finite");
    glob_t g;
    char pattern[1100];
    snprintf(pattern, sizeof pattern, "%s/*", o.cache);
    assert_int_equal(glob(pattern, 0, NULL, &g), GLOB_NOMATCH);
    checkpoint_close(&c);
    threads_destroy(&pool);
}

static void odd_format(void **state)
{
    checkpoint *c = open_golden();
    weight *w = find(c, UP);
    stored s = made_stored(w);
    s.format.group = 24;
    w->stored = &s;
    const prepare_options o = {.form = WEIGHTS_STORED};
    assert_fails(checkpoint_prepare(c, &o), SIGHT_E_UNSUPPORTED, "made int4, which kernels do not run (group)");
    checkpoint_close(&c);
}

// ---- the choice ----

static void choice(void **state)
{
    checkpoint *c = open_golden();
    const int64_t bf16 = weights_form_bytes(c, WEIGHTS_STORED), int8 = weights_form_bytes(c, WEIGHTS_INT8);
    assert_true(weights_form_bytes(c, WEIGHTS_INT4) < int8 && int8 < bf16);
    assert_int_equal(weights_choose(c, INT64_MAX), WEIGHTS_STORED);
    assert_int_equal(weights_choose(c, 2 * bf16), WEIGHTS_STORED);
    assert_int_equal(weights_choose(c, bf16), int8 < bf16 * 0.6 ? WEIGHTS_INT8 : WEIGHTS_INT4);
    assert_int_equal(weights_choose(c, 0), WEIGHTS_INT4);
    const prepare_options o = {.form = WEIGHTS_AUTO, .room_bytes = 0};
    assert_ok(checkpoint_prepare(c, &o));
    assert_int_equal(checkpoint_form(c), WEIGHTS_INT4);
    checkpoint_close(&c);
    weights_form form;
    for (int i = 0; i < WEIGHTS_COUNT; i++) {
        assert_ok(weights_form_parse(&form, weights_form_name((weights_form)i)));
        assert_int_equal(form, i);
    }
    assert_fails(weights_form_parse(&form, "int5"), SIGHT_E_ARGUMENT, "stored, bf16, int8, int4 or fp8");
}

// ---- the prepared file ----

// The only file in a folder (static).
static const char *only_file(const char *folder)
{
    static char path[1200];
    char pattern[1100];
    glob_t g;
    snprintf(pattern, sizeof pattern, "%s/*", folder);
    assert_int_equal(glob(pattern, 0, NULL, &g), 0);
    assert_int_equal(g.gl_pathc, 1);
    snprintf(path, sizeof path, "%s", g.gl_pathv[0]);
    globfree(&g);
    return path;
}

static ino_t inode(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_ino;
}

// Prepares anew, and says whether an existing file was taken.
static bool taken_from_cache(const char *dir, weights_form form, const char *cache, const char *warning)
{
    checkpoint *c = NULL, *fresh = NULL;
    assert_ok(checkpoint_open(&c, dir));
    assert_ok(checkpoint_open(&fresh, dir));
    char *path = prepare_file_path(cache, c, form);
    const ino_t before = access(path, F_OK) ? 0 : inode(path);
    prepare(c, form, cache);
    prepare(fresh, form, NULL);
    if (warning) assert_non_null(strstr(checkpoint_prepare_warning(c), warning));
    else if (checkpoint_prepare_warning(c)) fail_msg("%s", checkpoint_prepare_warning(c));
    assert_string_equal(checkpoint_prepared_file(c), path);
    assert_null(checkpoint_prepared_file(fresh));
    for (size_t i = 0; i < c->n; i++) {
        const packed *a = c->weights[i].packed, *b = fresh->weights[i].packed;
        assert_true(!a == !b);
        if (a) assert_memory_equal(a->codes, b->codes, packed_bytes(&a->format, a->M, a->K));
    }
    const bool taken = before == inode(path);
    free(path);
    checkpoint_close(&c);
    checkpoint_close(&fresh);
    return taken;
}

static void kept_and_mapped(void **state)
{
    const char *dir = TEST_GOLDEN_DIR "/hybrid/model";
    char cache[1100];
    snprintf(cache, sizeof cache, "%s/deep/er", test_folder());
    assert_false(taken_from_cache(dir, WEIGHTS_INT8, cache, NULL));
    assert_true(taken_from_cache(dir, WEIGHTS_INT8, cache, NULL));
    assert_false(taken_from_cache(dir, WEIGHTS_INT4, cache, NULL));
    assert_true(taken_from_cache(dir, WEIGHTS_INT8, cache, NULL));
    struct stat st;
    assert_int_equal(stat(cache, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static void write_at(const char *path, off_t at, const void *data, size_t n)
{
    const int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, data, n, at), n);
    close(fd);
}

static void damaged(void **state)
{
    const char *dir = TEST_GOLDEN_DIR "/hybrid/model", *cache = test_folder();
    assert_false(taken_from_cache(dir, WEIGHTS_INT4, cache, NULL));
    const char *path = only_file(cache);
    static const off_t places[] = {0, 9, 20, 36, 60, 100, 700};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        write_at(path, places[i], "\377\376", 2);
        assert_false(taken_from_cache(dir, WEIGHTS_INT4, cache, "prepared anew"));
        assert_true(taken_from_cache(dir, WEIGHTS_INT4, cache, NULL));
    }
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    const off_t sizes[] = {0, 7, 48, st.st_size - 1, st.st_size + 4096};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_int_equal(truncate(path, sizes[i]), 0);
        assert_false(taken_from_cache(dir, WEIGHTS_INT4, cache, "prepared anew"));
    }
    assert_int_equal(chmod(path, 0666), 0);
    assert_false(taken_from_cache(dir, WEIGHTS_INT4, cache, "others may have written it"));
    only_file(cache); // nothing is left beside it
}

static void made_anew_after_a_change(void **state)
{
    const char *cache = test_folder();
    model_copy *m = copy_load("hybrid");
    const char *dir = copy_write(m);
    assert_false(taken_from_cache(dir, WEIGHTS_INT8, cache, NULL));
    assert_true(taken_from_cache(dir, WEIGHTS_INT8, cache, NULL));
    uint16_t *w = copy_writable(m, copy_entry(m, UP));
    for (int i = 0; i < 64; i++) w[i] = (uint16_t)(w[i] ^ 0x8000);
    copy_write_part(m, dir, "model.safetensors", 0, m->n);
    assert_false(taken_from_cache(dir, WEIGHTS_INT8, cache, "of other weights"));
    // Another checkpoint's start clears what was made of one that is gone.
    char path[1100];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_int_equal(unlink(path), 0);
    free(test_write(cache, "0123456789abcdef-int8.weights.AbCdEf", "left", 4));
    assert_false(taken_from_cache(TEST_GOLDEN_DIR "/hybrid/model", WEIGHTS_INT8, cache, NULL));
    only_file(cache);
    copy_free(m);
}

static void no_cache(void **state)
{
    checkpoint *c = open_golden();
    prepare(c, WEIGHTS_INT8, "/proc/none/here");
    assert_non_null(strstr(checkpoint_prepare_warning(c), "kept in memory only"));
    assert_null(checkpoint_prepared_file(c));
    assert_non_null(find(c, UP)->packed);
    checkpoint_close(&c);
}

static void cache_folder(void **state)
{
    char out[64];
    setenv("CACHE_DIRECTORY", "/var/cache/sightd", 1);
    assert_ok(prepare_cache_folder(out, sizeof out));
    assert_string_equal(out, "/var/cache/sightd");
    unsetenv("CACHE_DIRECTORY");
    setenv("XDG_CACHE_HOME", "/x", 1);
    assert_ok(prepare_cache_folder(out, sizeof out));
    assert_string_equal(out, "/x/sightd");
    assert_fails(prepare_cache_folder(out, 4), SIGHT_E_LIMIT, "too long");
    setenv("XDG_CACHE_HOME", "relative", 1);
    setenv("HOME", "/home/me", 1);
    assert_ok(prepare_cache_folder(out, sizeof out));
    assert_string_equal(out, "/home/me/.cache/sightd");
    unsetenv("HOME");
    assert_fails(prepare_cache_folder(out, sizeof out), SIGHT_E_NOT_FOUND, "HOME");
}

// ---- extras, progress, stop ----

static sight_err make_extra(void *arg, const checkpoint *c, void *to, threads *pool)
{
    const packed *p = NULL;
    tensor_view v;
    ++*(int *)arg;
    sight_err err = checkpoint_matrix(c, &v, &p, UP);
    if (err) return err;
    memcpy(to, p->codes, 100);
    return SIGHT_OK;
}

static int made_extra(const char *cache, uint32_t version)
{
    checkpoint *c = open_golden();
    int calls = 0;
    const prepare_extra extra = {.name = "head planes", .version = version, .bytes = 100,
                                 .make = make_extra, .arg = &calls};
    const prepare_options o = {.form = WEIGHTS_INT8, .cache = cache, .extras = &extra, .n_extras = 1};
    assert_ok(checkpoint_prepare(c, &o));
    size_t bytes = 0;
    const void *block = checkpoint_extra(c, "head planes", &bytes);
    assert_non_null(block);
    assert_int_equal(bytes, 100);
    assert_int_equal((uintptr_t)block % 64, 0);
    assert_memory_equal(block, find(c, UP)->packed->codes, 100);
    assert_null(checkpoint_extra(c, "other", &bytes));
    assert_int_equal(checkpoint_bytes(c), weights_form_bytes(c, WEIGHTS_INT8) + 100);
    checkpoint_close(&c);
    return calls;
}

static void extras(void **state)
{
    const char *cache = test_folder();
    assert_int_equal(made_extra(NULL, 1), 1);
    assert_int_equal(made_extra(cache, 1), 1);
    assert_int_equal(made_extra(cache, 1), 0);
    assert_int_equal(made_extra(cache, 2), 1);
}

typedef struct seen {
    int calls;
    int64_t done, total;
    atomic_bool stop;
} seen;

static void on_progress(void *arg, int64_t done, int64_t total)
{
    seen *s = arg;
    assert_true(done >= s->done && done <= total);
    s->calls++;
    s->done = done;
    s->total = total;
    if (s->calls == 5) atomic_store(&s->stop, true);
}

static void progress_and_stop(void **state)
{
    checkpoint *c = open_golden();
    seen s = {0};
    prepare_options o = {.form = WEIGHTS_INT8, .progress = on_progress, .progress_arg = &s};
    assert_ok(checkpoint_prepare(c, &o));
    assert_true(s.calls > 40 && s.done == s.total);
    checkpoint_close(&c);
    c = open_golden();
    s.calls = 0;
    s.done = 0;
    atomic_store(&s.stop, false);
    o.stop = &s.stop;
    assert_fails(checkpoint_prepare(c, &o), SIGHT_E_CANCELLED, "stopped");
    assert_int_equal(s.calls, 5);
    checkpoint_close(&c);
}

// The same bytes with any number of threads.
static void threads_do_not_matter(void **state)
{
    checkpoint *one = open_golden(), *three = open_golden();
    threads *pool = NULL;
    assert_ok(threads_create(&pool, 3));
    prepare(one, WEIGHTS_INT4, NULL);
    const prepare_options o = {.form = WEIGHTS_INT4, .pool = pool};
    assert_ok(checkpoint_prepare(three, &o));
    assert_int_equal(one->prepared->file_bytes, three->prepared->file_bytes);
    const size_t skip = one->prepared->header_bytes;
    assert_memory_equal((char *)one->prepared->memory + skip, (char *)three->prepared->memory + skip,
                        one->prepared->file_bytes - skip);
    checkpoint_close(&one);
    checkpoint_close(&three);
    threads_destroy(&pool);
}

// ---- made-up weights ----

// One matrix, piece by piece as preparing does it, against all of it at once.
static void made_up(void **state)
{
    checkpoint *lazy = NULL, *whole = NULL;
    assert_ok(checkpoint_made_up_lazy(&lazy, "0.8b", 3));
    assert_ok(checkpoint_made_up_lazy(&whole, "0.8b", 3));
    weight *w = find(whole, UP), *l = find(lazy, UP);
    const int64_t n = tensor_count(&w->view);
    made_up_fill(whole, w, 0, n, NULL);
    made_up_fill(lazy, l, 0, 48 * 1024, NULL);
    made_up_fill(lazy, l, 48 * 1024, n, NULL);
    assert_memory_equal(w->view.data, l->view.data, (size_t)n * 2);
    prepare_block b;
    assert_true(plan_block(l, WEIGHTS_INT8, &b));
    void *block = aligned_alloc(PREPARE_ALIGN, b.bytes / PREPARE_ALIGN * PREPARE_ALIGN + PREPARE_ALIGN);
    packed_init(&b.packed, &b.format, b.M, b.K, block);
    const prepare_options o = {.form = WEIGHTS_INT8};
    int64_t done = 0;
    assert_ok(pack_block(lazy, &b, block, &o, &done, n * 2));
    assert_int_equal(done, n * 2);
    assert_true(worst_error(&b.packed, &w->view) < 0.02);
    free(block);
    checkpoint_close(&lazy);
    checkpoint_close(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(int8),
        cmocka_unit_test(int4),
        cmocka_unit_test(stored_needs_nothing),
        cmocka_unit_test(quantised_form),
        cmocka_unit_test(bad_value),
        cmocka_unit_test(odd_format),
        cmocka_unit_test(choice),
        cmocka_unit_test(kept_and_mapped),
        cmocka_unit_test(damaged),
        cmocka_unit_test(made_anew_after_a_change),
        cmocka_unit_test(no_cache),
        cmocka_unit_test(cache_folder),
        cmocka_unit_test(extras),
        cmocka_unit_test(progress_and_stop),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(made_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
