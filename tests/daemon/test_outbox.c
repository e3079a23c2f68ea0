#include "support/test.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "daemon/outbox.h"
#include "daemon/worker.h"

#define N 10000 // more than an outbox holds

typedef struct producer {
    outbox *box;
    atomic_int put;
} producer;

static void produce(void *arg)
{
    producer *p = arg;
    for (int i = 0; i < N; i++) {
        char *json = malloc(16);
        snprintf(json, 16, "%d", i);
        const outbox_item item = {.kind = OUTBOX_EVENT, .event = SIGHT_DELTA, .json = json};
        outbox_put(p->box, &item);
        atomic_fetch_add(&p->put, 1);
    }
    const outbox_item end = {.kind = OUTBOX_RAN};
    outbox_put(p->box, &end);
}

static void wait_readable(const outbox *o)
{
    struct pollfd f = {.fd = outbox_fd(o), .events = POLLIN};
    assert_int_equal(poll(&f, 1, 30000), 1);
}

static void items_come_in_order_and_all(void **state)
{
    producer p = {0};
    worker *w;
    assert_ok(outbox_create(&p.box));
    assert_ok(worker_create(&w));
    worker_run(w, produce, &p);
    int next = 0;
    for (bool over = false; !over;) {
        wait_readable(p.box);
        for (outbox_item *i; (i = outbox_take(p.box));) {
            over = i->kind == OUTBOX_RAN;
            if (!over) assert_int_equal(strtol(i->json, NULL, 10), next++);
            outbox_item_destroy(&i);
            assert_null(i);
        }
    }
    assert_int_equal(next, N);
    worker_destroy(&w);
    assert_null(w);
    outbox_destroy(&p.box);
    assert_null(p.box);
}

static void a_fast_worker_waits_until_nobody_listens(void **state)
{
    producer p = {0};
    worker *w;
    assert_ok(outbox_create(&p.box));
    assert_ok(worker_create(&w));
    worker_run(w, produce, &p);
    wait_readable(p.box);
    usleep(100000);
    assert_true(atomic_load(&p.put) < N); // it waits for room
    outbox_close(p.box);
    worker_destroy(&w); // and ends when told that none will come
    assert_int_equal(atomic_load(&p.put), N);
    outbox_destroy(&p.box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_come_in_order_and_all),
        cmocka_unit_test(a_fast_worker_waits_until_nobody_listens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
