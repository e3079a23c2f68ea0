#include "support/test.h"

#include "text/stop.h"

// Pushes text in pieces of `step` bytes; returns what came out, and whether it stopped.
static char *filter(const char *const *strings, size_t n, const char *text, size_t step, bool *met)
{
    stop s;
    buf out;
    assert_ok(stop_init(&s, strings, n));
    buf_init(&out);
    size_t size = strlen(text);
    *met = false;
    for (size_t i = 0; i < size && !*met; i += step)
        *met = stop_push(&s, &out, text + i, step < size - i ? step : size - i);
    if (!*met) stop_flush(&s, &out);
    stop_done(&s);
    buf_putc(&out, 0);
    return buf_take(&out);
}

static void check(const char *const *strings, size_t n, const char *text, const char *want,
                  bool want_met)
{
    for (size_t step = 1; step <= 20; step++) {
        bool met;
        char *got = filter(strings, n, text, step, &met);
        assert_string_equal(got, want);
        assert_int_equal(met, want_met);
        free(got);
    }
}

static void text_is_cut_before_the_stop_string(void **state)
{
    check((const char *[]){"END"}, 1, "one END two", "one ", true);
    check((const char *[]){"END"}, 1, "one EN", "one EN", false);
    check((const char *[]){"END"}, 1, "END", "", true);
    check((const char *[]){"END"}, 1, "EEENDD", "EE", true);
    check(NULL, 0, "anything", "anything", false);
    check((const char *[]){"x"}, 1, "", "", false);
}

static void a_string_may_overlap_itself(void **state)
{
    check((const char *[]){"aab"}, 1, "aaaab", "aa", true);
    check((const char *[]){"abab"}, 1, "abaabab", "aba", true);
    check((const char *[]){"aa"}, 1, "baaa", "b", true);
}

static void the_one_that_ends_first_counts(void **state)
{
    check((const char *[]){"abcd", "bc"}, 2, "xabcdx", "xa", true);
    check((const char *[]){"abcd", "bd"}, 2, "xabcbd", "xabc", true);
    check((const char *[]){"abc", "bc"}, 2, "xabc", "x", true);
    check((const char *[]){"\n\n", "\nUser:"}, 2, "a\nUser: \n\n", "a", true);
    check((const char *[]){"\n\n", "\nUser:"}, 2, "a\nUse\n\n", "a\nUse", true);
}

static void bytes_beyond_ascii_match(void **state)
{
    check((const char *[]){"\u3002", "\U0001f6d1"}, 2, "\u65e5\u672c\u3001\u3002x",
          "\u65e5\u672c\u3001", true);
    check((const char *[]){"\u3002", "\U0001f6d1"}, 2, "go \U0001f680 \U0001f6d1", "go \U0001f680 ",
          true);
}

static void what_cannot_become_one_is_not_held(void **state)
{
    stop s;
    buf out;
    assert_ok(stop_init(&s, (const char *[]){"</tool_call>"}, 1));
    buf_init(&out);
    assert_false(stop_push(&s, &out, "a < b </tool", 12));
    assert_string_equal(buf_text(&out), "a < b ");
    assert_false(stop_push(&s, &out, "s", 1));
    assert_string_equal(buf_text(&out), "a < b </tools");
    buf_done(&out);
    stop_done(&s);
}

static void wrong_strings_are_refused(void **state)
{
    char text[STOP_MAX_BYTES + 2];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    const char *many[STOP_MAX_STRINGS + 1];
    for (size_t i = 0; i <= STOP_MAX_STRINGS; i++) many[i] = "x";
    stop s = {.n = 7};
    assert_fails(stop_init(&s, (const char *[]){"a", ""}, 2), SIGHT_E_ARGUMENT, "string 1 has 0");
    assert_fails(stop_init(&s, (const char *[]){text}, 1), SIGHT_E_ARGUMENT, "257 bytes");
    assert_fails(stop_init(&s, many, STOP_MAX_STRINGS + 1), SIGHT_E_ARGUMENT, "at most 16");
    assert_int_equal(s.n, 7);
    assert_ok(stop_init(&s, (const char *[]){text + 1}, 1));
    stop_done(&s);
    stop_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_cut_before_the_stop_string),
        cmocka_unit_test(a_string_may_overlap_itself),
        cmocka_unit_test(the_one_that_ends_first_counts),
        cmocka_unit_test(bytes_beyond_ascii_match),
        cmocka_unit_test(what_cannot_become_one_is_not_held),
        cmocka_unit_test(wrong_strings_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
