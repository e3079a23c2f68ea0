#include "support/test.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "text/tokenizer.h"

static tokenizer *golden;

static int open_golden(void **state)
{
    return tokenizer_open(&golden, TEST_GOLDEN_DIR "/tokenizer") ? -1 : 0;
}

static int close_golden(void **state)
{
    tokenizer_close(&golden);
    return 0;
}

static char *decode(const tokenizer *t, const int32_t *ids, size_t n, bool skip_special)
{
    token_stream s = {0};
    buf out;
    buf_init(&out);
    for (size_t i = 0; i < n; i++) token_stream_push(&s, t, &out, ids[i], skip_special);
    token_stream_finish(&s, &out);
    buf_putc(&out, 0);
    return buf_take(&out);
}

static void check_case(const tokenizer *t, const json_t *c, size_t i)
{
    const json_t *text = json_object_get(c, "text"), *want = json_object_get(c, "ids");
    token_list ids = {0};
    assert_ok(tokenizer_encode(t, &ids, json_string_value(text), json_string_length(text),
                               TOKENIZER_TOKENS));
    if (ids.n != json_array_size(want)) fail_msg("case %zu: %zu ids", i, ids.n);
    for (size_t k = 0; k < ids.n; k++)
        if (ids.ids[k] != json_integer_value(json_array_get(want, k))) {
            fail_msg("case %zu: id %zu is %d", i, k, ids.ids[k]);
        }
    const json_t *decoded = json_object_get(c, "decoded");
    char *got = decode(t, ids.ids, ids.n, false);
    assert_memory_equal(got, json_string_value(decoded), json_string_length(decoded) + 1);
    free(got);
    token_list_done(&ids);
}

static void golden_cases_are_equal(void **state)
{
    json_t *cases;
    assert_ok(json_parse_file(&cases, TEST_GOLDEN_DIR "/tokenizer/cases.json", 1 << 24,
                              SIGHT_E_MODEL));
    assert_true(json_array_size(cases) >= 400);
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_case(golden, json_array_get(cases, i), i);
    json_decref(cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_cases_are_equal),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
