// Prompts as `sight prompt` prints them: the golden conversations, as whole requests.
#include "support/test.h"

#include <unistd.h>

#include "base/file.h"
#include "daemon/engine.h"
#include "daemon/task.h"

// A folder with a tokenizer and this template alone; NULL: the built-in one.
static engine *open_with(const char *template)
{
    const char *folder = test_folder();
    char path[300];
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    assert_int_equal(symlink(TEST_GOLDEN_DIR "/tokenizer/tokenizer.json", path), 0);
    if (template) free(test_write(folder, "chat_template.jinja", template, strlen(template)));
    engine_options options = engine_options_default();
    options.model = folder;
    options.text_side_only = true;
    engine *e;
    assert_ok(engine_open(&e, &options));
    return e;
}

static json_t *request_of(const json_t *c)
{
    static const char *const fields[] = {"messages", "tools", "enable_thinking", "add_vision_id"};
    json_t *r = json_object();
    for (int i = 0; i < 4; i++) {
        json_t *v = json_object_get(c, fields[i]);
        if (v && !json_is_null(v)) json_object_set(r, fields[i], v);
    }
    return r;
}

static void check(const engine *e, const json_t *c, size_t i)
{
    json_t *r = request_of(c);
    char *json = json_dumps(r, 0), *text = NULL;
    const request_source source = {.json = json, .size = strlen(json)};
    const request_limits limits = request_limits_default();
    request *asked = NULL;
    size_t n = 0;
    sight_err err = request_parse(&asked, &source, &limits, &engine_config(e)->generation);
    if (!err) err = task_prompt_text(&text, &n, e, asked);
    const char *wanted = json_string_value(json_object_get(c, "prompt"));
    const char *refusal = json_string_value(json_object_get(c, "error"));
    if (wanted && err) fail_msg("conversation %zu: %s", i, sight_error());
    if (wanted && (n != strlen(wanted) || memcmp(text, wanted, n))) {
        fail_msg("conversation %zu: '%.*s' instead of '%s'", i, (int)n, text, wanted);
    }
    if (refusal) assert_int_equal(err, SIGHT_E_ARGUMENT);
    if (refusal && !strstr(sight_error(), refusal)) {
        fail_msg("conversation %zu: '%s' does not say '%s'", i, sight_error(), refusal);
    }
    free(text);
    request_destroy(&asked);
    free(json);
    json_decref(r);
}

static void golden_conversations(void **state)
{
    char *template;
    size_t size;
    assert_ok(
        file_read(&template, &size, TEST_SOURCE_DIR "/models/mini/chat_template.jinja", 1 << 20));
    engine *on = open_with(NULL), *off = open_with(template);
    json_t *cases = json_load_file(TEST_GOLDEN_DIR "/chat/cases.json", 0, NULL);
    assert_true(json_array_size(cases) > 100);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i);
        const char *name = json_string_value(json_object_get(c, "template"));
        check(strcmp(name, "default-on") ? off : on, c, i);
    }
    json_decref(cases);
    engine_close(&on);
    engine_close(&off);
    free(template);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden_conversations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
