// Calls, however they are cut into pieces.
#include "support/test.h"

#include "base/buf.h"
#include "text/tool_calls.h"

static void begins(void *arg, const char *name)
{
    buf_printf(arg, "[%s ", name);
}

static void arguments(void *arg, const char *json, size_t n)
{
    buf_add(arg, json, n);
}

static void ends(void *arg)
{
    buf_puts(arg, "]");
}

static void broken(void *arg, const char *text)
{
    buf_printf(arg, "!%s!", text);
}

static const char tools[] =
    "[{\"type\": \"function\", \"function\": {\"name\": \"look\", \"parameters\": {\"type\": \"object\", \"properties\": {\"at\": "
    "{\"type\": \"integer\"}, \"code\": {\"type\": \"string\"}, \"flags\": {\"type\": [\"array\", \"null\"]}}}}}, {\"name\": \"go\"}]";

// Pushed in pieces of `step` bytes.
static void reads(const char *text, const char *want, size_t step)
{
    buf out;
    buf_init(&out);
    const tool_sink sink = {begins, arguments, ends, broken, &out};
    json_t *list = json_loads(tools, 0, NULL);
    tool_calls *t = NULL;
    assert_ok(tool_calls_create(&t, list, &sink));
    tool_calls_push(t, "before", 6); // of no call
    tool_calls_open(t);
    for (size_t i = 0, n = strlen(text); i < n; i += step) tool_calls_push(t, text + i, n - i < step ? n - i : step);
    tool_calls_close(t);
    tool_calls_close(t);
    assert_false(tool_calls_failed(t));
    assert_string_equal(buf_text(&out), want);
    tool_calls_destroy(&t);
    assert_null(t);
    json_decref(list);
    buf_done(&out);
}

static void calls_are_read(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"\n<function=look>\n<parameter=at>\n12\n</parameter>\n<parameter=code>\n12\n</parameter>\n</function>\n",
         "[look {\"at\": 12, \"code\": \"12\"}]"},
        {"<function=go>\n</function>", "[go {}]"},
        {"<function=go><parameter=x>a < b\n\nc</parameter></function>", "[go {\"x\": \"a < b\\n\\nc\"}]"},
        {"<function=look><parameter=flags>[1, 2]</parameter><parameter=at>soon</parameter></function>",
         "[look {\"flags\": [1,2], \"at\": \"soon\"}]"},
        {"<function=unknown><parameter=a\"b>true</parameter></function>", "[unknown {\"a\\\"b\": true}]"},
        {"\n{\"name\": \"look\", \"arguments\": {\"at\": 3}}\n", "[look {\"at\":3}]"},
        {"{\"name\": \"go\"}", "[go {}]"},
        {"{\"name\": 3}", "!{\"name\": 3}!"},
        {"nothing at all", "!nothing at all!"},
        {"", "!!"},
        {"<function=look><parameter=at>1</parameter><parameter=code>cut", // by max_tokens
         "[look {\"at\": 1!<function=look><parameter=at>1</parameter><parameter=code>cut!}]"},
        {"<function=look> um <parameter=at>1</parameter>", "[look {\"at\": 1}]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t step = 1; step < 90; step += 1 + step / 4) reads(cases[i][0], cases[i][1], step);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(calls_are_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
