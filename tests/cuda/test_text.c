// The text model on a device: golden cases, and the ways of cutting the same work into steps, beside the CPU.
#include "cuda/text_sides.h"

// The greatest logit alone, as sampling asks for it.
static int32_t decode_greedy(side *s, sequence *seq, int32_t id, int32_t position)
{
    const int64_t vocab = s->config->text.vocab;
    const int32_t positions[3] = {position, position, position};
    output_row row = {.k = 1, .ids = golden_alloc(vocab, sizeof(int32_t)),
                      .logits = golden_alloc(vocab, sizeof(float))};
    const segment seg = {.seq = seq, .n = 1, .ids = &id, .positions = positions,
                         .position_stride = 1, .n_logits = 1, .outputs = &row};
    assert_ok(text_model_step(s->m, &seg, 1));
    assert_true(row.n >= 1);
    const int32_t best = golden_argmax(row.logits, row.n);
    const int32_t next = row.n == vocab ? best : row.ids[best];
    free(row.ids);
    free(row.logits);
    return next;
}

// ---- against the reference ----

static void check_greedy(side *s, const golden_case *g, sequence *seq, int32_t first)
{
    int32_t id = first, position = golden_next_position(g);
    for (int32_t i = 0; i < g->n_greedy; i++) {
        golden_expect_token(g, i, id);
        id = decode_greedy(s, seq, id, position + i);
    }
}

static void reference_case(const checkpoint *c, const char *model, const char *name)
{
    const double limit = golden_limit(name);
    golden_case g;
    load(&g, c, model, name);
    assert_true(g.n <= MAX_ROWS);
    side s = open_side(c, DEVICE_CUDA, true, TENSOR_F32);
    const int64_t vocab = s.config->text.vocab;
    float *logits = golden_alloc(g.n * vocab, sizeof *logits);
    float *hidden = room(&s, g.n * s.config->text.hidden);
    golden_case on = on_side(&s, &g);
    sequence *seq = new_sequence(&s);
    read_all(&s, &on, seq, MAX_ROWS, logits, hidden);
    golden_compare(&g, "logits", logits, vocab, limit);
    const int32_t choice = golden_argmax(logits + (g.n - 1) * vocab, vocab);
    golden_check_mtp(s.m, &s.config->text, &on, seq, hidden, choice, limit);
    check_greedy(&s, &g, seq, choice);
    sequence_drop(&seq);
    off_side(&s, &on);
    kernels_free(s.k, hidden);
    free(logits);
    close_side(&s);
    golden_free(&g);
}

static void reference(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"hybrid", "video-96x80-30f"},
        {"hybrid-deepstack", "images-two-turns"},
        {"hybrid-yarn", "text"},
        {"qwen3vl", "image-333x97"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        checkpoint *c = golden_open(cases[i][0]);
        reference_case(c, cases[i][0], cases[i][1]);
        checkpoint_close(&c);
    }
}

// ---- beside the CPU ----

static int64_t both_logits(const both *b)
{
    return (b->g.n < MOST_READ ? b->g.n : MOST_READ) * b->vocab;
}

static void check_both(const both *b, double limit, const char *what)
{
    assert_close(b->got, b->want, both_logits(b), limit, what);
}

static void read_both(both *b, int32_t piece_cpu, int32_t piece_gpu)
{
    sequence *s = new_sequence(&b->cpu), *t = new_sequence(&b->gpu);
    read_all(&b->cpu, &b->g, s, piece_cpu, b->want, NULL);
    read_all(&b->gpu, &b->on, t, piece_gpu, b->got, NULL);
    sequence_drop(&s);
    sequence_drop(&t);
}

// How far plain C moves from the CPU's usual level, over all rows: made-up weights amplify
// rounding.
static double rounding(const both *b)
{
    side plain = open_level(b->c, DEVICE_CPU, true, TENSOR_F32, SIMD_PLAIN);
    sequence *s = new_sequence(&plain);
    float *logits = golden_alloc(b->g.n * b->vocab, sizeof *logits);
    read_all(&plain, &b->g, s, MAX_ROWS, logits, NULL);
    const double error = golden_error(logits, b->want, both_logits(b));
    sequence_drop(&s);
    free(logits);
    close_side(&plain);
    return error;
}

// Pages, chunks of the delta rule and pieces all end at different rows.
static void pieces(void **state)
{
    (void)state;
    static const char *const cases[] = {"text-long", "images-two-turns"};
    const int32_t sizes[] = {100, 19};
    for (int i = 0; i < 2; i++) {
        both b = open_both("hybrid", cases[i], true, TENSOR_F32);
        read_both(&b, MAX_ROWS, sizes[i]);
        check_both(&b, 2 * rounding(&b) + GOLDEN_TEXT_LIMIT, cases[i]);
        close_both(&b);
    }
}

// What a kind of cache changes on the CPU is what rounding alone may change: twice that is allowed.
static void caches(void **state)
{
    (void)state;
    const tensor_type types[] = {TENSOR_BF16, TENSOR_I8};
    const char *const cases[][2] = {{"hybrid", "text"}, {"qwen3vl", "images-two-turns"}};
    for (int c = 0; c < 2; c++) {
        both f32 = open_both(cases[c][0], cases[c][1], true, TENSOR_F32);
        read_both(&f32, MAX_ROWS, MAX_ROWS);
        for (int i = 0; i < 2; i++) {
            both b = open_both(cases[c][0], cases[c][1], true, types[i]);
            read_both(&b, MAX_ROWS, MAX_ROWS);
            const double plain = golden_error(b.want, f32.want, both_logits(&b));
            check_both(&b, 2 * plain + GOLDEN_TEXT_LIMIT, i ? "int8" : "bf16");
            close_both(&b);
        }
        close_both(&f32);
    }
}

// With products of bf16 inputs the reference of qwen3vl moves by 3e-2, as tests/text/test_model.c
// has it.
static void bf16_products(void **state)
{
    (void)state;
    both b = open_both("qwen3vl", "images-two-turns", false, TENSOR_BF16);
    read_both(&b, MAX_ROWS, MAX_ROWS);
    check_both(&b, 3e-2, "bf16 products");
    close_both(&b);
}

// A long prompt, a picture's prompt in pieces, and single tokens of a third, all in the same steps.
enum { SEVERAL = 3 };

static void read_together(side *s, const golden_case *g, float **logits)
{
    const int32_t sizes[SEVERAL] = {90, 30, 1};
    sequence *seq[SEVERAL];
    for (int i = 0; i < SEVERAL; i++) seq[i] = new_sequence(s);
    golden_read_together(s->m, &s->config->text, g, seq, sizes, logits, SEVERAL);
    for (int i = 0; i < SEVERAL; i++) sequence_drop(&seq[i]);
}

static void several_sequences(void **state)
{
    (void)state;
    const char *names[SEVERAL] = {"image-333x97", "images-two-turns", "text"};
    both b = open_both("hybrid-deepstack", names[0], true, TENSOR_F32);
    golden_case g[SEVERAL], on[SEVERAL];
    float *want[SEVERAL], *got[SEVERAL];
    for (int i = 0; i < SEVERAL; i++) {
        load(&g[i], b.c, "hybrid-deepstack", names[i]);
        on[i] = on_side(&b.gpu, &g[i]);
        want[i] = golden_alloc(g[i].n * b.vocab, sizeof(float));
        got[i] = golden_alloc(g[i].n * b.vocab, sizeof(float));
    }
    read_together(&b.cpu, g, want);
    read_together(&b.gpu, on, got);
    for (int i = 0; i < SEVERAL; i++) {
        assert_close(got[i], want[i], g[i].n * b.vocab, GOLDEN_PICTURE_LIMIT, g[i].name);
        off_side(&b.gpu, &on[i]);
        golden_free(&g[i]);
        free(want[i]);
        free(got[i]);
    }
    close_both(&b);
}

// Forks share pages until they write: each goes on as if alone, to the bit, in steps of both.
static void forks(void **state)
{
    (void)state;
    enum { TOKENS = 5 };
    const int32_t tokens[2][TOKENS] = {{5, 77, 901, 3, 1500}, {1044, 8, 8, 612, 9}};
    both b = open_both("hybrid", "text", true, TENSOR_BF16);
    float *alone = golden_alloc(2 * TOKENS * b.vocab, sizeof *alone);
    float *forked = golden_alloc(2 * b.vocab, sizeof *forked);
    const int32_t position = golden_next_position(&b.g);
    for (int f = 0; f < 2; f++) {
        sequence *s = new_sequence(&b.gpu);
        read_all(&b.gpu, &b.on, s, MAX_ROWS, NULL, NULL);
        for (int j = 0; j < TOKENS; j++) {
            decode(&b.gpu, s, tokens[f][j], position + j, alone + (f * TOKENS + j) * b.vocab);
        }
        sequence_drop(&s);
    }
    sequence *s[2] = {new_sequence(&b.gpu), NULL};
    read_all(&b.gpu, &b.on, s[0], MAX_ROWS, NULL, NULL);
    assert_ok(sequence_fork(&s[1], s[0]));
    for (int j = 0; j < TOKENS; j++) {
        const int32_t at[3] = {position + j, position + j, position + j};
        segment seg[2];
        for (int f = 0; f < 2; f++) {
            seg[f] = (segment){.seq = s[f], .n = 1, .ids = &tokens[f][j], .positions = at,
                               .position_stride = 1, .n_logits = 1,
                               .logits = forked + f * b.vocab};
        }
        assert_ok(text_model_step(b.gpu.m, seg, 2));
        for (int f = 0; f < 2; f++) {
            assert_close(forked + f * b.vocab, alone + (f * TOKENS + j) * b.vocab, b.vocab,
                         GOLDEN_TEXT_LIMIT, "a fork");
        }
    }
    sequence_drop(&s[0]);
    sequence_drop(&s[1]);
    free(alone);
    free(forked);
    close_both(&b);
}

// ---- memory ----

// What a pool gives back serves its other kind, and what does not fit is refused with nothing lost.
static void budget(void **state)
{
    (void)state;
    checkpoint *c = golden_open("hybrid");
    side s = open_side(c, DEVICE_CUDA, true, TENSOR_F32);
    cache_pool *p = NULL;
    cache_options o = {.kv_type = TENSOR_F32, .k = s.k};
    assert_ok(cache_pool_create(&p, &s.config->text, &o));
    o.budget_bytes = cache_bytes(p, 64 * 4);
    const int64_t states = cache_bytes(p, 0);
    cache_pool_destroy(&p);
    assert_ok(cache_pool_create(&p, &s.config->text, &o));
    for (int round = 0; round < 2; round++) {
        sequence *a = NULL, *many[64] = {NULL};
        assert_ok(sequence_create(&a, p));
        assert_ok(sequence_reserve(a, 0, 64 * 4));
        assert_fails(sequence_reserve(a, 0, 64 * 5), SIGHT_E_MEMORY, "budget");
        sequence_drop(&a);
        const int64_t n = o.budget_bytes / states < 64 ? o.budget_bytes / states : 64;
        for (int64_t i = 0; i < n; i++) assert_ok(sequence_create(&many[i], p));
        for (int64_t i = 0; i < n; i++) sequence_drop(&many[i]);
    }
    assert_int_equal(cache_bytes_used(p), 0);
    cache_pool_destroy(&p);
    close_side(&s);
    checkpoint_close(&c);
}

int main(void)
{
    if (device_without_gpu()) {
        printf("skipped: %s\n", device_without_gpu());
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference),
        cmocka_unit_test(pieces),
        cmocka_unit_test(caches),
        cmocka_unit_test(bf16_products),
        cmocka_unit_test(several_sequences),
        cmocka_unit_test(forks),
        cmocka_unit_test(budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
