// Whose turn it is on the engine thread.
#include "support/test.h"

#include <pthread.h>
#include <stdatomic.h>

#include "daemon/runner.h"

// A request that reads `slices` times and then draws `tokens`.
typedef struct made_up {
    char letter;
    int slices, waits, tokens;
    atomic_int over;
} made_up;

static char order[256];
static atomic_int n_order;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; // held: the thread waits

static void note(char c)
{
    const int at = atomic_fetch_add(&n_order, 1);
    if (at < (int)sizeof order - 1) order[at] = c;
}

static pipeline_state step(void *arg, int wait_ms)
{
    made_up *m = arg;
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    if (m->waits > 0) {
        m->waits--;
        return PIPELINE_WAITING;
    }
    if (m->slices > 0) {
        note(m->letter);
        return --m->slices ? PIPELINE_READING : PIPELINE_ANSWERING;
    }
    note((char)(m->letter - 'a' + 'A'));
    if (--m->tokens) return PIPELINE_ANSWERING;
    atomic_store(&m->over, 1);
    return PIPELINE_OVER;
}

static const char *run(made_up *const *all, int n)
{
    runner *r;
    memset(order, 0, sizeof order);
    atomic_store(&n_order, 0);
    assert_ok(runner_create(&r, step));
    pthread_mutex_lock(&gate); // all are there before the first step
    for (int i = 0; i < n; i++) assert_ok(runner_add(r, all[i]));
    pthread_mutex_unlock(&gate);
    runner_destroy(&r); // ends what is under way
    assert_null(r);
    for (int i = 0; i < n; i++) assert_true(atomic_load(&all[i]->over));
    return order;
}

static void answers_go_on_between_slices(void **state)
{
    (void)state;
    made_up a = {.letter = 'a', .slices = 1, .tokens = 4}, b = {.letter = 'b', .slices = 3, .tokens = 2};
    made_up *const all[] = {&a, &b};
    const char *got = run(all, 2);
    assert_string_equal(got, "aAbAbAbABB");
}

static void readers_take_turns(void **state)
{
    (void)state;
    made_up a = {.letter = 'a', .slices = 3, .tokens = 1}, b = {.letter = 'b', .slices = 3, .tokens = 1};
    made_up *const all[] = {&a, &b};
    const char *got = run(all, 2);
    assert_string_equal(got, "ababaAbB");
}

static void who_waits_for_a_decoder_is_passed_over(void **state)
{
    (void)state;
    made_up a = {.letter = 'a', .slices = 1, .waits = 50, .tokens = 1};
    made_up b = {.letter = 'b', .slices = 2, .tokens = 2};
    made_up *const all[] = {&a, &b};
    assert_string_equal(run(all, 2), "bbBBaA");
}

static void many_come_and_go(void **state)
{
    (void)state;
    made_up many[40];
    made_up *all[40];
    for (int i = 0; i < 40; i++) {
        many[i] = (made_up){.letter = 'x', .slices = 1 + i % 3, .waits = i % 2, .tokens = 1 + i % 4};
        all[i] = &many[i];
    }
    run(all, 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_go_on_between_slices),
        cmocka_unit_test(readers_take_turns),
        cmocka_unit_test(who_waits_for_a_decoder_is_passed_over),
        cmocka_unit_test(many_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
