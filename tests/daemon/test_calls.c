// Calls of an answer: what is told while they are written, what is listed at the end, and answers that have to be one.
#include "agreeing_engine.h"
#include "tasks.h"

#include "daemon/calls.h"
#include "daemon/pipeline.h"

#define TOOLS \
    "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"look\", \"description\": \"Looks.\", \"parameters\": {\"type\": " \
    "\"object\", \"properties\": {\"at\": {\"type\": \"integer\"}}}}}, {\"type\": \"function\", \"function\": {\"name\": \"go\", " \
    "\"description\": \"Goes.\", \"parameters\": {\"type\": \"object\", \"properties\": {}}}}]"

static void on_delta(void *arg, json_t *body)
{
    json_array_append_new(arg, body);
}

static void on_warning(void *arg, const char *line)
{
    json_array_append_new(arg, json_string(line));
}

static void written(calls *c, const char *text)
{
    calls_border(c, true);
    calls_text(c, text, strlen(text));
    calls_border(c, false);
}

static void calls_are_told_and_listed(void **state)
{
    (void)state;
    json_t *heard = json_array(), *root = json_loads("{" TOOLS "}", 0, NULL);
    const calls_sink sink = {on_delta, on_warning, heard};
    calls *c = NULL;
    assert_ok(calls_create(&c, json_object_get(root, "tools"), &sink));
    assert_null(calls_list(c));
    written(c, "\n<function=look>\n<parameter=at>\n7\n</parameter>\n</function>\n");
    written(c, "neither");
    written(c, "{\"name\": \"go\", \"arguments\": {}}");
    json_t *list = calls_list(c);
    assert_int_equal(json_array_size(list), 2);
    const json_t *first = json_array_get(list, 0), *second = json_array_get(list, 1);
    assert_string_equal(json_string_value(json_object_get(json_object_get(first, "function"), "arguments")), "{\"at\": 7}");
    assert_string_equal(json_string_value(json_object_get(json_object_get(second, "function"), "name")), "go");
    assert_string_not_equal(json_string_value(json_object_get(first, "id")), json_string_value(json_object_get(second, "id")));
    const json_t *begun = json_array_get(heard, 0);
    assert_string_equal(json_string_value(json_object_get(begun, "name")), "look");
    assert_string_equal(json_string_value(json_object_get(begun, "id")), json_string_value(json_object_get(first, "id")));
    size_t i;
    json_t *one;
    char together[256] = "";
    bool warned = false;
    json_array_foreach(heard, i, one) {
        const char *piece = json_string_value(json_object_get(one, "arguments"));
        if (piece && json_integer_value(json_object_get(one, "index")) == 0) strcat(together, piece);
        if (json_is_string(one)) warned = strstr(json_string_value(one), "cannot be read: neither") != NULL;
    }
    assert_string_equal(together, "{\"at\": 7}");
    assert_true(warned);
    assert_false(calls_failed(c));
    json_decref(list);
    json_decref(heard);
    json_decref(root);
    calls_destroy(&c);
}

static void hear(void *arg, sight_event_kind kind, const json_t *body)
{
    if (kind == SIGHT_ERROR) fail_msg("%s", json_string_value(json_object_get(body, "message")));
    if (kind == SIGHT_DONE) *(json_t **)arg = json_incref((json_t *)body);
}

static json_t *done_of(const char *fields)
{
    char json[4096];
    snprintf(json, sizeof json, "{\"messages\": [{\"role\": \"user\", \"content\": \"tell me more\"}], \"stream\": false, " TOOLS
             ", \"max_tokens\": 60, \"temperature\": 0, %s}", fields);
    const atomic_bool never = false;
    task *t = task_of(model, json);
    json_t *done = NULL;
    assert_ok(pipeline_run(t, &never, hear, &done));
    task_destroy(&t);
    return done;
}

static void an_answer_can_have_to_be_a_call(void **state)
{
    (void)state;
    static const char *const ways[] = {"\"enable_thinking\": false", "\"enable_thinking\": true, \"thinking_budget\": 5",
        "\"enable_thinking\": false, \"drafts\": 3"};
    for (size_t i = 0; i < 3; i++) {
        char fields[256];
        snprintf(fields, sizeof fields, "%s, \"tool_choice\": {\"type\": \"function\", \"function\": {\"name\": \"go\"}}", ways[i]);
        json_t *done = done_of(fields);
        const json_t *call = json_array_get(json_object_get(done, "tool_calls"), 0);
        assert_string_equal(json_string_value(json_object_get(json_object_get(call, "function"), "name")), "go");
        const char *given = json_string_value(json_object_get(json_object_get(call, "function"), "arguments"));
        json_t *parsed = json_loads(given, 0, NULL);
        assert_true(json_is_object(parsed));
        json_decref(parsed);
        const char *answer = json_string_value(json_object_get(done, "answer"));
        assert_null(strstr(answer, "function="));
        json_decref(done);
    }
    json_t *done = done_of("\"enable_thinking\": false, \"tool_choice\": \"none\"");
    assert_null(json_object_get(done, "tool_calls"));
    json_decref(done);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_are_told_and_listed),
        cmocka_unit_test(an_answer_can_have_to_be_a_call),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
