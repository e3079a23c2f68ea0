// Answers of several sequences in one step: every one gets the very ids and logits that it gets alone, on every
// kind of kernels and weights; and pieces of prompts that are read in slices between such steps.
#include "text/agreeing.h"
#include "text/draft_batch.h"
#include "text/golden.h"
#include "text/job.h"

#include "checkpoint/prepare.h"

#define MAX_ROWS 64
#define VOICES   7
#define TOKENS   16

typedef struct world {
    checkpoint *c;
    const model_config *config;
    kernels *k;
    text_model *m;
    cache_pool *pool;
} world;

static const char *folder; // of the agreeing model, made once

static int make_folder(void **state)
{
    folder = agreeing_model(0.03f);
    return 0;
}

// False: the processor has no such kernels.
static bool open_world(world *w, simd_level simd, weights_form form, bool exact, tensor_type kv, int64_t budget)
{
    const kernels_options ko = {.threads = 2, .simd = simd, .exact = exact};
    const prepare_options po = {.form = form};
    const cache_options co = {.kv_type = kv, .budget_bytes = budget};
    *w = (world){0};
    if (kernels_create(&w->k, &ko)) return false;
    assert_ok(checkpoint_open(&w->c, folder));
    assert_ok(checkpoint_prepare(w->c, &po));
    w->config = checkpoint_config(w->c);
    assert_ok(text_model_create(&w->m, w->c, w->k, MAX_ROWS));
    assert_ok(cache_pool_create(&w->pool, &w->config->text, &co));
    return true;
}

static void close_world(world *w)
{
    assert_int_equal(cache_bytes_used(w->pool), 0);
    cache_pool_destroy(&w->pool);
    text_model_destroy(&w->m);
    kernels_destroy(&w->k);
    checkpoint_close(&w->c);
}

// One that answers; what it draws and from which logits is kept.
typedef struct voice {
    sequence *seq;
    sampler *s;
    draft *d;
    float *first;     // [vocab], of the prompt's last row
    output_row *next; // NULL: first
    int32_t position, drawn, begins; // begins: in which round
    int32_t ids[TOKENS];
    float *heard; // [TOKENS, vocab], logits that were drawn from
    sight_err err;
} voice;

static const sampler_options ways[] = {
    {.top_p = 1, .repetition_penalty = 1},
    {.temperature = 0.7, .top_k = 20, .top_p = 0.8, .presence_penalty = 1.5, .repetition_penalty = 1, .seed = 3},
    {.temperature = 1.3, .min_p = 0.02, .top_p = 1, .frequency_penalty = 0.2, .repetition_penalty = 1.1, .seed = 4},
};

// Prompts of different lengths, so that pages end at different times.
static void voice_init(voice *v, world *w, int i, int32_t depth)
{
    const int64_t vocab = w->config->text.vocab;
    const int32_t n = 6 + 11 * i;
    const draft_options drafts = {.depth = depth};
    int32_t ids[200], positions[600];
    test_random r = {(uint64_t)i + 1};
    *v = (voice){.position = n, .begins = i / 2};
    v->first = golden_alloc(vocab, sizeof(float));
    v->heard = golden_alloc(TOKENS * vocab, sizeof(float));
    for (int32_t k = 0; k < n; k++) {
        ids[k] = (int32_t)test_random_range(&r, 0, 2000);
        for (int axis = 0; axis < 3; axis++) positions[axis * n + k] = k;
    }
    assert_ok(sequence_create(&v->seq, w->pool));
    assert_ok(sampler_create(&v->s, &ways[i % 3], (int32_t)vocab, NULL));
    sampler_see_prompt(v->s, ids, (size_t)n);
    assert_ok(draft_create(&v->d, w->m, v->seq, v->s, &drafts));
    for (int32_t at = 0, rows; at < n; at += rows) {
        rows = n - at < MAX_ROWS ? n - at : MAX_ROWS;
        const segment s = {.seq = v->seq, .n = rows, .ids = ids + at, .positions = positions + at,
                           .position_stride = n, .n_logits = at + rows == n, .logits = v->first};
        assert_ok(draft_read(v->d, &s, n - at - rows));
    }
}

static void voice_done(voice *v)
{
    draft_destroy(&v->d);
    sampler_destroy(&v->s);
    sequence_drop(&v->seq);
    free(v->first);
    free(v->heard);
}

static bool voice_over(const voice *v)
{
    return v->drawn == TOKENS || v->err;
}

// Draws until rows are wanted; false: none are.
static bool voice_draw(voice *v, int64_t vocab, int32_t together)
{
    while (!voice_over(v)) {
        float *heard = v->heard + v->drawn * vocab;
        int32_t id;
        if (v->next) assert_int_equal(v->next->n, vocab); // the golden models have no planes
        memcpy(heard, v->next ? v->next->logits : v->first, (size_t)vocab * sizeof *heard);
        assert_ok(v->next ? sampler_next_of(v->s, &id, NULL, v->next) : sampler_next(v->s, &id, NULL, v->first));
        v->ids[v->drawn++] = id;
        if (v->drawn == TOKENS) break;
        assert_ok(draft_take(v->d, &v->next, id, v->position++, TOKENS - v->drawn, together));
        if (!v->next) return true;
    }
    return false;
}

static void voice_hears(void *arg, int32_t i, sight_err err, output_row *next)
{
    voice *const *all = arg;
    all[i]->err = err;
    all[i]->next = next;
}

// All of them to their ends, each from its round on; `between` is run after every round.
static void speak_together(voice *all, int n, int64_t vocab, void (*between)(void *), void *arg)
{
    bool more = true;
    for (int32_t round = 0; more; round++) {
        voice *asked[VOICES];
        draft *drafts[VOICES];
        int32_t wanting = 0;
        more = false;
        for (int i = 0; i < n; i++) {
            voice *v = &all[i];
            more |= !voice_over(v);
            if (round < v->begins || !voice_draw(v, vocab, n)) continue;
            asked[wanting] = v;
            drafts[wanting++] = v->d;
        }
        draft_batch_run(drafts, wanting, voice_hears, asked);
        if (between) between(arg);
    }
}

static void speak_alone(voice *v, int64_t vocab)
{
    voice *const asked[] = {v};
    while (voice_draw(v, vocab, 1)) draft_batch_run(&v->d, 1, voice_hears, (void *)asked);
}

static int32_t depth_of(int i, bool drafts)
{
    return !drafts ? 0 : i % 3 == 2 ? 0 : i % DRAFT_MAX + 1;
}

static void compare_voices(const voice *got, const voice *want, int64_t vocab, const char *what)
{
    for (int32_t t = 0; t < TOKENS; t++) {
        if (got->ids[t] != want->ids[t]) fail_msg("%s: token %d is %d, alone %d", what, t, got->ids[t], want->ids[t]);
        if (memcmp(got->heard + t * vocab, want->heard + t * vocab, (size_t)vocab * sizeof(float))) {
            fail_msg("%s: logits of token %d are not those that come alone", what, t);
        }
    }
}

static void compare(simd_level simd, weights_form form, bool exact, tensor_type kv)
{
    world w;
    if (!open_world(&w, simd, form, exact, kv, 0)) return;
    const int64_t vocab = w.config->text.vocab;
    for (int drafts = 0; drafts < 2; drafts++) {
        voice alone[VOICES], together[VOICES];
        int32_t right = 0;
        for (int i = 0; i < VOICES; i++) {
            voice_init(&alone[i], &w, i, 0);
            speak_alone(&alone[i], vocab);
            voice_init(&together[i], &w, i, depth_of(i, drafts));
        }
        speak_together(together, VOICES, vocab, NULL, NULL);
        for (int i = 0; i < VOICES; i++) {
            char what[80];
            snprintf(what, sizeof what, "%s, %s%s, voice %d, drafts %d", simd_level_name(kernels_simd(w.k)),
                     weights_form_name(form), exact ? ", exact" : "", i, depth_of(i, drafts));
            assert_ok(together[i].err);
            compare_voices(&together[i], &alone[i], vocab, what);
            right += draft_get_usage(together[i].d).right;
            voice_done(&alone[i]);
            voice_done(&together[i]);
        }
        if (drafts) assert_true(right > VOICES);
    }
    close_world(&w);
}

static void bits_do_not_depend_on_company(void **state)
{
    (void)state;
    static const simd_level levels[] = {SIMD_PLAIN, SIMD_AVX2, SIMD_AVX512, SIMD_AVX512BF16, SIMD_NEON};
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        compare(levels[i], WEIGHTS_STORED, false, TENSOR_BF16);
        compare(levels[i], WEIGHTS_INT8, false, TENSOR_I8);
        compare(levels[i], WEIGHTS_INT4, false, TENSOR_BF16);
    }
    compare(SIMD_AUTO, WEIGHTS_STORED, true, TENSOR_F32);
    compare(SIMD_AUTO, WEIGHTS_INT8, true, TENSOR_BF16);
}

// Who finds no page ends, or goes on without guesses; the others do not notice.
static void memory_runs_out_for_one(void **state)
{
    (void)state;
    enum { N = 3 };
    world w;
    assert_true(open_world(&w, SIMD_AUTO, WEIGHTS_STORED, false, TENSOR_BF16, 0));
    const int64_t vocab = w.config->text.vocab;
    const int64_t page = cache_bytes(w.pool, 128) - cache_bytes(w.pool, 64), states = cache_bytes(w.pool, 0);
    voice alone[VOICES];
    for (int i = 0; i < VOICES; i++) {
        voice_init(&alone[i], &w, i, 0);
        speak_alone(&alone[i], vocab);
        voice_done(&(voice){.d = alone[i].d, .s = alone[i].s, .seq = alone[i].seq, .first = alone[i].first});
    }
    close_world(&w);
    // Prompts of 61, 50 and 72 tokens: the first takes the page that is left, the second needs one later.
    static const int which[N] = {5, 4, 6};
    for (int drafts = 0; drafts < 2; drafts++) {
        // With guesses the sixth page is there once room for them is given back.
        const int64_t budget = N * states + (5 + drafts) * page;
        assert_true(open_world(&w, SIMD_AUTO, WEIGHTS_STORED, false, TENSOR_BF16, budget));
        voice v[N];
        for (int i = 0; i < N; i++) {
            voice_init(&v[i], &w, which[i], drafts && i == 1 ? 3 : 0);
            v[i].begins = 0;
        }
        speak_together(v, N, vocab, NULL, NULL);
        int failed = 0;
        for (int i = 0; i < N; i++) {
            if (v[i].err) {
                assert_int_equal(v[i].err, SIGHT_E_MEMORY);
                assert_true(v[i].drawn < TOKENS);
                failed++;
            } else {
                compare_voices(&v[i], &alone[which[i]], vocab, "beside one without memory");
            }
            voice_done(&v[i]);
        }
        assert_int_equal(failed, drafts ? 0 : 1);
        close_world(&w);
    }
    for (int i = 0; i < VOICES; i++) free(alone[i].heard);
}

// ---- prompts in slices ----

typedef struct reader {
    text_job *job;
    double ops;
    int slices;
    bool done;
} reader;

static void read_slice(void *arg)
{
    reader *r = arg;
    if (r->done) return;
    assert_ok(text_job_run(r->job, r->ops, &r->done));
    r->slices++;
    assert_true(r->done != text_job_under_way(r->job));
}

static void prompts_are_read_between_steps(void **state)
{
    (void)state;
    enum { N = 3, PROMPT = 60 };
    world w;
    assert_true(open_world(&w, SIMD_AUTO, WEIGHTS_STORED, false, TENSOR_BF16, 0));
    const int64_t vocab = w.config->text.vocab, D = w.config->text.hidden;
    int32_t ids[PROMPT], positions[3 * PROMPT];
    for (int32_t i = 0; i < PROMPT; i++) {
        ids[i] = (i * 37 + 5) % 2000;
        for (int axis = 0; axis < 3; axis++) positions[axis * PROMPT + i] = i;
    }
    float *want = golden_alloc(PROMPT * vocab, sizeof *want), *got = golden_alloc(PROMPT * vocab, sizeof *got);
    float *hidden = golden_alloc(PROMPT * D, sizeof *hidden), *hidden_got = golden_alloc(PROMPT * D, sizeof *hidden);
    sequence *seq = NULL;
    segment s = {.n = PROMPT, .ids = ids, .positions = positions, .position_stride = PROMPT, .n_logits = PROMPT,
                 .logits = want, .hidden = hidden};
    assert_ok(sequence_create(&seq, w.pool));
    s.seq = seq;
    assert_ok(text_model_step(w.m, &s, 1));
    sequence_drop(&seq);
    voice alone[N], v[N];
    for (int i = 0; i < N; i++) {
        voice_init(&alone[i], &w, i, 0);
        speak_alone(&alone[i], vocab);
    }
    for (double ops = 0; ops < 1e9; ops = ops ? ops * 50 : 1e5) {
        reader r = {.ops = ops};
        for (int i = 0; i < N; i++) voice_init(&v[i], &w, i, i);
        assert_ok(text_job_create(&r.job, w.m, PROMPT));
        assert_ok(sequence_create(&seq, w.pool));
        s = (segment){.seq = seq, .n = PROMPT, .ids = ids, .positions = positions, .position_stride = PROMPT,
                      .n_logits = PROMPT, .logits = got, .hidden = hidden_got};
        assert_ok(text_job_begin(r.job, &s));
        assert_fails(text_job_begin(r.job, &s), SIGHT_E_ARGUMENT, "slices");
        speak_together(v, N, vocab, read_slice, &r);
        while (!r.done) read_slice(&r);
        assert_int_equal(sequence_length(seq), PROMPT);
        assert_memory_equal(got, want, (size_t)(PROMPT * vocab) * sizeof *got);
        assert_memory_equal(hidden_got, hidden, (size_t)(PROMPT * D) * sizeof *hidden);
        if (ops == 0) assert_int_equal(r.slices, 2 * w.config->text.n_layers);
        for (int i = 0; i < N; i++) {
            compare_voices(&v[i], &alone[i], vocab, "beside a prompt");
            voice_done(&v[i]);
        }
        // One that is given up in its middle leaves nothing behind.
        sequence_drop(&seq);
        assert_ok(sequence_create(&seq, w.pool));
        s.seq = seq;
        bool done;
        assert_ok(text_job_begin(r.job, &s));
        assert_ok(text_job_run(r.job, 0, &done));
        assert_false(done);
        text_job_stop(r.job);
        assert_int_equal(sequence_length(seq), 0);
        sequence_drop(&seq);
        text_job_destroy(&r.job);
        assert_null(r.job);
    }
    for (int i = 0; i < N; i++) voice_done(&alone[i]);
    free(want);
    free(got);
    free(hidden);
    free(hidden_got);
    close_world(&w);
}

static void refusals(void **state)
{
    (void)state;
    world w;
    text_job *j = NULL;
    assert_true(open_world(&w, SIMD_AUTO, WEIGHTS_STORED, false, TENSOR_BF16, 0));
    assert_ok(text_job_create(&j, w.m, 10));
    const int32_t ids[12] = {0}, positions[36] = {0};
    sequence *seq = NULL;
    bool done;
    assert_ok(sequence_create(&seq, w.pool));
    segment s = {.seq = seq, .n = 12, .ids = ids, .positions = positions, .position_stride = 12};
    assert_fails(text_job_begin(j, &s), SIGHT_E_ARGUMENT, "10 fit");
    assert_fails(text_job_run(j, 1, &done), SIGHT_E_ARGUMENT, "nothing");
    s.n = 0;
    assert_fails(text_job_begin(j, &s), SIGHT_E_ARGUMENT, "0 rows");
    assert_false(text_job_under_way(j));
    text_job_destroy(&j);
    sequence_drop(&seq);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_do_not_depend_on_company),
        cmocka_unit_test(memory_runs_out_for_one),
        cmocka_unit_test(prompts_are_read_between_steps),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, make_folder, NULL);
}
