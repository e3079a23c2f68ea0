#include "daemon/runner.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

// How long the thread waits for a decoder before it looks for new requests.
#define WAIT_MS 20

typedef struct turn {
    void *arg;
    runner_claim who;
    fair_claim claim; // its account is NULL where there was no memory for one
    pipeline_state state;
    long looked; // the last time that somebody to read was looked for, and this one was tried
} turn;

// To be taken in.
typedef struct fresh_turn {
    void *arg;
    runner_claim who;
} fresh_turn;

struct runner {
    runner_work work;
    pthread_t thread;
    metrics *metrics;
    heartbeat own_beat, *beat;
    runner_book own_book, *book;

    // The thread's own.
    turn *turns; // [n], in the order they came
    int n, capacity;
    long came, looks;

    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t changed;
    fresh_turn *fresh; // [n_fresh]
    int n_fresh, fresh_capacity;
    bool stop;
};

static void *grow(void *list, int *capacity, size_t size)
{
    const int wanted = *capacity ? 2 * *capacity : 8;
    void *grown = realloc(list, (size_t)wanted * size);
    if (grown) *capacity = wanted;
    return grown;
}

// ---- on the thread ----

static void note_turn(runner *r, double s)
{
    if (s <= 0) return; // it rested
    metrics_observe(r->metrics, METRIC_TURN_SECONDS, s);
    metrics_raise(r->metrics, METRIC_TURN_LONGEST_SECONDS, s);
}

static turn begin_turn(runner *r, const fresh_turn *f)
{
    const runner_claim *c = &f->who;
    turn t = {.arg = f->arg, .who = *c, .state = PIPELINE_READING};
    t.claim = (fair_claim){.class = c->class, .since_s = c->since_s, .deadline_s = c->deadline_s, .order = r->came++};
    pthread_mutex_lock(&r->book->lock);
    fair_open(r->book->fair, &t.claim.account, c->who, c->client, c->client_size);
    pthread_mutex_unlock(&r->book->lock);
    return t;
}

// Takes in what was added, as far as there is memory; the rest waits. False when all is over.
static bool take_in(runner *r)
{
    pthread_mutex_lock(&r->mutex);
    if (r->n == 0 && r->n_fresh == 0 && !r->stop) note_turn(r, heartbeat_rest(r->beat));
    while (r->n == 0 && r->n_fresh == 0 && !r->stop) pthread_cond_wait(&r->changed, &r->mutex);
    int taken = 0;
    for (; taken < r->n_fresh; taken++) {
        if (r->n == r->capacity) {
            turn *turns = grow(r->turns, &r->capacity, sizeof *turns);
            if (!turns) break;
            r->turns = turns;
        }
        r->turns[r->n++] = begin_turn(r, &r->fresh[taken]);
    }
    r->n_fresh -= taken;
    if (r->n_fresh) {
        memmove(r->fresh, r->fresh + taken, (size_t)r->n_fresh * sizeof *r->fresh);
    }
    const bool more = r->n > 0 || r->n_fresh > 0 || !r->stop;
    pthread_mutex_unlock(&r->mutex);
    return more;
}

static void charge(runner *r, turn *t, double seconds)
{
    pthread_mutex_lock(&r->book->lock);
    fair_charge(r->book->fair, t->claim.account, seconds);
    pthread_mutex_unlock(&r->book->lock);
    metrics_add_to(r->metrics, METRIC_REPLICA_BUSY, r->work.replica, 0, seconds);
    if (t->who.used_us) atomic_fetch_add(t->who.used_us, (int64_t)(seconds * 1e6 + 0.5));
}

static void end_turn(runner *r, int i)
{
    pthread_mutex_lock(&r->book->lock);
    fair_close(r->book->fair, &r->turns[i].claim.account);
    pthread_mutex_unlock(&r->book->lock);
    memmove(r->turns + i, r->turns + i + 1, (size_t)(--r->n - i) * sizeof *r->turns);
}

// A slice of turn i; gives what has become of it. Once over it has been taken out.
static pipeline_state take_slice(runner *r, int i, int wait_ms)
{
    turn *t = &r->turns[i];
    _Atomic int64_t *const used = t->who.used_us;
    // The request may be gone with its last slice, and the place where its time is noted with it.
    t->who.used_us = NULL;
    const double start = r->work.now_s();
    const pipeline_state state = r->work.step(t->arg, wait_ms);
    t->state = state;
    if (state != PIPELINE_OVER) t->who.used_us = used;
    if (state != PIPELINE_WAITING) charge(r, t, r->work.now_s() - start);
    if (state == PIPELINE_OVER) end_turn(r, i);
    return state;
}

// A step of those that answer, from turn `from` on as many as go together; gives where the rest begins.
static int answer_some(runner *r, int from, bool *any)
{
    void *args[RUNNER_TOGETHER];
    pipeline_state states[RUNNER_TOGETHER];
    double took_s[RUNNER_TOGETHER] = {0};
    int at[RUNNER_TOGETHER], n = 0, i = from;
    for (; i < r->n && n < RUNNER_TOGETHER; i++) {
        if (r->turns[i].state != PIPELINE_ANSWERING) continue;
        at[n] = i;
        args[n++] = r->turns[i].arg;
    }
    if (n == 0) return i;
    *any = true;
    r->work.answer(args, states, took_s, n);
    for (int k = n - 1; k >= 0; k--) {
        turn *t = &r->turns[at[k]];
        t->state = states[k];
        if (states[k] == PIPELINE_OVER) t->who.used_us = NULL;
        charge(r, t, took_s[k]);
        if (states[k] != PIPELINE_OVER) continue;
        end_turn(r, at[k]);
        i--;
    }
    return i;
}

// A step of every answer; true when there was one.
static bool answer_all(runner *r)
{
    bool any = false;
    for (int i = 0; i < r->n;) i = answer_some(r, i, &any);
    return any;
}

// Who reads next, of those not looked at in this look; -1: nobody.
static int next_reader(const runner *r)
{
    const double now = r->work.now_s();
    int best = -1;
    pthread_mutex_lock(&r->book->lock);
    for (int i = 0; i < r->n; i++) {
        const turn *t = &r->turns[i];
        if (t->state == PIPELINE_ANSWERING || t->looked == r->looks) continue;
        if (best < 0 || fair_before(r->book->fair, &t->claim, &r->turns[best].claim, now)) best = i;
    }
    pthread_mutex_unlock(&r->book->lock);
    return best;
}

// A slice of whoever is next and has something to do; false: nobody has. Those that wait for their decoder are passed over;
// when all do and no answer runs either, the first of them waits with its decoder.
static bool read_one(runner *r, bool busy)
{
    int waiting = -1;
    r->looks++;
    for (int i; (i = next_reader(r)) >= 0;) {
        r->turns[i].looked = r->looks;
        if (take_slice(r, i, 0) != PIPELINE_WAITING) return true;
        if (waiting < 0) waiting = i;
    }
    if (waiting >= 0 && !busy) take_slice(r, waiting, WAIT_MS);
    return false;
}

// Slices, as long as answers may wait for them: where a step of theirs takes longer than that by itself, as long as the
// step, so that those who read get their half. Without answers one, so that newcomers are seen.
static void read_some(runner *r, bool busy, double step_s)
{
    const double most = step_s > r->work.slices_s ? step_s : r->work.slices_s;
    const double start = r->work.now_s();
    double now = start, took;
    do {
        const double before = now;
        if (!read_one(r, busy)) return;
        now = r->work.now_s();
        took = now - before;
    } while (busy && now - start + took <= most);
}

static void *runner_main(void *arg)
{
    runner *r = arg;
    while (take_in(r)) {
        note_turn(r, heartbeat_beat(r->beat));
        const double start = r->work.now_s();
        const bool busy = answer_all(r);
        read_some(r, busy, r->work.now_s() - start);
    }
    heartbeat_rest(r->beat);
    return NULL;
}

// ---- from outside ----

sight_err runner_book_init(runner_book *b)
{
    sight_err err = fair_create(&b->fair);
    if (!err) pthread_mutex_init(&b->lock, NULL);
    return err;
}

void runner_book_done(runner_book *b)
{
    pthread_mutex_destroy(&b->lock);
    fair_destroy(&b->fair);
}

sight_err runner_create(runner **out, const runner_work *work)
{
    runner *r = calloc(1, sizeof *r);
    if (!r) return sight_fail(SIGHT_E_MEMORY, "no memory for a thread");
    r->book = work->book ? work->book : &r->own_book;
    r->beat = work->beat ? work->beat : &r->own_beat;
    sight_err err = work->book ? SIGHT_OK : runner_book_init(&r->own_book);
    if (err) {
        free(r);
        return err;
    }
    r->work = *work;
    if (!r->work.now_s) r->work.now_s = clock_now_s;
    pthread_mutex_init(&r->mutex, NULL);
    pthread_cond_init(&r->changed, NULL);
    if (pthread_create(&r->thread, NULL, runner_main, r)) {
        pthread_cond_destroy(&r->changed);
        pthread_mutex_destroy(&r->mutex);
        if (!work->book) runner_book_done(&r->own_book);
        free(r);
        return sight_fail(SIGHT_E_MEMORY, "cannot start a thread");
    }
    *out = r;
    return SIGHT_OK;
}

void runner_measure(runner *r, metrics *m)
{
    r->metrics = m;
}

const heartbeat *runner_heartbeat(const runner *r)
{
    return r->beat;
}

void runner_destroy(runner **pr)
{
    runner *r = *pr;
    if (!r) return;
    pthread_mutex_lock(&r->mutex);
    r->stop = true;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->mutex);
    pthread_join(r->thread, NULL);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->mutex);
    if (r->book == &r->own_book) runner_book_done(r->book);
    free(r->turns);
    free(r->fresh);
    free(r);
    *pr = NULL;
}

sight_err runner_add(runner *r, void *arg, const runner_claim *claim)
{
    sight_err err = SIGHT_OK;
    pthread_mutex_lock(&r->mutex);
    if (r->n_fresh == r->fresh_capacity) {
        fresh_turn *fresh = grow(r->fresh, &r->fresh_capacity, sizeof *fresh);
        if (fresh) r->fresh = fresh;
        else err = sight_fail(SIGHT_E_MEMORY, "no memory for another request");
    }
    if (!err) r->fresh[r->n_fresh++] = (fresh_turn){arg, *claim};
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->mutex);
    return err;
}
