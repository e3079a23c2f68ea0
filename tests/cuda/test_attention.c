// kv_write, causal attention over pages and attention inside spans on a GPU: exact results against
// plain C, fast ones against double, where they may be off by what rounding in their precision
// gives.
#include "cuda/pages.h"

#include "kernels/errors.h"
#include "kernels/tensor.h"

#define MOST_SEQS 4

static double stored(const paged *p, int part, int64_t t, int64_t g, int64_t c)
{
    const int64_t rows = p->plain.page_rows, row = (part * p->G + g) * rows + t % rows;
    const void *page = (const char *)p->pages[t / rows] + BLOCK_OFFSET;
    const int64_t at = row * p->C + c;
    if (p->plain.type == TENSOR_BF16) return (double)bf16_to_f32(((const uint16_t *)page)[at]);
    if (p->plain.type == TENSOR_F32) return (double)((const float *)page)[at];
    const void *scales = (const char *)page + kv_scales_at(rows, p->G, p->C);
    const float scale = ((const float *)scales)[row * kv_groups(p->C) + c / KV_GROUP];
    return (double)((const int8_t *)page)[at] * (double)scale;
}

static void kv_write_gives_the_same_bytes(void **state)
{
    const sides *s = &((rig *)*state)->exact;
    static const struct {
        int64_t past, n, G, C;
        int32_t page_rows;
    } cases[] = {{0, 1, 2, 256, 64}, {5, 70, 3, 37, 16}, {63, 2, 1, 64, 64},
                 {3, 21, 2, 150, 16}, {0, 9, 1, 1, 5},   {100, 33, 2, 72, 32}};
    static const tensor_type types[] = {TENSOR_F32, TENSOR_BF16, TENSOR_I8};
    for (size_t i = 0; i < 3 * sizeof cases / sizeof *cases; i++) {
        const int64_t past = cases[i / 3].past, n = cases[i / 3].n;
        const int64_t G = cases[i / 3].G, C = cases[i / 3].C;
        paged p = paged_new(s, types[i % 3], past + n, cases[i / 3].page_rows, G, C);
        pair k = pair_normal(s, n * G * C, 2, 8 + i, 1);
        pair v = pair_normal(s, n * G * C, 0.01f, 90 + i, 0);
        static const float odd[] = {INFINITY, -0.0f, 1.00390625f, 3.3999999e38f, 1e-31f};
        for (int64_t j = 0; j < 5 && j * 31 < n * G * C; j++) k.plain[j * 31] = odd[j];
        for (int64_t j = 64; j < 140 && j < n * G * C; j++) v.plain[j] = 0; // a group of zeros
        if (n * G * C > 300) v.plain[300] = NAN;
        pair_send(&k), pair_send(&v);
        paged_write(&p, &k, &v, past, n);
        paged_check(&p);
        pair_free(&k), pair_free(&v);
        paged_free(&p);
    }
}

// Sequences of different lengths, their rows in one array in another order.
static void kv_write_many_writes_each(void **state)
{
    const sides *s = &((rig *)*state)->exact;
    enum { S = 3, N = 13, G = 2, C = 72 };
    static const int64_t first[S] = {4, 0, 5}, n[S] = {1, 4, 8}, past[S] = {0, 14, 30};
    for (int type = 0; type < 3; type++) {
        static const tensor_type types[] = {TENSOR_F32, TENSOR_BF16, TENSOR_I8};
        pair k = pair_normal(s, N * G * C, 2, 5, 0), v = pair_normal(s, N * G * C, 3, 6, 1);
        paged pages[S];
        kv_rows plain[S], device[S];
        for (int i = 0; i < S; i++) {
            pages[i] = paged_new(s, types[type], past[i] + n[i], 16, G, C);
            pages[i].plain.blocks = pages[i].pages;
            plain[i] = (kv_rows){pages[i].plain, first[i], n[i], past[i]};
            device[i] = (kv_rows){pages[i].device, first[i], n[i], past[i]};
        }
        op_kv_write_many(s->cpu, plain, S, k.plain, v.plain, G, C);
        op_kv_write_many(s->gpu, device, S, k.device, v.device, G, C);
        for (int i = 0; i < S; i++) {
            paged_check(&pages[i]);
            paged_free(&pages[i]);
        }
        pair_free(&k), pair_free(&v);
    }
}

// ---- causal ----

typedef struct causal {
    const sides *s;
    int64_t S, H, G, C, rows;
    const int64_t *n, *past; // [S]
    float scale;
    paged pages[MOST_SEQS];
    pair q, out; // all sequences' rows, one after another
} causal;

static causal causal_new(const sides *s, tensor_type type, int64_t S, const int64_t *n,
                         const int64_t *past, int64_t H, int64_t G, int64_t C, int32_t page_rows,
                         float spread)
{
    causal c = {.s = s, .S = S, .H = H, .G = G, .C = C, .n = n, .past = past};
    c.scale = 1 / sqrtf((float)C);
    const uint64_t seed = (uint64_t)(H * 31 + C * 7 + n[0] + past[0] + 1);
    for (int64_t i = 0; i < S; i++) {
        const int64_t tokens = past[i] + n[i];
        c.rows += n[i];
        c.pages[i] = paged_new(s, type, tokens, page_rows, G, C);
        pair k = pair_normal(s, tokens * G * C, 1, seed + (uint64_t)i, 0);
        pair v = pair_normal(s, tokens * G * C, 1, seed + 50 + (uint64_t)i, 0);
        paged_write(&c.pages[i], &k, &v, 0, tokens);
        paged_check(&c.pages[i]);
        pair_free(&k), pair_free(&v);
    }
    c.q = pair_normal(s, c.rows * H * C, spread, seed + 99, 0);
    c.out = pair_room(s, c.rows * H * C, 0);
    return c;
}

static void causal_free(causal *c)
{
    for (int64_t i = 0; i < c->S; i++) paged_free(&c->pages[i]);
    pair_free(&c->q), pair_free(&c->out);
}

static void causal_run(causal *c, bool device)
{
    attention_seq seqs[MOST_SEQS];
    int64_t row = 0;
    for (int64_t i = 0; i < c->S; i++) {
        const int64_t at = row * c->H * c->C;
        c->pages[i].plain.blocks = c->pages[i].pages;
        seqs[i] = (attention_seq){(device ? c->q.device : c->q.plain) + at,
                                  (device ? c->out.device : c->out.plain) + at, c->n[i], c->past[i],
                                  device ? c->pages[i].device : c->pages[i].plain};
        row += c->n[i];
    }
    op_attention(device ? c->s->gpu : c->s->cpu, seqs, c->S, c->H, c->G, c->C, c->scale);
}

// In double; bf16: with queries, keys, values and weights rounded, everything else exact.
static void causal_formula(causal *c, double *out, bool bf16)
{
    const float *q = c->q.plain;
    double *score = malloc(4096 * sizeof *score);
    assert_non_null(score);
    for (int64_t s = 0; s < c->S; s++) {
        for (int64_t i = 0; i < c->n[s] * c->H; i++, q += c->C, out += c->C) {
            const int64_t keys = c->past[s] + i / c->H + 1, g = i % c->H / (c->H / c->G);
            double largest = -INFINITY, sum = 0;
            assert_true(keys <= 4096);
            for (int64_t t = 0; t < keys; t++) {
                score[t] = 0;
                for (int64_t d = 0; d < c->C; d++) {
                    const double k = stored(&c->pages[s], 0, t, g, d);
                    score[t] += bf16 ? bf16_of((double)q[d]) * bf16_of(k) : (double)q[d] * k;
                }
                score[t] *= (double)c->scale;
                largest = fmax(largest, score[t]);
            }
            for (int64_t d = 0; d < c->C; d++) out[d] = 0;
            for (int64_t t = 0; t < keys; t++) {
                score[t] = exp(score[t] - largest);
                sum += score[t];
                if (bf16) score[t] = bf16_of(score[t]);
                for (int64_t d = 0; d < c->C; d++) {
                    const double v = stored(&c->pages[s], 1, t, g, d);
                    out[d] += score[t] * (bf16 ? bf16_of(v) : v);
                }
            }
            for (int64_t d = 0; d < c->C; d++) out[d] /= sum;
        }
    }
    free(score);
}

// ---- errors ----

static double *doubles(int64_t n)
{
    double *p = malloc((size_t)n * sizeof *p);
    assert_non_null(p);
    return p;
}

static double *device_numbers(const pair *p)
{
    float *got = malloc((size_t)p->n * sizeof *got);
    double *wide = doubles(p->n);
    assert_non_null(got);
    assert_ok(kernels_read(p->s->gpu, got, p->device, (size_t)p->n * sizeof *got));
    for (int64_t i = 0; i < p->n; i++) wide[i] = (double)got[i];
    free(got);
    return wide;
}

// The device's numbers are off by at most twice what bf16 gives, divided by `finer`, and what plain
// C is off by.
static void check_errors(const pair *out, const double *reference, const double *bf16, double finer,
                         const char *what)
{
    double *plain = doubles(out->n), *got = device_numbers(out), most = 0;
    for (int64_t i = 0; i < out->n; i++) {
        plain[i] = (double)out->plain[i];
        most = fmax(most, fabs(reference[i]));
    }
    const error_size p = error_of(plain, reference, out->n), b = error_of(bf16, reference, out->n);
    const error_size e = error_of(got, reference, out->n);
    const double noise = 4 * (double)FLT_EPSILON * most;
    const double rms = 2 * (b.rms / finer + p.rms) + noise;
    const double largest = 2 * (b.largest / finer + p.largest) + noise;
    if (!(e.rms <= rms && e.largest <= largest)) {
        fail_msg("%s: off by %g, at most %g; allowed %g, %g", what, e.rms, e.largest, rms, largest);
    }
    free(plain), free(got);
}

typedef struct causal_case {
    int64_t S, n[MOST_SEQS], past[MOST_SEQS], H, G, C;
    int32_t page_rows;
} causal_case;

static void causal_check(const sides *s, const causal_case *x, tensor_type type, double finer)
{
    char what[120];
    snprintf(what, sizeof what, "n %lld, past %lld, H %lld, G %lld, C %lld, type %d",
             (long long)x->n[0], (long long)x->past[0], (long long)x->H, (long long)x->G,
             (long long)x->C, (int)type);
    causal c = causal_new(s, type, x->S, x->n, x->past, x->H, x->G, x->C, x->page_rows, 2);
    double *reference = doubles(c.out.n), *bf16 = doubles(c.out.n);
    causal_formula(&c, reference, false);
    if (finer == 0) memcpy(bf16, reference, (size_t)c.out.n * sizeof *bf16), finer = 1;
    else causal_formula(&c, bf16, true);
    causal_run(&c, false);
    causal_run(&c, true);
    check_errors(&c.out, reference, bf16, finer, what);
    free(reference), free(bf16);
    causal_free(&c);
}

static const tensor_type kv_types[] = {TENSOR_BF16, TENSOR_I8, TENSOR_F32};

// Everything in float32, and shapes of which only the plain form can take any.
static void exact_causal_agrees(void **state)
{
    const rig *r = *state;
    static const causal_case cases[] = {
        {1, {1}, {0}, 2, 1, 8, 64}, {1, {2}, {63}, 4, 2, 256, 64}, {1, {5}, {300}, 4, 1, 64, 64},
        {1, {8}, {65}, 6, 3, 33, 5}, {1, {17}, {130}, 3, 1, 72, 100}, {1, {65}, {1}, 2, 2, 40, 16},
        {3, {1, 20, 2}, {200, 0, 9}, 4, 2, 32, 64}, {1, {3}, {30}, 1, 1, 1, 7},
        {1, {1}, {127}, 2, 1, 80, 64}, {1, {1}, {128}, 2, 1, 300, 64},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        causal_check(&r->exact, &cases[i], kv_types[i % 3], 0);
        if (cases[i].C != 64 && cases[i].C != 256) {
            causal_check(&r->fast, &cases[i], kv_types[(i + 1) % 3], 0);
        }
    }
}

// Queries and weights have 16 bits, 256 times as fine as bf16; keys and values theirs.
static void few_rows_agree(void **state)
{
    const sides *s = &((rig *)*state)->fast;
    static const causal_case cases[] = {
        {1, {1}, {0}, 2, 1, 64, 64}, {1, {1}, {1}, 4, 1, 256, 64}, {1, {2}, {63}, 8, 2, 128, 64},
        {1, {5}, {64}, 4, 1, 256, 64}, {1, {8}, {65}, 4, 2, 64, 128},
        {1, {8}, {300}, 6, 1, 128, 64}, {1, {1}, {1000}, 4, 2, 256, 64},
        {1, {3}, {1100}, 5, 1, 64, 64}, {1, {7}, {1022}, 16, 2, 64, 64},
        {4, {1, 2, 1, 8}, {500, 0, 31, 90}, 4, 2, 64, 64}, {1, {1}, {31}, 1, 1, 64, 64},
        {1, {1}, {32}, 17, 1, 128, 64}, {1, {8}, {20}, 8, 1, 64, 64},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        causal_check(s, &cases[i], TENSOR_BF16, 256);
        causal_check(s, &cases[i], TENSOR_I8, 256);
    }
    causal_check(s, &cases[4], TENSOR_F32, 0); // floats stay floats
}

static void many_rows_agree(void **state)
{
    const sides *s = &((rig *)*state)->fast;
    static const causal_case cases[] = {
        // the last two in blocks of 128 rows on the shim
        {1, {9}, {0}, 2, 1, 64, 64}, {1, {17}, {63}, 4, 1, 256, 64}, {1, {64}, {0}, 4, 2, 64, 64},
        {1, {65}, {64}, 2, 1, 128, 64}, {1, {100}, {65}, 3, 1, 64, 128},
        {1, {64}, {300}, 1, 1, 128, 64}, {1, {17}, {1000}, 2, 1, 256, 64},
        {1, {12}, {1025}, 6, 2, 64, 64}, {1, {63}, {1}, 5, 1, 64, 64},
        {4, {10, 70, 1, 33}, {500, 0, 30, 128}, 4, 2, 64, 64}, {1, {16}, {1520}, 4, 1, 64, 64},
        {1, {34}, {100}, 4, 4, 256, 64}, {1, {70}, {3}, 4, 2, 256, 64},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        causal_check(s, &cases[i], TENSOR_BF16, 1);
        causal_check(s, &cases[i], kv_types[1 + i % 2], 1);
    }
}

// Scores of hundreds: one key takes all the weight, nothing overflows.
static void sharp_scores_stay_finite(void **state)
{
    const rig *r = *state;
    static const int64_t ns[] = {3, 20}, pasts[] = {200, 100};
    for (int i = 0; i < 4; i++) {
        const sides *s = i / 2 ? &r->fast : &r->exact;
        causal c = causal_new(s, TENSOR_BF16, 1, &ns[i % 2], &pasts[i % 2], 2, 1, 64, 64, 300);
        double *reference = doubles(c.out.n), *got;
        causal_formula(&c, reference, i == 3);
        causal_run(&c, true);
        got = device_numbers(&c.out);
        const error_size e = error_of(got, reference, c.out.n);
        // scores near 1,000 round by 6e-5 (few rows cut queries at 2^-17: by 8e-3), and so do
        // weights of near-ties
        const double allowed = i == 2 ? 0.05 : 2e-3;
        if (!(e.largest <= (i == 3 ? 0.05 : allowed))) fail_msg("way %d: off by %g", i, e.largest);
        free(reference), free(got);
        causal_free(&c);
    }
}

// Rows of a step of few give the bits that they give one at a time, over borders of pages and
// chunks and of tiles of rows, and beside other sequences.
static void few_rows_are_each_alone(void **state)
{
    const sides *s = &((rig *)*state)->fast;
    static const int64_t pasts[] = {0, 25, 60, 1020, 2044};
    enum { N = 7, H = 8, G = 2 };
    for (int i = 0; i < 10; i++) {
        const int64_t n[] = {N, 1, 2}, past[] = {pasts[i / 2], 700 - pasts[i / 2] / 4, 5};
        const int64_t C = i % 3 ? 64 : 128;
        causal c = causal_new(s, i % 2 ? TENSOR_BF16 : TENSOR_I8, 3, n, past, H, G, C, 64, 1);
        causal_run(&c, true);
        double *together = device_numbers(&c.out);
        for (int64_t row = 0; row < N; row++) {
            const attention_seq one = {c.q.device + row * H * C, c.out.device + row * H * C, 1,
                                       past[0] + row, c.pages[0].device};
            op_attention(s->gpu, &one, 1, H, G, C, c.scale);
        }
        double *alone = device_numbers(&c.out);
        assert_memory_equal(together, alone, (size_t)(N * H * C) * sizeof *alone);
        free(together), free(alone);
        causal_free(&c);
    }
}

// A step of 64 sequences, some with guesses: each has the bits that it has alone, however long the others are.
static void a_step_of_64_is_each_alone(void **state)
{
    const sides *s = &((rig *)*state)->fast;
    enum { UNITS = 64, H = 4, G = 2, C = 64, LONGEST = 1100 };
    const int64_t n[] = {5}, past[] = {LONGEST - 5};
    for (int i = 0; i < 2; i++) {
        causal c = causal_new(s, i ? TENSOR_BF16 : TENSOR_I8, 1, n, past, H, G, C, 64, 1);
        pair out = pair_normal(s, UNITS * 5 * H * C, 1, 77, 0);
        attention_seq seqs[UNITS];
        for (int64_t u = 0; u < UNITS; u++) {
            const int64_t rows = u % 7 == 3 ? 5 : 1 + u % 2; // pasts of 0 to 1,095
            seqs[u] = (attention_seq){c.q.device, out.device + u * 5 * H * C, rows, u * u * 17 % (LONGEST - 4),
                                      c.pages[0].device};
        }
        op_attention(s->gpu, seqs, UNITS, H, G, C, c.scale);
        double *together = device_numbers(&out);
        for (int64_t u = 0; u < UNITS; u++) op_attention(s->gpu, &seqs[u], 1, H, G, C, c.scale);
        double *alone = device_numbers(&out);
        assert_memory_equal(together, alone, (size_t)out.n * sizeof *alone);
        free(together), free(alone);
        pair_free(&out);
        causal_free(&c);
    }
}

// Decoding as steps: the graph made of an earlier one takes new lengths.
static void steps_take_new_lengths(void **state)
{
    const sides *s = &((rig *)*state)->fast;
    enum { PAST = 61, STEPS = 6, H = 4, G = 2, C = 64 };
    paged p = paged_new(s, TENSOR_BF16, PAST + STEPS, 64, G, C);
    pair k = pair_normal(s, PAST * G * C, 1, 1, 0), v = pair_normal(s, PAST * G * C, 1, 2, 0);
    pair q = pair_room(s, H * C, 0), out = pair_room(s, H * C, 0);
    paged_write(&p, &k, &v, 0, PAST);
    for (int64_t i = 0; i < STEPS; i++) {
        test_random r = {(uint64_t)i + 5};
        for (int64_t j = 0; j < G * C; j++) {
            k.plain[j] = test_random_normal(&r);
            v.plain[j] = k.plain[j] + 1;
        }
        for (int64_t j = 0; j < H * C; j++) q.plain[j] = test_random_normal(&r);
        pair_send(&k), pair_send(&v), pair_send(&q);
        attention_seq seq = {q.device, out.device, 1, PAST + i, p.device};
        kernels_step_begin(s->gpu);
        paged_write(&p, &k, &v, PAST + i, 1);
        op_attention(s->gpu, &seq, 1, H, G, C, 0.125f);
        assert_ok(kernels_step_end(s->gpu));
        seq = (attention_seq){q.plain, out.plain, 1, PAST + i, p.plain};
        op_attention(s->cpu, &seq, 1, H, G, C, 0.125f);
        pair_check(&out, 1e-4, "a step"); // queries and weights of 16 bits, scores up to 8
    }
    paged_check(&p);
    pair_free(&k), pair_free(&v), pair_free(&q), pair_free(&out);
    paged_free(&p);
}

// ---- spans ----

static void spans_formula(double *out, const float *qkv, int64_t spans, int64_t span, int64_t H,
                          int64_t C, double scale, bool bf16)
{
    const int64_t D = H * C;
    double *score = doubles(span);
    for (int64_t i = 0; i < spans * span * H; i++, out += C) {
        const int64_t row = i / H, h = i % H, first = row / span * span;
        const float *q = qkv + row * 3 * D + h * C;
        double largest = -INFINITY, sum = 0;
        for (int64_t t = 0; t < span; t++) {
            const float *k = qkv + (first + t) * 3 * D + D + h * C;
            score[t] = 0;
            for (int64_t c = 0; c < C; c++) {
                const double a = (double)q[c], b = (double)k[c];
                score[t] += bf16 ? bf16_of(a) * bf16_of(b) : a * b;
            }
            score[t] *= scale;
            largest = fmax(largest, score[t]);
        }
        for (int64_t c = 0; c < C; c++) out[c] = 0;
        for (int64_t t = 0; t < span; t++) {
            const float *v = qkv + (first + t) * 3 * D + 2 * D + h * C;
            score[t] = exp(score[t] - largest);
            sum += score[t];
            if (bf16) score[t] = bf16_of(score[t]);
            for (int64_t c = 0; c < C; c++) {
                out[c] += score[t] * (bf16 ? bf16_of((double)v[c]) : (double)v[c]);
            }
        }
        for (int64_t c = 0; c < C; c++) out[c] /= sum;
    }
    free(score);
}

static void spans_agree(void **state)
{
    const rig *r = *state;
    static const int64_t cases[][4] = {
        // spans, span, H, C
        {1, 1, 1, 64}, {3, 2, 2, 64}, {2, 63, 2, 72}, {1, 64, 3, 80}, {2, 65, 1, 128},
        {1, 200, 2, 64}, {1, 130, 1, 72}, {5, 16, 2, 8}, {2, 70, 1, 100}, {1, 129, 1, 112},
        {4, 20, 2, 37}, {1, 40, 1, 160},
    };
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        const int64_t spans = cases[i / 2][0], span = cases[i / 2][1];
        const int64_t H = cases[i / 2][2], C = cases[i / 2][3];
        const bool exact = i % 2, plain = exact || C % 4 || C > 128;
        const sides *s = exact ? &r->exact : &r->fast;
        const float scale = 1 / sqrtf((float)C);
        pair qkv = pair_normal(s, spans * span * 3 * H * C, 1.5f, 40 + i, exact ? 1 : 0);
        pair out = pair_room(s, spans * span * H * C, exact ? 3 : 0);
        double *reference = doubles(out.n), *bf16 = doubles(out.n);
        char what[80];
        snprintf(what, sizeof what, "%lld spans of %lld, H %lld, C %lld", (long long)spans,
                 (long long)span, (long long)H, (long long)C);
        spans_formula(reference, qkv.plain, spans, span, H, C, (double)scale, false);
        spans_formula(bf16, qkv.plain, spans, span, H, C, (double)scale, !plain);
        op_attention_spans(s->cpu, out.plain, qkv.plain, spans, span, H, C, scale);
        op_attention_spans(s->gpu, out.device, qkv.device, spans, span, H, C, scale);
        check_errors(&out, reference, bf16, 1, what);
        free(reference), free(bf16);
        pair_free(&qkv), pair_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kv_write_gives_the_same_bytes),
        cmocka_unit_test(kv_write_many_writes_each),
        cmocka_unit_test(exact_causal_agrees),
        cmocka_unit_test(few_rows_agree),
        cmocka_unit_test(many_rows_agree),
        cmocka_unit_test(sharp_scores_stay_finite),
        cmocka_unit_test(few_rows_are_each_alone),
        cmocka_unit_test(a_step_of_64_is_each_alone),
        cmocka_unit_test(steps_take_new_lengths),
        cmocka_unit_test(spans_agree),
    };
    return device_run(tests, rig_open, rig_close);
}
