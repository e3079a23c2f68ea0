// Who asks: one object a name, rights that are looked at, ceilings that hold.
#include "support/test.h"

#include "daemon/access/identity.h"
#include "daemon/scheduler.h"

static void a_name_is_one_identity(void **state)
{
    identity_table *t;
    identity *a, *b, *again;
    const identity_terms some = {.rights = 1u << RIGHT_ASK, .max_tokens = 7};
    assert_ok(identity_table_create(&t));
    assert_null(identity_table_find(t, "uid 1"));
    assert_ok(identity_table_get(t, &a, "uid 1", false, &some));
    assert_ok(identity_table_get(t, &b, "uid 2", false, &some));
    assert_ok(identity_table_get(t, &again, "uid 1", false, &(identity_terms){0}));
    assert_ptr_equal(a, again);
    assert_ptr_equal(a, identity_table_find(t, "uid 1"));
    assert_ptr_not_equal(a, b);
    assert_string_equal(identity_name(a), "uid 1");
    assert_int_equal(identity_limits(again)->max_tokens, 7); // those of the first meeting
    assert_true(identity_may(a, RIGHT_ASK));
    assert_fails(identity_refuse(a, RIGHT_PATHS), SIGHT_E_PERMISSION, "uid 1 may not name media by path: it lacks the right 'paths'");
    identity_table_destroy(&t);
    assert_null(t);
    identity_table_destroy(&t);
}

static void the_process_itself_may_everything(void **state)
{
    assert_string_equal(identity_name(NULL), "");
    for (int i = 0; i < RIGHT_COUNT; i++) assert_true(identity_may(NULL, (identity_right)i));
    assert_int_equal(identity_limits(NULL)->max_jobs, 0);
}

static void terms_change_and_old_ones_stay_readable(void **state)
{
    identity_table *t;
    identity *who;
    identity_terms terms = {.rights = IDENTITY_ALL_RIGHTS};
    assert_ok(identity_table_create(&t));
    assert_ok(identity_terms_put(&terms, "roots", "/srv/a:/srv/b", "roots"));
    assert_ok(identity_table_get(t, &who, "door", true, &terms));
    const identity_terms *seen = identity_limits(who);
    assert_ok(identity_table_set(t, who, &terms)); // the same: nothing happens
    assert_ptr_equal(identity_limits(who), seen);
    assert_ok(identity_terms_put(&terms, "roots", "", "roots"));
    assert_ok(identity_terms_put(&terms, "rights", "plan", "rights"));
    assert_ok(identity_table_set(t, who, &terms));
    assert_string_equal(seen->roots[1], "/srv/b"); // a request may be looking at it
    assert_int_equal(identity_limits(who)->n_roots, 0);
    assert_false(identity_may(who, RIGHT_ASK));
    assert_fails(identity_refuse(who, RIGHT_ASK), SIGHT_E_PERMISSION, "the key 'door' may not ask");
    identity_table_sweep(t);
    assert_true(identity_may(who, RIGHT_PLAN));
    identity_terms_done(&terms);
    identity_table_destroy(&t);
}

static void the_table_is_bounded(void **state)
{
    identity_table *t;
    identity *who;
    const identity_terms none = {0};
    char name[32];
    assert_ok(identity_table_create(&t));
    for (int i = 0; i < 4096; i++) {
        snprintf(name, sizeof name, "uid %d", i);
        assert_ok(identity_table_get(t, &who, name, false, &none));
    }
    assert_fails(identity_table_get(t, &who, "uid 5000", false, &none), SIGHT_E_LIMIT, "4096");
    assert_ok(identity_table_get(t, &who, "uid 77", false, &none)); // who is known is still served
    assert_string_equal(identity_name(who), "uid 77");
    identity_table_destroy(&t);
}

static void a_rate_says_when_to_come_back(void **state)
{
    identity_table *t;
    identity *who;
    int wait_s = 0;
    assert_ok(identity_table_create(&t));
    assert_ok(identity_table_get(t, &who, "door", true, &(identity_terms){.requests_per_minute = 3}));
    for (int i = 0; i < 3; i++) assert_true(identity_spend(who, 100, &wait_s));
    assert_false(identity_spend(who, 100, &wait_s));
    assert_int_equal(wait_s, 20);
    assert_false(identity_spend(who, 119, &wait_s));
    assert_int_equal(wait_s, 1);
    assert_true(identity_spend(who, 120.5, &wait_s));
    assert_false(identity_spend(who, 121, &wait_s));
    for (int i = 0; i < 3; i++) assert_true(identity_spend(who, 1000, &wait_s)); // never more than a minute's
    assert_false(identity_spend(who, 1000, &wait_s));
    identity_table_destroy(&t);
}

static void terms_are_read_and_written(void **state)
{
    const struct {
        const char *name, *value, *printed;
    } good[] = {
        {"rights", "ask plan", "ask plan"},   {"rights", "paths,ask", "ask paths"}, {"rights", "none", "none"},
        {"rights", "all", "ask plan status paths urls admin"},
        {"max-jobs", "4", "4"},               {"max-jobs", "0", ""},                {"max-running", "2", "2"},
        {"max-tokens", "500", "500"},         {"max-media-bytes", "2M", "2097152"}, {"requests-per-minute", "60", "60"},
        {"priority", "camera", "camera"},     {"priority", "interactive", ""},      {"roots", "/a", "/a"},
        {"roots", "/srv/a b:/x", "/srv/a b:/x"},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        identity_terms t = {0}, copy;
        char text[256];
        assert_ok(identity_terms_put(&t, good[i].name, good[i].value, "here"));
        assert_ok(identity_terms_copy(&copy, &t));
        assert_true(identity_terms_equal(&t, &copy));
        identity_terms_done(&t);
        identity_terms_print(text, sizeof text, &copy, good[i].name);
        assert_string_equal(text, good[i].printed);
        identity_terms_done(&copy);
    }
    const struct {
        const char *name, *value, *says;
        sight_err code;
    } bad[] = {
        {"rights", "", "empty", SIGHT_E_ARGUMENT},          {"rights", "ask fly", "'fly'", SIGHT_E_ARGUMENT},
        {"max-jobs", "-1", "0 to 100000", SIGHT_E_ARGUMENT}, {"max-jobs", "1.5", "whole", SIGHT_E_ARGUMENT},
        {"max-jobs", "4K", "whole", SIGHT_E_ARGUMENT},      {"max-tokens", "", "whole", SIGHT_E_ARGUMENT},
        {"max-media-bytes", "5X", "K, M", SIGHT_E_ARGUMENT}, {"priority", "high", "batch", SIGHT_E_ARGUMENT},
        {"roots", "srv", "absolute", SIGHT_E_ARGUMENT},     {"roots", "/1:/2:/3:/4:/5:/6:/7:/8:/9", "more than 8", SIGHT_E_ARGUMENT},
        {"colour", "red", "no such", SIGHT_E_NOT_FOUND},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        identity_terms t = {.max_jobs = 3};
        assert_fails(identity_terms_put(&t, bad[i].name, bad[i].value, "here"), bad[i].code, bad[i].says);
        assert_non_null(strstr(sight_error(), "here"));
        assert_true(identity_terms_equal(&t, &(identity_terms){.max_jobs = 3})); // untouched
    }
}

static job make(const char *client, const char *id, const identity *who)
{
    job j = {.client_size = strlen(client), .bytes = 1, .who = who};
    memcpy(j.client, client, j.client_size);
    snprintf(j.id, sizeof j.id, "%s", id);
    return j;
}

// One who opens many connections has no more for it.
static void ceilings_count_over_all_connections(void **state)
{
    identity_table *t;
    identity *who;
    scheduler *s;
    assert_ok(identity_table_create(&t));
    assert_ok(identity_table_get(t, &who, "door", true, &(identity_terms){.max_jobs = 3, .max_running = 1}));
    assert_ok(scheduler_create(&s, &(scheduler_limits){.max_jobs = 9, .max_jobs_per_client = 9, .max_bytes = 100, .max_running = 4}));
    job jobs[] = {make("A", "1", who), make("B", "1", who), make("C", "1", who), make("D", "1", who), make("E", "1", NULL)};
    for (int i = 0; i < 5; i++) {
        if (i == 3) assert_fails(scheduler_add(s, &jobs[i]), SIGHT_E_BUSY, "the key 'door' has 3 unfinished requests");
        else assert_ok(scheduler_add(s, &jobs[i]));
    }
    for (job *j; (j = scheduler_start_planning(s, 0));) scheduler_planned(s, j);
    assert_ptr_equal(scheduler_start_running(s, 1), &jobs[0]);
    assert_ptr_equal(scheduler_start_running(s, 1), &jobs[4]); // another's, past those that may not
    assert_null(scheduler_start_running(s, 1));
    scheduler_remove(s, &jobs[0], 2);
    assert_ptr_equal(scheduler_start_running(s, 2), &jobs[1]);
    assert_null(scheduler_start_running(s, 2));
    scheduler_destroy(&s);
    identity_table_destroy(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_one_identity),
        cmocka_unit_test(the_process_itself_may_everything),
        cmocka_unit_test(terms_change_and_old_ones_stay_readable),
        cmocka_unit_test(the_table_is_bounded),
        cmocka_unit_test(a_rate_says_when_to_come_back),
        cmocka_unit_test(terms_are_read_and_written),
        cmocka_unit_test(ceilings_count_over_all_connections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
