#include "support/test.h"

#include <math.h>

#include "daemon/estimate.h"

static void nothing_is_known_at_first(void **state)
{
    (void)state;
    const estimate e = {0};
    const estimate_work w = {.read = 100, .encoded = 50, .answer = 10};
    assert_true(estimate_seconds(&e, &w) == 0);
    assert_true(estimate_per_s(&e.read) == 0);
    assert_true(estimate_length(&e, &w) == 10);
    assert_false(estimate_reuses(&e));
}

// 1,000 tokens a second read, 200 encoded, 20 answered.
static void rates_come_from_what_was_seen(void **state)
{
    (void)state;
    estimate e = {0};
    for (int i = 1; i <= 20; i++) {
        const estimate_work text = {.read = 100 * i, .answer = 20};
        estimate_learn(&e, &text, 0, 0.1 * i + 1, 0.1 * i, 0, true);
    }
    const estimate_work asked = {.read = 2000, .answer = 400};
    assert_true(fabs(estimate_seconds(&e, &asked) - 3) < 1e-9); // answers are 20 tokens long
    const estimate_work shown = {.read = 2000, .encoded = 400, .answer = 400};
    assert_true(estimate_seconds(&e, &shown) == 0); // no picture was seen yet
    estimate_learn(&e, &(estimate_work){.read = 400, .encoded = 400, .answer = 20}, 0, 3.4, 0.4, 2, true);
    assert_true(fabs(estimate_seconds(&e, &shown) - 5) < 1e-9);
    const estimate_work brief = {.read = 1000, .answer = 10};
    assert_true(fabs(estimate_seconds(&e, &brief) - 1.5) < 1e-9);
    // An answer that was cut short says nothing of how long answers are.
    estimate_learn(&e, &(estimate_work){.answer = 2000}, 0, 100, 0, 0, false);
    assert_true(fabs(estimate_length(&e, &asked) - 20) < 1e-9);
}

static void changes_are_noticed(void **state)
{
    (void)state;
    estimate e = {0};
    const estimate_work w = {.read = 1000, .answer = 100};
    for (int i = 0; i < 50; i++) estimate_learn(&e, &w, 0, 2, 1, 0, true);
    for (int i = 0; i < 50; i++) estimate_learn(&e, &w, 0, 6, 5, 0, true);
    assert_true(fabs(estimate_per_s(&e.read) - 200) < 10);
}

static void reuse_is_noticed(void **state)
{
    (void)state;
    estimate e = {0};
    for (int i = 0; i < 20; i++) estimate_learn(&e, &(estimate_work){.read = 500, .answer = 10}, 12, 2, 1, 0, true);
    assert_false(estimate_reuses(&e)); // the beginning that all have
    estimate_learn(&e, &(estimate_work){.read = 50, .answer = 10}, 3000, 2, 1, 0, true);
    assert_true(estimate_reuses(&e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_known_at_first),
        cmocka_unit_test(rates_come_from_what_was_seen),
        cmocka_unit_test(changes_are_noticed),
        cmocka_unit_test(reuse_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
