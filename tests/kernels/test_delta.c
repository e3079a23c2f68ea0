// What a Gated DeltaNet layer adds: the convolution with its tail, the gates and the delta rule.
#include "kernels/head_order.h"
#include "kernels/levels.h"

// ---- convolution ----

typedef struct conv_case {
    int64_t n, channels, width, x_stride;
    float *x, *w, *tail;
} conv_case;

static conv_case conv_case_new(int64_t n, int64_t channels, int64_t width, uint64_t seed)
{
    test_random r = {seed};
    conv_case c = {.n = n, .channels = channels, .width = width, .x_stride = channels + 5};
    c.x = guarded_normal(n * c.x_stride, &r, 2);
    c.w = guarded_normal(channels * width, &r, 1);
    c.tail = guarded_normal((width - 1) * channels, &r, 2);
    return c;
}

static void conv_case_free(conv_case *c)
{
    guarded_free(c->x);
    guarded_free(c->w);
    guarded_free(c->tail);
}

// Row t of (tail, x), t from -(width - 1).
static float conv_input(const conv_case *c, int64_t t, int64_t channel)
{
    return t < 0 ? c->tail[(c->width - 1 + t) * c->channels + channel]
                 : c->x[t * c->x_stride + channel];
}

// In two calls, cut at `cut`; gives y and writes the tail it leaves.
static float *conv_run(const conv_case *c, kernels *k, int64_t cut, float *tail)
{
    float *y = guarded(c->n * c->channels);
    memcpy(tail, c->tail, (size_t)((c->width - 1) * c->channels) * sizeof *tail);
    const conv_seq seqs[] = {{y, c->x, tail, cut},
                             {y + cut * c->channels, c->x + cut * c->x_stride, tail, c->n - cut}};
    if (cut > 0) op_conv_silu(k, &seqs[0], 1, c->w, c->channels, c->width, c->x_stride);
    if (cut < c->n) op_conv_silu(k, &seqs[1], 1, c->w, c->channels, c->width, c->x_stride);
    return y;
}

static void conv_check(const levels *l, const conv_case *c)
{
    const int64_t n = c->n * c->channels, in_tail = (c->width - 1) * c->channels;
    double *reference = doubles(n);
    float *tail = guarded(in_tail);
    for (int64_t i = 0; i < n; i++) {
        const int64_t t = i / c->channels, channel = i % c->channels;
        double sum = 0;
        for (int64_t j = 0; j < c->width; j++) {
            sum += (double)conv_input(c, t - c->width + 1 + j, channel) *
                   c->w[channel * c->width + j];
        }
        reference[i] = sum / (1 + exp(-sum));
    }
    const double bound = (double)(c->width + 8) * FLT_EPSILON * (largest_of(reference, n) + 1) * 2;
    float *plain = conv_run(c, l->k[0], 0, tail);
    for (int i = 0; i < l->n; i++) {
        float *whole = conv_run(c, l->k[i], 0, tail);
        check_level(l, i, whole, plain, reference, n, bound, "conv_silu");
        for (int64_t cut = 1; cut <= 2 && cut <= c->n; cut++) {
            float *y = conv_run(c, l->k[i], cut, tail);
            assert_memory_equal(y, whole, (size_t)n * sizeof *y);
            guarded_free(y);
            check_guards(tail, in_tail, "conv tail");
            for (int64_t j = 0; j < in_tail; j++) {
                const int64_t t = c->n - (c->width - 1) + j / c->channels;
                assert_true(tail[j] == conv_input(c, t, j % c->channels));
            }
        }
        guarded_free(whole);
    }
    guarded_free(plain);
    guarded_free(tail);
    free(reference);
}

static void conv_agrees(void **state)
{
    const levels *l = *state;
    static const int64_t shapes[][3] = {{1, 1, 4},   {2, 17, 4},  {3, 64, 4}, {50, 300, 4},
                                        {9, 1000, 4}, {7, 33, 1}, {2, 40, 3}, {20, 19, 6}};
    for (int i = 0; i < 8; i++) {
        conv_case c = conv_case_new(shapes[i][0], shapes[i][1], shapes[i][2], 40 + (uint64_t)i);
        conv_check(l, &c);
        conv_case_free(&c);
    }
}

// Several sequences in one call are each on their own.
static void conv_keeps_sequences_apart(void **state)
{
    const levels *l = *state;
    enum { CHANNELS = 520, WIDTH = 4 };
    conv_case a = conv_case_new(30, CHANNELS, WIDTH, 1), b = conv_case_new(1, CHANNELS, WIDTH, 2);
    b.x_stride = a.x_stride;
    for (int i = 0; i < l->n; i++) {
        float *tail_a = guarded(3 * CHANNELS), *tail_b = guarded(3 * CHANNELS);
        float *alone_a = conv_run(&a, l->k[i], 0, tail_a);
        float *ya = guarded(30 * CHANNELS), *yb = guarded(CHANNELS);
        memcpy(tail_a, a.tail, 3 * CHANNELS * sizeof *tail_a);
        memcpy(tail_b, b.tail, 3 * CHANNELS * sizeof *tail_b);
        const conv_seq seqs[] = {{yb, b.x, tail_b, 1}, {ya, a.x, tail_a, 30}};
        op_conv_silu(l->k[i], seqs, 2, a.w, CHANNELS, WIDTH, a.x_stride);
        assert_memory_equal(ya, alone_a, 30 * CHANNELS * sizeof *ya);
        check_guards(yb, CHANNELS, "conv of two");
        for (int j = 0; j < CHANNELS; j++) {
            assert_true(tail_b[j] == b.tail[CHANNELS + j]);
            assert_true(tail_b[2 * CHANNELS + j] == b.x[j]);
        }
        float *const all[] = {tail_a, tail_b, alone_a, ya, yb};
        for (int j = 0; j < 5; j++) guarded_free(all[j]);
    }
    conv_case_free(&a);
    conv_case_free(&b);
}

// ---- gates ----

static void gates_agree(void **state)
{
    const levels *l = *state;
    static const int64_t heads_of[] = {1, 5, 16, 32, 48};
    enum { N = 23 };
    for (int h = 0; h < 5; h++) {
        const int64_t heads = heads_of[h], n = N * heads;
        test_random r = {60 + (uint64_t)h};
        float *a = guarded_normal(n, &r, 8), *b = guarded_normal(n, &r, 5);
        float *A_log = guarded_normal(heads, &r, 1), *bias = guarded_normal(heads, &r, 1);
        double *g_reference = doubles(n), *beta_reference = doubles(n);
        a[0] = 1000; // softplus(x) = x
        if (n > 1) a[1] = -200; // softplus(x) = 0
        for (int64_t i = 0; i < n; i++) {
            const double x = (double)a[i] + bias[i % heads];
            g_reference[i] = -exp((double)A_log[i % heads]) * (x > 20 ? x : log1p(exp(x)));
            beta_reference[i] = 1 / (1 + exp(-(double)b[i]));
        }
        float *plain_g = guarded(n), *plain_beta = guarded(n);
        op_delta_gates(l->k[0], plain_g, plain_beta, a, b, A_log, bias, N, heads);
        for (int i = 0; i < l->n; i++) {
            float *g = guarded(n), *beta = guarded(n);
            op_delta_gates(l->k[i], g, beta, a, b, A_log, bias, N, heads);
            check_level(l, i, g, plain_g, g_reference, n,
                        8 * FLT_EPSILON * largest_of(g_reference, n), "delta_gates g");
            check_level(l, i, beta, plain_beta, beta_reference, n, 8 * FLT_EPSILON,
                        "delta_gates beta");
            for (int64_t j = 0; j < n; j++) { // small decays are right in relative terms too
                assert_true(g[j] <= 0);
                assert_float_equal(g[j], g_reference[j], 1e-5 * fabs(g_reference[j]) + 1e-30);
            }
            guarded_free(g);
            guarded_free(beta);
        }
        float *const all[] = {a, b, A_log, bias, plain_g, plain_beta};
        for (int i = 0; i < 6; i++) guarded_free(all[i]);
        free(g_reference);
        free(beta_reference);
    }
}

// ---- delta rule ----

typedef struct delta_case {
    delta_shape shape;
    int64_t n;
    float *qkv, *g, *beta, *state;
    int64_t out_n, state_n;
} delta_case;

// How gates and inputs are drawn.
typedef enum draw { DRAW_USUAL, DRAW_SHARP_DECAY, DRAW_NO_DECAY, DRAW_TINY } draw;

static delta_case delta_case_new(const int64_t *s, draw how, uint64_t seed)
{
    test_random r = {seed};
    delta_case c = {.n = s[0]};
    c.shape = (delta_shape){s[1], s[2], s[3], s[4], 2 * s[1] * s[3] + s[2] * s[4] + 3, false};
    c.out_n = c.n * s[2] * s[4];
    c.state_n = s[2] * s[3] * s[4];
    c.qkv = guarded_normal(c.n * c.shape.stride, &r, how == DRAW_TINY ? 1e-4f : 1);
    c.state = guarded_normal(c.state_n, &r, 0.3f);
    c.g = guarded(c.n * s[2]);
    c.beta = guarded(c.n * s[2]);
    for (int64_t i = 0; i < c.n * s[2]; i++) {
        const float x = fabsf(test_random_normal(&r));
        c.g[i] = how == DRAW_NO_DECAY ? 0 : how == DRAW_SHARP_DECAY ? -60 * x : -0.2f * x;
        c.beta[i] = 1 / (1 + expf(-2 * test_random_normal(&r)));
    }
    if (how == DRAW_SHARP_DECAY) c.g[0] = -3000; // all is forgotten
    return c;
}

static void delta_case_free(delta_case *c)
{
    guarded_free(c->qkv);
    guarded_free(c->g);
    guarded_free(c->beta);
    guarded_free(c->state);
}

// k NULL: the naive form. Rows up to `cut` in one call, the rest in a second.
static void delta_run(const delta_case *c, kernels *k, int64_t cut, float **out, float **state)
{
    *out = guarded(c->out_n);
    *state = guarded_copy(c->state, c->state_n);
    for (int64_t at = 0, end = cut ? cut : c->n; at < c->n; at = end, end = c->n) {
        const delta_seq seq = {c->qkv + at * c->shape.stride,
                               c->g + at * c->shape.value_heads,
                               c->beta + at * c->shape.value_heads,
                               *out + at * c->shape.value_heads * c->shape.Dv, *state, end - at,
                               NULL};
        if (k) op_delta_rule(k, &seq, 1, &c->shape);
        else op_delta_rule_naive(&seq, &c->shape);
    }
}

// The naive form computes in double, and only its results are rounded.
static double *to_doubles(const float *x, int64_t n)
{
    double *y = doubles(n);
    for (int64_t i = 0; i < n; i++) y[i] = x[i];
    return y;
}

static void delta_check(const levels *l, const delta_case *c, const char *what)
{
    float *out, *state, *plain_out, *plain_state;
    delta_run(c, NULL, 0, &out, &state);
    double *out_reference = to_doubles(out, c->out_n);
    double *state_reference = to_doubles(state, c->state_n);
    guarded_free(out);
    guarded_free(state);
    delta_run(c, l->k[0], 0, &plain_out, &plain_state);
    const double ulps = (double)(c->shape.Dk + 16) * 4 * FLT_EPSILON;
    for (int i = 0; i < l->n; i++) {
        for (int64_t cut = 0; cut < c->n && cut < 40; cut += 13) {
            delta_run(c, l->k[i], cut, &out, &state);
            check_level(l, i, out, plain_out, out_reference, c->out_n,
                        ulps * (largest_of(out_reference, c->out_n) + 1e-3), what);
            check_level(l, i, state, plain_state, state_reference, c->state_n,
                        ulps * (largest_of(state_reference, c->state_n) + 1e-3), what);
            guarded_free(out);
            guarded_free(state);
        }
    }
    float *single_out, *single_state;
    delta_run(c, l->single, 0, &single_out, &single_state);
    delta_run(c, l->k[l->n - 1], 0, &out, &state);
    assert_memory_equal(out, single_out, (size_t)c->out_n * sizeof *out);
    assert_memory_equal(state, single_state, (size_t)c->state_n * sizeof *state);
    float *const all[] = {out, state, plain_out, plain_state, single_out, single_state};
    for (int i = 0; i < 6; i++) guarded_free(all[i]);
    free(out_reference);
    free(state_reference);
}

// rows, key heads, value heads, Dk, Dv
static const int64_t delta_shapes[][5] = {
    {1, 2, 4, 128, 128}, {2, 1, 1, 16, 16},  {7, 2, 2, 64, 64},    {17, 1, 2, 128, 128},
    {63, 1, 1, 32, 48},  {64, 1, 1, 16, 16}, {65, 2, 4, 128, 128}, {200, 1, 3, 33, 21},
    {150, 2, 2, 64, 80}, {90, 1, 1, 1, 1},   {40, 1, 1, 7, 130},   {129, 1, 1, 128, 64},
};

static void delta_agrees(void **state)
{
    for (int i = 0; i < 12; i++) {
        for (int how = DRAW_USUAL; how <= DRAW_TINY; how++) {
            char what[80];
            snprintf(what, sizeof what, "delta_rule shape %d draw %d", i, how);
            delta_case c = delta_case_new(delta_shapes[i], (draw)how, 300 + (uint64_t)i);
            delta_check(*state, &c, what);
            delta_case_free(&c);
        }
    }
}

// Keys that repeat make the triangular system as ill as it gets: beta 1, no decay, one key.
static void delta_overwrites_a_repeated_key(void **state)
{
    const levels *l = *state;
    static const int64_t shape[] = {130, 1, 1, 64, 64};
    delta_case c = delta_case_new(shape, DRAW_NO_DECAY, 9);
    for (int64_t t = 0; t < c.n; t++) {
        memcpy(c.qkv + t * c.shape.stride, c.qkv, 128 * sizeof *c.qkv);
        c.beta[t] = 1;
    }
    delta_check(l, &c, "delta_rule repeated key");
    delta_case_free(&c);
}

static void delta_keeps_sequences_apart(void **state)
{
    const levels *l = *state;
    static const int64_t long_shape[] = {100, 2, 4, 64, 64}, short_shape[] = {1, 2, 4, 64, 64};
    delta_case a = delta_case_new(long_shape, DRAW_USUAL, 21);
    delta_case b = delta_case_new(short_shape, DRAW_USUAL, 22);
    for (int i = 0; i < l->n; i++) {
        float *out_a, *state_a, *out_b, *state_b;
        delta_run(&a, l->k[i], 0, &out_a, &state_a);
        delta_run(&b, l->k[i], 0, &out_b, &state_b);
        float *out[] = {guarded(a.out_n), guarded(b.out_n)};
        float *states[] = {guarded_copy(a.state, a.state_n), guarded_copy(a.state, b.state_n)};
        const delta_seq seqs[] = {{a.qkv, a.g, a.beta, out[0], states[0], a.n, NULL},
                                  {b.qkv, b.g, b.beta, out[1], states[1], b.n, b.state}};
        op_delta_rule(l->k[i], seqs, 2, &a.shape);
        assert_memory_equal(out[0], out_a, (size_t)a.out_n * sizeof(float));
        assert_memory_equal(out[1], out_b, (size_t)b.out_n * sizeof(float));
        assert_memory_equal(states[0], state_a, (size_t)a.state_n * sizeof(float));
        assert_memory_equal(states[1], state_b, (size_t)b.state_n * sizeof(float));
        float *const all[] = {out_a, state_a, out_b, state_b, out[0], out[1], states[0], states[1]};
        for (int j = 0; j < 8; j++) guarded_free(all[j]);
    }
    delta_case_free(&a);
    delta_case_free(&b);
}

// The same heads in the other order give the same bits, head by head.
static void delta_takes_tiled_heads(void **state)
{
    const levels *l = *state;
    static const int64_t shapes[][5] = {{70, 2, 6, 32, 16}, {5, 3, 12, 20, 33}, {130, 2, 4, 64, 64}};
    for (int i = 0; i < 3; i++) {
        delta_case grouped = delta_case_new(shapes[i], DRAW_USUAL, 41 + (uint64_t)i);
        delta_case tiled = delta_case_new(shapes[i], DRAW_USUAL, 41 + (uint64_t)i);
        const delta_shape *s = &grouped.shape;
        const int64_t values = 2 * s->key_heads * s->Dk;
        tiled.shape.tiled = true;
        tile_heads(tiled.qkv + values, grouped.qkv + values, tiled.n, s->stride, s, s->Dv);
        tile_heads(tiled.g, grouped.g, tiled.n, s->value_heads, s, 1);
        tile_heads(tiled.beta, grouped.beta, tiled.n, s->value_heads, s, 1);
        tile_heads(tiled.state, grouped.state, 1, 0, s, s->Dk * s->Dv);
        for (int level = -1; level < l->n; level++) { // -1: the naive form
            kernels *k = level < 0 ? NULL : l->k[level];
            float *a, *a_state, *b, *b_state;
            delta_run(&grouped, k, 0, &a, &a_state);
            delta_run(&tiled, k, 0, &b, &b_state);
            float *want = guarded(grouped.out_n), *want_state = guarded(grouped.state_n);
            tile_heads(want, a, grouped.n, s->value_heads * s->Dv, s, s->Dv);
            tile_heads(want_state, a_state, 1, 0, s, s->Dk * s->Dv);
            assert_memory_equal(b, want, (size_t)grouped.out_n * sizeof *b);
            assert_memory_equal(b_state, want_state, (size_t)grouped.state_n * sizeof *b);
            float *const all[] = {a, a_state, b, b_state, want, want_state};
            for (int j = 0; j < 6; j++) guarded_free(all[j]);
        }
        delta_case_free(&grouped);
        delta_case_free(&tiled);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv_agrees),
        cmocka_unit_test(conv_keeps_sequences_apart),
        cmocka_unit_test(gates_agree),
        cmocka_unit_test(delta_agrees),
        cmocka_unit_test(delta_overwrites_a_repeated_key),
        cmocka_unit_test(delta_keeps_sequences_apart),
        cmocka_unit_test(delta_takes_tiled_heads),
    };
    return cmocka_run_group_tests(tests, levels_open, levels_close);
}
