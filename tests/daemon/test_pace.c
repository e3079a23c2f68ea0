#include "support/test.h"

#include "daemon/pace.h"

// Seconds of reading from .. to - 1 at 1 ms a token and 1 us more for each before it.
static double truth(double from, double to)
{
    return (to - from) * (1e-3 + 1e-6 * (from + to) / 2);
}

static void growing_times_are_seen_ahead(void **state)
{
    (void)state;
    pace p = {0};
    assert_true(pace_left_s(&p, 0, 100) == 0 && pace_rate(&p) == 0);
    for (int at = 0; at < 10000; at += 500) pace_add(&p, at, at + 500, truth(at, at + 500));
    assert_float_equal(pace_left_s(&p, 10000, 200000) / truth(10000, 200000), 1, 1e-6);
    assert_float_equal(pace_rate(&p), 10000 / truth(0, 10000), 1e-6);
    assert_true(pace_left_s(&p, 10000, 10000) == 0);
}

static void one_piece_or_falling_times_give_an_average(void **state)
{
    (void)state;
    pace p = {0};
    pace_add(&p, 0, 100, 2);
    assert_float_equal(pace_left_s(&p, 100, 200), 2, 1e-9);
    pace_add(&p, 100, 200, 1); // faster: the first was a warm-up
    assert_float_equal(pace_left_s(&p, 200, 300), 1.5, 1e-9);
    pace q = {0};
    pace_add(&q, 0, 100, 0);
    pace_add(&q, 100, 200, 3);
    assert_true(pace_left_s(&q, 200, 300) >= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(growing_times_are_seen_ahead),
        cmocka_unit_test(one_piece_or_falling_times_give_an_average),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
