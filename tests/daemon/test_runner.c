// Whose turn it is on the engine thread, with made-up requests and a made-up clock.
#include "support/test.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "daemon/runner.h"

// A request that reads `slices` times and then draws `tokens`.
typedef struct made_up {
    char letter;
    int slices, waits, tokens;
    atomic_int *until; // its last slice waits for that; NULL: for nothing
    fair_class class;
    double deadline_s;
    int who; // 0: as many as there are letters
    atomic_int over;
    _Atomic int64_t used_us;
} made_up;

static char order[512];
static atomic_int n_order;
static atomic_int at_gate; // the thread has come there
static atomic_int now_ms; // a slice takes 10, an answer's part of a step 2
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; // held: the thread waits

static double now_s(void)
{
    return 0.001 * atomic_load(&now_ms);
}

static void note(char c)
{
    const int at = atomic_fetch_add(&n_order, 1);
    if (at < (int)sizeof order - 1) order[at] = c;
}

static pipeline_state step(void *arg, int wait_ms)
{
    made_up *m = arg;
    atomic_store(&at_gate, 1);
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    if (m->waits > 0) {
        m->waits--;
        return PIPELINE_WAITING;
    }
    if (m->until && m->slices == 1 && !atomic_load(m->until)) return PIPELINE_WAITING;
    atomic_fetch_add(&now_ms, 10);
    note(m->letter);
    return --m->slices ? PIPELINE_READING : PIPELINE_ANSWERING;
}

static void answer(void *const *args, pipeline_state *states, double *took_s, int n)
{
    note('(');
    for (int i = 0; i < n; i++) {
        made_up *m = args[i];
        took_s[i] = 0.002;
        atomic_fetch_add(&now_ms, 2);
        note((char)(m->letter - 'a' + 'A'));
        states[i] = --m->tokens ? PIPELINE_ANSWERING : PIPELINE_OVER;
        if (states[i] == PIPELINE_OVER) atomic_store(&m->over, 1);
    }
    note(')');
}

static const char *run_beside(made_up *const *all, int n, double slices_s, runner_book *book)
{
    const runner_work work = {.step = step, .answer = answer, .slices_s = slices_s, .now_s = now_s, .book = book};
    runner *r;
    memset(order, 0, sizeof order);
    atomic_store(&n_order, 0);
    atomic_store(&now_ms, 0);
    assert_ok(runner_create(&r, &work));
    // One holds the thread until all others are there.
    atomic_store(&at_gate, 0);
    pthread_mutex_lock(&gate);
    made_up first = {.letter = 'z', .slices = 1, .tokens = 1};
    const runner_claim holds = {.who = &first, .client = "z", .client_size = 1};
    assert_ok(runner_add(r, &first, &holds));
    while (!atomic_load(&at_gate)) sched_yield();
    for (int i = 0; i < n; i++) {
        const runner_claim claim = {.class = all[i]->class, .deadline_s = all[i]->deadline_s,
                                    .who = all[i]->who ? (void *)&order[all[i]->who] : (void *)all[i],
                                    .client = &all[i]->letter, .client_size = 1, .used_us = &all[i]->used_us};
        assert_ok(runner_add(r, all[i], &claim));
    }
    pthread_mutex_unlock(&gate);
    runner_destroy(&r); // ends what is under way
    assert_null(r);
    for (int i = 0; i < n; i++) assert_true(atomic_load(&all[i]->over));
    return order;
}

static const char *run_with(made_up *const *all, int n, double slices_s)
{
    return run_beside(all, n, slices_s, NULL);
}

// What came after the one that held the thread.
static const char *run(made_up *const *all, int n)
{
    const char *got = run_with(all, n, 0);
    assert_int_equal(strncmp(got, "z(Z)", 4), 0);
    return got + 4;
}

static void answers_go_on_between_slices(void **state)
{
    (void)state;
    made_up a = {.letter = 'a', .slices = 1, .tokens = 4}, b = {.letter = 'b', .slices = 3, .tokens = 2};
    made_up *const all[] = {&a, &b};
    assert_string_equal(run(all, 2), "a(A)b(A)b(A)b(AB)(B)");
    assert_int_equal(a.used_us, 10000 + 3 * 2000); // the time of the last step is not noted: it may be gone
}

// Answers share a step.
static void answers_are_read_together(void **state)
{
    (void)state;
    made_up many[5];
    made_up *all[5];
    for (int i = 0; i < 5; i++) {
        many[i] = (made_up){.letter = (char)('a' + i), .slices = 1, .tokens = 5};
        all[i] = &many[i];
    }
    const char *got = run(all, 5);
    assert_non_null(strstr(got, "(ABCDE)"));
}

static void readers_take_turns(void **state)
{
    (void)state;
    made_up a = {.letter = 'a', .slices = 3, .tokens = 1}, b = {.letter = 'b', .slices = 3, .tokens = 1};
    made_up *const all[] = {&a, &b};
    assert_string_equal(run(all, 2), "ababa(A)b(B)");
}

// Two requests of one identity get together what the one of another gets.
static void identities_share_and_then_connections(void **state)
{
    (void)state;
    made_up a = {.letter = 'a', .slices = 20, .tokens = 1, .who = 1}, b = {.letter = 'b', .slices = 20, .tokens = 1, .who = 1};
    made_up c = {.letter = 'c', .slices = 20, .tokens = 1, .who = 2};
    made_up *const all[] = {&a, &b, &c};
    const char *got = run(all, 3);
    int n[3] = {0};
    for (int i = 0; i < 24; i++) n[got[i] - 'a']++;
    assert_in_range(n[0], 5, 7);
    assert_in_range(n[1], 5, 7);
    assert_in_range(n[2], 11, 13);
}

static void urgent_ones_go_first(void **state)
{
    (void)state;
    made_up a = {.letter = 'a', .slices = 2, .tokens = 1, .class = FAIR_BATCH};
    made_up b = {.letter = 'b', .slices = 2, .tokens = 1, .class = FAIR_CAMERA};
    made_up c = {.letter = 'c', .slices = 2, .tokens = 1};
    made_up d = {.letter = 'd', .slices = 2, .tokens = 1, .deadline_s = 9};
    made_up *const all[] = {&a, &b, &c, &d};
    assert_string_equal(run(all, 4), "dd(D)cc(C)bb(B)aa(A)");
}

// Slices follow each other as long as answers may wait, and not longer.
static void slices_fill_the_time_between_steps(void **state)
{
    (void)state;
    made_up a = {.letter = 'a', .slices = 1, .tokens = 3}, b = {.letter = 'b', .slices = 9, .tokens = 1};
    made_up *const all[] = {&a, &b};
    assert_non_null(strstr(run_with(all, 2, 0.035), "(A)bbb(A)bbb(A)"));
}

static void who_waits_for_a_decoder_is_passed_over(void **state)
{
    (void)state;
    made_up a = {.letter = 'a', .slices = 1, .waits = 50, .tokens = 1};
    made_up b = {.letter = 'b', .slices = 2, .tokens = 2};
    made_up *const all[] = {&a, &b};
    assert_string_equal(run(all, 2), "bb(B)(B)a(A)");
}

// Who uses another engine thread much comes later on this one.
static void time_counts_on_all_runners(void **state)
{
    (void)state;
    runner_book book;
    runner *other;
    atomic_int until = 0;
    assert_ok(runner_book_init(&book));
    const runner_work work = {.step = step, .answer = answer, .now_s = now_s, .book = &book};
    made_up much = {.letter = 'x', .slices = 9, .tokens = 1, .until = &until};
    made_up little = {.letter = 'y', .slices = 2, .tokens = 1, .until = &until};
    const runner_claim claims[] = {{.who = &order[1], .client = "x", .client_size = 1, .used_us = &much.used_us},
                                   {.who = &order[2], .client = "y", .client_size = 1, .used_us = &little.used_us}};
    assert_ok(runner_create(&other, &work));
    pthread_mutex_lock(&gate); // neither is far ahead when the other comes
    assert_ok(runner_add(other, &much, &claims[0]));
    assert_ok(runner_add(other, &little, &claims[1]));
    pthread_mutex_unlock(&gate);
    while (atomic_load(&much.used_us) < 80000 || atomic_load(&little.used_us) < 10000) sched_yield();
    made_up a = {.letter = 'a', .slices = 2, .tokens = 1, .who = 1}, b = {.letter = 'b', .slices = 2, .tokens = 1, .who = 2};
    made_up *const all[] = {&a, &b};
    assert_string_equal(run_beside(all, 2, 0, &book), "z(Z)bb(B)aa(A)");
    atomic_store(&until, 1);
    runner_destroy(&other);
    runner_book_done(&book);
}

static void many_come_and_go(void **state)
{
    (void)state;
    made_up many[100];
    made_up *all[100];
    for (int i = 0; i < 100; i++) {
        many[i] = (made_up){.letter = 'x', .slices = 1 + i % 3, .waits = i % 2, .tokens = 1 + i % 4, .class = i % 3};
        all[i] = &many[i];
    }
    run(all, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_go_on_between_slices),
        cmocka_unit_test(answers_are_read_together),
        cmocka_unit_test(readers_take_turns),
        cmocka_unit_test(identities_share_and_then_connections),
        cmocka_unit_test(urgent_ones_go_first),
        cmocka_unit_test(slices_fill_the_time_between_steps),
        cmocka_unit_test(who_waits_for_a_decoder_is_passed_over),
        cmocka_unit_test(time_counts_on_all_runners),
        cmocka_unit_test(many_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
