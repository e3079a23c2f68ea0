// Steps whose rows are taken back: the same bits as rows one at a time.
#include "text/golden.h"

#define MAX_ROWS 1024
#define ROWS     5   // of a step that can be taken back
#define TOKENS   160 // decoded after each prompt

static void step(text_model *m, sequence *s, const int32_t *ids, int32_t n, int32_t position,
                 bool rewindable, float *logits, float *hidden)
{
    int32_t positions[3 * ROWS];
    for (int32_t i = 0; i < 3 * n; i++) positions[i] = position + i % n;
    const segment seg = {.seq = s, .n = n, .ids = ids, .positions = positions,
                         .position_stride = n, .n_logits = n, .logits = logits, .hidden = hidden,
                         .rewindable = rewindable};
    assert_ok(text_model_step(m, &seg, 1));
}

typedef struct rewinding {
    checkpoint *c;
    const text_config *config;
    kernels *k;
    text_model *m;
    tower *t;
    cache_pool *pool;
    golden_case g;
    int32_t position;
} rewinding;

static sequence *prefilled(rewinding *r)
{
    const float *levels[CONFIG_MAX_DEEPSTACK];
    sequence *s = NULL;
    assert_ok(sequence_create(&s, r->pool));
    const segment seg = golden_segment(&r->g, s, 0, r->g.n, levels, r->config->hidden);
    assert_ok(text_model_step(r->m, &seg, 1));
    return s;
}

static void open_case(rewinding *r, const char *model, const char *name, bool exact, int threads,
                      tensor_type kv)
{
    const cache_options o = {.kv_type = kv};
    *r = (rewinding){.c = golden_open(model), .k = golden_kernels(threads, exact)};
    r->config = &checkpoint_config(r->c)->text;
    assert_ok(text_model_create(&r->m, r->c, r->k, MAX_ROWS));
    assert_ok(tower_create(&r->t, r->c, r->k));
    assert_ok(cache_pool_create(&r->pool, r->config, &o));
    golden_load(&r->g, model, name, checkpoint_config(r->c));
    golden_encode(&r->g, r->t, &checkpoint_config(r->c)->vision);
    for (int32_t i = 0; i < 3 * r->g.n; i++) {
        if (r->g.positions[i] >= r->position) r->position = r->g.positions[i] + 1;
    }
}

static void close_case(rewinding *r)
{
    assert_int_equal(cache_bytes_used(r->pool), 0);
    golden_free(&r->g);
    cache_pool_destroy(&r->pool);
    tower_destroy(&r->t);
    text_model_destroy(&r->m);
    kernels_destroy(&r->k);
    checkpoint_close(&r->c);
}

// Steps of 1 to ROWS rows, whose last are wrong ids and are taken back; now and then all of them.
static void decode_with_rewinds(rewinding *r, uint64_t seed)
{
    const int64_t vocab = r->config->vocab, D = r->config->hidden;
    const size_t logit_bytes = sizeof(float) * (size_t)vocab;
    float *want = golden_alloc((int64_t)TOKENS * vocab, sizeof *want);
    float *hidden = golden_alloc((int64_t)TOKENS * D, sizeof *hidden);
    float *got = golden_alloc(ROWS * vocab, sizeof *got);
    float *got_hidden = golden_alloc(ROWS * D, sizeof *got_hidden);
    int32_t ids[TOKENS + ROWS];
    test_random random = {seed};
    for (int i = 0; i < TOKENS + ROWS; i++) ids[i] = (int32_t)test_random_range(&random, 0, 2000);

    sequence *plain = prefilled(r), *s = prefilled(r), *fork = NULL;
    for (int32_t i = 0; i < TOKENS; i++) {
        step(r->m, plain, ids + i, 1, r->position + i, false, want + i * vocab, hidden + i * D);
    }
    assert_ok(sequence_allow_rewind(s, ROWS));
    assert_int_equal(sequence_rewind_rows(s), ROWS);
    for (int32_t at = 0; at < TOKENS;) {
        int32_t n = (int32_t)test_random_range(&random, 1, ROWS), tried[ROWS];
        const int32_t most = n < TOKENS - at ? n : TOKENS - at;
        const int32_t keep = (int32_t)test_random_range(&random, 0, most);
        for (int32_t i = 0; i < n; i++) {
            tried[i] = i < keep ? ids[at + i] : (int32_t)test_random_range(&random, 0, 2000);
        }
        step(r->m, s, tried, n, r->position + at, true, got, got_hidden);
        assert_memory_equal(got, want + at * vocab, (size_t)keep * logit_bytes);
        assert_memory_equal(got_hidden, hidden + at * D, sizeof(float) * (size_t)(keep * D));
        if (at % 7 == 0) { // a fork sees what is there now, and is not taken back
            sequence_drop(&fork);
            assert_ok(sequence_fork(&fork, s));
            assert_int_equal(sequence_rewind_rows(fork), 0);
        }
        assert_ok(text_model_rewind(r->m, s, keep));
        at += keep;
        assert_int_equal(sequence_length(s), r->g.n + at);
        if (at == TOKENS || at % 3) continue; // an ordinary step between them
        step(r->m, s, ids + at, 1, r->position + at, false, got, NULL);
        assert_memory_equal(got, want + at * vocab, logit_bytes);
        at++;
    }
    sequence_drop(&fork);
    sequence_drop(&plain);
    sequence_drop(&s);
    free(want);
    free(hidden);
    free(got);
    free(got_hidden);
}

static void rows_taken_back(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"hybrid", "text"},
        {"hybrid", "text-long"},
        {"hybrid-deepstack", "images-two-turns"},
        {"hybrid-yarn", "video-96x80-30f"},
        {"qwen3vl", "image-200x130"},
        {"hybrid", "image-333x97"},
    };
    static const tensor_type kv[] = {TENSOR_BF16, TENSOR_F32, TENSOR_I8};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rewinding r;
        open_case(&r, cases[i][0], cases[i][1], i % 2, 1 + (int)i % 3, kv[i % 3]);
        decode_with_rewinds(&r, 11 + i);
        close_case(&r);
    }
}

// Attention cuts many keys in pieces, which are to be those of rows one at a time too.
static void rows_taken_back_far_on(void **state)
{
    (void)state;
    enum { FILL = 500 };
    rewinding r;
    open_case(&r, "hybrid", "text-long", false, 2, TENSOR_BF16);
    const int64_t vocab = r.config->vocab;
    float *want = golden_alloc(vocab, sizeof *want), *got = golden_alloc(ROWS * vocab, sizeof *got);
    int32_t ids[FILL] = {0};
    for (int32_t i = 0; i < FILL; i++) ids[i] = i * 7 % 2000;
    sequence *s = prefilled(&r), *one = NULL;
    assert_ok(sequence_allow_rewind(s, ROWS));
    for (int32_t at = 0; at + ROWS <= FILL; at += ROWS) {
        // Only some of the lengths are compared, but all of them are met.
        const bool compare = at % 4 == 0 || (sequence_length(s) & 255) > 245;
        if (compare) assert_ok(sequence_fork(&one, s));
        step(r.m, s, ids + at, ROWS, r.position + at, true, got, NULL);
        for (int32_t i = 0; compare && i < ROWS; i++) {
            step(r.m, one, ids + at + i, 1, r.position + at + i, false, want, NULL);
            assert_memory_equal(got + i * vocab, want, sizeof(float) * (size_t)vocab);
        }
        sequence_drop(&one);
    }
    sequence_drop(&s);
    free(want);
    free(got);
    close_case(&r);
}

static void rewind_refusals(void **state)
{
    (void)state;
    rewinding r;
    open_case(&r, "hybrid", "text", true, 1, TENSOR_F32);
    sequence *s = prefilled(&r);
    const int32_t ids[ROWS] = {1, 2, 3, 4, 5}, positions[3 * ROWS] = {0};
    segment seg = {.seq = s, .n = 2, .ids = ids, .positions = positions, .position_stride = ROWS,
                   .rewindable = true};
    assert_fails(text_model_step(r.m, &seg, 1), SIGHT_E_ARGUMENT, "taken back");
    assert_ok(sequence_allow_rewind(s, 2));
    assert_ok(sequence_allow_rewind(s, 2)); // once more is nothing more
    assert_fails(text_model_rewind(r.m, s, 0), SIGHT_E_ARGUMENT, "stay");
    assert_ok(text_model_step(r.m, &seg, 1));
    assert_fails(text_model_rewind(r.m, s, 3), SIGHT_E_ARGUMENT, "3 rows");
    assert_fails(text_model_rewind(r.m, s, -1), SIGHT_E_ARGUMENT, "stay");
    assert_ok(text_model_rewind(r.m, s, 1));
    assert_fails(text_model_rewind(r.m, s, 0), SIGHT_E_ARGUMENT, "stay"); // it was already
    seg.n = 3;
    assert_fails(text_model_step(r.m, &seg, 1), SIGHT_E_ARGUMENT, "2 have room");
    seg.rewindable = false;
    assert_ok(text_model_step(r.m, &seg, 1));
    assert_fails(text_model_rewind(r.m, s, 1), SIGHT_E_ARGUMENT, "stay");
    sequence_drop(&s);
    close_case(&r);
}

// The second set of states counts as memory of the pool.
static void rewind_within_the_budget(void **state)
{
    (void)state;
    checkpoint *c = golden_open("hybrid");
    const text_config *config = &checkpoint_config(c)->text;
    cache_options o = {.kv_type = TENSOR_F32};
    cache_pool *p = NULL;
    sequence *s = NULL;
    assert_ok(cache_pool_create(&p, config, &o));
    o.budget_bytes = cache_bytes(p, 64) + 1;
    cache_pool_destroy(&p);
    assert_ok(cache_pool_create(&p, config, &o));
    assert_ok(sequence_create(&s, p));
    assert_ok(sequence_reserve(s, 0, 64));
    const int64_t used = cache_bytes_used(p);
    assert_fails(sequence_allow_rewind(s, ROWS), SIGHT_E_MEMORY, "budget");
    assert_int_equal(sequence_rewind_rows(s), 0);
    assert_int_equal(cache_bytes_used(p), used);
    sequence_drop(&s);
    cache_pool_destroy(&p);
    checkpoint_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_taken_back),
        cmocka_unit_test(rows_taken_back_far_on),
        cmocka_unit_test(rewind_refusals),
        cmocka_unit_test(rewind_within_the_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
