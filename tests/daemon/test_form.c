// Forms of answers with the bundled model, from a request's JSON to the text.
#include "tasks.h"

#include <regex.h>

#include "daemon/pipeline.h"

static engine *model;

static int open_model(void **state)
{
    engine_options o = engine_options_default();
    o.model = TEST_GOLDEN_DIR "/../../models/mini";
    o.threads = 2;
    o.weights.cache = "none";
    return engine_open(&model, &o) != SIGHT_OK;
}

static int close_model(void **state)
{
    engine_close(&model);
    return 0;
}

static void hear(void *arg, sight_event_kind kind, const json_t *body)
{
    if (kind == SIGHT_ERROR) fail_msg("%s", json_string_value(json_object_get(body, "message")));
    if (kind == SIGHT_DONE) *(json_t **)arg = json_incref((json_t *)body);
}

static sight_err make(task **out, const char *format, const char *fields)
{
    char json[2048];
    snprintf(json, sizeof json, "{\"messages\": [{\"role\": \"user\", \"content\": \"What moves, and when?\"}], \"stream\": false, "
             "\"max_tokens\": 200, \"response_format\": %s%s}", format, fields);
    return task_try(out, model, json, NULL, NULL);
}

// The whole answer; it ended by itself.
static char *answer_of(const char *format, const char *fields)
{
    task *t = NULL;
    json_t *done = NULL;
    const atomic_bool never = false;
    assert_ok(make(&t, format, fields));
    assert_ok(pipeline_run(t, &never, hear, &done));
    task_destroy(&t);
    if (strcmp(json_string_value(json_object_get(done, "finish_reason")), "stop")) fail_msg("%s", json_string_value(json_object_get(done, "answer")));
    char *text = strdup(json_string_value(json_object_get(done, "answer")));
    json_decref(done);
    return text;
}

static void json_of_a_schema(void **state)
{
    (void)state;
    static const char *const ways[] = {", \"temperature\": 0", ", \"temperature\": 1.5, \"top_k\": 0, \"seed\": 4",
        ", \"temperature\": 1, \"top_k\": 20, \"presence_penalty\": 1.5, \"seed\": 5"};
    for (size_t i = 0; i < 3; i++) {
        char *text = answer_of("{\"type\": \"json_schema\", \"json_schema\": {\"name\": \"x\", \"schema\": {\"type\": \"object\", "
            "\"properties\": {\"colour\": {\"enum\": [\"red\", \"blue\"]}, \"at\": {\"type\": \"number\", \"minimum\": 0, \"maximum\": 60}, "
            "\"name\": {\"type\": \"string\", \"minLength\": 3, \"maxLength\": 8}}, \"required\": [\"colour\", \"at\", \"name\"], "
            "\"additionalProperties\": false}}}", ways[i]);
        json_error_t e;
        json_t *j = json_loads(text, 0, &e);
        if (!j) fail_msg("%s: %s", text, e.text);
        const char *colour = json_string_value(json_object_get(j, "colour"));
        assert_true(!strcmp(colour, "red") || !strcmp(colour, "blue"));
        const double at = json_number_value(json_object_get(j, "at"));
        assert_true(at >= 0 && at <= 60);
        assert_non_null(json_string_value(json_object_get(j, "name")));
        assert_int_equal(json_object_size(j), 3);
        json_decref(j);
        free(text);
    }
}

static void choices_and_expressions(void **state)
{
    (void)state;
    char *text = answer_of("{\"type\": \"choice\", \"choices\": [\"yes\", \"no\", \"not sure\"]}", ", \"temperature\": 0");
    assert_true(!strcmp(text, "yes") || !strcmp(text, "no") || !strcmp(text, "not sure"));
    free(text);
    regex_t r;
    assert_int_equal(regcomp(&r, "^[0-9]{2}:[0-9]{2} (am|pm)$", REG_EXTENDED), 0);
    text = answer_of("{\"type\": \"regex\", \"pattern\": \"[0-9]{2}:[0-9]{2} (am|pm)\"}", ", \"temperature\": 1, \"seed\": 2");
    if (regexec(&r, text, 0, NULL, 0)) fail_msg("%s", text);
    regfree(&r);
    free(text);
}

static void refusals(void **state)
{
    (void)state;
    task *t = NULL;
    assert_fails(make(&t, "{\"type\": \"xml\"}", ""), SIGHT_E_ARGUMENT, "'response_format.type' is 'xml'");
    assert_fails(make(&t, "{\"type\": \"json_schema\"}", ""), SIGHT_E_ARGUMENT, "no 'json_schema' with a 'schema'");
    assert_fails(make(&t, "{\"type\": \"json_schema\", \"json_schema\": {\"schema\": {\"allOf\": []}}}", ""), SIGHT_E_UNSUPPORTED,
                 "'response_format.json_schema.schema' at /allOf");
    assert_fails(make(&t, "{\"type\": \"regex\", \"pattern\": \"a(\"}", ""), SIGHT_E_ARGUMENT, "'response_format.pattern', at character");
    assert_fails(make(&t, "{\"type\": \"choice\", \"choices\": [1]}", ""), SIGHT_E_ARGUMENT, "'response_format.choices'[0]");
    assert_null(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_of_a_schema),
        cmocka_unit_test(choices_and_expressions),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
