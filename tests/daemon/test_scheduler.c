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
    assert_ptr_equal(scheduler_start_planning(s, 0), &a);
    assert_null(scheduler_start_planning(s, 0));
    scheduler_planned(s, &a);
    assert_ptr_equal(scheduler_start_planning(s, 0), &b);
    assert_ptr_equal(scheduler_start_running(s, 1), &a);
    scheduler_planned(s, &b);
    assert_null(scheduler_start_running(s, 2));
    assert_int_equal(scheduler_place(s, &a, 0), 0);
    assert_int_equal(scheduler_place(s, &b, 0), 1);
    scheduler_remove(s, &a, 3);
    assert_int_equal(scheduler_place(s, &b, 0), 0);
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
    scheduler *s;
    assert_ok(scheduler_create(&s, &l));
    job jobs[4];
    static const int64_t bytes[] = {60, 30, 20, 5};
    for (int i = 0; i < 4; i++) {
        const char id[2] = {(char)('a' + i), 0};
        jobs[i] = make(id, "1", false);
        jobs[i].model_bytes = 100;
        assert_ok(scheduler_add(s, &jobs[i]));
        assert_ptr_equal(scheduler_start_planning(s, 0), &jobs[i]);
        jobs[i].memory_bytes = bytes[i];
        scheduler_planned(s, &jobs[i]);
    }
    assert_ptr_equal(scheduler_start_running(s, 0), &jobs[0]);
    assert_ptr_equal(scheduler_start_running(s, 0), &jobs[1]);
    assert_null(scheduler_start_running(s, 0)); // the third does not fit, none overtakes it
    assert_int_equal(scheduler_place(s, &jobs[1], 0), 0);
    assert_int_equal(scheduler_place(s, &jobs[2], 0), 2);
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

static void each_model_has_its_memory(void **state)
{
    scheduler_limits l = limits;
    l.max_running = 4;
    scheduler *s;
    assert_ok(scheduler_create(&s, &l));
    job jobs[4];
    static const int64_t bytes[] = {60, 60, 60, 30};
    static const char models[2];
    for (int i = 0; i < 4; i++) {
        const char id[2] = {(char)('a' + i), 0};
        jobs[i] = make(id, "1", false);
        assert_ok(scheduler_add(s, &jobs[i]));
        if (i == 1) { // its model is not there yet: others go on
            assert_ptr_equal(scheduler_start_planning(s, 0), &jobs[i]);
            scheduler_awaits_model(s, &jobs[i]);
            assert_null(scheduler_start_planning(s, 0));
            assert_string_equal(job_state_name(jobs[i].state), "loading");
            scheduler_again(s, &jobs[i]);
        }
        assert_ptr_equal(scheduler_start_planning(s, 0), &jobs[i]);
        jobs[i].memory_bytes = bytes[i];
        jobs[i].model = &models[i == 2];
        jobs[i].model_bytes = 100;
        scheduler_planned(s, &jobs[i]);
    }
    assert_ptr_equal(scheduler_start_running(s, 0), &jobs[0]);
    assert_ptr_equal(scheduler_start_running(s, 0), &jobs[2]); // of the other model
    assert_null(scheduler_start_running(s, 0)); // the last would fit, but the second comes first
    scheduler_remove(s, &jobs[0], 1);
    assert_ptr_equal(scheduler_start_running(s, 1), &jobs[1]);
    assert_ptr_equal(scheduler_start_running(s, 1), &jobs[3]);
    // Once more, for another model.
    scheduler_again(s, &jobs[1]);
    assert_ptr_equal(scheduler_start_planning(s, 2), &jobs[1]);
    for (int i = 1; i < 4; i++) scheduler_remove(s, &jobs[i], 3);
    scheduler_destroy(&s);
}

static void plans_do_not_wait_for_the_engine(void **state)
{
    scheduler *s;
    assert_ok(scheduler_create(&s, &limits));
    job a = make("A", "1", false), p = make("B", "1", true), b = make("B", "2", false);
    assert_ok(scheduler_add(s, &a));
    scheduler_start_planning(s, 0);
    scheduler_planned(s, &a);
    scheduler_start_running(s, 0);
    assert_ok(scheduler_add(s, &p));
    assert_ok(scheduler_add(s, &b));
    assert_int_equal(scheduler_place(s, &p, 0), 0);
    assert_int_equal(scheduler_place(s, &b, 0), 1); // behind a; the plan needs no engine
    assert_ptr_equal(scheduler_start_planning(s, 0), &p);
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
    assert_ptr_equal(scheduler_start_planning(s, 0), &b);
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
        scheduler_start_planning(s, 0);
        scheduler_planned(s, &a);
        scheduler_start_running(s, 100.0 * i);
        scheduler_remove(s, &a, 100.0 * i + 20);
    }
    assert_int_equal(scheduler_retry_after_s(s), 20);
    scheduler_destroy(&s);
}

// Adds and prices: class, engine time, and what has been used.
static void add_priced(scheduler *s, job *j, fair_class class, double work_s)
{
    assert_ok(scheduler_add(s, j));
    j->class = class;
    j->work_s = work_s;
    scheduler_planned(s, j);
}

static void who_is_next(void **state)
{
    (void)state;
    scheduler_limits l = {.max_jobs = 10, .max_jobs_per_client = 9, .max_bytes = 10000, .max_running = 1};
    scheduler *s;
    assert_ok(scheduler_create(&s, &l));
    job a = make("A", "1", false), b = make("A", "2", false), c = make("B", "1", false), d = make("C", "1", false);
    add_priced(s, &a, FAIR_INTERACTIVE, 1);
    add_priced(s, &b, FAIR_INTERACTIVE, 1);
    add_priced(s, &c, FAIR_CAMERA, 1);
    add_priced(s, &d, FAIR_INTERACTIVE, 1);
    assert_ptr_equal(scheduler_start_running(s, 0), &a);
    scheduler_used(s, &a, 0.5);
    scheduler_used(s, &a, 2);
    assert_int_equal(scheduler_place(s, &d, 1), 1); // A has used something: d is before b
    assert_int_equal(scheduler_place(s, &b, 1), 2);
    assert_int_equal(scheduler_place(s, &c, 1), 3);
    scheduler_remove(s, &a, 3);
    assert_ptr_equal(scheduler_start_running(s, 3), &d);
    scheduler_used(s, &d, 1);
    scheduler_remove(s, &d, 4);
    // Who came long ago is as urgent as the next class.
    assert_int_equal(scheduler_place(s, &c, FAIR_AGE_S + 1), 0);
    assert_ptr_equal(scheduler_start_running(s, FAIR_AGE_S + 1), &c);
    scheduler_remove(s, &c, 30);
    assert_ptr_equal(scheduler_start_running(s, 30), &b);
    scheduler_remove(s, &b, 31);
    scheduler_destroy(&s);
}

// Twenty requests of one client and two of another, each a second of work: the two are not behind the twenty.
static void many_requests_bring_no_more(void **state)
{
    (void)state;
    scheduler_limits l = {.max_jobs = 30, .max_jobs_per_client = 30, .max_bytes = 10000, .max_running = 2};
    scheduler *s;
    assert_ok(scheduler_create(&s, &l));
    job many[20], few[2], *running[2] = {NULL};
    for (int i = 0; i < 20; i++) {
        char id[8];
        snprintf(id, sizeof id, "%d", i);
        many[i] = make("A", id, false);
        add_priced(s, &many[i], FAIR_INTERACTIVE, 1);
    }
    for (int i = 0; i < 2; i++) {
        few[i] = make("B", i ? "y" : "x", false);
        add_priced(s, &few[i], FAIR_INTERACTIVE, 1);
    }
    int over = 0, few_over_at = 0;
    for (int turn = 0; over < 22; turn++) {
        for (int k = 0; k < 2; k++) {
            if (!running[k]) running[k] = scheduler_start_running(s, turn);
        }
        for (int k = 0; k < 2; k++) {
            job *j = running[k];
            if (!j) continue;
            scheduler_used(s, j, j->used_s + 0.5);
            if (j->used_s < 1) continue;
            scheduler_remove(s, j, turn);
            running[k] = NULL;
            over++;
            if (j == &few[0] || j == &few[1]) few_over_at = over;
        }
    }
    assert_in_range(few_over_at, 2, 6);
    scheduler_destroy(&s);
}

static void forecasts(void **state)
{
    (void)state;
    scheduler_limits l = {.max_jobs = 10, .max_jobs_per_client = 4, .max_bytes = 10000, .max_running = 2};
    scheduler *s;
    scheduler_forecast f;
    assert_ok(scheduler_create(&s, &l));
    job a = make("A", "1", false), b = make("B", "1", false), c = make("C", "1", false), d = make("C", "2", false);
    add_priced(s, &a, FAIR_INTERACTIVE, 2);
    add_priced(s, &b, FAIR_INTERACTIVE, 6);
    assert_true(scheduler_foresee(s, &a, &f, 0));
    assert_true(f.start_s == 0 && f.end_s == 4); // two share the engine
    assert_true(scheduler_foresee(s, &b, &f, 0));
    assert_true(f.start_s == 0 && f.end_s == 8);
    scheduler_start_running(s, 0);
    scheduler_start_running(s, 0);
    add_priced(s, &c, FAIR_INTERACTIVE, 1);
    assert_true(scheduler_foresee(s, &c, &f, 0));
    assert_true(f.start_s == 4 && f.end_s == 6);
    add_priced(s, &d, FAIR_BATCH, 1);
    assert_true(scheduler_foresee(s, &d, &f, 0));
    assert_true(f.start_s == 6 && f.end_s == 8);
    assert_int_equal(scheduler_retry_after_s(s), 4);
    scheduler_used(s, &a, 1.5);
    assert_int_equal(scheduler_retry_after_s(s), 1);
    d.work_s = 0;
    assert_false(scheduler_foresee(s, &d, &f, 0)); // nobody knows what it takes
    job e = make("D", "1", false);
    assert_ok(scheduler_add(s, &e));
    assert_false(scheduler_foresee(s, &e, &f, 0)); // not priced
    scheduler_destroy(&s);
}

// Of jobs whose owner is an array: what each replica has kept.
static int32_t kept_of(void *owner, int replica)
{
    return owner ? ((const int32_t *)owner)[replica] : 0;
}

static void replicas_run_side_by_side(void **state)
{
    (void)state;
    const scheduler_limits l = {.max_jobs = 10, .max_jobs_per_client = 5, .max_bytes = 10000, .max_running = 1};
    scheduler *s;
    scheduler_forecast f;
    assert_ok(scheduler_create(&s, &l));
    scheduler_ask_kept(s, kept_of);
    job a = make("A", "1", false), b = make("B", "1", false), c = make("C", "1", false), d = make("D", "1", false);
    job *const all[] = {&a, &b, &c, &d};
    for (int i = 0; i < 4; i++) {
        all[i]->replicas = i < 3 ? 2 : 1;
        add_priced(s, all[i], FAIR_INTERACTIVE, i == 0 ? 4 : 2);
    }
    assert_true(scheduler_foresee(s, &b, &f, 0));
    assert_true(f.start_s == 0 && f.end_s == 2);
    assert_true(scheduler_foresee(s, &c, &f, 0));
    assert_true(f.start_s == 2 && f.end_s == 4);
    assert_true(scheduler_foresee(s, &d, &f, 0)); // on the first only
    assert_true(f.start_s == 4 && f.end_s == 6);
    assert_ptr_equal(scheduler_start_running(s, 0), &a);
    assert_ptr_equal(scheduler_start_running(s, 0), &b);
    assert_null(scheduler_start_running(s, 0));
    assert_int_equal(a.replica, 0);
    assert_int_equal(b.replica, 1);
    assert_int_equal(scheduler_retry_after_s(s), 2);
    scheduler_remove(s, &a, 1);
    assert_ptr_equal(scheduler_start_running(s, 1), &c);
    assert_int_equal(c.replica, 0);
    scheduler_remove(s, &b, 1);
    assert_null(scheduler_start_running(s, 1)); // d has no replica there
    scheduler_remove(s, &c, 1);
    assert_ptr_equal(scheduler_start_running(s, 1), &d);
    scheduler_destroy(&s);
}

static void who_has_kept_a_beginning_gets_the_rest(void **state)
{
    (void)state;
    const scheduler_limits l = {.max_jobs = 10, .max_jobs_per_client = 5, .max_bytes = 10000, .max_running = 4};
    static int32_t second[] = {0, 500}, only_first[] = {0, -1}, none[] = {-1, -1};
    scheduler *s;
    assert_ok(scheduler_create(&s, &l));
    scheduler_ask_kept(s, kept_of);
    job a = make("A", "1", false), b = make("B", "1", false), c = make("C", "1", false);
    job *const all[] = {&a, &b, &c};
    void *const owners[] = {second, only_first, none};
    for (int i = 0; i < 3; i++) {
        all[i]->replicas = 2;
        all[i]->owner = owners[i];
        all[i]->prompt = 1000;
        all[i]->model = owners[i];
        all[i]->model_bytes = 100;
        add_priced(s, all[i], FAIR_INTERACTIVE, 2);
        all[i]->memory_bytes = 60;
    }
    assert_ptr_equal(scheduler_start_running(s, 0), &a);
    assert_int_equal(a.replica, 1);
    assert_true(a.for_kept);
    assert_ptr_equal(scheduler_start_running(s, 0), &b); // the other one's device has failed
    assert_int_equal(b.replica, 0);
    assert_false(b.for_kept);
    assert_null(scheduler_start_running(s, 0)); // c has none
    // Memory is each replica's: it goes where it fits.
    job d = make("D", "1", false);
    d.replicas = 2;
    d.owner = second;
    d.model = second;
    d.model_bytes = 100;
    add_priced(s, &d, FAIR_INTERACTIVE, 2);
    d.memory_bytes = 60;
    assert_ptr_equal(scheduler_start_running(s, 0), &d);
    assert_int_equal(d.replica, 0);
    scheduler_destroy(&s);
}

// A client at its own limit hears when the first of its own is over, not when anybody's is.
static void hints_are_about_what_is_full(void **state)
{
    (void)state;
    scheduler_limits l = {.max_jobs = 10, .max_jobs_per_client = 1, .max_bytes = 10000, .max_running = 1};
    scheduler *s;
    assert_ok(scheduler_create(&s, &l));
    job a = make("A", "1", false), b = make("B", "1", false), c = make("B", "2", false);
    add_priced(s, &a, FAIR_INTERACTIVE, 3);
    add_priced(s, &b, FAIR_INTERACTIVE, 20);
    assert_ptr_equal(scheduler_start_running(s, 0), &a);
    assert_fails(scheduler_add(s, &c), SIGHT_E_BUSY, "try again in about 23 s");
    assert_int_equal(c.retry_after_s, 23);
    l.max_jobs = 2;
    scheduler_destroy(&s);
    assert_ok(scheduler_create(&s, &l));
    add_priced(s, &a, FAIR_INTERACTIVE, 3);
    add_priced(s, &b, FAIR_INTERACTIVE, 20);
    assert_ptr_equal(scheduler_start_running(s, 0), &a);
    assert_fails(scheduler_add(s, &c), SIGHT_E_BUSY, "full with 2 requests; try again in about 3 s");
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

// Limits may change with a full queue: those who are in it stay, newcomers meet the new ones.
static void limits_change_under_a_full_queue(void **state)
{
    scheduler *s;
    scheduler_limits l = {.max_jobs = 2, .max_jobs_per_client = 100, .max_bytes = 1 << 20, .max_running = 1};
    assert_ok(scheduler_create(&s, &l));
    job jobs[40];
    char id[8];
    for (int i = 0; i < 40; i++) {
        snprintf(id, sizeof id, "j%d", i);
        jobs[i] = make("a", id, false);
    }
    for (int i = 0; i < 2; i++) assert_ok(scheduler_add(s, &jobs[i]));
    assert_int_equal(scheduler_add(s, &jobs[2]), SIGHT_E_BUSY);
    l.max_jobs = 40;
    assert_ok(scheduler_set_limits(s, &l));
    for (int i = 2; i < 40; i++) assert_ok(scheduler_add(s, &jobs[i]));
    l.max_jobs = 1;
    assert_ok(scheduler_set_limits(s, &l));
    assert_int_equal(scheduler_count(s), 40);
    for (int i = 0; i < 40; i++) {
        job again = make("b", "x", false);
        assert_int_equal(scheduler_add(s, &again), SIGHT_E_BUSY);
        assert_ptr_equal(scheduler_get(s, 0), &jobs[i]);
        scheduler_remove(s, &jobs[i], 0);
    }
    assert_ok(scheduler_add(s, &jobs[0]));
    assert_int_equal(scheduler_add(s, &jobs[1]), SIGHT_E_BUSY);
    scheduler_remove(s, &jobs[0], 0);
    scheduler_destroy(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_run_one_after_another),
        cmocka_unit_test(several_run_as_memory_allows),
        cmocka_unit_test(each_model_has_its_memory),
        cmocka_unit_test(plans_do_not_wait_for_the_engine),
        cmocka_unit_test(cancelled_jobs_are_not_started),
        cmocka_unit_test(too_much_is_refused_with_a_hint),
        cmocka_unit_test(waits_are_guessed_from_what_was_seen),
        cmocka_unit_test(who_is_next),
        cmocka_unit_test(many_requests_bring_no_more),
        cmocka_unit_test(forecasts),
        cmocka_unit_test(replicas_run_side_by_side),
        cmocka_unit_test(who_has_kept_a_beginning_gets_the_rest),
        cmocka_unit_test(hints_are_about_what_is_full),
        cmocka_unit_test(jobs_are_found_by_client_and_id),
        cmocka_unit_test(limits_change_under_a_full_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
