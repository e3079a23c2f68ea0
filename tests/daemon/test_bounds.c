// What bounds an answer from inside: thinking that has used up its tokens, and text that goes round in circles.
#include "agreeing_engine.h"
#include "tasks.h"

#include "daemon/pipeline.h"

typedef struct heard {
    json_t *done;
    int warnings;
} heard;

static void hear(void *arg, sight_event_kind kind, const json_t *body)
{
    heard *h = arg;
    if (kind == SIGHT_ERROR) fail_msg("%s", json_string_value(json_object_get(body, "message")));
    if (kind == SIGHT_WARNING) h->warnings++;
    if (kind == SIGHT_DONE) h->done = json_incref((json_t *)body);
}

static sight_err ask(heard *h, const char *fields)
{
    char json[2048];
    snprintf(json, sizeof json, "{\"messages\": [{\"role\": \"user\", \"content\": \"tell me more\"}], \"stream\": false, %s}", fields);
    const atomic_bool never = false;
    task *t = NULL;
    *h = (heard){0};
    sight_err err = task_try(&t, model, json, NULL, NULL);
    if (!err) err = pipeline_run(t, &never, hear, h);
    task_destroy(&t);
    if (!err) assert_int_equal(cache_bytes_used(engine_pool(model)), 0);
    return err;
}

static const char *of(const heard *h, const char *key)
{
    const char *text = json_string_value(json_object_get(h->done, key));
    return text ? text : "";
}

static int64_t tokens(const heard *h)
{
    return json_integer_value(json_object_get(json_object_get(h->done, "usage"), "completion_tokens"));
}

static void thinking_ends_in_time(void **state)
{
    (void)state;
    static const char *const drafts[] = {"\"off\"", "3"};
    char *answers[2];
    for (int i = 0; i < 2; i++) {
        char fields[256];
        heard h;
        snprintf(fields, sizeof fields, "\"enable_thinking\": true, \"thinking_budget\": 6, \"max_tokens\": 40, \"temperature\": 0, "
                 "\"drafts\": %s", drafts[i]);
        assert_ok(ask(&h, fields));
        assert_true(*of(&h, "thinking"));
        assert_true(strlen(of(&h, "thinking")) < 200);
        assert_true(*of(&h, "answer"));
        assert_string_equal(of(&h, "finish_reason"), "length");
        assert_int_equal(tokens(&h), 40);
        answers[i] = strdup(of(&h, "answer"));
        json_decref(h.done);
    }
    assert_string_equal(answers[0], answers[1]);
    free(answers[0]);
    free(answers[1]);
}

// Without a budget a part of the tokens is left; the form begins after thinking.
static void there_is_room_for_an_answer(void **state)
{
    (void)state;
    heard h;
    assert_ok(ask(&h, "\"enable_thinking\": true, \"max_tokens\": 60, \"temperature\": 0"));
    assert_true(*of(&h, "thinking"));
    assert_true(*of(&h, "answer"));
    json_decref(h.done);
    assert_ok(ask(&h, "\"enable_thinking\": true, \"max_tokens\": 60, \"temperature\": 0, \"response_format\": {\"type\": \"choice\", "
                  "\"choices\": [\"left\", \"right\"]}"));
    assert_true(*of(&h, "thinking"));
    assert_true(!strcmp(of(&h, "answer"), "left") || !strcmp(of(&h, "answer"), "right"));
    assert_string_equal(of(&h, "finish_reason"), "stop");
    json_decref(h.done);
}

#define CIRCLE "\"enable_thinking\": false, \"max_tokens\": 600, \"temperature\": 0, \"response_format\": {\"type\": \"regex\", \"pattern\": \"(ab){500,}\"}"

static void circles_end(void **state)
{
    (void)state;
    heard h;
    assert_ok(ask(&h, CIRCLE));
    assert_string_equal(of(&h, "finish_reason"), "repetition");
    assert_in_range(tokens(&h), 150, 400);
    assert_int_equal(h.warnings, 0);
    json_decref(h.done);
    assert_ok(ask(&h, CIRCLE ", \"repetition_guard\": false"));
    assert_string_equal(of(&h, "finish_reason"), "length");
    assert_int_equal(tokens(&h), 600);
    json_decref(h.done);
    assert_ok(ask(&h, CIRCLE ", \"repetition_retry\": 0.9"));
    assert_string_equal(of(&h, "finish_reason"), "repetition"); // there is nothing else to say
    assert_in_range(tokens(&h), 150, 400);
    assert_int_equal(h.warnings, 1);
    json_decref(h.done);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thinking_ends_in_time),
        cmocka_unit_test(there_is_room_for_an_answer),
        cmocka_unit_test(circles_end),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
