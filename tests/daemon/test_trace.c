// Traces of every golden case, number by number, by the limits of compare_trace.py.
#include "daemon/golden_trace.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static void hybrid(void **state)
{
    trace_model("hybrid", engine_options_exact(), NULL);
}

static void hybrid_deepstack(void **state)
{
    trace_model("hybrid-deepstack", engine_options_exact(), NULL);
}

static void hybrid_yarn(void **state)
{
    trace_model("hybrid-yarn", engine_options_exact(), NULL);
}

static void qwen3vl(void **state)
{
    trace_model("qwen3vl", engine_options_exact(), NULL);
}

// A disk without room, played by a limit on the size of files: one sentence, and nothing left.
static void a_full_disk_is_told(void **state)
{
    engine_options options = engine_options_exact();
    options.model = TEST_GOLDEN_DIR "/hybrid/model";
    engine *e;
    assert_ok(engine_open(&e, &options));
    const char *json =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"max_tokens\": 1}";
    const request_source source = {.json = json, .size = strlen(json)};
    const request_limits limits = request_limits_default();
    char folder[300], path[400];
    snprintf(folder, sizeof folder, "%s", test_folder());
    snprintf(path, sizeof path, "%s/t.safetensors", folder);
    struct rlimit before, small;
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 4096;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    const sight_err err = trace_run(e, &source, &limits, path);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(err, SIGHT_E_IO);
    assert_non_null(strstr(sight_error(), "t.safetensors"));
    assert_int_equal(rmdir(folder), 0); // empty
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_fails(trace_run(e, &source, &limits, "/nonexistent/t.safetensors"), SIGHT_E_NOT_FOUND,
                 "/nonexistent/t.safetensors");
    engine_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hybrid),
        cmocka_unit_test(hybrid_deepstack),
        cmocka_unit_test(hybrid_yarn),
        cmocka_unit_test(qwen3vl),
        cmocka_unit_test(a_full_disk_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
