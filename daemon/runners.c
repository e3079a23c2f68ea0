#include "daemon/runners.h"

#include <stdlib.h>

struct runners {
    runner_work work;
    metrics *metrics;
    runner_book book;
    heartbeat beats[REPLICAS_MAX];
    runner *at[REPLICAS_MAX]; // NULL: not started
};

static sight_err start(runners *r, int replica)
{
    runner_work work = r->work;
    work.book = &r->book;
    work.beat = &r->beats[replica];
    work.replica = replica;
    sight_err err = runner_create(&r->at[replica], &work);
    if (!err) runner_measure(r->at[replica], r->metrics);
    return err;
}

sight_err runners_create(runners **out, const runner_work *work, metrics *m)
{
    runners *r = calloc(1, sizeof *r);
    if (!r) return sight_fail(SIGHT_E_MEMORY, "no memory for a thread");
    r->work = *work;
    r->metrics = m;
    sight_err err = runner_book_init(&r->book);
    if (err) {
        free(r);
        return err;
    }
    err = start(r, 0);
    if (err) runners_destroy(&r);
    else *out = r;
    return err;
}

void runners_destroy(runners **pr)
{
    runners *r = *pr;
    if (!r) return;
    for (int i = 0; i < REPLICAS_MAX; i++) runner_destroy(&r->at[i]);
    runner_book_done(&r->book);
    free(r);
    *pr = NULL;
}

sight_err runners_add(runners *r, int replica, void *arg, const runner_claim *claim)
{
    sight_err err = r->at[replica] ? SIGHT_OK : start(r, replica);
    return err ? err : runner_add(r->at[replica], arg, claim);
}

const heartbeat *runners_heartbeats(const runners *r)
{
    return r->beats;
}
