// The engine loop's heart: it beats with every turn, rests without work, and tells of a step that does not come back.
#include "support/test.h"

#include <pthread.h>
#include <sched.h>

#include "base/clock.h"
#include "daemon/watch/pulse.h"
#include "daemon/runner.h"

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; // held: a step hangs
static atomic_int steps, fed;

static pipeline_state hang(void *arg, int wait_ms)
{
    atomic_fetch_add(&steps, 1);
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    return PIPELINE_OVER;
}

static void answer_nothing(void *const *args, pipeline_state *states, double *took_s, int n)
{
    for (int i = 0; i < n; i++) states[i] = PIPELINE_OVER;
}

static void hear(const char *text)
{
    if (!strcmp(text, "WATCHDOG=1")) atomic_fetch_add(&fed, 1);
}

static runner *start(metrics *m)
{
    runner *r;
    const runner_work work = {.step = hang, .answer = answer_nothing, .slices_s = .1};
    assert_ok(runner_create(&r, &work));
    runner_measure(r, m);
    return r;
}

// Until the thread has got so far; the test's own time limit ends it otherwise.
static void wait_until_resting(const runner *r)
{
    while (heartbeat_turn_s(runner_heartbeat(r), clock_now_s() + 1) > 0) sched_yield();
}

static void a_step_that_hangs_starves_the_watchdog(void **state)
{
    metrics *m;
    pulse *p;
    health h = {0};
    scheduler *queue;
    const scheduler_limits limits = {.max_jobs = 1, .max_jobs_per_client = 1, .max_bytes = 1};
    assert_ok(metrics_create(&m));
    assert_ok(scheduler_create(&queue, &limits));
    runner *r = start(m);
    const double now = clock_now_s();
    health_init(&h, runner_heartbeat(r), 1, 60, now);
    const pulse_options o = {.metrics = m, .health = &h, .watchdog_s = 5, .notify = hear};
    const pulse_view v = {.queue = queue};
    assert_ok(pulse_create(&p, &o, now));
    pulse_turn(p, &v, now);
    assert_int_equal(atomic_load(&fed), 1);
    pthread_mutex_lock(&gate);
    const runner_claim claim = {.client = "c", .client_size = 1, .since_s = now};
    assert_ok(runner_add(r, &h, &claim));
    while (!atomic_load(&steps)) sched_yield();
    pulse_turn(p, &v, now + 30); // the same turn as seen later
    assert_int_equal(atomic_load(&fed), 2);
    for (int i = 0; i < 10; i++) pulse_turn(p, &v, clock_now_s() + 61 + 10 * i);
    assert_int_equal(atomic_load(&fed), 2);
    pthread_mutex_unlock(&gate);
    wait_until_resting(r);
    pulse_turn(p, &v, now + 1000);
    assert_int_equal(atomic_load(&fed), 3);
    assert_true(metrics_get(m, METRIC_TURN_SECONDS, 0, 0) >= 1);
    assert_true(metrics_get(m, METRIC_TURN_LONGEST_SECONDS, 0, 0) > 0);
    pulse_destroy(&p);
    runner_destroy(&r);
    scheduler_destroy(&queue);
    metrics_destroy(&m);
}

static void it_rests_without_work(void **state)
{
    runner *r = start(NULL);
    wait_until_resting(r);
    assert_true(heartbeat_turn_s(runner_heartbeat(r), clock_now_s() + 3600) == 0);
    runner_destroy(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_rests_without_work),
        cmocka_unit_test(a_step_that_hangs_starves_the_watchdog),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
