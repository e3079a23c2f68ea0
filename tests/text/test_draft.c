// Reading ahead gives the tokens that come without it: with guesses that are nearly always wrong,
// often right and nearly always right, whatever is drawn and whatever ends the answer.
#include "text/agreeing.h"
#include "text/draft.h"
#include "text/golden_steps.h"

#define MAX_ROWS 256

static const sampler_options greedy = {.top_p = 1, .repetition_penalty = 1};
static const sampler_options card = {.temperature = 0.7, .top_k = 20, .top_p = 0.8,
                                     .presence_penalty = 1.5, .repetition_penalty = 1, .seed = 3};
static const sampler_options wild = {.temperature = 1.3, .min_p = 0.02, .top_p = 1,
                                     .frequency_penalty = 0.2, .repetition_penalty = 1.1,
                                     .seed = 4};

typedef struct world {
    checkpoint *c;
    const model_config *config;
    kernels *k;
    text_model *m;
    tower *t;
    cache_pool *pool;
    const uint8_t *allowed;
} world;

static world open_world(checkpoint *c, int threads, bool exact, int64_t budget)
{
    world w = {.c = c, .config = checkpoint_config(c), .k = golden_kernels(threads, exact)};
    const cache_options o = {.kv_type = TENSOR_BF16, .budget_bytes = budget};
    assert_ok(text_model_create(&w.m, c, w.k, MAX_ROWS));
    assert_ok(tower_create(&w.t, c, w.k));
    assert_ok(cache_pool_create(&w.pool, &w.config->text, &o));
    return w;
}

static world open_agreeing(float scale)
{
    checkpoint *c = NULL;
    assert_ok(checkpoint_open(&c, agreeing_model(scale)));
    return open_world(c, 1, false, 0);
}

static void close_world(world *w)
{
    assert_int_equal(cache_bytes_used(w->pool), 0);
    cache_pool_destroy(&w->pool);
    tower_destroy(&w->t);
    text_model_destroy(&w->m);
    kernels_destroy(&w->k);
    checkpoint_close(&w->c);
}

// A prompt of the golden cases with its features.
static golden_case load_case(world *w, const char *model, const char *name)
{
    golden_case g;
    golden_load(&g, model, name, w->config);
    golden_encode(&g, w->t, &w->config->vision);
    return g;
}

// A clock by which a step takes ten times as long as a guess.
static sequence *watched;
static int64_t watched_length;
static double fake_now;

static double fake_clock(void)
{
    fake_now += sequence_length(watched) == watched_length ? 0.001 : 0.01;
    watched_length = sequence_length(watched);
    return fake_now;
}

// An answer being drawn.
typedef struct speaker {
    world *w;
    sequence *seq;
    sampler *s;
    draft *d;
    float *logits;    // [vocab], of the prompt's last row
    output_row *next; // after a token was read
    int32_t position;
} speaker;

// Reads the prompt in pieces.
static void speaker_init(speaker *p, world *w, const golden_case *g, const sampler_options *o,
                         const draft_options *drafts)
{
    const int64_t vocab = w->config->text.vocab, D = w->config->text.hidden;
    *p = (speaker){.w = w, .logits = golden_alloc(vocab, sizeof(float)),
                   .position = golden_next_position(g)};
    assert_ok(sequence_create(&p->seq, w->pool));
    watched = p->seq;
    assert_ok(sampler_create(&p->s, o, (int32_t)vocab, w->allowed));
    sampler_see_prompt(p->s, g->ids, (size_t)g->n);
    assert_ok(draft_create(&p->d, w->m, p->seq, p->s, drafts));
    for (int32_t at = 0; at < g->n;) {
        const float *levels[CONFIG_MAX_DEEPSTACK];
        const int32_t n = g->n - at < MAX_ROWS ? g->n - at : MAX_ROWS;
        segment seg = golden_segment(g, p->seq, at, n, levels, D);
        seg.n_logits = at + n == g->n;
        seg.logits = p->logits;
        assert_ok(draft_read(p->d, &seg, g->n - at - n));
        at += n;
    }
}

static void speaker_done(speaker *p)
{
    draft_destroy(&p->d);
    sampler_destroy(&p->s);
    sequence_drop(&p->seq);
    free(p->logits);
}

static int32_t speaker_draw(speaker *p)
{
    int32_t id;
    assert_ok(p->next ? sampler_next_of(p->s, &id, NULL, p->next)
                      : sampler_next(p->s, &id, NULL, p->logits));
    return id;
}

static sight_err speaker_read(speaker *p, int32_t id, int32_t most)
{
    sight_err err = draft_advance(p->d, &p->next, id, p->position, most);
    if (!err) p->position++;
    return err;
}

// Up to n tokens; returns how many came before memory or the context ended.
static int32_t speak(int32_t *ids, world *w, const golden_case *g, const sampler_options *o,
                     const draft_options *drafts, int32_t n, draft_usage *usage)
{
    speaker p;
    int32_t drawn = 0;
    speaker_init(&p, w, g, o, drafts);
    while (drawn < n) {
        ids[drawn++] = speaker_draw(&p);
        if (drawn < n && speaker_read(&p, ids[drawn - 1], n - drawn)) break;
    }
    if (usage) *usage = draft_get_usage(p.d);
    speaker_done(&p);
    return drawn;
}

// Compares answers of n tokens with fixed depths and with one that is chosen.
static void compare(world *w, const golden_case *g, const sampler_options *o, int32_t n,
                    double least, double most)
{
    int32_t *want = golden_alloc(n, sizeof *want), *got = golden_alloc(n, sizeof *got);
    const draft_options off = {0};
    const int32_t all = speak(want, w, g, o, &off, n, NULL);
    for (int32_t depth = DRAFT_AUTO; depth <= DRAFT_MAX; depth++) {
        const draft_options drafts = {.depth = depth};
        draft_usage usage;
        assert_int_equal(speak(got, w, g, o, &drafts, n, &usage), all);
        for (int32_t i = 0; i < all; i++) {
            if (got[i] == want[i]) continue;
            fail_msg("%s: depth %d: token %d is %d, not %d", g->name, depth, i, got[i], want[i]);
        }
        if (depth == 0 || !text_model_has_mtp(w->m)) assert_int_equal(usage.guessed, 0);
        if (depth < 1 || !text_model_has_mtp(w->m)) continue;
        const double rate = (double)usage.right / usage.guessed;
        if (rate < least || rate > most || usage.guessed == 0) {
            fail_msg("%s: depth %d: %d of %d guesses right", g->name, depth, usage.right,
                     usage.guessed);
        }
    }
    free(want);
    free(got);
}

static void compare_case(world *w, const char *name, const sampler_options *o, int32_t n,
                         double least, double most)
{
    golden_case g = load_case(w, "hybrid", name);
    compare(w, &g, o, n, least, most);
    golden_free(&g);
}

static void guesses_nearly_always_wrong(void **state)
{
    (void)state;
    world w = open_world(golden_open("hybrid"), 2, false, 0);
    compare_case(&w, "text-long", &greedy, 120, 0, 0.2);
    compare_case(&w, "images-two-turns", &greedy, 100, 0, 0.2);
    compare_case(&w, "video-96x80-30f", &card, 100, 0, 0.2);
    compare_case(&w, "text", &wild, 100, 0, 0.2);
    close_world(&w);
}

static void guesses_often_right(void **state)
{
    (void)state;
    world w = open_agreeing(0.03f);
    compare_case(&w, "text", &greedy, 160, 0.1, 0.95);
    compare_case(&w, "image-333x97", &greedy, 160, 0.1, 0.95);
    compare_case(&w, "text-long", &card, 160, 0.1, 0.95);
    compare_case(&w, "video-128x64-7f", &wild, 160, 0.02, 0.95);
    close_world(&w);
}

static void guesses_nearly_always_right(void **state)
{
    (void)state;
    world w = open_agreeing(0);
    compare_case(&w, "text", &greedy, 100, 0.9, 1);
    compare_case(&w, "images-two-turns", &card, 100, 0.7, 1);
    compare_case(&w, "text", &wild, 100, 0.5, 1);
    close_world(&w);
}

// Ids that may not be drawn are not guessed either.
static void masks_hold(void **state)
{
    (void)state;
    world w = open_agreeing(0.03f);
    uint8_t allowed[4096] = {0};
    for (int32_t i = 0; i < w.config->text.vocab; i++) allowed[i] = i % 3 == 1;
    w.allowed = allowed;
    compare_case(&w, "text", &greedy, 100, 0.05, 0.95);
    compare_case(&w, "text", &card, 100, 0.05, 0.95);
    close_world(&w);
}

// A long prompt of text, made up.
static golden_case long_case(int32_t n)
{
    golden_case g = {.name = "long", .n = n};
    test_random r = {21};
    g.ids = golden_alloc(n, sizeof *g.ids);
    g.visual = golden_alloc(n, 1);
    g.positions = golden_alloc(3 * (int64_t)n, sizeof *g.positions);
    for (int32_t i = 0; i < n; i++) {
        g.ids[i] = (int32_t)test_random_range(&r, 0, 2000);
        for (int axis = 0; axis < 3; axis++) g.positions[axis * n + i] = i;
    }
    return g;
}

// To the last token of the context.
static void the_whole_context(void **state)
{
    (void)state;
    world w = open_agreeing(0.03f);
    const int32_t n = w.config->text.max_positions;
    golden_case g = long_case(n - 700);
    int32_t *want = golden_alloc(n, sizeof *want), *got = golden_alloc(n, sizeof *got);
    const draft_options off = {0}, on = {.depth = 3};
    const int32_t all = speak(want, &w, &g, &card, &off, n, NULL);
    assert_int_equal(all, 701);
    draft_usage usage;
    assert_int_equal(speak(got, &w, &g, &card, &on, n, &usage), all);
    assert_memory_equal(got, want, (size_t)all * sizeof *got);
    assert_true(usage.right > 50);
    free(want);
    free(got);
    golden_free(&g);
    close_world(&w);
}

// Pages run out at the same token: room for guesses is given back where it is needed.
static void memory_runs_out(void **state)
{
    (void)state;
    world w = open_agreeing(0.03f);
    golden_case g = load_case(&w, "hybrid", "text");
    const int64_t page = cache_bytes(w.pool, 128) - cache_bytes(w.pool, 64);
    const int64_t states = cache_bytes(w.pool, 0);
    for (int extra = 0; extra < 2; extra++) {
        cache_options o = {.kv_type = TENSOR_BF16, .budget_bytes = states + 4 * page};
        int32_t want[400], got[400];
        const draft_options off = {0}, on = {.depth = 3};
        cache_pool_destroy(&w.pool);
        assert_ok(cache_pool_create(&w.pool, &w.config->text, &o));
        const int32_t all = speak(want, &w, &g, &greedy, &off, 400, NULL);
        assert_in_range(all, 100, 399);
        o.budget_bytes += extra * states;
        cache_pool_destroy(&w.pool);
        assert_ok(cache_pool_create(&w.pool, &w.config->text, &o));
        draft_usage usage;
        assert_int_equal(speak(got, &w, &g, &greedy, &on, 400, &usage), all);
        assert_memory_equal(got, want, (size_t)all * sizeof *got);
        assert_true(usage.right > 0);
    }
    golden_free(&g);
    close_world(&w);
}

// After settling, the sequence is as if nothing had been read ahead; the next tokens are too.
static void settled_sequences(void **state)
{
    (void)state;
    world w = open_agreeing(0.03f);
    golden_case g = load_case(&w, "hybrid", "image-200x130");
    const draft_options off = {0}, on = {.depth = 4};
    for (int32_t n = 1; n < 40; n += n < 12 ? 1 : 5) {
        speaker a, b;
        speaker_init(&a, &w, &g, &card, &off);
        speaker_init(&b, &w, &g, &card, &on);
        for (int32_t i = 0; i < n; i++) {
            const int32_t id = speaker_draw(&a);
            assert_int_equal(speaker_draw(&b), id);
            assert_ok(speaker_read(&a, id, 100));
            assert_ok(speaker_read(&b, id, 100));
            if (n % 3 == 0 && i == n / 2) assert_ok(draft_settle(b.d));
        }
        assert_ok(draft_settle(a.d));
        assert_ok(draft_settle(b.d));
        assert_ok(draft_settle(b.d)); // once more changes nothing
        assert_int_equal(sequence_length(a.seq), g.n + n);
        assert_int_equal(sequence_length(b.seq), g.n + n);
        assert_ok(speaker_read(&a, 7, 1));
        assert_ok(speaker_read(&b, 7, 1));
        assert_int_equal(a.next->n, b.next->n);
        assert_memory_equal(a.next->logits, b.next->logits,
                            (size_t)a.next->n * sizeof(float));
        speaker_done(&a);
        speaker_done(&b);
    }
    golden_free(&g);
    close_world(&w);
}

// A caller that hands over other tokens than were drawn (a grammar, a forced beginning) gets their
// logits.
static void tokens_of_another(void **state)
{
    (void)state;
    world w = open_agreeing(0);
    golden_case g = load_case(&w, "hybrid", "text");
    const draft_options off = {0}, on = {.depth = 4};
    test_random r = {9};
    speaker a, b;
    speaker_init(&a, &w, &g, &greedy, &off);
    speaker_init(&b, &w, &g, &greedy, &on);
    for (int32_t i = 0; i < 150; i++) {
        int32_t id = speaker_draw(&a);
        assert_int_equal(speaker_draw(&b), id);
        if (test_random_range(&r, 0, 3) == 0) id = (int32_t)test_random_range(&r, 0, 2000);
        assert_ok(speaker_read(&a, id, 1 + (int32_t)test_random_range(&r, 0, 6)));
        assert_ok(speaker_read(&b, id, 1 + (int32_t)test_random_range(&r, 0, 6)));
    }
    assert_true(draft_get_usage(b.d).right > 20);
    assert_true(draft_get_usage(b.d).right < draft_get_usage(b.d).guessed);
    speaker_done(&a);
    speaker_done(&b);
    golden_free(&g);
    close_world(&w);
}

// ---- the distribution ----

#define TOP   4
#define VOCAB 2056 // of the golden hybrid model
#define SEEDS 1200

// Probabilities of the TOP likeliest ids at a temperature, as the sampler documents them.
static void top_probabilities(int32_t *ids, double *p, output_row *row, double temperature)
{
    double sum = 0, best = 0;
    for (int i = 0; i < TOP; i++) {
        const int32_t at = golden_argmax(row->logits, row->n);
        const double logit = (double)row->logits[at];
        if (i == 0) best = logit;
        ids[i] = row->n < VOCAB ? row->ids[at] : at;
        sum += p[i] = exp((logit - best) / temperature);
        row->logits[at] = -INFINITY;
    }
    for (int i = 0; i < TOP; i++) p[i] /= sum;
}

typedef struct pairs {
    world *w;
    sequence *prompt; // with one token after it, so that there is a row to guess from
    int32_t position; // of the next
} pairs;

// A speaker that goes on after the prompt and a second token.
static void speaker_fork(speaker *p, const pairs *t, const sampler_options *o, int32_t depth)
{
    const draft_options drafts = {.depth = depth};
    *p = (speaker){.w = t->w, .position = t->position};
    assert_ok(sequence_fork(&p->seq, t->prompt));
    assert_ok(sampler_create(&p->s, o, t->w->config->text.vocab, NULL));
    assert_ok(draft_create(&p->d, t->w->m, p->seq, p->s, &drafts));
    assert_ok(speaker_read(p, 77, 100));
    assert_ok(speaker_read(p, 78, 100));
}

static int place_in(const int32_t *ids, int32_t id)
{
    for (int i = 0; i < TOP; i++) {
        if (ids[i] == id) return i;
    }
    fail_msg("%d is not among the likeliest", id);
    return -1;
}

// Draws SEEDS pairs; returns how often the first guess was right.
static int32_t draw_pairs(int32_t counts[TOP][TOP], const pairs *t, const sampler_options *base,
                          const int32_t *first, int32_t second[TOP][TOP])
{
    int32_t right = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        sampler_options o = *base;
        o.seed = seed;
        speaker s;
        speaker_fork(&s, t, &o, 2);
        const int32_t a = speaker_draw(&s);
        assert_ok(speaker_read(&s, a, 100));
        const int i = place_in(first, a);
        counts[i][place_in(second[i], speaker_draw(&s))]++;
        right += draft_get_usage(s.d).guessed == 2; // the step before is still good
        speaker_done(&s);
    }
    return right;
}

// The two tokens after given ones, drawn with many seeds while two are guessed, against the
// probabilities that the model itself gives for each pair. Seeds are fixed: no run differs from
// another.
static void sampled_pairs(void **state)
{
    (void)state;
    const sampler_options base = {.temperature = 0.8, .top_k = TOP, .top_p = 1,
                                  .repetition_penalty = 1};
    const draft_options off = {0};
    world w = open_agreeing(0.05f);
    golden_case g = load_case(&w, "hybrid", "text");
    assert_int_equal(w.config->text.vocab, VOCAB);
    int32_t first[TOP], second[TOP][TOP], counts[TOP][TOP] = {{0}};
    double p[TOP], q[TOP][TOP], chi = 0;
    int cells = 0;
    speaker prompt, plain;
    speaker_init(&prompt, &w, &g, &base, &off);
    const pairs t = {&w, prompt.seq, prompt.position};
    speaker_fork(&plain, &t, &base, 0);
    top_probabilities(first, p, plain.next, base.temperature);
    speaker_done(&plain);
    for (int i = 0; i < TOP; i++) {
        speaker_fork(&plain, &t, &base, 0);
        assert_ok(speaker_read(&plain, first[i], 100));
        top_probabilities(second[i], q[i], plain.next, base.temperature);
        speaker_done(&plain);
    }
    const int32_t right = draw_pairs(counts, &t, &base, first, second);
    for (int i = 0; i < TOP * TOP; i++) {
        const double want = p[i / TOP] * q[i / TOP][i % TOP] * SEEDS;
        const double off_by = counts[i / TOP][i % TOP] - want;
        if (want < 5) continue; // too few for the approximation
        chi += off_by * off_by / want;
        cells++;
    }
    // 15 degrees of freedom: beyond 44 for one of ten thousand choices of seeds.
    if (cells < 8 || chi > 44) fail_msg("chi square %.1f over %d pairs", chi, cells);
    assert_in_range(right, SEEDS / 10, SEEDS - SEEDS / 10); // both ways are measured
    speaker_done(&prompt);
    golden_free(&g);
    close_world(&w);
}

// ---- choosing ----

// What is learnt stays with the model: guesses that were always wrong are hardly tried later.
static void wrong_guesses_end_soon(void **state)
{
    (void)state;
    world w = open_world(golden_open("hybrid"), 1, false, 0);
    golden_case g = load_case(&w, "hybrid", "text");
    const draft_options automatic = {.depth = DRAFT_AUTO, .now_s = fake_clock};
    int32_t ids[300];
    draft_usage usage;
    assert_int_equal(speak(ids, &w, &g, &greedy, &automatic, 300, &usage), 300);
    assert_in_range(usage.guessed, 2, 40);
    assert_int_equal(speak(ids, &w, &g, &greedy, &automatic, 300, &usage), 300);
    assert_in_range(usage.guessed, 0, 15);
    golden_free(&g);
    close_world(&w);
}

static void right_guesses_go_on(void **state)
{
    (void)state;
    world w = open_agreeing(0);
    golden_case g = load_case(&w, "hybrid", "text");
    const draft_options automatic = {.depth = DRAFT_AUTO, .now_s = fake_clock};
    int32_t ids[300];
    draft_usage usage;
    assert_int_equal(speak(ids, &w, &g, &greedy, &automatic, 300, &usage), 300);
    assert_true(usage.right > 100);
    golden_free(&g);
    close_world(&w);
}

// ---- without ----

static void refusals(void **state)
{
    (void)state;
    world w = open_world(golden_open("qwen3vl"), 1, false, 0);
    golden_case g = load_case(&w, "qwen3vl", "text");
    sequence *seq = NULL;
    sampler *s = NULL;
    draft *d = NULL;
    assert_ok(sequence_create(&seq, w.pool));
    assert_ok(sampler_create(&s, &greedy, w.config->text.vocab, NULL));
    draft_options o = {.depth = DRAFT_MAX + 1};
    assert_fails(draft_create(&d, w.m, seq, s, &o), SIGHT_E_ARGUMENT, "0 to 4");
    o.depth = -2;
    assert_fails(draft_create(&d, w.m, seq, s, &o), SIGHT_E_ARGUMENT, "-2 drafts");
    assert_null(d);
    draft_destroy(&d);
    sampler_destroy(&s);
    sequence_drop(&seq);
    compare(&w, &g, &greedy, 20, 0, 1); // there is no block: nothing is guessed
    golden_free(&g);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guesses_nearly_always_wrong),
        cmocka_unit_test(guesses_often_right),
        cmocka_unit_test(guesses_nearly_always_right),
        cmocka_unit_test(masks_hold),
        cmocka_unit_test(the_whole_context),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(settled_sequences),
        cmocka_unit_test(tokens_of_another),
        cmocka_unit_test(sampled_pairs),
        cmocka_unit_test(wrong_guesses_end_soon),
        cmocka_unit_test(right_guesses_go_on),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
