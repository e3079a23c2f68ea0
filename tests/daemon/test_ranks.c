// Whole answers of a model that is split over two devices, both the CPU: those of one device, with drafts, kept pasts and
// pictures; and the end of a request in the middle.
#include "tasks.h"

#include "daemon/pipeline.h"
#include "text/agreeing.h"
#include "text/group.h"

static engine *whole, *halves;

static engine *open_over(int32_t others)
{
    engine_options o = engine_options_exact();
    engine *e;
    static const char *folder;
    if (!folder) folder = agreeing_model(0.03f);
    o.model = folder;
    o.threads = 1;
    o.step_rows = 64; // many pieces
    o.reuse = true;
    o.n_others = others;
    assert_ok(engine_open(&e, &o));
    return e;
}

static int open_both(void **state)
{
    whole = open_over(0);
    halves = open_over(1);
    return 0;
}

static int close_both(void **state)
{
    engine_close(&whole);
    engine_close(&halves);
    return 0;
}

typedef struct heard {
    char text[4096];
    int deltas, cancel_after; // deltas; 0: never
    atomic_bool cancel;
    json_t *end;
} heard;

static void hear(void *arg, sight_event_kind kind, const json_t *body)
{
    heard *h = arg;
    if (kind == SIGHT_DELTA) {
        strncat(h->text, json_string_value(json_object_get(body, "text")), sizeof h->text - 1 - strlen(h->text));
        if (++h->deltas == h->cancel_after) atomic_store(&h->cancel, true);
    }
    if (kind == SIGHT_DONE) h->end = json_incref((json_t *)body);
    if (kind == SIGHT_ERROR) fail_msg("%s", json_string_value(json_object_get(body, "message")));
}

static int64_t usage(const heard *h, const char *field)
{
    return json_integer_value(json_object_get(json_object_get(h->end, "usage"), field));
}

static heard *ask(engine *e, const char *content, const char *drafts, int cancel_after)
{
    char json[4096];
    snprintf(json, sizeof json, "{\"messages\": [{\"role\": \"user\", \"content\": [%s]}], \"max_tokens\": 40, "
             "\"temperature\": 0, \"enable_thinking\": false, \"drafts\": %s}", content, drafts);
    heard *h = calloc(1, sizeof *h);
    assert_non_null(h);
    h->cancel_after = cancel_after;
    task *t = task_of(e, json);
    assert_ok(pipeline_run(t, &h->cancel, hear, h));
    task_destroy(&t);
    assert_non_null(h->end);
    return h;
}

static void forget(heard *h)
{
    json_decref(h->end);
    free(h);
}

static void answers_are_those_of_one_device(void **state)
{
    static const char *const questions[] = {TEXT("tell me more"), TEXT(HALF_LONG "what?"), TEXT(HALF_LONG "who?"),
                                            IMAGE(PIC) "," TEXT("what?"), IMAGE(PIC) "," TEXT(HALF_LONG "where?"),
                                            VIDEO(CLIP) "," TEXT("why?")};
    for (size_t i = 0; i < sizeof questions / sizeof *questions; i++) {
        heard *want = ask(whole, questions[i], "\"off\"", 0);
        heard *got = ask(halves, questions[i], "\"off\"", 0), *drafted = ask(halves, questions[i], "3", 0);
        assert_true(strlen(want->text) > 4);
        assert_string_equal(got->text, want->text);
        assert_string_equal(drafted->text, want->text);
        assert_int_equal(usage(got, "reused_tokens"), usage(want, "reused_tokens"));
        if (i > 0) assert_true(usage(drafted, "reused_tokens") > 0);
        assert_true(usage(drafted, "accepted_tokens") > 0);
        forget(want);
        forget(got);
        forget(drafted);
    }
    assert_ok(engine_status(halves));
}

static void a_request_may_end_in_the_middle(void **state)
{
    const int64_t before = cache_bytes_used(engine_pool(halves));
    heard *h = ask(halves, TEXT("tell me " HALF_LONG), "2", 3);
    assert_string_equal(json_string_value(json_object_get(h->end, "finish_reason")), "cancelled");
    forget(h);
    assert_ok(engine_status(halves));
    assert_true(cache_bytes_used(engine_pool(halves)) >= before); // the prompt's past is kept
    heard *want = ask(whole, TEXT("and " HALF_LONG), "\"off\"", 0), *got = ask(halves, TEXT("and " HALF_LONG), "\"off\"", 0);
    assert_string_equal(got->text, want->text);
    forget(want);
    forget(got);
}

static void it_is_described(void **state)
{
    assert_int_equal(text_group_ranks(engine_text(halves)), 2);
    assert_int_equal(engine_get_memory(halves).devices, 2);
    assert_int_equal(engine_get_memory(whole).devices, 1);
    // A rank's keys and values are half of them.
    assert_int_equal(engine_get_memory(halves).per_token * 2, engine_get_memory(whole).per_token);
    json_t *about = engine_describe(halves);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(about, "memory"), "devices")), 2);
    json_decref(about);
}

static void what_does_not_divide_is_refused(void **state)
{
    engine_options o = engine_options_default();
    engine *e = NULL;
    o.model = TEST_GOLDEN_DIR "/hybrid/model";
    o.threads = 1;
    o.n_others = 6;
    assert_fails(engine_open(&e, &o), SIGHT_E_UNSUPPORTED, "do not divide among 7 devices");
    assert_null(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_those_of_one_device), cmocka_unit_test(a_request_may_end_in_the_middle),
        cmocka_unit_test(it_is_described), cmocka_unit_test(what_does_not_divide_is_refused)};
    return cmocka_run_group_tests(tests, open_both, close_both);
}
