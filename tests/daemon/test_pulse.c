// What the server loop tells by the clock, with a clock of the test's own.
#include "support/test.h"

#include <math.h>

#include "daemon/watch/pulse.h"

static char told[64][160];
static int n_told;

static void hear(const char *text)
{
    if (n_told < 64) snprintf(told[n_told++], sizeof told[0], "%s", text);
}

static int count(const char *begin)
{
    int n = 0;
    for (int i = 0; i < n_told; i++) n += !strncmp(told[i], begin, strlen(begin));
    return n;
}

typedef struct fixture {
    metrics *m;
    heartbeat beat;
    health health;
    scheduler *queue;
    pulse *p;
    double now;
} fixture;

static void set_up(fixture *f, double watchdog_s)
{
    *f = (fixture){.now = 1000};
    n_told = 0;
    const scheduler_limits limits = {.max_jobs = 8, .max_jobs_per_client = 8, .max_bytes = 1 << 20};
    assert_ok(metrics_create(&f->m));
    assert_ok(scheduler_create(&f->queue, &limits));
    health_init(&f->health, &f->beat, 1, 60, f->now);
    const pulse_options o = {.metrics = f->m, .health = &f->health, .watchdog_s = watchdog_s, .notify = hear};
    assert_ok(pulse_create(&f->p, &o, f->now));
}

static void tear_down(fixture *f)
{
    pulse_destroy(&f->p);
    scheduler_destroy(&f->queue);
    metrics_destroy(&f->m);
}

static void pass(fixture *f, double s, bool stopping)
{
    const pulse_view v = {.queue = f->queue, .connections = 3, .stopping = stopping, .stop_left_s = 7};
    for (double end = f->now + s; f->now < end;) {
        f->now += .1;
        pulse_turn(f->p, &v, f->now);
    }
}

static void work_since(fixture *f, double s)
{
    atomic_store(&f->beat.since_us, (int64_t)(s * 1e6));
}

static void the_watchdog_hears_of_a_loop_that_turns(void **state)
{
    fixture f;
    set_up(&f, 15);
    pass(&f, 61, false); // it rests
    assert_int_equal(count("WATCHDOG=1"), 5);
    n_told = 0;
    for (int i = 0; i < 60; i++) {
        work_since(&f, f.now); // a turn a second
        pass(&f, 1, false);
    }
    assert_true(count("WATCHDOG=1") >= 3);
    tear_down(&f);
}

static void it_hears_nothing_of_one_that_is_stuck(void **state)
{
    fixture f;
    char line[128];
    set_up(&f, 15);
    pass(&f, 1, false);
    work_since(&f, f.now);
    pass(&f, 59, false);
    assert_true(health_good(&f.health, f.now, line, sizeof line)); // a long turn is none that is stuck
    pass(&f, 2, false);
    n_told = 0;
    pass(&f, 118, false);
    assert_int_equal(count("WATCHDOG=1"), 0);
    assert_false(health_good(&f.health, f.now, line, sizeof line));
    assert_non_null(strstr(line, "the engine loop has been in one turn for 17"));
    work_since(&f, f.now); // it came back
    pass(&f, 1, false);
    assert_int_equal(count("WATCHDOG=1"), 1);
    assert_true(health_good(&f.health, f.now, line, sizeof line));
    health_set_stuck(&f.health, 1e-3); // another limit, from now on
    pass(&f, 1, false);
    assert_false(health_good(&f.health, f.now, line, sizeof line));
    tear_down(&f);
}

static void a_server_loop_that_hangs_is_not_well(void **state)
{
    fixture f;
    char line[128];
    set_up(&f, 0);
    pass(&f, 1, false);
    assert_true(health_good(&f.health, f.now + 9, line, sizeof line));
    assert_string_equal(line, "ok");
    assert_false(health_good(&f.health, f.now + 11, line, sizeof line));
    assert_non_null(strstr(line, "server loop"));
    atomic_store(&f.health.ending, true);
    assert_false(health_good(&f.health, f.now, line, sizeof line));
    assert_string_equal(line, "stopping");
    assert_int_equal(count("WATCHDOG=1"), 0); // nobody asked for it
    tear_down(&f);
}

static void systemd_hears_of_the_queue(void **state)
{
    fixture f;
    job jobs[3] = {{.id = "a"}, {.id = "b"}, {.id = "c"}};
    set_up(&f, 0);
    pass(&f, 20, false);
    assert_int_equal(count("STATUS="), 1); // nothing has changed since
    assert_string_equal(told[0], "STATUS=0 running, 0 waiting, 0 tokens/s, 3 clients");
    for (int i = 0; i < 3; i++) assert_ok(scheduler_add(f.queue, &jobs[i]));
    jobs[0].state = JOB_RUNNING;
    jobs[1].state = JOB_READY;
    jobs[1].class = FAIR_BATCH;
    pass(&f, 6, false);
    assert_string_equal(told[n_told - 1], "STATUS=1 running, 2 waiting, 0 tokens/s, 3 clients");
    assert_true(metrics_get(f.m, METRIC_QUEUED, BY_STATE_RUNNING, BY_PRIORITY_INTERACTIVE) == 1);
    assert_true(metrics_get(f.m, METRIC_QUEUED, BY_STATE_WAITING, BY_PRIORITY_BATCH) == 1);
    assert_true(metrics_get(f.m, METRIC_QUEUED, BY_STATE_ARRIVED, BY_PRIORITY_INTERACTIVE) == 1);
    assert_true(metrics_get(f.m, METRIC_CONNECTIONS, 0, 0) == 3);
    pass(&f, 1.5, true);
    assert_string_equal(told[n_told - 1], "STATUS=Stopping: 3 requests have 7 s to end");
    for (int i = 0; i < 3; i++) scheduler_remove(f.queue, &jobs[i], f.now);
    tear_down(&f);
}

static void rates_are_of_the_last_seconds(void **state)
{
    fixture f;
    set_up(&f, 0);
    pulse_rates r = pulse_get_rates(f.p);
    assert_true(r.generated_per_s == 0 && r.batch == 0);
    for (int i = 0; i < 30; i++) {
        metrics_add_to(f.m, METRIC_TOKENS, 1, BY_TOKENS_GENERATED, 20);
        metrics_add_to(f.m, METRIC_TOKENS, 2, BY_TOKENS_GENERATED, 10);
        metrics_observe(f.m, METRIC_STEP_SEQUENCES, 1);
        metrics_observe(f.m, METRIC_STEP_SEQUENCES, 4);
        pulse_read(f.p, 100);
        pulse_read(f.p, -5); // nothing
        pass(&f, 1, false);
    }
    r = pulse_get_rates(f.p);
    assert_true(fabs(r.generated_per_s - 30) < 4);
    assert_true(fabs(r.read_per_s - 100) < 12);
    assert_true(fabs(r.batch - 2.5) < .01);
    pass(&f, PULSE_RATE_S + 3, false);
    r = pulse_get_rates(f.p);
    assert_true(r.generated_per_s == 0 && r.read_per_s == 0 && r.batch == 0);
    tear_down(&f);
}

static void the_process_is_measured(void **state)
{
    fixture f;
    set_up(&f, 0);
    pass(&f, 1.5, false);
    assert_true(metrics_get(f.m, METRIC_RESIDENT_BYTES, 0, 0) > 100000);
    assert_true(metrics_get(f.m, METRIC_OPEN_FILES, 0, 0) >= 3);
    assert_true(metrics_get(f.m, METRIC_MAX_FILES, 0, 0) >= 3);
    assert_true(metrics_get(f.m, METRIC_CPU_SECONDS, 0, 0) >= 0);
    assert_true(metrics_get(f.m, METRIC_START_TIME, 0, 0) > 1e9);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_watchdog_hears_of_a_loop_that_turns),
        cmocka_unit_test(it_hears_nothing_of_one_that_is_stuck),
        cmocka_unit_test(a_server_loop_that_hangs_is_not_well),
        cmocka_unit_test(systemd_hears_of_the_queue),
        cmocka_unit_test(rates_are_of_the_last_seconds),
        cmocka_unit_test(the_process_is_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
