// kv_write, causal attention over pages and attention inside spans: every level against plain C,
// plain C against double.
#include "kernels/errors.h"
#include "kernels/levels.h"
#include "kernels/tensor.h"

// ---- pages ----

typedef struct paged {
    kv_view kv;
    void **pages;
    int64_t n_pages;
} paged;

static paged paged_new(tensor_type type, int64_t tokens, int32_t page_rows, int64_t G, int64_t C)
{
    paged p = {{NULL, 0, type, page_rows}, NULL, (tokens + page_rows - 1) / page_rows};
    p.pages = calloc((size_t)p.n_pages, sizeof *p.pages);
    assert_non_null(p.pages);
    const size_t bytes = (size_t)kv_page_bytes(type, page_rows, G, C);
    for (int64_t i = 0; i < p.n_pages; i++) {
        p.pages[i] = malloc(bytes);
        assert_non_null(p.pages[i]);
        memset(p.pages[i], 0xff, bytes); // NaN: unwritten rows must not be read into results
    }
    p.kv.blocks = p.pages;
    return p;
}

static void paged_free(paged *p)
{
    for (int64_t i = 0; i < p->n_pages; i++) free(p->pages[i]);
    free(p->pages);
}

static double stored(const paged *p, int part, int64_t t, int64_t g, int64_t c, int64_t G,
                     int64_t C)
{
    const int64_t rows = p->kv.page_rows;
    const int64_t at = ((part * G + g) * rows + t % rows) * C + c;
    const void *page = p->pages[t / rows];
    if (p->kv.type == TENSOR_I8) {
        const void *scales = (const char *)page + kv_scales_at(rows, G, C);
        return (double)((const int8_t *)page)[at] *
               ((const float *)scales)[at / C * kv_groups(C) + c / KV_GROUP];
    }
    return p->kv.type == TENSOR_BF16 ? bf16_to_f32(((const uint16_t *)page)[at])
                                     : ((const float *)page)[at];
}

static void kv_write_rounds_and_places(void **state)
{
    const levels *l = *state;
    enum { T = 70, G = 3, C = 37, PAST = 5 };
    test_random r = {8};
    float *k = guarded_normal(T * G * C, &r, 2), *v = guarded_normal(T * G * C, &r, 2);
    k[0] = INFINITY;
    k[1] = -0.0f;
    k[2] = 1.00390625f; // halfway between two bf16 values
    k[3] = 3.3999999e38f; // rounds to infinity
    k[4] = NAN;
    for (int type = TENSOR_F32; type <= TENSOR_BF16; type++) {
        for (int i = 0; i < l->n; i++) {
            paged p = paged_new((tensor_type)type, T + PAST, 16, G, C);
            op_kv_write(l->k[i], &p.kv, k, v, PAST, T, G, C);
            for (int64_t j = 0; j < T * G * C; j++) {
                const int64_t t = PAST + j / (G * C), g = j / C % G, c = j % C;
                for (int part = 0; part < 2; part++) {
                    float x = part ? v[j] : k[j];
                    if (type == TENSOR_BF16) x = bf16_to_f32(f32_to_bf16(x));
                    const double got = stored(&p, part, t, g, c, G, C);
                    assert_true(got == x || (isnan(x) && isnan(got)));
                }
            }
            paged_free(&p);
        }
    }
    guarded_free(k);
    guarded_free(v);
}

// Each group's largest becomes 127, the others are off by half a step at most, and no page but those
// written to changes.
static void kv_write_makes_bytes(void **state)
{
    const levels *l = *state;
    enum { T = 21, G = 2, C = 150, PAST = 3 };
    test_random r = {80};
    float *k = guarded_normal(T * G * C, &r, 2), *v = guarded_normal(T * G * C, &r, 0.01f);
    memset(k, 0, 70 * sizeof *k); // a group of zeros
    k[C] = NAN;
    v[C + 64] = INFINITY;
    paged first = paged_new(TENSOR_I8, T + PAST, 16, G, C);
    op_kv_write(l->k[0], &first.kv, k, v, PAST, T, G, C);
    for (int64_t j = 0; j < T * G * C; j++) {
        const int64_t t = PAST + j / (G * C), g = j / C % G, c = j % C;
        for (int part = 0; part < 2; part++) {
            const float *x = part ? v : k, *group = x + j - c % KV_GROUP;
            float most = 0;
            for (int i = 0; i < KV_GROUP && c - c % KV_GROUP + i < C; i++) {
                if (!isfinite(group[i])) most = INFINITY;
                most = fmaxf(most, fabsf(group[i]));
            }
            const double got = stored(&first, part, t, g, c, G, C);
            if (!isfinite(most)) assert_true(got == 0);
            else assert_true(fabs(got - x[j]) <= most / 127 * 0.5001);
            if (fabsf(x[j]) == most) assert_float_equal(got, x[j], 1e-6 * most);
        }
    }
    for (int i = 1; i < l->n; i++) {
        paged p = paged_new(TENSOR_I8, T + PAST, 16, G, C);
        op_kv_write(l->k[i], &p.kv, k, v, PAST, T, G, C);
        for (int64_t n = 0; n < p.n_pages; n++) {
            assert_memory_equal(p.pages[n], first.pages[n], (size_t)kv_page_bytes(TENSOR_I8, 16, G, C));
        }
        paged_free(&p);
    }
    paged_free(&first);
    guarded_free(k);
    guarded_free(v);
}

// ---- causal ----

typedef struct causal_case {
    int64_t S, H, G, C;
    const int64_t *n, *past; // [S]
    float scale;
    paged pages[4];
    float *q; // all sequences' rows, one after another
    int64_t rows;
    double *reference;
} causal_case;

// bf16: as bf16 arithmetic at its best, with queries and weights rounded.
static void causal_formula(const causal_case *c, double *out, bool bf16)
{
    const float *q = c->q;
    for (int64_t s = 0; s < c->S; s++) {
        for (int64_t i = 0; i < c->n[s] * c->H; i++, q += c->C, out += c->C) {
            const int64_t keys = c->past[s] + i / c->H + 1, g = i % c->H / (c->H / c->G);
            double *score = doubles(keys), largest = -INFINITY, sum = 0;
            for (int64_t t = 0; t < keys; t++) {
                for (int64_t d = 0; d < c->C; d++) {
                    score[t] += (bf16 ? bf16_of(q[d]) : q[d]) *
                                stored(&c->pages[s], 0, t, g, d, c->G, c->C);
                }
                score[t] *= c->scale;
                largest = fmax(largest, score[t]);
            }
            for (int64_t t = 0; t < keys; t++) {
                score[t] = exp(score[t] - largest);
                if (bf16) score[t] = bf16_of(score[t]);
                sum += score[t];
            }
            for (int64_t t = 0; t < keys; t++) {
                for (int64_t d = 0; d < c->C; d++) {
                    out[d] += score[t] / sum * stored(&c->pages[s], 1, t, g, d, c->G, c->C);
                }
            }
            free(score);
        }
    }
}

static causal_case causal_new(tensor_type type, int64_t S, const int64_t *n, const int64_t *past,
                              int64_t H, int64_t G, int64_t C, int32_t page_rows, float spread,
                              kernels *writer)
{
    causal_case c = {.S = S, .H = H, .G = G, .C = C, .n = n, .past = past};
    c.scale = 1 / sqrtf((float)C);
    test_random r = {(uint64_t)(H * 31 + C * 7 + n[0] + past[0] + 1)};
    for (int64_t s = 0; s < S; s++) {
        const int64_t tokens = past[s] + n[s];
        c.rows += n[s];
        c.pages[s] = paged_new(type, tokens, page_rows, G, C);
        float *k = guarded_normal(tokens * G * C, &r, 1), *v = guarded_normal(tokens * G * C, &r, 1);
        op_kv_write(writer, &c.pages[s].kv, k, v, 0, tokens, G, C);
        guarded_free(k);
        guarded_free(v);
    }
    c.q = guarded_normal(c.rows * H * C, &r, spread);
    c.reference = doubles(c.rows * H * C);
    causal_formula(&c, c.reference, false);
    return c;
}

static void causal_free(causal_case *c)
{
    for (int64_t s = 0; s < c->S; s++) paged_free(&c->pages[s]);
    guarded_free(c->q);
    free(c->reference);
}

static float *causal_run(const causal_case *c, kernels *k)
{
    attention_seq seqs[4];
    float *out = guarded(c->rows * c->H * c->C);
    int64_t row = 0;
    for (int64_t s = 0; s < c->S; s++) {
        const int64_t at = row * c->H * c->C;
        seqs[s] = (attention_seq){c->q + at, out + at, c->n[s], c->past[s], c->pages[s].kv};
        row += c->n[s];
    }
    op_attention(k, seqs, c->S, c->H, c->G, c->C, c->scale);
    return out;
}

static void causal_levels(const levels *l, const causal_case *c, const char *what)
{
    const int64_t n = c->rows * c->H * c->C;
    float *plain = causal_run(c, l->k[0]), *last = NULL;
    // the scores' rounding, C terms of size up to 8, moves the weights by as much
    const double bound = (double)(c->C + 64) * FLT_EPSILON * 4 * largest_of(c->reference, n);
    for (int i = 0; i < l->n; i++) {
        guarded_free(last);
        last = causal_run(c, l->k[i]);
        check_level(l, i, last, plain, c->reference, n, bound, what);
    }
    float *single = causal_run(c, l->single);
    assert_memory_equal(single, last, (size_t)n * sizeof *single);
    guarded_free(single);
    guarded_free(last);
    guarded_free(plain);
}

static void causal_agrees(void **state)
{
    const levels *l = *state;
    static const struct {
        int64_t S, n[3], past[3], H, G, C;
        int32_t page_rows;
    } cases[] = {
        {1, {1}, {0}, 2, 1, 16, 16},           {1, {1}, {77}, 8, 2, 256, 32},
        {1, {1}, {1300}, 4, 1, 64, 64},        {1, {4}, {600}, 8, 2, 128, 16},
        {1, {5}, {3}, 6, 3, 33, 5},            {1, {67}, {0}, 4, 2, 40, 16},
        {1, {33}, {130}, 8, 2, 256, 32},       {1, {130}, {257}, 3, 1, 72, 100},
        {3, {1, 20, 1}, {500, 0, 9}, 4, 2, 64, 64}, {2, {1, 1}, {4, 2100}, 16, 4, 256, 128},
        {1, {9}, {700}, 7, 1, 80, 48},         {1, {16}, {100}, 24, 1, 64, 16},
        {1, {3}, {300}, 1, 1, 1, 7},           {1, {50}, {10}, 20, 2, 8, 9},
    };
    static const tensor_type types[] = {TENSOR_F32, TENSOR_BF16, TENSOR_I8};
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        char what[80];
        snprintf(what, sizeof what, "attention case %d, type %d", (int)i / 2, (int)i % 3);
        causal_case c = causal_new(types[i % 3], cases[i / 2].S, cases[i / 2].n, cases[i / 2].past,
                                   cases[i / 2].H, cases[i / 2].G, cases[i / 2].C,
                                   cases[i / 2].page_rows, 2, l->k[0]);
        causal_levels(l, &c, what);
        causal_free(&c);
    }
}

// Scores of hundreds: one key takes all the weight, nothing overflows.
static void sharp_scores_stay_finite(void **state)
{
    const levels *l = *state;
    const int64_t n[] = {20}, past[] = {300};
    causal_case c = causal_new(TENSOR_F32, 1, n, past, 4, 2, 64, 16, 300, l->k[0]);
    for (int i = 0; i < l->n; i++) {
        float *out = causal_run(&c, l->k[i]);
        // scores near 1,000 round by 6e-5, and so do weights of near-ties
        assert_true(largest_error(out, c.reference, c.rows * 4 * 64) < 2e-3);
        guarded_free(out);
    }
    causal_free(&c);
}

// A prompt cut in pieces gives what it gives at once, up to rounding.
static void pieces_give_the_whole(void **state)
{
    const levels *l = *state;
    const int64_t n[] = {150}, past[] = {0}, H = 4, C = 48;
    static const int64_t cuts[] = {0, 64, 65, 70, 149, 150};
    causal_case c = causal_new(TENSOR_BF16, 1, n, past, H, 2, C, 32, 1, l->k[0]);
    for (int i = 0; i < l->n; i++) {
        float *whole = causal_run(&c, l->k[i]), *out = guarded(150 * H * C);
        for (int j = 0; j < 5; j++) {
            const int64_t at = cuts[j] * H * C;
            const attention_seq seq = {c.q + at, out + at, cuts[j + 1] - cuts[j], cuts[j],
                                       c.pages[0].kv};
            op_attention(l->k[i], &seq, 1, H, 2, C, c.scale);
        }
        check_guards(out, 150 * H * C, "pieces");
        for (int64_t j = 0; j < 150 * H * C; j++) assert_float_equal(out[j], whole[j], 4e-6);
        guarded_free(whole);
        guarded_free(out);
    }
    causal_free(&c);
}

// Kernels that need not be exact are nowhere worse than bf16 arithmetic at its best.
static void fast_causal_beats_bf16(void **state)
{
    const levels *l = *state;
    static const int64_t ns[] = {70, 9, 33}, pasts[] = {0, 1500, 200}, shapes[][3] = {
        {8, 2, 256}, {4, 2, 64}, {6, 1, 40}};
    static const tensor_type types[] = {TENSOR_F32, TENSOR_BF16, TENSOR_I8};
    const kernels_options options = {.threads = 3};
    kernels *k = NULL;
    assert_ok(kernels_create(&k, &options));
    for (int i = 0; i < 9; i++) {
        const int64_t *shape = shapes[i / 3];
        causal_case c = causal_new(types[i % 3], 1, &ns[i / 3], &pasts[i / 3], shape[0], shape[1],
                                   shape[2], 64, i % 2 ? 5 : 1, l->k[0]);
        const int64_t n = c.rows * c.H * c.C;
        double *bf16 = doubles(n), *wide = doubles(n);
        causal_formula(&c, bf16, true);
        const error_size allowed = error_of(bf16, c.reference, n);
        float *out = causal_run(&c, k);
        check_guards(out, n, "fast causal");
        for (int64_t j = 0; j < n; j++) wide[j] = out[j];
        const error_size e = error_of(wide, c.reference, n);
        if (!(e.rms <= allowed.rms && e.largest <= allowed.largest)) {
            fail_msg("case %d: off by %g, at most %g; bf16 by %g, at most %g", i, e.rms, e.largest,
                     allowed.rms, allowed.largest);
        }
        guarded_free(out);
        free(bf16);
        free(wide);
        causal_free(&c);
    }
    kernels_destroy(&k);
}

// Rows of a step of few give the bits that they give one at a time: drafts being checked give what
// decoding gives, over chunk and page borders too.
static void few_rows_are_each_alone(void **state)
{
    const levels *l = *state;
    static const int64_t pasts[] = {0, 30, 61, 508, 1023, 16380};
    enum { N = 7, H = 4, G = 2, C = 20 };
    for (int i = 0; i < 6; i++) {
        const int64_t n[] = {N};
        if (l->n == 1) return; // plain has one way only
        causal_case c = causal_new(i % 2 ? TENSOR_BF16 : TENSOR_I8, 1, n, &pasts[i], H, G, C, 64, 1,
                                   l->k[l->n - 1]);
        for (int level = 1; level < l->n; level++) {
            float *together = causal_run(&c, l->k[level]), *alone = guarded(N * H * C);
            for (int64_t row = 0; row < N; row++) {
                const attention_seq one = {c.q + row * H * C, alone + row * H * C, 1,
                                           pasts[i] + row, c.pages[0].kv};
                op_attention(l->k[level], &one, 1, H, G, C, c.scale);
            }
            assert_memory_equal(together, alone, N * H * C * sizeof *alone);
            guarded_free(together);
            guarded_free(alone);
        }
        causal_free(&c);
    }
}

// More sequences than the shared scratch holds the parts of, each of many chunks.
static void many_sequences_are_each_alone(void **state)
{
    const levels *l = *state;
    enum { S = 40, N = 2, H = 8, G = 2, C = 256, PAST = 8190, PAGE = 512 };
    kernels *k = l->k[l->n - 1];
    if (l->n == 1) return; // plain cuts nothing, and would take long
    test_random r = {5};
    paged p = paged_new(TENSOR_BF16, PAST + N, PAGE, G, C);
    float *kv = guarded_normal((int64_t)PAGE * G * C, &r, 1);
    for (int64_t t = 0; t < PAST + N; t += PAGE) {
        op_kv_write(k, &p.kv, kv, kv, t, PAST + N - t < PAGE ? PAST + N - t : PAGE, G, C);
    }
    float *q = guarded_normal(S * N * H * C, &r, 1);
    float *together = guarded(S * N * H * C), *alone = guarded(S * N * H * C);
    attention_seq seqs[S];
    for (int64_t s = 0; s < S; s++) {
        const int64_t at = s * N * H * C;
        seqs[s] = (attention_seq){q + at, alone + at, N, PAST, p.kv};
        op_attention(k, &seqs[s], 1, H, G, C, 0.0625f);
        seqs[s].out = together + at;
    }
    op_attention(k, seqs, S, H, G, C, 0.0625f);
    check_guards(together, S * N * H * C, "many sequences");
    assert_memory_equal(together, alone, (size_t)(S * N * H * C) * sizeof *alone);
    float *const all[] = {kv, q, together, alone};
    for (int i = 0; i < 4; i++) guarded_free(all[i]);
    paged_free(&p);
}

// ---- spans ----

typedef struct spans_case {
    int64_t spans, span, H, C;
    float scale;
    float *qkv;
    double *reference;
} spans_case;

// bf16: weights are rounded too.
static void spans_formula(const spans_case *c, const float *qkv, double *reference, bool bf16)
{
    const int64_t D = c->H * c->C;
    double *score = doubles(c->span);
    for (int64_t i = 0; i < c->spans * c->span * c->H; i++) {
        const int64_t row = i / c->H, h = i % c->H, first = row / c->span * c->span;
        const float *q = qkv + row * 3 * D + h * c->C;
        const float *keys = qkv + first * 3 * D + D + h * c->C;
        double *out = reference + i * c->C, largest = -INFINITY, sum = 0;
        for (int64_t t = 0; t < c->span; t++) {
            score[t] = 0;
            for (int64_t d = 0; d < c->C; d++) score[t] += (double)q[d] * keys[t * 3 * D + d];
            score[t] *= c->scale;
            largest = fmax(largest, score[t]);
        }
        for (int64_t t = 0; t < c->span; t++) {
            score[t] = exp(score[t] - largest);
            if (bf16) score[t] = bf16_of(score[t]);
            sum += score[t];
        }
        for (int64_t t = 0; t < c->span; t++) {
            for (int64_t d = 0; d < c->C; d++) out[d] += score[t] / sum * keys[t * 3 * D + D + d];
        }
    }
    free(score);
}

static void spans_reference(const spans_case *c)
{
    spans_formula(c, c->qkv, c->reference, false);
}

static float *spans_run(const spans_case *c, kernels *k)
{
    float *out = guarded(c->spans * c->span * c->H * c->C);
    op_attention_spans(k, out, c->qkv, c->spans, c->span, c->H, c->C, c->scale);
    return out;
}

static void spans_agree(void **state)
{
    const levels *l = *state;
    static const int64_t shapes[][4] = {{1, 1, 1, 16},  {3, 4, 2, 16},   {2, 64, 3, 64},
                                        {1, 333, 2, 64}, {2, 65, 2, 72},  {1, 200, 2, 80},
                                        {5, 16, 4, 72}, {1, 97, 1, 33},  {1, 1200, 1, 64},
                                        {2, 130, 1, 128}, {7, 6, 2, 5}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int64_t *s = shapes[i];
        spans_case c = {.spans = s[0], .span = s[1], .H = s[2], .C = s[3]};
        const int64_t n = c.spans * c.span * c.H * c.C;
        test_random r = {1000 + i};
        c.scale = 1 / sqrtf((float)c.C);
        c.qkv = guarded_normal(3 * n, &r, i % 2 ? 3 : 1);
        c.reference = doubles(n);
        spans_reference(&c);
        const double bound = (double)(c.C + 64) * FLT_EPSILON * 16 * largest_of(c.reference, n);
        float *plain = spans_run(&c, l->k[0]), *last = NULL;
        for (int j = 0; j < l->n; j++) {
            guarded_free(last);
            last = spans_run(&c, l->k[j]);
            check_level(l, j, last, plain, c.reference, n, bound, "attention_spans");
        }
        float *single = spans_run(&c, l->single);
        assert_memory_equal(single, last, (size_t)n * sizeof *single);
        guarded_free(single);
        guarded_free(last);
        guarded_free(plain);
        guarded_free(c.qkv);
        free(c.reference);
    }
}

// ---- whole numbers: what kernels that need not be exact may do ----

typedef enum inputs { PLAIN_INPUTS, PEAKED, OUTLIERS, BIG_TOKENS, N_INPUTS } inputs;

// PEAKED: few keys take all the weight. OUTLIERS: some components of keys and values are far larger,
// and shifted. BIG_TOKENS: some rows are far larger than the others.
static void shape_inputs(float *qkv, inputs how, int64_t rows, int64_t H, int64_t C)
{
    const int64_t D = H * C;
    for (int64_t i = 0; i < rows * 3 * D; i++) {
        const int64_t row = i / (3 * D), part = i / D % 3, c = i % C;
        if (how == PEAKED && part == 0) qkv[i] *= 5;
        if (how == OUTLIERS && part == 1 && c % 16 == 3) qkv[i] = 6 * qkv[i] + 12;
        if (how == OUTLIERS && part == 2 && c % 20 == 7) qkv[i] = 10 * qkv[i] - 15;
        if (how == BIG_TOKENS && part > 0 && row % 50 == 7) qkv[i] *= part == 1 ? 3 : 8;
    }
}

// The same inputs in bf16 arithmetic at its best: q, k, v and the weights are rounded, and nothing
// else is.
static error_size spans_of_bf16(const spans_case *c, int64_t n)
{
    float *rounded = guarded_copy(c->qkv, 3 * n);
    for (int64_t i = 0; i < 3 * n; i++) rounded[i] = bf16_to_f32(f32_to_bf16(rounded[i]));
    double *out = doubles(n);
    spans_formula(c, rounded, out, true);
    const error_size e = error_of(out, c->reference, n);
    guarded_free(rounded);
    free(out);
    return e;
}

// Kernels that need not be exact are nowhere worse than bf16 arithmetic at its best.
static void fast_spans_beat_bf16(void **state)
{
    (void)state;
    static const int64_t shapes[][4] = {{1, 400, 1, 64}, {2, 200, 1, 72}, {3, 61, 2, 80},
                                        {1, 233, 1, 33}, {1, 129, 1, 128}};
    const kernels_options options[] = {{.threads = 3}, {.threads = 1}};
    kernels *k[2];
    for (int i = 0; i < 2; i++) assert_ok(kernels_create(&k[i], &options[i]));
    for (int i = 0; i < 5 * N_INPUTS; i++) {
        const int64_t *s = shapes[i / N_INPUTS];
        spans_case c = {.spans = s[0], .span = s[1], .H = s[2], .C = s[3]};
        const int64_t n = c.spans * c.span * c.H * c.C;
        test_random r = {2000 + (uint64_t)i};
        c.scale = 1 / sqrtf((float)c.C);
        c.qkv = guarded_normal(3 * n, &r, 1);
        shape_inputs(c.qkv, i % N_INPUTS, c.spans * c.span, c.H, c.C);
        c.reference = doubles(n);
        spans_reference(&c);
        const error_size allowed = spans_of_bf16(&c, n);
        float *out = spans_run(&c, k[0]), *single = spans_run(&c, k[1]);
        check_guards(out, n, "fast spans");
        assert_memory_equal(out, single, (size_t)n * sizeof *out);
        double *wide = doubles(n);
        for (int64_t j = 0; j < n; j++) wide[j] = out[j];
        const error_size e = error_of(wide, c.reference, n);
        if (!(e.rms <= allowed.rms && e.largest <= allowed.largest)) {
            fail_msg("shape %d, inputs %d: off by %g, at most %g; bf16 by %g, at most %g",
                     i / N_INPUTS, i % N_INPUTS, e.rms, e.largest, allowed.rms, allowed.largest);
        }
        free(wide);
        free(c.reference);
        guarded_free(out);
        guarded_free(single);
        guarded_free(c.qkv);
    }
    for (int i = 0; i < 2; i++) kernels_destroy(&k[i]);
}

// A span whose keys and values do not fit the shared scratch; a few rows are checked.
static void a_span_too_long_to_pack(void **state)
{
    const levels *l = *state;
    enum { SPAN = 1030, C = 2048 };
    test_random r = {6};
    float *qkv = guarded_normal((int64_t)SPAN * 3 * C, &r, 1);
    static double score[SPAN], row[C];
    for (int i = 1; i < l->n; i++) { // plain would take long
        float *out = guarded((int64_t)SPAN * C);
        op_attention_spans(l->k[i], out, qkv, 1, SPAN, 1, C, 0.02f);
        check_guards(out, (int64_t)SPAN * C, "long span");
        for (int64_t n = 0; n < SPAN; n += 147) {
            double sum = 0;
            for (int64_t t = 0; t < SPAN; t++) {
                score[t] = 0;
                for (int64_t c = 0; c < C; c++) {
                    score[t] += (double)qkv[n * 3 * C + c] * qkv[t * 3 * C + C + c];
                }
                sum += score[t] = exp(score[t] * 0.02f);
            }
            memset(row, 0, sizeof row);
            for (int64_t t = 0; t < SPAN; t++) {
                const float *value = qkv + t * 3 * C + 2 * C;
                for (int64_t c = 0; c < C; c++) row[c] += score[t] / sum * value[c];
            }
            assert_true(largest_error(out + n * C, row, C) < 1e-6);
        }
        guarded_free(out);
    }
    guarded_free(qkv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kv_write_rounds_and_places), cmocka_unit_test(kv_write_makes_bytes),
        cmocka_unit_test(causal_agrees),
        cmocka_unit_test(sharp_scores_stay_finite),   cmocka_unit_test(pieces_give_the_whole),
        cmocka_unit_test(fast_causal_beats_bf16),
        cmocka_unit_test(few_rows_are_each_alone),
        cmocka_unit_test(many_sequences_are_each_alone),
        cmocka_unit_test(spans_agree),
        cmocka_unit_test(fast_spans_beat_bf16),
        cmocka_unit_test(a_span_too_long_to_pack),
    };
    return cmocka_run_group_tests(tests, levels_open, levels_close);
}
