// Whose turn it is: pure arithmetic, with times that are given.
#include "support/test.h"

#include "daemon/fair.h"

// Where identities and connections are told apart by their names alone.
static const char *const who[] = {"ann", "bob", "eve"};

static fair_claim claim(fair *f, int i, const char *client, fair_class class, long order)
{
    fair_claim c = {.class = class, .order = order};
    assert_ok(fair_open(f, &c.account, who[i], client, strlen(client)));
    return c;
}

// Gives turns of so many seconds to the first of n claims; counts[n].
static void take_turns(fair *f, fair_claim *c, int n, const double *seconds, int turns, double *used)
{
    for (int t = 0; t < turns; t++) {
        int best = 0;
        for (int i = 1; i < n; i++) {
            if (fair_before(f, &c[i], &c[best], 0)) best = i;
        }
        fair_charge(f, c[best].account, seconds[best]);
        used[best] += seconds[best];
    }
}

static void equals_get_equal_time(void **state)
{
    (void)state;
    fair *f;
    assert_ok(fair_create(&f));
    fair_claim c[] = {claim(f, 0, "1", FAIR_INTERACTIVE, 0), claim(f, 1, "1", FAIR_INTERACTIVE, 1),
                      claim(f, 2, "1", FAIR_INTERACTIVE, 2)};
    const double seconds[] = {0.05, 0.5, 0.1}; // whose turns are longer gets fewer
    double used[3] = {0};
    take_turns(f, c, 3, seconds, 1000, used);
    for (int i = 1; i < 3; i++) assert_true(used[i] / used[0] > 0.95 && used[i] / used[0] < 1.05);
    fair_destroy(&f);
    assert_null(f);
}

// Many requests, or many connections, bring an identity nothing.
static void time_is_shared_by_identity_and_then_by_connection(void **state)
{
    (void)state;
    fair *f;
    assert_ok(fair_create(&f));
    fair_claim c[7];
    for (int i = 0; i < 6; i++) c[i] = claim(f, 0, i < 5 ? "many" : "one", FAIR_INTERACTIVE, i);
    c[6] = claim(f, 1, "alone", FAIR_INTERACTIVE, 6);
    const double seconds[] = {0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1};
    double used[7] = {0};
    take_turns(f, c, 7, seconds, 1200, used);
    double many = 0;
    for (int i = 0; i < 5; i++) many += used[i];
    assert_in_range((int)(many + 0.5), 29, 31);
    assert_in_range((int)(used[5] + 0.5), 29, 31);
    assert_in_range((int)(used[6] + 0.5), 59, 61);
    fair_destroy(&f);
}

static void who_was_away_gets_no_credit(void **state)
{
    (void)state;
    fair *f;
    assert_ok(fair_create(&f));
    fair_claim a = claim(f, 0, "1", FAIR_INTERACTIVE, 0);
    fair_charge(f, a.account, 100);
    fair_claim b = claim(f, 1, "1", FAIR_INTERACTIVE, 1); // new: begins where a stands
    fair_charge(f, b.account, 0.1);
    assert_true(fair_before(f, &a, &b, 0));
    // Who goes and comes again keeps what it has used more.
    fair_charge(f, b.account, 50);
    fair_close(f, &b.account);
    assert_null(b.account);
    b = claim(f, 1, "1", FAIR_INTERACTIVE, 2);
    assert_true(fair_before(f, &a, &b, 0));
    fair_charge(f, a.account, 50);
    assert_true(fair_before(f, &a, &b, 0));
    fair_charge(f, a.account, 0.2);
    assert_true(fair_before(f, &b, &a, 0));
    fair_close(f, &a.account);
    fair_close(f, &a.account); // once is enough
    fair_close(f, &b.account);
    fair_destroy(&f);
}

static void classes_go_first_and_nobody_starves(void **state)
{
    (void)state;
    fair *f;
    assert_ok(fair_create(&f));
    fair_claim batch = claim(f, 0, "1", FAIR_BATCH, 0), camera = claim(f, 1, "1", FAIR_CAMERA, 1);
    fair_claim now = claim(f, 2, "1", FAIR_INTERACTIVE, 2);
    fair_charge(f, now.account, 3);
    fair_charge(f, camera.account, 3);
    now.since_s = camera.since_s = 1;
    assert_true(fair_before(f, &now, &camera, 2));
    assert_true(fair_before(f, &camera, &batch, 2));
    assert_true(fair_before(f, &now, &batch, 2));
    // Requests go on coming: always new ones, which have used more.
    camera.since_s = FAIR_AGE_S + 1;
    assert_true(fair_before(f, &batch, &camera, FAIR_AGE_S + 2));
    now.since_s = 2 * FAIR_AGE_S + 1;
    assert_false(fair_before(f, &batch, &now, 2 * FAIR_AGE_S - 1));
    assert_true(fair_before(f, &batch, &now, 2 * FAIR_AGE_S + 2));
    fair_destroy(&f);
}

static void earlier_deadlines_go_first_but_not_for_ever(void **state)
{
    (void)state;
    fair *f;
    assert_ok(fair_create(&f));
    fair_claim a = claim(f, 0, "1", FAIR_INTERACTIVE, 0), b = claim(f, 1, "1", FAIR_INTERACTIVE, 1);
    fair_claim c = claim(f, 2, "1", FAIR_INTERACTIVE, 2);
    b.deadline_s = 60;
    c.deadline_s = 30;
    assert_true(fair_before(f, &c, &b, 0));
    assert_true(fair_before(f, &b, &a, 0));
    fair_charge(f, c.account, FAIR_AHEAD_S - 1);
    assert_true(fair_before(f, &c, &a, 0));
    fair_charge(f, c.account, 2); // by now it is ahead of the others
    assert_true(fair_before(f, &a, &c, 0));
    assert_true(fair_before(f, &b, &c, 0));
    c.class = FAIR_BATCH;
    fair_charge(f, a.account, 100);
    assert_true(fair_before(f, &a, &c, 0));
    fair_destroy(&f);
}

static void accounts_are_forgotten(void **state)
{
    (void)state;
    fair *f;
    assert_ok(fair_create(&f));
    fair_claim stays = claim(f, 0, "1", FAIR_INTERACTIVE, 0);
    for (int i = 0; i < 3000; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        fair_claim c = claim(f, 1 + i % 2, name, FAIR_INTERACTIVE, i);
        fair_charge(f, c.account, 1);
        fair_close(f, &c.account);
    }
    fair_claim again = claim(f, 1, "x", FAIR_INTERACTIVE, 1);
    assert_true(fair_before(f, &stays, &again, 0));
    fair_destroy(&f);
}

static void names(void **state)
{
    (void)state;
    fair_class c = FAIR_CLASSES;
    for (int i = 0; i < FAIR_CLASSES; i++) {
        assert_true(fair_class_parse(&c, fair_class_name((fair_class)i)));
        assert_int_equal(c, i);
    }
    assert_false(fair_class_parse(&c, "urgent"));
    assert_null(fair_class_name(FAIR_CLASSES));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_get_equal_time),
        cmocka_unit_test(time_is_shared_by_identity_and_then_by_connection),
        cmocka_unit_test(who_was_away_gets_no_credit),
        cmocka_unit_test(classes_go_first_and_nobody_starves),
        cmocka_unit_test(earlier_deadlines_go_first_but_not_for_ever),
        cmocka_unit_test(accounts_are_forgotten),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
