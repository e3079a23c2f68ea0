#include "support/test.h"

#include "base/buf.h"

static void text_grows_and_ends_in_nul(void **state)
{
    buf b;
    buf_init(&b);
    assert_string_equal(buf_text(&b), "");
    for (int i = 0; i < 1000; i++) buf_printf(&b, "%d,", i % 10);
    assert_int_equal(b.size, 2000);
    assert_int_equal(strlen(buf_text(&b)), 2000);
    buf_clear(&b);
    assert_string_equal(buf_text(&b), "");
    buf_done(&b);
}

static void taking_hands_over_the_memory(void **state)
{
    buf b;
    buf_init(&b);
    char *empty = buf_take(&b);
    assert_string_equal(empty, "");
    free(empty);
    buf_add(&b, "a\0b", 3);
    char *text = buf_take(&b);
    assert_memory_equal(text, "a\0b", 4);
    free(text);
    assert_null(b.data);
}

static void utf8_of_every_length(void **state)
{
    buf b;
    buf_init(&b);
    buf_add_utf8(&b, 'a');
    buf_add_utf8(&b, 0xe9);
    buf_add_utf8(&b, 0x20ac);
    buf_add_utf8(&b, 0x1f600);
    assert_string_equal(buf_text(&b), "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    buf_done(&b);
}

static void failure_sticks(void **state)
{
    buf b;
    buf_init(&b);
    buf_puts(&b, "x");
    assert_false(buf_reserve(&b, SIZE_MAX / 2));
    buf_puts(&b, "y");
    assert_true(buf_failed(&b));
    assert_null(buf_take(&b));
    assert_false(buf_failed(&b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_grows_and_ends_in_nul),
        cmocka_unit_test(taking_hands_over_the_memory),
        cmocka_unit_test(utf8_of_every_length),
        cmocka_unit_test(failure_sticks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
