// Answers of the text model on a device: rows that are taken back, guesses, many answers in one step, steps as graphs.
#include "cuda/text_sides.h"

#include "kernels/cuda/state.h"
#include "text/draft_batch.h"

// ---- rows that are taken back ----

static void rewinds(void **state)
{
    (void)state;
    enum { ROWS = 5 };
    const int32_t ids[ROWS] = {1044, 8, 77, 612, 9};
    const char *const cases[][2] = {{"hybrid", "text"}, {"hybrid-deepstack", "images-two-turns"}};
    for (int c = 0; c < 2; c++) {
        both b = open_both(cases[c][0], cases[c][1], true, TENSOR_I8);
        float *one = golden_alloc(ROWS * b.vocab, sizeof *one);
        float *rows = golden_alloc(ROWS * b.vocab, sizeof *rows);
        const int32_t position = golden_next_position(&b.g);
        sequence *s = new_sequence(&b.gpu);
        read_all(&b.gpu, &b.on, s, MAX_ROWS, NULL, NULL);
        for (int32_t stay = 0; stay <= ROWS; stay += c ? ROWS : 2) {
            sequence *alone = NULL, *t = NULL;
            assert_ok(sequence_fork(&alone, s));
            assert_ok(sequence_fork(&t, s));
            assert_ok(sequence_allow_rewind(t, ROWS));
            for (int32_t i = 0; i < ROWS; i++) {
                decode(&b.gpu, alone, ids[i], position + i, one + i * b.vocab);
            }
            int32_t at[3 * ROWS];
            for (int32_t i = 0; i < 3 * ROWS; i++) at[i] = position + i % ROWS;
            const segment seg = {.seq = t, .n = ROWS, .ids = ids, .positions = at,
                                 .position_stride = ROWS, .n_logits = ROWS, .logits = rows,
                                 .rewindable = true};
            assert_ok(text_model_step(b.gpu.m, &seg, 1));
            assert_memory_equal(rows, one, (size_t)(ROWS * b.vocab) * sizeof *rows);
            assert_ok(text_model_rewind(b.gpu.m, t, stay));
            for (int32_t i = stay; i < ROWS; i++) {
                decode(&b.gpu, t, ids[i], position + i, rows + i * b.vocab);
            }
            assert_memory_equal(rows, one, (size_t)(ROWS * b.vocab) * sizeof *rows);
            sequence_drop(&alone);
            sequence_drop(&t);
        }
        sequence_drop(&s);
        free(one);
        free(rows);
        close_both(&b);
    }
}

// An answer of n tokens, read with so many guesses before each step.
static void answer(side *s, const golden_case *g, int32_t depth, int32_t *ids, int32_t n)
{
    static const sampler_options greedy = {.top_p = 1, .repetition_penalty = 1};
    const int32_t vocab = s->config->text.vocab;
    sampler *sam = NULL;
    draft *d = NULL;
    const float *levels[CONFIG_MAX_DEEPSTACK];
    sequence *seq = new_sequence(s);
    const draft_options o = {.depth = depth};
    assert_ok(sampler_create(&sam, &greedy, vocab, NULL));
    assert_ok(draft_create(&d, s->m, seq, sam, &o));
    output_row first = {.ids = golden_alloc(vocab, sizeof(int32_t)),
                        .logits = golden_alloc(vocab, sizeof(float))}, *next = &first;
    sampler_wants(sam, &first, false);
    segment seg = golden_segment(g, seq, 0, g->n, levels, s->config->text.hidden);
    seg.n_logits = 1;
    seg.outputs = &first;
    assert_ok(draft_read(d, &seg, 0));
    for (int32_t i = 0; i < n; i++) {
        assert_ok(sampler_next_of(sam, &ids[i], NULL, next));
        if (i + 1 < n) {
            assert_ok(draft_advance(d, &next, ids[i], golden_next_position(g) + i, n - i - 1));
        }
    }
    draft_destroy(&d);
    sampler_destroy(&sam);
    sequence_drop(&seq);
    free(first.ids);
    free(first.logits);
}

// Guesses change nothing, and both sides agree.
static void drafts(void **state)
{
    (void)state;
    enum { TOKENS = 16 };
    int32_t cpu[TOKENS], plain[TOKENS], guessed[TOKENS];
    both b = open_both("hybrid", "text", true, TENSOR_BF16);
    answer(&b.cpu, &b.g, 0, cpu, TOKENS);
    answer(&b.gpu, &b.on, 0, plain, TOKENS);
    assert_memory_equal(plain, cpu, sizeof cpu);
    answer(&b.gpu, &b.on, DRAFT_MAX, guessed, TOKENS);
    assert_memory_equal(guessed, plain, sizeof plain);
    close_both(&b);
}

// ---- many answers in one step ----

#define VOICES 12
#define SPOKEN 4

// One that answers, on the first rows of a case, with so many guesses before a step.
typedef struct voice {
    sequence *seq;
    sampler *s;
    draft *d;
    output_row first, *next;
    int32_t position, said;
    int32_t ids[SPOKEN];
    float *heard; // [SPOKEN], the logit of each
} voice;

static void voice_open(voice *v, side *s, const golden_case *g, int32_t rows, int32_t depth)
{
    static const sampler_options greedy = {.top_p = 1, .repetition_penalty = 1};
    const int32_t vocab = s->config->text.vocab;
    const draft_options o = {.depth = depth};
    const float *levels[CONFIG_MAX_DEEPSTACK];
    *v = (voice){.seq = new_sequence(s), .position = rows, .heard = golden_alloc(SPOKEN, sizeof(float))};
    assert_ok(sampler_create(&v->s, &greedy, vocab, NULL));
    assert_ok(draft_create(&v->d, s->m, v->seq, v->s, &o));
    v->first = (output_row){.ids = golden_alloc(vocab, sizeof(int32_t)), .logits = golden_alloc(vocab, sizeof(float))};
    v->next = &v->first;
    sampler_wants(v->s, &v->first, false);
    segment seg = golden_segment(g, v->seq, 0, rows, levels, s->config->text.hidden);
    seg.n_logits = 1;
    seg.outputs = &v->first;
    assert_ok(draft_read(v->d, &seg, 0));
}

static void voice_close(voice *v)
{
    draft_destroy(&v->d);
    sampler_destroy(&v->s);
    sequence_drop(&v->seq);
    free(v->first.ids);
    free(v->first.logits);
    free(v->heard);
}

static float logit_of(const output_row *row, int32_t id)
{
    for (int32_t i = 0; i < row->n; i++) {
        if (row->ids[i] == id) return row->logits[i];
    }
    return NAN;
}

// Draws until rows are wanted; false: it has said all.
static bool voice_draws(voice *v, int32_t together)
{
    while (v->said < SPOKEN) {
        int32_t *id = &v->ids[v->said];
        assert_ok(sampler_next_of(v->s, id, NULL, v->next));
        v->heard[v->said++] = logit_of(v->next, *id);
        if (v->said == SPOKEN) break;
        assert_ok(draft_take(v->d, &v->next, *id, v->position++, SPOKEN - v->said, together));
        if (!v->next) return true;
    }
    return false;
}

static void voice_hears(void *arg, int32_t i, sight_err err, output_row *next)
{
    voice *const *all = arg;
    assert_ok(err);
    all[i]->next = next;
}

// The most rows that a step had.
static int32_t speak(voice *all, int32_t n)
{
    int32_t most = 0;
    for (int32_t asked = 1; asked > 0;) {
        draft *drafts[VOICES];
        voice *of[VOICES];
        int32_t rows = 0;
        asked = 0;
        for (int32_t i = 0; i < n; i++) {
            segment s;
            if (!voice_draws(&all[i], n)) continue;
            if (draft_wants(all[i].d, &s)) rows += s.n;
            of[asked] = &all[i];
            drafts[asked++] = all[i].d;
        }
        draft_batch_run(drafts, asked, voice_hears, of);
        if (rows > most) most = rows;
    }
    return most;
}

// Each answer has the ids and logits that it has alone, in steps of one row; without guesses and with some.
static void answers_together(void **state)
{
    (void)state;
    checkpoint *c = golden_open("hybrid");
    golden_case g;
    load(&g, c, "hybrid", "text");
    side s = open_side(c, DEVICE_CUDA, false, TENSOR_BF16);
    golden_case on = on_side(&s, &g);
    voice alone[VOICES], together[VOICES];
    for (int32_t i = 0; i < VOICES; i++) {
        voice_open(&alone[i], &s, &on, 2 + i % 7, 0);
        speak(&alone[i], 1);
    }
    for (int drafts = 0; drafts < 2; drafts++) {
        for (int32_t i = 0; i < VOICES; i++)
            voice_open(&together[i], &s, &on, 2 + i % 7, drafts ? i % (DRAFT_MAX + 1) : 0);
        const int32_t most = speak(together, VOICES);
        assert_true(drafts ? most > 16 : most == VOICES);
        for (int32_t i = 0; i < VOICES; i++) {
            assert_memory_equal(together[i].ids, alone[i].ids, sizeof alone[i].ids);
            assert_memory_equal(together[i].heard, alone[i].heard, SPOKEN * sizeof(float));
            assert_false(isnan(alone[i].heard[0]));
            voice_close(&together[i]);
        }
    }
    for (int32_t i = 0; i < VOICES; i++) voice_close(&alone[i]);
    off_side(&s, &on);
    close_side(&s);
    golden_free(&g);
    checkpoint_close(&c);
}

// ---- steps as graphs ----

// One token of each of n sequences.
static void decode_together(side *s, sequence **seq, int32_t n, int32_t turn, output_row *rows)
{
    const int32_t ids[2] = {100 + turn, 900 + turn}, positions[2] = {200 + turn, 300 + turn};
    segment seg[2];
    for (int32_t i = 0; i < n; i++) {
        seg[i] = (segment){.seq = seq[i], .n = 1, .ids = &ids[i], .positions = &positions[i],
                           .n_logits = 1, .outputs = &rows[i]};
    }
    assert_ok(text_model_step(s->m, seg, n));
}

// Once a step of some sequences was made a graph of, others at other places run as that graph.
static void graphs(void **state)
{
    (void)state;
    checkpoint *c = golden_open("hybrid");
    golden_case g;
    load(&g, c, "hybrid", "text");
    for (int exact = 0; exact <= 1; exact++) {
        side s = open_side(c, DEVICE_CUDA, exact, TENSOR_BF16);
        const int64_t vocab = s.config->text.vocab;
        output_row rows[2];
        for (int i = 0; i < 2; i++) {
            rows[i] = (output_row){.k = 1, .ids = golden_alloc(vocab, sizeof(int32_t)),
                                   .logits = golden_alloc(vocab, sizeof(float))};
        }
        for (int32_t n = 1; n <= 2; n++) {
            int64_t made = 0;
            for (int pair = 0; pair < 2; pair++) {
                sequence *seq[2] = {new_sequence(&s), new_sequence(&s)};
                read_rows(&s, &g, seq[0], 0, 13 + 30 * pair, NULL, NULL);
                read_rows(&s, &g, seq[1], 0, 7 + 20 * pair, NULL, NULL);
                for (int32_t turn = 0; turn < 4; turn++) decode_together(&s, seq, n, turn, rows);
                if (pair == 0) made = (int64_t)s.k->cuda->step.graphs_made;
                assert_int_equal(s.k->cuda->step.graphs_made, made);
                sequence_drop(&seq[0]);
                sequence_drop(&seq[1]);
            }
            assert_int_equal(made, n); // of one sequence, then of two
        }
        for (int i = 0; i < 2; i++) {
            free(rows[i].ids);
            free(rows[i].logits);
        }
        close_side(&s);
    }
    golden_free(&g);
    checkpoint_close(&c);
}

// Batches that grow and shrink: a graph of each size is made once and stays.
static void graphs_of_sizes(void **state)
{
    (void)state;
    enum { MOST = 10 };
    static const int32_t sizes[] = {1, 3, 9, MOST};
    checkpoint *c = golden_open("hybrid");
    golden_case g;
    load(&g, c, "hybrid", "text");
    side s = open_side(c, DEVICE_CUDA, false, TENSOR_BF16);
    sequence *seq[MOST];
    for (int i = 0; i < MOST; i++) {
        seq[i] = new_sequence(&s);
        read_rows(&s, &g, seq[i], 0, 2, NULL, NULL);
    }
    int64_t first = 0;
    for (int round = 0; round < 4; round++) {
        if (round == 3) first = (int64_t)s.k->cuda->step.graphs_made;
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            segment seg[MOST];
            const int32_t id = 100 + round, positions[3] = {10 + round, 10 + round, 10 + round};
            for (int32_t j = 0; j < sizes[i]; j++)
                seg[j] = (segment){.seq = seq[j], .n = 1, .ids = &id, .positions = positions, .position_stride = 1};
            assert_ok(text_model_step(s.m, seg, sizes[i]));
        }
    }
    assert_int_equal(first, 4); // of each size when it comes again; the first step of over 8 rows finds what scratch it takes
    assert_int_equal(s.k->cuda->step.graphs_made, first);
    for (int i = 0; i < MOST; i++) sequence_drop(&seq[i]);
    close_side(&s);
    golden_free(&g);
    checkpoint_close(&c);
}

// Launches of the last step that was noted (kernels/cuda/graph.c: a launcher, its bytes, its arguments).
static int launches(const side *s)
{
    const cuda_step *step = &s->k->cuda->step;
    int n = 0;
    for (size_t at = 0; at < step->bytes; n++) {
        uint64_t head[2];
        memcpy(head, step->list + at, sizeof head);
        at += sizeof head + ((head[1] + 15) & ~(uint64_t)15);
    }
    return n;
}

// A layer of linear attention takes 5 launches: its products, all of the mixer, the way out, gate and up, the way down. One of
// full attention 7: between its products heads, the keys' chunks and what adds them up with the gate; here, where
// heads are too narrow for chunks, attention and the gate.
static void launches_of_a_token(void **state)
{
    (void)state;
    checkpoint *c = golden_open("hybrid");
    golden_case g;
    load(&g, c, "hybrid", "text");
    side s = open_side(c, DEVICE_CUDA, false, TENSOR_BF16);
    const text_config *t = &s.config->text;
    output_row row = {.k = 1, .ids = golden_alloc(t->vocab, sizeof(int32_t)),
                      .logits = golden_alloc(t->vocab, sizeof(float))};
    sequence *seq = new_sequence(&s);
    read_rows(&s, &g, seq, 0, 13, NULL, NULL);
    decode_together(&s, &seq, 1, 0, &row);
    int layers = 0;
    for (int32_t i = 0; i < t->n_layers; i++) layers += t->layers[i] == LAYER_FULL ? 7 : 5;
    printf("%d launches, %d of them of %d layers\n", launches(&s), layers, t->n_layers);
    assert_int_equal(launches(&s), layers + 4); // embedding, angles, norm, head
    sequence_drop(&seq);
    free(row.ids);
    free(row.logits);
    close_side(&s);
    golden_free(&g);
    checkpoint_close(&c);
}

int main(void)
{
    if (device_without_gpu()) {
        printf("skipped: %s\n", device_without_gpu());
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rewinds),
        cmocka_unit_test(drafts),
        cmocka_unit_test(answers_together),
        cmocka_unit_test(graphs),
        cmocka_unit_test(graphs_of_sizes),
        cmocka_unit_test(launches_of_a_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
