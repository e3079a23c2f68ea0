#include "support/test.h"

static void the_line_is_kept_and_the_code_returned(void **state)
{
    assert_int_equal(sight_fail(SIGHT_E_MEDIA, "'%s' is no %s", "a.mp4", "clip"), SIGHT_E_MEDIA);
    assert_string_equal(sight_error(), "'a.mp4' is no clip");
}

static void context_goes_in_front(void **state)
{
    sight_fail(SIGHT_E_IO, "disk full");
    assert_int_equal(sight_fail_in(SIGHT_E_IO, "trace '%s'", "x"), SIGHT_E_IO);
    assert_string_equal(sight_error(), "trace 'x': disk full");
}

static void the_old_line_may_be_an_argument(void **state)
{
    sight_fail(SIGHT_E_IO, "first");
    sight_fail(SIGHT_E_IO, "after %s", sight_error());
    assert_string_equal(sight_error(), "after first");
}

static void control_characters_never_reach_a_terminal(void **state)
{
    sight_fail(SIGHT_E_ARGUMENT, "bad name '%s'", "\x1b[2Jx\n");
    assert_string_equal(sight_error(), "bad name '?[2Jx?'");
}

static void long_lines_are_cut(void **state)
{
    char text[5000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    sight_fail(SIGHT_E_LIMIT, "%s", text);
    assert_int_equal(strlen(sight_error()), 1023);
    sight_fail_in(SIGHT_E_LIMIT, "%s", text);
    assert_int_equal(strlen(sight_error()), 1023);
}

static void every_code_has_a_name(void **state)
{
    for (int i = 0; i < SIGHT_E_COUNT; i++) {
        assert_string_not_equal(sight_err_name((sight_err)i), "unknown");
    }
    assert_string_equal(sight_err_name(SIGHT_E_COUNT), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_line_is_kept_and_the_code_returned),
        cmocka_unit_test(context_goes_in_front),
        cmocka_unit_test(the_old_line_may_be_an_argument),
        cmocka_unit_test(control_characters_never_reach_a_terminal),
        cmocka_unit_test(long_lines_are_cut),
        cmocka_unit_test(every_code_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
