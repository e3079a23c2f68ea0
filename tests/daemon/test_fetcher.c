// Several requests' media at once, against a web server of the test's own.
#include "web.h"

#include <fcntl.h>
#include <time.h>

#include "base/file.h"
#include "daemon/media/fetcher.h"
#include "daemon/media/request_media.h"

static web server;
static metrics *counts;

static int set_up(void **state)
{
    web_start(&server);
    assert_ok(metrics_create(&counts));
    return 0;
}

static int tear_down(void **state)
{
    web_stop(&server);
    metrics_destroy(&counts);
    return 0;
}

static double count_of(metric_id id, int ending)
{
    return metrics_get(counts, id, ending, 0);
}

static fetcher *open_fetcher(int32_t threads, int64_t max_bytes)
{
    char host[32];
    const char *hosts[] = {host};
    snprintf(host, sizeof host, "127.0.0.1:%d", server.port);
    const fetcher_options o = {.hosts = hosts, .n_hosts = 1, .threads = threads, .max_bytes = max_bytes,
                               .metrics = counts,
                               .rules = {.not_public = true, .max_bytes = 1000, .timeout_s = 20, .redirects = 1,
                                         .slow_bytes_per_s = 1, .slow_s = 20}};
    fetcher *f = NULL;
    sight_err err = fetcher_create(&f, &o);
    if (err == SIGHT_E_UNSUPPORTED) {
        print_message("skipped: %s\n", sight_error());
        exit(77);
    }
    assert_ok(err);
    return f;
}

// A request for some paths, and what came of it.
typedef struct wish {
    fetch_work work;
    request asked;
    request_media media[8];
    atomic_bool cancel;
    atomic_int over, told;
    int64_t done, total;
} wish;

static void on_told(void *arg, int64_t done, int64_t total)
{
    wish *w = arg;
    w->done = done;
    w->total = total;
    atomic_fetch_add(&w->told, 1);
}

static void on_over(void *arg)
{
    atomic_fetch_add(&((wish *)arg)->over, 1);
}

static wish *ask(fetcher *f, const identity *who, const char *const *paths)
{
    wish *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->asked.media = w->media;
    for (; paths[w->asked.n_media]; w->asked.n_media++) {
        request_media *m = &w->media[w->asked.n_media];
        char text[100];
        snprintf(text, sizeof text, "http://127.0.0.1:%d%s", server.port, paths[w->asked.n_media]);
        m->url = strdup(text);
        m->fd = -1;
    }
    w->work = (fetch_work){.asked = &w->asked, .who = who, .cancel = &w->cancel, .max_bytes = 500, .told = on_told, .over = on_over,
                           .arg = w};
    fetcher_add(f, &w->work);
    return w;
}

static void wait_over(wish *w)
{
    for (int i = 0; i < 6000 && !atomic_load(&w->over); i++) web_sleep(5);
    assert_int_equal(atomic_load(&w->over), 1);
}

static void wait_asked(int n)
{
    for (int i = 0; i < 6000 && atomic_load(&server.asked) < n; i++) web_sleep(5);
    assert_true(atomic_load(&server.asked) >= n);
}

static void let_go(fetcher *f, wish *w)
{
    fetcher_forget(f, &w->work);
    assert_int_equal(w->work.bytes, 0);
    for (int32_t i = 0; i < w->asked.n_media; i++) {
        if (w->media[i].fd >= 0) close(w->media[i].fd);
        free(w->media[i].url);
    }
    free(w);
}

static void all_media_of_a_request_come(void **state)
{
    fetcher *f = open_fetcher(3, 10000);
    const char *paths[] = {"/ok", "/chunked", "/big", "/to//ok", NULL};
    wish *w = ask(f, NULL, paths);
    wait_over(w);
    assert_int_equal(w->work.err, SIGHT_OK);
    assert_false(request_wants_fetching(&w->asked));
    const char *const wanted[] = {"hello", "hello", "0123456789", "hello"};
    for (int i = 0; i < 4; i++) {
        char *text;
        size_t size;
        assert_ok(file_read_fd(&text, &size, w->media[i].fd, paths[i], 1000));
        assert_memory_equal(text, wanted[i], strlen(wanted[i]));
        free(text);
    }
    assert_int_equal(w->work.bytes, 115);
    assert_float_equal(count_of(METRIC_FETCHES, BY_ENDING_DONE), 4, 0);
    assert_float_equal(count_of(METRIC_FETCHED_BYTES, 0), 115, 0);
    assert_true(atomic_load(&w->told) >= 1);
    assert_int_equal(w->total, 0); // a chunked one does not say how long it is
    assert_true(w->done > 0 && w->done <= 115);
    let_go(f, w);
    fetcher_destroy(&f);
    fetcher_destroy(&f);
}

static void the_first_that_fails_ends_the_rest(void **state)
{
    fetcher *f = open_fetcher(4, 10000);
    const char *paths[] = {"/hang", "/nothing", "/ok", NULL};
    wish *w = ask(f, NULL, paths);
    wait_over(w);
    assert_int_equal(w->work.err, SIGHT_E_NOT_FOUND);
    assert_non_null(strstr(w->work.line, "/nothing' is not there (status 404)"));
    let_go(f, w);
    fetcher_destroy(&f);
}

static void a_medium_keeps_to_its_limit(void **state)
{
    fetcher *f = open_fetcher(1, 10000);
    const char *paths[] = {"/big", NULL};
    wish *w = ask(f, NULL, paths);
    wait_over(w);
    assert_int_equal(w->work.err, SIGHT_OK);
    let_go(f, w);
    const char *endless[] = {"/endless", NULL};
    w = ask(f, NULL, endless);
    wait_over(w);
    assert_int_equal(w->work.err, SIGHT_E_LIMIT);
    assert_non_null(strstr(w->work.line, "more than 500 bytes")); // its own, under the server's 1,000
    assert_float_equal(count_of(METRIC_FETCHES, BY_ENDING_MEMORY), 1, 0);
    let_go(f, w);
    fetcher_destroy(&f);
}

static void all_that_lies_fetched_is_bounded(void **state)
{
    fetcher *f = open_fetcher(2, 250);
    const char *paths[] = {"/big", "/big", NULL}, *more[] = {"/big", NULL};
    wish *first = ask(f, NULL, paths);
    wait_over(first);
    assert_int_equal(first->work.err, SIGHT_OK);
    wish *second = ask(f, NULL, more);
    wait_over(second);
    assert_int_equal(second->work.err, SIGHT_E_BUSY);
    let_go(f, second);
    let_go(f, first);
    second = ask(f, NULL, more);
    wait_over(second);
    assert_int_equal(second->work.err, SIGHT_OK);
    let_go(f, second);
    fetcher_destroy(&f);
}

static void slow_ones_do_not_hold_up_others(void **state)
{
    fetcher *f = open_fetcher(4, 10000);
    identity_table *table;
    identity *slow_one, *other;
    const identity_terms terms = {.rights = IDENTITY_ALL_RIGHTS};
    assert_ok(identity_table_create(&table));
    assert_ok(identity_table_get(table, &slow_one, "slow", true, &terms));
    assert_ok(identity_table_get(table, &other, "other", true, &terms));
    const char *slow[] = {"/hang", "/hang", "/hang", "/hang", "/hang", "/hang", NULL}, *quick[] = {"/ok", "/ok", "/ok", NULL};
    const int before = atomic_load(&server.asked);
    atomic_store(&server.most_open, 0);
    wish *a = ask(f, slow_one, slow), *b = ask(f, slow_one, slow);
    wait_asked(before + 2);
    wish *c = ask(f, other, quick);
    wait_over(c);
    assert_int_equal(c->work.err, SIGHT_OK);
    assert_int_equal(atomic_load(&server.asked), before + 5); // two of four threads hang, the other two have fetched three
    assert_int_equal(atomic_load(&a->over) + atomic_load(&b->over), 0);
    // Nobody has begun with the second, so it is had back at once; the first ends by its flag.
    assert_true(fetcher_drop(f, &b->work));
    assert_false(fetcher_drop(f, &b->work));
    atomic_store(&a->cancel, true);
    assert_false(fetcher_drop(f, &a->work));
    wait_over(a);
    assert_int_equal(a->work.err, SIGHT_E_CANCELLED);
    assert_int_equal(atomic_load(&b->over), 0);
    let_go(f, a);
    let_go(f, b);
    let_go(f, c);
    fetcher_destroy(&f);
    identity_table_destroy(&table);
}

static void draining_lets_go_of_all(void **state)
{
    fetcher *f = open_fetcher(2, 10000);
    const char *slow[] = {"/hang", "/hang", NULL};
    const int before = atomic_load(&server.asked);
    wish *a = ask(f, NULL, slow), *b = ask(f, NULL, slow);
    wait_asked(before + 1);
    atomic_store(&a->cancel, true);
    atomic_store(&b->cancel, true);
    fetcher_drain(f);
    assert_int_equal(atomic_load(&a->over), 1);
    assert_int_equal(atomic_load(&b->over), 0);
    let_go(f, a);
    let_go(f, b);
    fetcher_destroy(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_media_of_a_request_come),
        cmocka_unit_test(the_first_that_fails_ends_the_rest),
        cmocka_unit_test(a_medium_keeps_to_its_limit),
        cmocka_unit_test(all_that_lies_fetched_is_bounded),
        cmocka_unit_test(slow_ones_do_not_hold_up_others),
        cmocka_unit_test(draining_lets_go_of_all),
    };
    return cmocka_run_group_tests_name("daemon/media/fetcher", tests, set_up, tear_down);
}
