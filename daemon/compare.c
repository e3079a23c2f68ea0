#include "daemon/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sort.h"
#include "daemon/stages.h"
#include "daemon/task.h"

// What one engine says of a request's prompt.
typedef struct reading {
    task *task;
    float *logits; // [L, V]
} reading;

static void reading_done(reading *r)
{
    task_destroy(&r->task);
    free(r->logits);
}

static sight_err read_prompt(reading *r, engine *e, const request_source *source,
                             const request_limits *limits)
{
    request *asked = NULL;
    stages *run = NULL;
    sight_err err = request_parse(&asked, source, limits, &engine_config(e)->generation);
    if (!err) err = task_create(&r->task, e, &asked, limits);
    request_destroy(&asked);
    if (err) return err;
    const size_t n = (size_t)r->task->prompt.n * (size_t)engine_config(e)->text.vocab;
    r->logits = malloc(n * sizeof *r->logits);
    if (!r->logits) {
        return sight_fail(SIGHT_E_MEMORY, "no memory for the logits of %d tokens", r->task->prompt.n);
    }
    const stages_options o = {.logits = r->logits};
    err = stages_create(&run, r->task, &o);
    if (!err) err = stages_run(run);
    stages_destroy(&run);
    return err;
}

// log sum exp of a row, and its greatest element.
static double log_sum(const float *x, int32_t n, int32_t *greatest)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++) {
        if (x[i] > x[best]) best = i;
    }
    double sum = 0;
    for (int32_t i = 0; i < n; i++) sum += exp((double)x[i] - x[best]);
    *greatest = best;
    return x[best] + log(sum);
}

static void add_row(compared *c, const float *a, const float *b, int32_t n, int32_t next)
{
    int32_t best_a, best_b;
    const double sum_a = log_sum(a, n, &best_a), sum_b = log_sum(b, n, &best_b);
    double kl = 0;
    for (int32_t i = 0; i < n; i++) {
        const double log_a = a[i] - sum_a;
        kl += exp(log_a) * (log_a - (b[i] - sum_b));
    }
    c->kl[c->n++] = kl > 0 ? kl : 0; // below zero by rounding alone
    c->same += best_a == best_b;
    c->first_surprise += sum_a - a[next];
    c->second_surprise += sum_b - b[next];
}

static sight_err make_room(compared *c, int64_t more)
{
    if (c->n + more <= c->capacity) return SIGHT_OK;
    const int64_t capacity = 2 * (c->n + more);
    double *kl = realloc(c->kl, (size_t)capacity * sizeof *kl);
    if (!kl) return sight_fail(SIGHT_E_MEMORY, "no memory for %lld tokens", (long long)capacity);
    c->kl = kl;
    c->capacity = capacity;
    return SIGHT_OK;
}

static sight_err add_rows(compared *c, const reading *a, const reading *b, int32_t vocab)
{
    const prompt *p = &a->task->prompt, *q = &b->task->prompt;
    if (p->n != q->n || memcmp(p->ids, q->ids, (size_t)p->n * sizeof *p->ids)) {
        return sight_fail(SIGHT_E_ARGUMENT, "the two models read different tokens");
    }
    sight_err err = make_room(c, p->n);
    for (int32_t i = 0; i + 1 < p->n && !err; i++) {
        if (p->visual[i + 1]) continue;
        const int64_t at = (int64_t)i * vocab;
        add_row(c, a->logits + at, b->logits + at, vocab, p->ids[i + 1]);
    }
    return err;
}

sight_err compare_add(compared *c, engine *first, engine *second, const request_source *source,
                      const request_limits *limits)
{
    const int32_t vocab = engine_config(first)->text.vocab;
    if (vocab != engine_config(second)->text.vocab) {
        return sight_fail(SIGHT_E_ARGUMENT, "the models have vocabularies of %d and %d tokens", vocab,
                          engine_config(second)->text.vocab);
    }
    reading a = {0}, b = {0};
    sight_err err = read_prompt(&a, first, source, limits);
    if (!err) err = read_prompt(&b, second, source, limits);
    if (!err) err = add_rows(c, &a, &b, vocab);
    reading_done(&a);
    reading_done(&b);
    return err;
}

void compared_done(compared *c)
{
    free(c->kl);
    *c = (compared){0};
}

compare_summary compare_sum_up(compared *c)
{
    if (!c->n) return (compare_summary){0};
    double sum = 0;
    for (int64_t i = 0; i < c->n; i++) sum += c->kl[i];
    sort_doubles(c->kl, (size_t)c->n);
    const double n = (double)c->n;
    return (compare_summary){.mean = sum / n, .median = c->kl[c->n / 2],
                             .p99 = c->kl[c->n * 99 / 100], .largest = c->kl[c->n - 1],
                             .same = (double)c->same / n,
                             .first_perplexity = exp(c->first_surprise / n),
                             .second_perplexity = exp(c->second_surprise / n)};
}
