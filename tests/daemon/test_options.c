#include "printed.h"

#include <sys/un.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/watch/notify.h"

static sight_err read_args(options *o, const char *a, const char *b)
{
    char *argv[] = {(char *)"sightd", (char *)a, (char *)b, NULL};
    return options_read(o, b ? 3 : 2, argv);
}

static int alone(void **state)
{
    // No configuration of the one who runs the tests.
    setenv("XDG_CONFIG_HOME", "/nonexistent", 1);
    return 0;
}

static void command_line_beats_the_file(void **state)
{
    const char *text =
        "# comment\n\n threads = 3\nmax-frames=99 \r\nmodel = a b\nmax-pixels = 4M\n";
    char *path = test_write(test_folder(), "sightd.conf", text, strlen(text));
    char *argv[] = {(char *)"sightd", (char *)"--config", path, (char *)"--threads=2", NULL};
    options o;
    assert_ok(options_read(&o, 4, argv));
    assert_int_equal(o.engine.threads, 2);
    assert_int_equal(o.limits.max_frames, 99);
    assert_string_equal(o.model, "a b");
    assert_int_equal(o.limits.max_pixels, 4 << 20);
    options_done(&o);
    free(path);
}

static void wrong_settings_are_named(void **state)
{
    options o;
    const struct {
        const char *a, *b, *says;
    } cases[] = {
        {"--threads", "x", "--threads is 'x'"},   {"--threads", "257", "from 0 to 256"},
        {"--threads", NULL, "needs a value"},     {"--thread", "1", "no option '--thread'"},
        {"ask", NULL, "'ask' is not an option"},  {"--max-frames", "1.5", "whole number"},
        {"--max-frames", "nan", "--max-frames"},  {"--grace", "-1", "--grace"},
        {"--max-pixels", "1Q", "--max-pixels"},   {"--model", "", "--model is empty"},
        {"--kv", "int3", "int8 or f32"},          {"--log", "loud", "log is 'loud'"},
        {"--exact=maybe", NULL, "yes or no"},     {"--simd", "mmx", "mmx"},
        {"--fp8", "on", "fp8 is 'on', must be auto or off"},
        {"--max-frames", "0x10", "--max-frames"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_fails(read_args(&o, cases[i].a, cases[i].b), SIGHT_E_ARGUMENT, cases[i].says);
        options_done(&o);
    }
    assert_fails(read_args(&o, "--config", "/nonexistent/x"), SIGHT_E_NOT_FOUND, "/nonexistent/x");
    options_done(&o);
}

static void lines_of_a_file_are_named(void **state)
{
    options o;
    options_set_defaults(&o);
    assert_fails(options_read_text(&o, "threads = 1\nthreads\n", "f"), SIGHT_E_ARGUMENT, "f:2:");
    assert_fails(options_read_text(&o, "\n\nfoo = 1", "f"), SIGHT_E_ARGUMENT,
                 "f:3: there is no setting 'foo'");
    assert_fails(options_read_text(&o, "threads = -1", "f"), SIGHT_E_ARGUMENT,
                 "f:1: threads is '-1'");
    options_done(&o);
}

static void a_setting_may_be_given_again(void **state)
{
    options o;
    assert_ok(read_args(&o, "--media-root=/srv/a", "--media-root=/srv/b"));
    assert_int_equal(o.media_roots.n, 2);
    assert_string_equal(o.media_roots.items[1], "/srv/b");
    options_done(&o);
}

// What is given again adds to what was said in the same place, and the command line's takes the place of the file's.
static void lists_of_the_command_line_replace_those_of_the_file(void **state)
{
    const char *text = "endpoint = ipc:///a\nendpoint = ipc:///b\nallow-uid = 1\n";
    char *path = test_write(test_folder(), "sightd.conf", text, strlen(text));
    char *argv[] = {(char *)"sightd", (char *)"--config", path, (char *)"--endpoint=ipc:///c", NULL};
    options o;
    assert_ok(options_read(&o, 3, argv));
    assert_int_equal(o.endpoints.n, 2);
    options_done(&o);
    assert_ok(options_read(&o, 4, argv));
    assert_int_equal(o.endpoints.n, 1);
    assert_string_equal(o.endpoints.items[0], "ipc:///c");
    assert_int_equal(o.gate.allow_uid.n, 1);
    options_done(&o);
    free(path);
}

static void words_are_taken(void **state)
{
    options o;
    assert_ok(read_args(&o, "--check", "--exact"));
    assert_true(o.check && o.engine.exact && !o.help);
    options_done(&o);
    assert_ok(read_args(&o, "--allow-paths=no", "--kv=f32"));
    assert_false(o.limits.allow_paths);
    assert_int_equal(o.engine.kv_type, TENSOR_F32);
    options_done(&o);
    assert_ok(read_args(&o, "--allow-paths=no", "--kv=int8"));
    assert_int_equal(o.engine.kv_type, TENSOR_I8);
    options_done(&o);
    assert_ok(read_args(&o, "--fp8=off", "--weights=fp8"));
    assert_true(o.engine.no_f8 && o.engine.weights.form == WEIGHTS_FP8);
    options_done(&o);
    assert_ok(read_args(&o, "--fp8=auto", "--kv=int8"));
    assert_false(o.engine.no_f8);
    options_done(&o);
    assert_ok(read_args(&o, "--weights=int4", "--cache=/c"));
    assert_int_equal(o.engine.weights.form, WEIGHTS_INT4);
    assert_string_equal(o.engine.weights.cache, "/c");
    options_done(&o);
    assert_fails(read_args(&o, "--weights=int5", "--exact"), SIGHT_E_ARGUMENT, "int4 or fp8");
    options_done(&o);
}

static void devices_are_words_and_shares(void **state)
{
    options o;
    assert_ok(read_args(&o, "--device=cuda:3", "--device-memory=40%")); // looked for when a model is opened
    assert_string_equal(o.device, "cuda:3");
    assert_int_equal(o.engine.device.kind, DEVICE_CPU);
    assert_int_equal(o.engine.device_percent, 40);
    assert_int_equal(o.engine.device_bytes, 0);
    options_done(&o);
    assert_ok(read_args(&o, "--device=auto", "--device-memory=12G"));
    assert_int_equal(o.engine.device_percent, 0);
    assert_int_equal(o.engine.device_bytes, (int64_t)12 << 30);
    options_done(&o);
    assert_ok(read_args(&o, "--device=cpu", "--device-memory=0"));
    options_done(&o);
    assert_fails(read_args(&o, "--device=gpu", "--check"), SIGHT_E_ARGUMENT,
                 "device is 'gpu', must be auto, cpu, cuda or cuda:N");
    options_done(&o);
    static const char *const wrong[] = {"--device-memory=0%",  "--device-memory=101%", "--device-memory=-1",
                                        "--device-memory=%",   "--device-memory=4.5%", "--device-memory=half",
                                        "--device-memory=1e9999", "--device-memory=12G%"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_fails(read_args(&o, wrong[i], "--check"), SIGHT_E_ARGUMENT, "device-memory is '");
        options_done(&o);
    }
}

static void printed_settings_read_back_the_same(void **state)
{
    options o;
    assert_ok(read_args(&o, "--max-queue-bytes=3G", "--model=/m"));
    assert_reads_back(&o, "max-queue-bytes = 3221225472");
    options_done(&o);
}

// What a reload goes by: which settings differ, and one value for the other, whatever its kind.
static void settings_are_compared_and_changed(void **state)
{
    static const char *const wanted[] = {"model", "max-jobs", "max-queue-bytes", "allow-paths", "media-root", "grace"};
    options a, b;
    options_set_defaults(&a);
    options_set_defaults(&b);
    size_t at = 0;
    assert_null(options_difference(&a, &b, &at));
    assert_ok(options_read_text(&a, "media-root = /a\nmedia-root = /b\nmodel = /m\n", "a"));
    assert_ok(options_read_text(&b, "media-root = /a\nmedia-root = /c\nmax-jobs = 7\nmax-queue-bytes = 2G\n"
                                    "allow-paths = no\ngrace = 2.5\n", "b"));
    at = 0;
    const char *name;
    int n = 0;
    while ((name = options_difference(&a, &b, &at))) {
        bool known = false;
        for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) known |= !strcmp(name, wanted[i]);
        if (!known) fail_msg("'%s' does not differ", name);
        options_swap(&a, &b, name);
        n++;
    }
    assert_int_equal(n, 6);
    assert_null(a.model);
    assert_string_equal(b.model, "/m");
    assert_int_equal(a.queue.max_jobs, 7);
    assert_int_equal(a.queue.max_bytes, (int64_t)2 << 30);
    assert_false(a.limits.allow_paths);
    assert_true(b.limits.allow_paths);
    assert_string_equal(a.media_roots.items[1], "/c");
    assert_string_equal(b.media_roots.items[1], "/b");
    assert_float_equal(a.grace_s, 2.5, 0);
    options_swap(&a, &b, "no-such"); // nothing
    options_done(&a);
    options_done(&b);
}

// Settings stand in the example commented out ("#name = value"): all must be there, and accepted as they are; numbers and
// yes or no must be the defaults, so that nobody reads there what is no longer so.
static void the_example_file_holds_every_setting(void **state)
{
    static char text[65536], plain[65536], shown[65536], wanted[65536];
    FILE *f = fopen(TEST_SOURCE_DIR "/systemd/sightd.conf", "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    char *to = plain;
    for (const char *c = text; *c; c++) {
        const bool begins = c == text || c[-1] == '\n';
        if (begins && *c == '#' && c[1] >= 'a' && c[1] <= 'z') continue;
        *to++ = *c;
    }
    *to = 0;
    options o, defaults;
    options_set_defaults(&o);
    options_set_defaults(&defaults);
    assert_ok(options_read_text(&o, plain, "sightd.conf"));
    print_settings(shown, sizeof shown, &o);
    print_settings(wanted, sizeof wanted, &defaults);
    for (char *line = strtok(wanted, "\n"); line; line = strtok(NULL, "\n")) {
        const bool set = *line != '#';
        if (!set) line += 2; // "# name =": a setting without a value, or a help line
        char *equals = strstr(line, " =");
        if (!equals || memchr(line, ' ', (size_t)(equals - line))) continue;
        if (set && !strstr(shown, line)) fail_msg("the example does not have the default: %s", line);
        equals[2] = 0;
        if (!strstr(plain, line)) fail_msg("the example lacks '%s'", line);
    }
    options_done(&o);
    options_done(&defaults);
}

static void systemd_hears_us(void **state)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s/n", test_folder());
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    unsetenv("NOTIFY_SOCKET");
    notify_send("READY=1"); // nobody asked
    setenv("NOTIFY_SOCKET", a.sun_path, 1);
    notify_send("READY=1");
    char got[32] = {0};
    assert_int_equal(recv(fd, got, sizeof got, MSG_DONTWAIT), 7);
    assert_string_equal(got, "READY=1");
    close(fd);
    unsetenv("NOTIFY_SOCKET");
    setenv("WATCHDOG_USEC", "3000000", 1);
    assert_float_equal(notify_watchdog_s(), 1.5, 1e-9);
    setenv("WATCHDOG_PID", "1", 1);
    assert_float_equal(notify_watchdog_s(), 0, 0);
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(command_line_beats_the_file),
        cmocka_unit_test(wrong_settings_are_named),
        cmocka_unit_test(lines_of_a_file_are_named),
        cmocka_unit_test(a_setting_may_be_given_again),
        cmocka_unit_test(lists_of_the_command_line_replace_those_of_the_file),
        cmocka_unit_test(words_are_taken),
        cmocka_unit_test(devices_are_words_and_shares),
        cmocka_unit_test(printed_settings_read_back_the_same),
        cmocka_unit_test(settings_are_compared_and_changed),
        cmocka_unit_test(the_example_file_holds_every_setting),
        cmocka_unit_test(systemd_hears_us),
    };
    return cmocka_run_group_tests(tests, alone, NULL);
}
