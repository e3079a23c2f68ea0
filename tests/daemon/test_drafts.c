// Whole answers with and without drafts, in this process: the same, whatever ends them.
#include "agreeing_engine.h"
#include "tasks.h"

#include "daemon/pipeline.h"

#define MORE TEXT("tell me more")

static sight_err make(task **out, const char *content, const char *fields, const char *drafts,
                      int32_t usual)
{
    char json[4096];
    snprintf(json, sizeof json,
             "{\"messages\": [{\"role\": \"user\", \"content\": [%s]}], "
             "\"enable_thinking\": false%s%s, %s}",
             content, drafts ? ", \"drafts\": " : "", drafts ? drafts : "", fields);
    request_limits limits = request_limits_default();
    limits.drafts = usual;
    return task_try(out, model, json, NULL, &limits);
}

typedef struct heard {
    char text[65536];
    int deltas, cancel_after; // deltas; 0: never
    atomic_bool cancel;
    json_t *end;
} heard;

static void hear(void *arg, sight_event_kind kind, const json_t *body)
{
    heard *h = arg;
    assert_int_not_equal(kind, SIGHT_WARNING);
    if (kind == SIGHT_DELTA) {
        strncat(h->text, json_string_value(json_object_get(body, "text")),
                sizeof h->text - 1 - strlen(h->text));
        if (++h->deltas == h->cancel_after) atomic_store(&h->cancel, true);
    }
    if (kind == SIGHT_DONE) h->end = json_incref((json_t *)body);
    if (kind == SIGHT_ERROR) fail_msg("%s", json_string_value(json_object_get(body, "message")));
}

static int64_t usage(const heard *h, const char *field)
{
    const json_t *v = json_object_get(json_object_get(h->end, "usage"), field);
    assert_true(json_is_integer(v));
    return json_integer_value(v);
}

static const char *reason(const heard *h)
{
    return json_string_value(json_object_get(h->end, "finish_reason"));
}

static heard *answer_of(const char *content, const char *fields, const char *drafts, int32_t usual,
                        int cancel_after)
{
    heard *h = calloc(1, sizeof *h);
    task *t = NULL;
    assert_non_null(h);
    h->cancel_after = cancel_after;
    assert_ok(make(&t, content, fields, drafts, usual));
    assert_ok(pipeline_run(t, &h->cancel, hear, h));
    task_destroy(&t);
    assert_non_null(h->end);
    assert_int_equal(cache_bytes_used(engine_pool(model)), 0);
    return h;
}

static void forget(heard **h)
{
    json_decref((*h)->end);
    free(*h);
    *h = NULL;
}

// The answer without drafts, against those with each way of asking for them.
static void compare(const char *content, const char *fields, const char *finish_reason)
{
    static const char *const ways[] = {"\"auto\"", "1", "2", "3", "4", NULL};
    heard *want = answer_of(content, fields, "\"off\"", 4, 0);
    assert_string_equal(reason(want), finish_reason);
    assert_int_equal(usage(want, "drafted_tokens"), 0);
    for (int i = 0; i < 6; i++) {
        heard *got = answer_of(content, fields, ways[i], 2, 0);
        assert_string_equal(got->text, want->text);
        assert_string_equal(reason(got), reason(want));
        assert_int_equal(usage(got, "completion_tokens"), usage(want, "completion_tokens"));
        const int64_t drafted = usage(got, "drafted_tokens");
        const int64_t accepted = usage(got, "accepted_tokens");
        assert_in_range(accepted, 0, drafted);
        assert_true(accepted < usage(got, "completion_tokens"));
        if (i > 0) assert_true(drafted > 0); // auto may find that they do not pay
        forget(&got);
    }
    forget(&want);
}

static void answers_are_the_same(void **state)
{
    compare(MORE, "\"max_tokens\": 120, \"temperature\": 0", "length");
    compare(IMAGE(PIC) "," MORE, "\"max_tokens\": 90, \"temperature\": 0.7, \"top_k\": 20, "
            "\"top_p\": 0.8, \"presence_penalty\": 1.5, \"seed\": 1", "length");
    compare(VIDEO(CLIP) "," MORE, "\"max_tokens\": 90, \"temperature\": 1.2, \"seed\": 8, "
            "\"repetition_penalty\": 1.2", "length");
}

#define FORM                                                                                       \
    "\"response_format\": {\"type\": \"json_schema\", \"json_schema\": {\"name\": \"f\", \"schema\": {\"type\": "  \
    "\"object\", \"properties\": {\"where\": {\"type\": \"array\", \"items\": {\"type\": \"integer\", \"minimum\": 0, "      \
    "\"maximum\": 1000}, \"minItems\": 4, \"maxItems\": 4}, \"what\": {\"type\": \"string\", \"maxLength\": 12}}, "  \
    "\"required\": [\"where\", \"what\"], \"additionalProperties\": false}}}"

static void answers_of_a_form_are_the_same(void **state)
{
    compare(MORE, FORM ", \"max_tokens\": 300, \"temperature\": 0", "stop");
    compare(IMAGE(PIC) "," MORE, FORM ", \"max_tokens\": 300, \"temperature\": 1, \"top_k\": 40, \"seed\": 3", "stop");
}

// Every number of tokens: a step never reads past the last.
static void as_many_tokens_as_asked(void **state)
{
    char fields[100];
    for (int n = 2; n < 12; n++) {
        heard *h;
        snprintf(fields, sizeof fields, "\"max_tokens\": %d, \"temperature\": 0", n);
        h = answer_of(MORE, fields, "4", 0, 0);
        assert_int_equal(usage(h, "completion_tokens"), n);
        assert_true(usage(h, "drafted_tokens") <= (n - 1) * 4);
        if (n == 2) assert_int_equal(usage(h, "drafted_tokens"), 0);
        forget(&h);
    }
}

// A stop string out of the middle of the answer, met at whatever place of a step.
static void stop_strings_end_answers(void **state)
{
    heard *whole = answer_of(MORE, "\"max_tokens\": 60, \"temperature\": 0", "0", 0, 0);
    int tried = 0;
    for (size_t at = 20; at + 4 < strlen(whole->text) && tried < 6; at += 9) {
        char ending[5] = {0}, fields[200];
        memcpy(ending, whole->text + at, 4);
        bool plain = true;
        for (int i = 0; i < 4; i++) plain &= ending[i] >= 'a' && ending[i] <= 'z';
        if (!plain) continue;
        snprintf(fields, sizeof fields, "\"max_tokens\": 60, \"temperature\": 0, \"stop\": \"%s\"",
                 ending);
        compare(MORE, fields, "stop");
        tried++;
    }
    assert_true(tried > 0);
    forget(&whole);
}

static void cancelled_answers_end(void **state)
{
    for (int after = 1; after < 8; after++) {
        heard *h = answer_of(MORE, "\"max_tokens\": 500, \"temperature\": 0", "3", 0, after);
        assert_string_equal(reason(h), "cancelled");
        assert_true(usage(h, "completion_tokens") < 500);
        forget(&h);
    }
}

static void how_drafts_are_asked_for(void **state)
{
    static const char *const wrong[] = {"5", "-1", "\"many\"", "\"\"", "true", "1.5"};
    task *t = NULL;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_fails(make(&t, MORE, "\"max_tokens\": 5", wrong[i], 0), SIGHT_E_ARGUMENT, "drafts");
    }
    const struct {
        const char *given;
        int32_t usual, want;
    } right[] = {{NULL, 3, 3}, {"null", 2, 2}, {"\"auto\"", 0, DRAFT_AUTO}, {"\"off\"", 4, 0},
                 {"0", 4, 0}, {"4", 0, 4}, {"\"2\"", 0, 2}};
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
        assert_ok(make(&t, MORE, "\"max_tokens\": 5", right[i].given, right[i].usual));
        assert_int_equal(t->asked->drafts, right[i].want);
        task_destroy(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_the_same),
        cmocka_unit_test(answers_of_a_form_are_the_same),
        cmocka_unit_test(as_many_tokens_as_asked),
        cmocka_unit_test(stop_strings_end_answers),
        cmocka_unit_test(cancelled_answers_end),
        cmocka_unit_test(how_drafts_are_asked_for),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
