#include "daemon/runner.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

// How long the thread waits for a decoder before it looks for new requests.
#define WAIT_MS 20

typedef struct turn {
    void *arg;
    pipeline_state state;
} turn;

struct runner {
    runner_step *step;
    pthread_t thread;
    metrics *metrics;
    heartbeat beat;

    // The thread's own.
    turn *turns; // [n], in the order they came
    int n, capacity;
    int last; // whose slice came last

    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t changed;
    void **fresh; // [n_fresh], to be taken in
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

// Takes in what was added, as far as there is memory; the rest waits. False when all is over.
static bool take_in(runner *r)
{
    pthread_mutex_lock(&r->mutex);
    if (r->n == 0 && r->n_fresh == 0 && !r->stop) note_turn(r, heartbeat_rest(&r->beat));
    while (r->n == 0 && r->n_fresh == 0 && !r->stop) pthread_cond_wait(&r->changed, &r->mutex);
    int taken = 0;
    for (; taken < r->n_fresh; taken++) {
        if (r->n == r->capacity) {
            turn *turns = grow(r->turns, &r->capacity, sizeof *turns);
            if (!turns) break;
            r->turns = turns;
        }
        r->turns[r->n++] = (turn){r->fresh[taken], PIPELINE_READING};
    }
    r->n_fresh -= taken;
    if (r->n_fresh) {
        memmove(r->fresh, r->fresh + taken, (size_t)r->n_fresh * sizeof *r->fresh);
    }
    const bool more = r->n > 0 || r->n_fresh > 0 || !r->stop;
    pthread_mutex_unlock(&r->mutex);
    return more;
}

// One step of turn i; true when it is over and has been taken out.
static bool take_step(runner *r, int i, int wait_ms)
{
    r->turns[i].state = r->step(r->turns[i].arg, wait_ms);
    if (r->turns[i].state != PIPELINE_OVER) return false;
    memmove(r->turns + i, r->turns + i + 1, (size_t)(--r->n - i) * sizeof *r->turns);
    if (r->last > i) r->last--;
    return true;
}

// A token of every answer; true when there was one.
static bool answer_all(runner *r)
{
    bool any = false;
    for (int i = 0; i < r->n;) {
        const bool answers = r->turns[i].state == PIPELINE_ANSWERING;
        any |= answers;
        if (!answers || !take_step(r, i, 0)) i++;
    }
    return any;
}

// A slice of the next request that has something to do. Those that wait for their decoder are
// passed over; when all do and no answer runs either, the first of them waits with its decoder.
static void read_one(runner *r, bool busy)
{
    int waiting = -1;
    for (int tried = 0; tried < r->n; tried++) {
        const int i = (r->last + 1 + tried) % r->n;
        if (r->turns[i].state == PIPELINE_ANSWERING) continue;
        const bool over = take_step(r, i, 0);
        if (!over && r->turns[i].state == PIPELINE_WAITING) {
            if (waiting < 0) waiting = i;
            continue;
        }
        r->last = over ? i - 1 : i;
        return;
    }
    if (waiting >= 0 && !busy) take_step(r, waiting, WAIT_MS);
}

static void *runner_main(void *arg)
{
    runner *r = arg;
    while (take_in(r)) {
        note_turn(r, heartbeat_beat(&r->beat));
        read_one(r, answer_all(r));
    }
    heartbeat_rest(&r->beat);
    return NULL;
}

// ---- from outside ----

sight_err runner_create(runner **out, runner_step *step)
{
    runner *r = calloc(1, sizeof *r);
    if (!r) return sight_fail(SIGHT_E_MEMORY, "no memory for a thread");
    r->step = step;
    r->last = -1;
    pthread_mutex_init(&r->mutex, NULL);
    pthread_cond_init(&r->changed, NULL);
    if (pthread_create(&r->thread, NULL, runner_main, r)) {
        pthread_cond_destroy(&r->changed);
        pthread_mutex_destroy(&r->mutex);
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
    return &r->beat;
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
    free(r->turns);
    free(r->fresh);
    free(r);
    *pr = NULL;
}

sight_err runner_add(runner *r, void *arg)
{
    sight_err err = SIGHT_OK;
    pthread_mutex_lock(&r->mutex);
    if (r->n_fresh == r->fresh_capacity) {
        void **fresh = grow(r->fresh, &r->fresh_capacity, sizeof *fresh);
        if (fresh) r->fresh = fresh;
        else err = sight_fail(SIGHT_E_MEMORY, "no memory for another request");
    }
    if (!err) r->fresh[r->n_fresh++] = arg;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->mutex);
    return err;
}
