// tests/cuda/text_sides.h - the text model on a device beside the CPU's, on golden cases.
//
// Features come from the CPU's tower: the tower on a device has a test of its own.
#ifndef TESTS_CUDA_TEXT_SIDES_H
#define TESTS_CUDA_TEXT_SIDES_H

#include "text/golden_steps.h" // first: a parameter of it is called threads

#include "kernels/memory.h"

#define MAX_ROWS  256
#define MOST_READ 530 // of a case: more than eight pages
#define ROOM      ((int64_t)512 << 20)

// A model on one kind of backend.
typedef struct side {
    const model_config *config;
    kernels *k;
    text_model *m;
    cache_pool *pool;
} side;

static inline side open_level(const checkpoint *c, device_kind kind, bool exact, tensor_type kv,
                       simd_level level)
{
    side s = {.config = checkpoint_config(c)};
    const kernels_options o = {.threads = 1, .simd = level, .exact = exact, .device = {kind, 0},
                               .device_bytes = kind == DEVICE_CPU ? 0 : ROOM};
    assert_ok(kernels_create(&s.k, &o));
    assert_int_equal(kernels_on_device(s.k), kind != DEVICE_CPU);
    assert_ok(text_model_create(&s.m, c, s.k, MAX_ROWS));
    const cache_options co = {.kv_type = kv, .k = s.k};
    assert_ok(cache_pool_create(&s.pool, &s.config->text, &co));
    return s;
}

static inline side open_side(const checkpoint *c, device_kind kind, bool exact, tensor_type kv)
{
    return open_level(c, kind, exact, kv, SIMD_AUTO);
}

static inline void close_side(side *s)
{
    assert_ok(kernels_status(s->k));
    assert_int_equal(cache_bytes_used(s->pool), 0);
    cache_pool_destroy(&s->pool);
    text_model_destroy(&s->m);
    kernels_destroy(&s->k);
}

static inline sequence *new_sequence(side *s)
{
    sequence *seq = NULL;
    assert_ok(sequence_create(&seq, s->pool));
    return seq;
}

static inline float *room(side *s, int64_t n)
{
    void *p;
    assert_ok(kernels_alloc(&p, s->k, (size_t)n * sizeof(float), "a test's numbers"));
    return p;
}

// ---- cases ----

static inline void load(golden_case *g, const checkpoint *c, const char *model, const char *name)
{
    const model_config *config = checkpoint_config(c);
    kernels *k = golden_kernels(1, true);
    tower *t = NULL;
    assert_ok(tower_create(&t, c, k));
    golden_load(g, model, name, config);
    golden_encode(g, t, &config->vision);
    tower_destroy(&t);
    kernels_destroy(&k);
}

static inline float *send(side *s, const float *host, int64_t n)
{
    if (!host) return NULL;
    float *p = room(s, n);
    kernels_write(s->k, p, host, (size_t)n * sizeof *p);
    return p;
}

// The case with its features where the side's ops read them.
static inline golden_case on_side(side *s, const golden_case *g)
{
    const int64_t n = g->tokens * s->config->text.hidden;
    golden_case to = *g;
    to.features = send(s, g->features, n);
    for (int i = 0; i < CONFIG_MAX_DEEPSTACK; i++) to.deepstack[i] = send(s, g->deepstack[i], n);
    return to;
}

static inline void off_side(side *s, golden_case *g)
{
    kernels_free(s->k, g->features);
    for (int i = 0; i < CONFIG_MAX_DEEPSTACK; i++) kernels_free(s->k, g->deepstack[i]);
}

// Reads rows first .. first + n - 1; logits [n, vocab] and hidden (of the side) may be NULL.
static inline void read_rows(side *s, const golden_case *g, sequence *seq, int32_t first, int32_t n,
                      float *logits, float *hidden)
{
    golden_read(s->m, &s->config->text, g, seq, first, n, logits, hidden);
}

static inline void read_all(side *s, const golden_case *g, sequence *seq, int32_t piece, float *logits,
                     float *hidden)
{
    const int64_t vocab = s->config->text.vocab, D = s->config->text.hidden;
    const int32_t rows = g->n < MOST_READ ? g->n : MOST_READ;
    for (int32_t at = 0, n; at < rows; at += n) {
        n = rows - at < piece ? rows - at : piece;
        read_rows(s, g, seq, at, n, logits ? logits + at * vocab : NULL,
                  hidden ? hidden + at * D : NULL);
    }
}

static inline void decode(side *s, sequence *seq, int32_t id, int32_t position, float *logits)
{
    golden_decode(s->m, seq, id, position, logits);
}

// ---- beside the CPU ----

// A case on both sides.
typedef struct both {
    checkpoint *c;
    golden_case g;
    side cpu, gpu;
    golden_case on; // the GPU's
    int64_t vocab;
    float *want, *got; // [n, vocab]
} both;

static inline both open_both(const char *model, const char *name, bool exact, tensor_type kv)
{
    both b = {.c = golden_open(model)};
    load(&b.g, b.c, model, name);
    b.cpu = open_side(b.c, DEVICE_CPU, true, kv);
    b.gpu = open_side(b.c, DEVICE_CUDA, exact, kv);
    b.on = on_side(&b.gpu, &b.g);
    b.vocab = b.cpu.config->text.vocab;
    b.want = golden_alloc(b.g.n * b.vocab, sizeof *b.want);
    b.got = golden_alloc(b.g.n * b.vocab, sizeof *b.got);
    return b;
}

static inline void close_both(both *b)
{
    off_side(&b->gpu, &b->on);
    close_side(&b->gpu);
    close_side(&b->cpu);
    golden_free(&b->g);
    checkpoint_close(&b->c);
    free(b->want);
    free(b->got);
}

#endif
