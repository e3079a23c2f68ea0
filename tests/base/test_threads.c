#include "support/test.h"

#include <stdatomic.h>

#include "base/threads.h"

#define N 100000

typedef struct count {
    atomic_int hits[N];
    int64_t grain;
    atomic_int bad;
} count;

static void visit(void *arg, int64_t begin, int64_t end, int worker)
{
    count *c = arg;
    if (begin % c->grain || end - begin > c->grain || worker < 0) atomic_store(&c->bad, 1);
    for (int64_t i = begin; i < end; i++) atomic_fetch_add(&c->hits[i], 1);
}

static void each_index_is_visited_once(void **state)
{
    count *c = malloc(sizeof *c);
    for (int n_threads = 1; n_threads <= 5; n_threads += 2) {
        threads *t;
        assert_ok(threads_create(&t, n_threads));
        assert_int_equal(threads_count(t), n_threads);
        for (int round = 0; round < 200; round++) {
            int64_t n = round * 37 % 1000;
            memset(c, 0, sizeof *c);
            c->grain = 1 + round % 17;
            threads_for(t, n, c->grain, visit, c);
            for (int64_t i = 0; i < 1000; i++) assert_int_equal(c->hits[i], i < n);
            assert_int_equal(c->bad, 0);
        }
        threads_destroy(&t);
        assert_null(t);
    }
    free(c);
}

static void stop_at_ten(void *arg, int64_t begin, int64_t end, int worker)
{
    atomic_bool *flag = arg;
    if (begin >= 10) atomic_store(flag, true);
}

static void work_ends_early_when_its_flag_is_set(void **state)
{
    count *c = malloc(sizeof *c);
    for (int n_threads = 1; n_threads <= 3; n_threads++) {
        threads *t;
        assert_ok(threads_create(&t, n_threads));
        atomic_bool flag = false;
        threads_set_stop(t, &flag);
        threads_for(t, N, 1, stop_at_ten, &flag);
        assert_true(atomic_load(&flag));
        memset(c, 0, sizeof *c);
        c->grain = 1;
        threads_for(t, N, 1, visit, c);
        assert_int_equal(c->hits[N - 1], 0);
        threads_set_stop(t, NULL);
        threads_for(t, N, 1, visit, c);
        assert_int_equal(c->hits[N - 1], 1);
        threads_destroy(&t);
    }
    free(c);
}

static void sizes_out_of_range_are_refused(void **state)
{
    threads *t = NULL;
    assert_fails(threads_create(&t, 257), SIGHT_E_ARGUMENT, "257");
    assert_fails(threads_create(&t, -1), SIGHT_E_ARGUMENT, "-1");
    assert_null(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_index_is_visited_once),
        cmocka_unit_test(work_ends_early_when_its_flag_is_set),
        cmocka_unit_test(sizes_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
