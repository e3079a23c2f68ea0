// The text model on a device: golden cases, and the ways of cutting the same work into steps,
// beside the CPU.
//
// Features come from the CPU's tower: the tower on a device has a test of its own.
#include "text/golden_steps.h" // first: a parameter of it is called threads

#include "kernels/cuda/state.h"
#include "kernels/memory.h"
#include "text/draft_batch.h"

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

static side open_level(const checkpoint *c, device_kind kind, bool exact, tensor_type kv,
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

static side open_side(const checkpoint *c, device_kind kind, bool exact, tensor_type kv)
{
    return open_level(c, kind, exact, kv, SIMD_AUTO);
}

static void close_side(side *s)
{
    assert_ok(kernels_status(s->k));
    assert_int_equal(cache_bytes_used(s->pool), 0);
    cache_pool_destroy(&s->pool);
    text_model_destroy(&s->m);
    kernels_destroy(&s->k);
}

static sequence *new_sequence(side *s)
{
    sequence *seq = NULL;
    assert_ok(sequence_create(&seq, s->pool));
    return seq;
}

static float *room(side *s, int64_t n)
{
    void *p;
    assert_ok(kernels_alloc(&p, s->k, (size_t)n * sizeof(float), "a test's numbers"));
    return p;
}

// ---- cases ----

static void load(golden_case *g, const checkpoint *c, const char *model, const char *name)
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

static float *send(side *s, const float *host, int64_t n)
{
    if (!host) return NULL;
    float *p = room(s, n);
    kernels_write(s->k, p, host, (size_t)n * sizeof *p);
    return p;
}

// The case with its features where the side's ops read them.
static golden_case on_side(side *s, const golden_case *g)
{
    const int64_t n = g->tokens * s->config->text.hidden;
    golden_case to = *g;
    to.features = send(s, g->features, n);
    for (int i = 0; i < CONFIG_MAX_DEEPSTACK; i++) to.deepstack[i] = send(s, g->deepstack[i], n);
    return to;
}

static void off_side(side *s, golden_case *g)
{
    kernels_free(s->k, g->features);
    for (int i = 0; i < CONFIG_MAX_DEEPSTACK; i++) kernels_free(s->k, g->deepstack[i]);
}

// Reads rows first .. first + n - 1; logits [n, vocab] and hidden (of the side) may be NULL.
static void read_rows(side *s, const golden_case *g, sequence *seq, int32_t first, int32_t n,
                      float *logits, float *hidden)
{
    golden_read(s->m, &s->config->text, g, seq, first, n, logits, hidden);
}

static void read_all(side *s, const golden_case *g, sequence *seq, int32_t piece, float *logits,
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

static void decode(side *s, sequence *seq, int32_t id, int32_t position, float *logits)
{
    golden_decode(s->m, seq, id, position, logits);
}

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

// A case on both sides.
typedef struct both {
    checkpoint *c;
    golden_case g;
    side cpu, gpu;
    golden_case on; // the GPU's
    int64_t vocab;
    float *want, *got; // [n, vocab]
} both;

static both open_both(const char *model, const char *name, bool exact, tensor_type kv)
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

static void close_both(both *b)
{
    off_side(&b->gpu, &b->on);
    close_side(&b->gpu);
    close_side(&b->cpu);
    golden_free(&b->g);
    checkpoint_close(&b->c);
    free(b->want);
    free(b->got);
}

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
        cmocka_unit_test(reference),     cmocka_unit_test(pieces),
        cmocka_unit_test(caches),        cmocka_unit_test(bf16_products),
        cmocka_unit_test(several_sequences), cmocka_unit_test(forks),
        cmocka_unit_test(rewinds),       cmocka_unit_test(drafts),
        cmocka_unit_test(answers_together),
        cmocka_unit_test(graphs), cmocka_unit_test(launches_of_a_token),        cmocka_unit_test(budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
