// What counts as going round in circles, and what does not.
#include "support/test.h"

#include "text/repeat.h"

// How many ids are taken before it is noticed; -1: it is not, in n of them.
static int64_t noticed(int32_t (*id)(int64_t i, test_random *r), int64_t n)
{
    repeat *r = NULL;
    test_random random = {9};
    int64_t at = -1;
    assert_ok(repeat_create(&r));
    for (int64_t i = 0; i < n && at < 0; i++) {
        if (repeat_push(r, id(i, &random))) at = i + 1;
    }
    repeat_destroy(&r);
    assert_null(r);
    return at;
}

static int32_t always_one(int64_t i, test_random *r) { return 5; }
static int32_t period_100(int64_t i, test_random *r) { return (int32_t)(i % 100); }
static int32_t period_512(int64_t i, test_random *r) { return (int32_t)(i % 512); }
static int32_t period_600(int64_t i, test_random *r) { return (int32_t)(i % 600); }
static int32_t any(int64_t i, test_random *r) { return (int32_t)test_random_range(r, 0, 50); }
// Text, then a circle of three.
static int32_t late(int64_t i, test_random *r) { return i < 500 ? any(i, r) : (int32_t)(i % 3); }
// Five rows alike, then others: a table.
static int32_t table(int64_t i, test_random *r) { return i / 60 < 5 ? (int32_t)(i % 60) : any(i, r); }
// Lines of 30 tokens of which one counts up.
static int32_t counting(int64_t i, test_random *r) { return i % 30 == 7 ? (int32_t)(1000 + i / 30) : (int32_t)(i % 30); }
// Boxes: brackets and commas are always the same, numbers differ.
static int32_t boxes(int64_t i, test_random *r) { return i % 3 ? (int32_t)(900 + i % 3) : (int32_t)test_random_range(r, 0, 800); }

static void circles(void **state)
{
    (void)state;
    assert_int_equal(noticed(always_one, 1000), REPEAT_LEAST);
    assert_int_equal(noticed(period_100, 5000), 600);
    // Long ones by their n-grams first: half of the window's are there twice.
    assert_in_range(noticed(period_512, 5000), 1500, 6 * 512);
    assert_in_range(noticed(late, 5000), 500 + REPEAT_LEAST - 2, 500 + REPEAT_LEAST + 3);
    assert_in_range(noticed(counting, 5000), REPEAT_WINDOW, REPEAT_WINDOW + 1000);
}

static void no_circles(void **state)
{
    (void)state;
    assert_int_equal(noticed(any, 20000), -1);
    assert_int_equal(noticed(table, 5000), -1);
    assert_int_equal(noticed(boxes, 20000), -1);
    assert_int_equal(noticed(period_600, 599 * 5), -1);
    assert_int_equal(noticed(always_one, REPEAT_LEAST - 1), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(circles),
        cmocka_unit_test(no_circles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
