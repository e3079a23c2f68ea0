// tests/text/ranks.h - a golden case on the ranks of a split model, or on a model as a whole: prompt, drafts and
// greedy tokens, each rank in a thread; or all of them as one model (text/group.h).
#ifndef TESTS_TEXT_RANKS_H
#define TESTS_TEXT_RANKS_H

#include <pthread.h>

#include "kernels/memory.h"
#include "text/golden.h"
#include "text/group.h"

#define RANKS    2
#define MAX_ROWS 1024

// One thread's: all that it has is its own, but for the case and the group. Nothing is asserted in it.
typedef struct device {
    const checkpoint *c;
    const golden_case *g;
    collective *group; // NULL: the model as a whole
    int32_t rank;
    kernels *k;
    kernels *second; // of a group; else NULL
    text_model *m;
    cache_pool *pool;
    sequence *s;
    float *logits; // [n, vocab] of the prompt
    float *drafts; // [n, vocab] of the MTP block, where there is one
    void *hidden;  // [n, D], backend memory
    int32_t *ids;  // [n_greedy]
    sight_err err;
    char error[300];
    pthread_t thread;
} device;

static inline bool good(device *d, sight_err err)
{
    if (err && !d->err) {
        d->err = err;
        snprintf(d->error, sizeof d->error, "%s", sight_error());
    }
    return !d->err;
}

static inline sight_err create_model(device *d)
{
    kernels *const k[RANKS] = {d->k, d->second};
    if (d->second) return text_group_create(&d->m, d->c, k, RANKS, MAX_ROWS);
    if (!d->group) return text_model_create(&d->m, d->c, d->k, MAX_ROWS);
    return text_model_create_split(&d->m, d->c, d->k, MAX_ROWS, d->group, d->rank);
}

static inline void run_mtp(device *d)
{
    const golden_case *g = d->g;
    int32_t *next = golden_alloc(g->n, sizeof *next);
    uint8_t *visual = golden_alloc(g->n, 1);
    for (int32_t i = 0; i + 1 < g->n; i++) next[i] = g->ids[i + 1], visual[i] = g->visual[i + 1];
    const mtp_segment seg = {.seq = d->s, .n = g->n, .hidden = d->hidden, .next_ids = next,
                             .next_visual = visual, .next_features = g->features,
                             .positions = g->positions, .position_stride = g->n, .n_logits = g->n,
                             .logits = d->drafts};
    good(d, text_model_mtp(d->m, &seg));
    free(next);
    free(visual);
}

// Greedy tokens after the prompt; every second one as one that can win, by outputs.
static inline void run_greedy(device *d)
{
    const golden_case *g = d->g;
    const int64_t vocab = text_model_config(d->m)->vocab;
    float *logits = golden_alloc(vocab, sizeof *logits);
    int32_t *candidates = golden_alloc(vocab, sizeof *candidates);
    int32_t position = 0, id = golden_argmax(d->logits + (g->n - 1) * vocab, vocab);
    for (int32_t i = 0; i < 3 * g->n; i++) position = g->positions[i] > position ? g->positions[i] : position;
    for (int32_t i = 0; i < g->n_greedy; i++) {
        const int32_t at = position + 1 + i, positions[3] = {at, at, at};
        output_row row = {.k = 1, .ids = candidates, .logits = logits};
        segment seg = {.seq = d->s, .n = 1, .ids = &id, .positions = positions, .position_stride = 1,
                       .n_logits = 1, .logits = logits, .outputs = i % 2 ? &row : NULL};
        d->ids[i] = id;
        if (!good(d, text_model_step(d->m, &seg, 1))) break;
        const bool all = i % 2 == 0 || row.n == vocab;
        const int32_t best = golden_argmax(logits, all ? vocab : row.n);
        id = all ? best : candidates[best];
    }
    free(logits);
    free(candidates);
}

static inline void *run_device(void *arg)
{
    device *d = arg;
    const cache_options o = {.kv_type = TENSOR_F32, .k = d->k};
    if (!good(d, create_model(d))) return NULL;
    const text_config *c = text_model_config(d->m);
    const bool pooled = d->second ? good(d, text_group_pool(&d->pool, d->m, &o))
                                  : good(d, cache_pool_create(&d->pool, c, &o));
    if (!pooled || !good(d, sequence_create(&d->s, d->pool))) return NULL;
    const float *levels[CONFIG_MAX_DEEPSTACK];
    segment seg = golden_segment(d->g, d->s, 0, d->g->n, levels, c->hidden);
    d->logits = golden_alloc((int64_t)d->g->n * c->vocab, sizeof(float));
    d->drafts = golden_alloc((int64_t)d->g->n * c->vocab, sizeof(float));
    const size_t hidden_bytes = (size_t)(d->g->n * c->hidden) * sizeof(float);
    if (!good(d, kernels_alloc(&d->hidden, d->k, hidden_bytes, "a test's rows"))) return NULL;
    d->ids = golden_alloc(d->g->n_greedy, sizeof(int32_t));
    seg.logits = d->logits;
    seg.n_logits = d->g->n;
    seg.hidden = d->hidden;
    if (!good(d, text_model_step(d->m, &seg, 1))) return NULL;
    if (text_model_has_mtp(d->m)) run_mtp(d);
    run_greedy(d);
    return NULL;
}

static inline void close_device(device *d)
{
    if (d->s) sequence_drop(&d->s);
    cache_pool_destroy(&d->pool);
    text_model_destroy(&d->m);
    if (d->k) kernels_free(d->k, d->hidden);
    kernels_destroy(&d->second);
    kernels_destroy(&d->k);
    free(d->logits), free(d->drafts), free(d->ids);
}

static inline void run_devices(device *d)
{
    for (int i = 0; i < RANKS; i++) assert_int_equal(pthread_create(&d[i].thread, NULL, run_device, &d[i]), 0);
    for (int i = 0; i < RANKS; i++) pthread_join(d[i].thread, NULL);
}

// Close to the model as a whole, and the reference's answer.
static inline void check_group(const device *d, const device *alone, const golden_case *g, double limit)
{
    const int64_t n = g->n * (int64_t)checkpoint_config(d->c)->text.vocab;
    if (alone->err) fail_msg("%s", alone->error);
    if (d->err) fail_msg("%s: %s", g->name, d->error);
    assert_close(d->logits, alone->logits, n, limit, g->name);
    assert_close(d->drafts, alone->drafts, n, limit, g->name);
    assert_memory_equal(d->ids, g->greedy, (size_t)g->n_greedy * sizeof(int32_t));
    assert_int_equal(text_group_ranks(d->m), RANKS);
    assert_int_equal(text_model_config(d->m)->heads * RANKS, text_model_config(alone->m)->heads);
}

// Every rank has the same bits, close to those of the model as a whole, and both answer as the reference.
static inline void check_devices(const device *d, const device *alone, const golden_case *g, double limit)
{
    const int64_t n = g->n * (int64_t)checkpoint_config(d->c)->text.vocab;
    if (alone->err) fail_msg("%s", alone->error);
    for (int i = 0; i < RANKS; i++) {
        if (d[i].err) fail_msg("%s: rank %d: %s", g->name, i, d[i].error);
        assert_memory_equal(d[i].logits, d[0].logits, (size_t)n * sizeof(float));
        assert_memory_equal(d[i].drafts, d[0].drafts, (size_t)n * sizeof(float));
        assert_close(d[i].logits, alone->logits, n, limit, g->name);
        assert_close(d[i].drafts, alone->drafts, n, limit, g->name);
        assert_memory_equal(d[i].ids, alone->ids, (size_t)g->n_greedy * sizeof(int32_t));
        assert_memory_equal(d[i].ids, g->greedy, (size_t)g->n_greedy * sizeof(int32_t));
        assert_int_equal(text_model_config(d[i].m)->heads * RANKS, text_model_config(alone->m)->heads);
    }
}

// A golden case with the features of our own tower.
static inline void load_case(golden_case *g, const checkpoint *c, const char *model, const char *name)
{
    const model_config *config = checkpoint_config(c);
    kernels *k = golden_kernels(2, true);
    tower *t = NULL;
    golden_load(g, model, name, config);
    assert_ok(tower_create(&t, c, k));
    golden_encode(g, t, &config->vision);
    tower_destroy(&t);
    kernels_destroy(&k);
}

#endif
