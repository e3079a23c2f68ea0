#include "support/test.h"

#include "daemon/scheduler.h"

static const scheduler_limits limits = {.max_jobs = 4, .max_jobs_per_client = 3, .max_bytes = 1000};

static job make(const char *client, const char *id, bool plan_only)
{
    job j = {.client_size = strlen(client), .plan_only = plan_only, .bytes = 100};
    memcpy(j.client, client, j.client_size);
    snprintf(j.id, sizeof j.id, "%s", id);
    return j;
}

static void jobs_run_one_after_another(void **state)
{
    scheduler *s;
    assert_ok(scheduler_create(&s, &limits));
    job a = make("A", "1", false), b = make("B", "1", false);
    assert_ok(scheduler_add(s, &a));
    assert_ok(scheduler_add(s, &b));
    assert_null(scheduler_start_running(s, 0)); // nothing is priced yet
    assert_ptr_equal(scheduler_start_planning(s), &a);
    assert_null(scheduler_start_planning(s));
    scheduler_planned(s, &a);
    assert_ptr_equal(scheduler_start_planning(s), &b);
    assert_ptr_equal(scheduler_start_running(s, 1), &a);
    scheduler_planned(s, &b);
    assert_null(scheduler_start_running(s, 2));
    assert_int_equal(scheduler_place(s, &a), 0);
    assert_int_equal(scheduler_place(s, &b), 1);
    scheduler_remove(s, &a, 3);
    assert_int_equal(scheduler_place(s, &b), 0);
    assert_ptr_equal(scheduler_start_running(s, 3), &b);
    scheduler_remove(s, &b, 4);
    assert_int_equal(scheduler_count(s), 0);
    assert_int_equal(scheduler_bytes(s), 0);
    scheduler_destroy(&s);
    assert_null(s);
}

static void several_run_as_memory_allows(void **state)
{
    scheduler_limits l = limits;
    l.max_running = 3;
    l.memory_bytes = 100;
    scheduler *s;
    assert_ok(scheduler_create(&s, &l));
    job jobs[4];
    static const int64_t bytes[] = {60, 30, 20, 5};
    for (int i = 0; i < 4; i++) {
        const char id[2] = {(char)('a' + i), 0};
        jobs[i] = make(id, "1", false);
        assert_ok(scheduler_add(s, &jobs[i]));
        assert_ptr_equal(scheduler_start_planning(s), &jobs[i]);
        jobs[i].memory_bytes = bytes[i];
        scheduler_planned(s, &jobs[i]);
    }
    assert_ptr_equal(scheduler_start_running(s, 0), &jobs[0]);
    assert_ptr_equal(scheduler_start_running(s, 0), &jobs[1]);
    assert_null(scheduler_start_running(s, 0)); // the third does not fit, none overtakes it
    assert_int_equal(scheduler_place(s, &jobs[1]), 0);
    assert_int_equal(scheduler_place(s, &jobs[2]), 2);
    scheduler_remove(s, &jobs[0], 1);
    assert_ptr_equal(scheduler_start_running(s, 1), &jobs[2]);
    assert_ptr_equal(scheduler_start_running(s, 1), &jobs[3]);
    assert_null(scheduler_start_running(s, 1));
    scheduler_destroy(&s);
    // One that takes more than all memory runs alone.
    assert_ok(scheduler_create(&s, &l));
    jobs[0].memory_bytes = 1000;
    for (int i = 0; i < 2; i++) {
        assert_ok(scheduler_add(s, &jobs[i]));
        scheduler_planned(s, &jobs[i]);
    }
    assert_ptr_equal(scheduler_start_running(s, 0), &jobs[0]);
    assert_null(scheduler_start_running(s, 0));
    scheduler_destroy(&s);
}

static void plans_do_not_wait_for_the_engine(void **state)
{
    scheduler *s;
    assert_ok(scheduler_create(&s, &limits));
    job a = make("A", "1", false), p = make("B", "1", true), b = make("B", "2", false);
    assert_ok(scheduler_add(s, &a));
    scheduler_start_planning(s);
    scheduler_planned(s, &a);
    scheduler_start_running(s, 0);
    assert_ok(scheduler_add(s, &p));
    assert_ok(scheduler_add(s, &b));
    assert_int_equal(scheduler_place(s, &p), 0);
    assert_int_equal(scheduler_place(s, &b), 1); // behind a; the plan needs no engine
    assert_ptr_equal(scheduler_start_planning(s), &p);
    scheduler_destroy(&s);
}

static void cancelled_jobs_are_not_started(void **state)
{
    scheduler *s;
    assert_ok(scheduler_create(&s, &limits));
    job a = make("A", "1", false), b = make("A", "2", false);
    assert_ok(scheduler_add(s, &a));
    assert_ok(scheduler_add(s, &b));
    a.cancelled = true;
    assert_ptr_equal(scheduler_start_planning(s), &b);
    scheduler_destroy(&s);
}

static void too_much_is_refused_with_a_hint(void **state)
{
    scheduler *s;
    assert_ok(scheduler_create(&s, &limits));
    job a = make("A", "1", false), same = make("A", "1", false), b = make("A", "2", false);
    job c = make("A", "3", false), d = make("A", "4", false), e = make("B", "1", false);
    job f = make("C", "1", false), big = make("B", "9", false);
    big.bytes = 901;
    assert_ok(scheduler_add(s, &a));
    assert_fails(scheduler_add(s, &same), SIGHT_E_ARGUMENT, "'1' is in use");
    assert_fails(scheduler_add(s, &big), SIGHT_E_BUSY, "over its limit");
    assert_ok(scheduler_add(s, &b));
    assert_ok(scheduler_add(s, &c));
    assert_fails(scheduler_add(s, &d), SIGHT_E_BUSY, "this client has 3");
    assert_ok(scheduler_add(s, &e));
    assert_fails(scheduler_add(s, &f), SIGHT_E_BUSY, "try again in about 5 s");
    assert_int_equal(scheduler_count(s), 4);
    scheduler_destroy(&s);
}

static void waits_are_guessed_from_what_was_seen(void **state)
{
    scheduler *s;
    assert_ok(scheduler_create(&s, &limits));
    for (int i = 0; i < 50; i++) {
        job a = make("A", "1", false);
        assert_ok(scheduler_add(s, &a));
        scheduler_start_planning(s);
        scheduler_planned(s, &a);
        scheduler_start_running(s, 100.0 * i);
        scheduler_remove(s, &a, 100.0 * i + 20);
    }
    assert_int_equal(scheduler_retry_after_s(s), 20);
    scheduler_destroy(&s);
}

static void jobs_are_found_by_client_and_id(void **state)
{
    scheduler *s;
    assert_ok(scheduler_create(&s, &limits));
    job a = make("A", "1", false), b = make("B", "1", false);
    assert_ok(scheduler_add(s, &a));
    assert_ok(scheduler_add(s, &b));
    assert_ptr_equal(scheduler_find(s, "B", 1, "1"), &b);
    assert_null(scheduler_find(s, "B", 1, "2"));
    assert_null(scheduler_find(s, "BB", 2, "1"));
    assert_ptr_equal(scheduler_get(s, 1), &b);
    scheduler_remove(s, &a, 0);
    scheduler_remove(s, &a, 0); // once is enough
    assert_ptr_equal(scheduler_get(s, 0), &b);
    assert_int_equal(scheduler_bytes(s), 100);
    scheduler_destroy(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_run_one_after_another),
        cmocka_unit_test(several_run_as_memory_allows),
        cmocka_unit_test(plans_do_not_wait_for_the_engine),
        cmocka_unit_test(cancelled_jobs_are_not_started),
        cmocka_unit_test(too_much_is_refused_with_a_hint),
        cmocka_unit_test(waits_are_guessed_from_what_was_seen),
        cmocka_unit_test(jobs_are_found_by_client_and_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
