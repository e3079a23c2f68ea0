// The delta rule on a GPU against plain C and the rule in double, by steps and in chunks, and the fused form of a layer against its
// parts.
#include "cuda/delta_sides.h"

#include "kernels/backend.h"
#include "kernels/head_order.h"

// ---- delta rule ----

// How gates and inputs are drawn.
typedef enum draw {
    DRAW_USUAL,
    DRAW_SHARP,
    DRAW_NO_DECAY,
    DRAW_SHUT,
    DRAW_OPEN,
    DRAW_TINY,
    DRAWS
} draw;

typedef struct delta_case {
    delta_shape shape;
    int64_t n;
    pair qkv, g, beta, state, before, out;
} delta_case;

static void draw_gates(delta_case *c, draw how, uint64_t seed)
{
    test_random r = {seed};
    for (int64_t i = 0; i < c->g.n; i++) {
        const float x = fabsf(test_random_normal(&r)), y = test_random_normal(&r);
        c->g.plain[i] = how == DRAW_NO_DECAY || how == DRAW_OPEN ? -1e-6f * x
                        : how == DRAW_SHARP                      ? -20 * x
                                                                 : -0.2f * x;
        c->beta.plain[i] = how == DRAW_SHUT   ? 1e-6f * x
                           : how == DRAW_OPEN ? 1
                                              : 1 / (1 + expf(-2 * y));
    }
    if (how == DRAW_SHARP) c->g.plain[0] = -3000; // all is forgotten
    pair_send(&c->g);
    pair_send(&c->beta);
}

// shape: rows, key heads, value heads, Dk, Dv
static delta_case delta_case_new(const sides *s, const int64_t *shape, draw how, int64_t shift,
                                 uint64_t seed)
{
    delta_case c = {.n = shape[0]};
    const int64_t stride = 2 * shape[1] * shape[3] + shape[2] * shape[4] + (shift ? 3 : 4);
    c.shape = (delta_shape){shape[1], shape[2], shape[3], shape[4], stride, false};
    const int64_t in_state = shape[2] * shape[3] * shape[4];
    c.qkv = pair_normal(s, c.n * stride, how == DRAW_TINY ? 1e-4f : 1, seed, shift);
    c.state = pair_normal(s, in_state, 0.3f, seed + 1, shift);
    c.before = pair_normal(s, in_state, 0.3f, seed + 2, shift);
    c.g = pair_room(s, c.n * shape[2], 0);
    c.beta = pair_room(s, c.n * shape[2], 0);
    c.out = pair_room(s, c.n * shape[2] * shape[4], shift);
    pair_send(&c.out);
    draw_gates(&c, how, seed + 3);
    return c;
}

static void delta_case_free(delta_case *c)
{
    pair *const all[] = {&c->qkv, &c->g, &c->beta, &c->state, &c->before, &c->out};
    for (int i = 0; i < 6; i++)
        pair_free(all[i]);
}

static delta_seq delta_of(const delta_case *c, bool device, bool from_before)
{
    if (device) {
        return (delta_seq){c->qkv.device,
                           c->g.device,
                           c->beta.device,
                           c->out.device,
                           c->state.device,
                           c->n,
                           from_before ? c->before.device : NULL};
    }
    return (delta_seq){c->qkv.plain,
                       c->g.plain,
                       c->beta.plain,
                       c->out.plain,
                       c->state.plain,
                       c->n,
                       from_before ? c->before.plain : NULL};
}

// Rows first .. first + n - 1 of it.
static delta_seq rows_of(delta_seq seq, const delta_shape *s, int64_t first, int64_t n)
{
    seq.qkv += first * s->stride;
    seq.g += first * s->value_heads;
    seq.beta += first * s->value_heads;
    seq.out += first * s->value_heads * s->Dv;
    if (first > 0) seq.before = NULL;
    seq.n = n;
    return seq;
}

// What rounding q, k and v to bf16 changes of the outputs and of the state, by the rule in double.
typedef struct rounding {
    double out, state;
} rounding;

static rounding rounding_of(const delta_case *c, const delta_seq *seq, const float *out,
                            const float *state)
{
    const int64_t in_qkv = c->qkv.n;
    float *qkv = malloc((size_t)in_qkv * sizeof *qkv);
    float *o = malloc((size_t)c->out.n * sizeof *o), *s = malloc((size_t)c->state.n * sizeof *s);
    assert_true(qkv && o && s);
    for (int64_t i = 0; i < in_qkv; i++)
        qkv[i] = bf16_to_f32(f32_to_bf16(c->qkv.plain[i]));
    memcpy(s, seq->before ? seq->before : seq->state, (size_t)c->state.n * sizeof *s);
    delta_seq rounded = *seq;
    rounded.qkv = qkv;
    rounded.out = o;
    rounded.state = s;
    rounded.before = NULL;
    op_delta_rule_naive(&rounded, &c->shape);
    const rounding r = {distance(o, out, c->out.n), distance(s, state, c->state.n)};
    free(qkv);
    free(o);
    free(s);
    return r;
}

#define TF32_PRODUCT (2.0 / 2048) // two operands rounded to 11 bits

// Against the rule in double. Float32 may be off by what a sum of Dk products is, over and over;
// tf32 in chunks by no more than rounding the inputs to bf16 makes it, or than a single product is
// where that is nothing (a key of width 1 stays 1).
static void delta_check(const sides *s, delta_case *c, bool fast, bool from_before,
                        const char *what)
{
    delta_seq plain = delta_of(c, false, from_before);
    const delta_seq device = delta_of(c, true, from_before);
    rounding allowed = {0, 0};
    op_delta_rule(s->gpu, &device, 1, &c->shape);
    float *started = malloc((size_t)c->state.n * sizeof *started);
    assert_non_null(started);
    memcpy(started, from_before ? plain.before : plain.state, (size_t)c->state.n * sizeof *started);
    op_delta_rule_naive(&plain, &c->shape);
    if (fast && c->n >= 16) {
        plain.before = started;
        allowed = rounding_of(c, &plain, c->out.plain, c->state.plain);
        allowed.out = fmax(allowed.out, TF32_PRODUCT * greatest_of(c->out.plain, c->out.n));
    }
    const double ulps = (double)(c->shape.Dk + 16) * 4 * (double)FLT_EPSILON;
    allowed.out += ulps * (greatest_of(c->out.plain, c->out.n) + 1e-3);
    allowed.state += ulps * (greatest_of(c->state.plain, c->state.n) + 1e-3);
    check_within(&c->out, allowed.out, what);
    check_within(&c->state, allowed.state, what);
    if (from_before) pair_check(&c->before, 0, what);
    free(started);
}

static const int64_t delta_shapes[][5] = {
    {1, 2, 4, 128, 128}, {2, 1, 1, 16, 16},     {3, 1, 2, 24, 24},   {5, 4, 4, 32, 16},
    {8, 2, 2, 64, 64},   {17, 1, 2, 128, 64},   {63, 1, 1, 32, 48},  {64, 1, 1, 16, 16},
    {65, 2, 4, 64, 32},  {130, 1, 1, 128, 128}, {200, 1, 3, 33, 21}, {90, 1, 1, 1, 1},
    {40, 1, 1, 7, 130},  {16, 1, 1, 200, 9},    {3, 1, 1, 200, 12},  {20, 1, 1, 300, 5},
    {4, 1, 1, 300, 8},
};
#define DELTA_SHAPES ((int)(sizeof delta_shapes / sizeof *delta_shapes))

static void delta_agrees(const sides *s, bool fast)
{
    for (int i = 0; i < DELTA_SHAPES; i++) {
        for (int how = DRAW_USUAL; how < DRAWS; how++) {
            char what[80];
            snprintf(what, sizeof what, "delta_rule %s, shape %d, draw %d", fast ? "fast" : "exact",
                     i, how);
            delta_case c =
                delta_case_new(s, delta_shapes[i], (draw)how, (i + how) % 2, 300 + 7 * (uint64_t)i);
            delta_check(s, &c, fast, (i + how) % 3 == 0, what);
            delta_case_free(&c);
        }
    }
}

static void delta_agrees_exact(void **state)
{
    delta_agrees(&((both *)*state)->exact, false);
}

static void delta_agrees_fast(void **state)
{
    delta_agrees(&((both *)*state)->fast, true);
}

// Keys that repeat make the triangular system as ill as it gets: beta 1, no decay, one key.
static void delta_overwrites_a_repeated_key(void **state)
{
    both *b = *state;
    static const int64_t shape[] = {130, 1, 1, 64, 64};
    for (int fast = 0; fast < 2; fast++) {
        const sides *s = fast ? &b->fast : &b->exact;
        delta_case c = delta_case_new(s, shape, DRAW_OPEN, 0, 9);
        for (int64_t t = 0; t < c.n; t++) {
            memcpy(c.qkv.plain + t * c.shape.stride, c.qkv.plain, 128 * sizeof(float));
        }
        pair_send(&c.qkv);
        delta_check(s, &c, fast, false, "delta_rule repeated key");
        delta_case_free(&c);
    }
}

// Steps of few rows give what a row at a time gives, and what the first rows alone give.
static void delta_steps_are_rows(void **state)
{
    const sides *s = &((both *)*state)->fast;
    static const int64_t shapes[][5] = {{2, 2, 4, 128, 128}, {7, 1, 2, 24, 40},  {5, 1, 1, 64, 7},
                                        {15, 1, 1, 16, 32},  {4, 1, 1, 200, 16}, {3, 1, 1, 300, 8}};
    for (int i = 0; i < 6; i++) {
        delta_case whole = delta_case_new(s, shapes[i], DRAW_USUAL, 0, 21);
        delta_case rows = delta_case_new(s, shapes[i], DRAW_USUAL, 0, 21);
        const delta_seq all = delta_of(&whole, true, true), each = delta_of(&rows, true, true);
        op_delta_rule(s->gpu, &all, 1, &whole.shape);
        for (int64_t t = 0; t < rows.n; t++) {
            const delta_seq one = rows_of(each, &rows.shape, t, 1);
            op_delta_rule(s->gpu, &one, 1, &rows.shape);
        }
        check_same(&whole.out, &rows.out, "delta_rule row by row");
        check_same(&whole.state, &rows.state, "delta_rule row by row, state");
        pair_check(&whole.before, 0, "the state before");
        delta_case_free(&whole);
        delta_case_free(&rows);
    }
}

// n sequences of the given lengths in one call, and each alone.
static void apart_check(const sides *s, const int64_t *lengths, int n, const int64_t *sizes)
{
    delta_case together[20], alone[20];
    delta_seq seqs[20];
    assert_true(n <= 20);
    for (int i = 0; i < n; i++) {
        const int64_t shape[] = {lengths[i], sizes[0], sizes[1], sizes[2], sizes[3]};
        together[i] = delta_case_new(s, shape, DRAW_USUAL, 0, 50 + (uint64_t)i);
        alone[i] = delta_case_new(s, shape, DRAW_USUAL, 0, 50 + (uint64_t)i);
        seqs[i] = delta_of(&together[i], true, i % 3 == 1);
    }
    op_delta_rule(s->gpu, seqs, n, &together[0].shape);
    for (int i = 0; i < n; i++) {
        const delta_seq one = delta_of(&alone[i], true, i % 3 == 1);
        op_delta_rule(s->gpu, &one, 1, &alone[i].shape);
        check_same(&together[i].out, &alone[i].out, "delta_rule among others");
        check_same(&together[i].state, &alone[i].state, "delta_rule among others, state");
        delta_case_free(&together[i]);
        delta_case_free(&alone[i]);
    }
}

static void delta_keeps_sequences_apart(void **state)
{
    both *b = *state;
    static const int64_t mixed[] = {1, 130, 5, 64, 17, 1}, sizes[] = {2, 4, 32, 48};
    apart_check(&b->exact, mixed, 6, sizes);
    apart_check(&b->fast, mixed, 6, sizes);
    static const int64_t small[] = {1, 1, 8, 8};
    int64_t many[20];
    for (int i = 0; i < 20; i++)
        many[i] = 16 + i;
    apart_check(&b->fast, many, 20, small);
}

// More chunks than there is room for at once.
static void delta_goes_in_rounds(void **state)
{
    both *b = *state;
    int64_t lengths[16];
    static const int64_t sizes[] = {1, 16, 4, 4};
    for (int i = 0; i < 16; i++)
        lengths[i] = i == 3 ? 600 : 16;
    apart_check(&b->fast, lengths, 16, sizes);
}

// The same heads in the other order give the same bits, head by head.
static void delta_takes_tiled_heads(void **state)
{
    const sides *s = &((both *)*state)->fast;
    static const int64_t shapes[][5] = {{70, 2, 6, 32, 16}, {5, 3, 12, 20, 33}};
    for (int i = 0; i < 2; i++) {
        delta_case grouped = delta_case_new(s, shapes[i], DRAW_USUAL, 0, 41);
        delta_case tiled = delta_case_new(s, shapes[i], DRAW_USUAL, 0, 41);
        const delta_shape *z = &grouped.shape;
        const int64_t values = 2 * z->key_heads * z->Dk;
        tiled.shape.tiled = true;
        tile_heads(tiled.qkv.plain + values, grouped.qkv.plain + values, tiled.n, z->stride, z,
                   z->Dv);
        tile_heads(tiled.g.plain, grouped.g.plain, tiled.n, z->value_heads, z, 1);
        tile_heads(tiled.beta.plain, grouped.beta.plain, tiled.n, z->value_heads, z, 1);
        tile_heads(tiled.state.plain, grouped.state.plain, 1, 0, z, z->Dk * z->Dv);
        pair *const sent[] = {&tiled.qkv, &tiled.g, &tiled.beta, &tiled.state};
        for (int j = 0; j < 4; j++)
            pair_send(sent[j]);
        const delta_seq a = delta_of(&grouped, true, false), b = delta_of(&tiled, true, false);
        op_delta_rule(s->gpu, &a, 1, &grouped.shape);
        op_delta_rule(s->gpu, &b, 1, &tiled.shape);
        float *out = fetched(&grouped.out), *left = fetched(&grouped.state);
        tile_heads(tiled.out.plain, out, tiled.n, z->value_heads * z->Dv, z, z->Dv);
        tile_heads(tiled.state.plain, left, 1, 0, z, z->Dk * z->Dv);
        pair_check(&tiled.out, 0, "delta_rule tiled");
        pair_check(&tiled.state, 0, "delta_rule tiled, state");
        free(out);
        free(left);
        delta_case_free(&grouped);
        delta_case_free(&tiled);
    }
}

// ---- all in one ----

// One row of each of three sequences; the parts have g, beta, qkv and a place of their own for what
// changes.
typedef struct mixer_case {
    delta_shape shape;
    int64_t width, channels;
    pair x, z, a, b, tail[2], state[2], out[2], qkv, g, beta;
    pair conv, A_log, dt_bias, norm;
} mixer_case;

enum { MIXED = 3 };

static mixer_case mixer_case_new(const sides *s, const int64_t *shape, bool tiled)
{
    mixer_case m = {.width = shape[4]};
    const int64_t V = shape[1], Dk = shape[2], Dv = shape[3], channels = 2 * shape[0] * Dk + V * Dv;
    m.channels = channels;
    m.shape = (delta_shape){shape[0], V, Dk, Dv, channels, tiled};
    m.x = pair_normal(s, MIXED * channels, 2, 1, 0);
    m.z = pair_normal(s, MIXED * V * Dv, 2, 2, 0);
    m.a = pair_normal(s, MIXED * V, 4, 3, 0);
    m.b = pair_normal(s, MIXED * V, 4, 4, 0);
    for (int i = 0; i < 2; i++) {
        m.tail[i] = pair_normal(s, MIXED * m.width * channels, 2, 5, 0);
        m.state[i] = pair_normal(s, MIXED * V * Dk * Dv, 0.3f, 6, 0);
        m.out[i] = pair_room(s, MIXED * V * Dv, 0);
        pair_send(&m.out[i]);
    }
    m.qkv = pair_room(s, MIXED * channels, 0);
    m.g = pair_room(s, MIXED * V, 0);
    m.beta = pair_room(s, MIXED * V, 0);
    m.conv = pair_normal(s, channels * m.width, 1, 7, 0);
    m.A_log = pair_normal(s, V, 1, 8, 0);
    m.dt_bias = pair_normal(s, V, 1, 9, 0);
    m.norm = pair_normal(s, Dv, 1, 10, 0);
    return m;
}

static void mixer_case_free(mixer_case *m)
{
    pair *const all[] = {&m->x,       &m->z,        &m->a,        &m->b,      &m->tail[0],
                         &m->tail[1], &m->state[0], &m->state[1], &m->out[0], &m->out[1],
                         &m->qkv,     &m->g,        &m->beta,     &m->conv,   &m->A_log,
                         &m->dt_bias, &m->norm};
    for (int i = 0; i < 17; i++)
        pair_free(all[i]);
}

static void mixer_parts(const sides *s, const mixer_case *m)
{
    const delta_shape *d = &m->shape;
    const int64_t V = d->value_heads, in_state = V * d->Dk * d->Dv;
    conv_seq conv[MIXED];
    delta_seq delta[MIXED];
    for (int i = 0; i < MIXED; i++) {
        conv[i] = (conv_seq){m->qkv.device + i * m->channels, m->x.device + i * m->channels,
                             m->tail[0].device + i * m->width * m->channels, 1};
        delta[i] = (delta_seq){conv[i].y,
                               m->g.device + i * V,
                               m->beta.device + i * V,
                               m->out[0].device + i * V * d->Dv,
                               m->state[0].device + i * in_state,
                               1,
                               NULL};
    }
    op_delta_gates(s->gpu, m->g.device, m->beta.device, m->a.device, m->b.device, m->A_log.device,
                   m->dt_bias.device, MIXED, V);
    op_conv_silu(s->gpu, conv, MIXED, m->conv.device, m->channels, m->width, m->channels);
    op_delta_rule(s->gpu, delta, MIXED, d);
    op_rms_norm_gated(s->gpu, m->out[0].device, m->out[0].device, m->z.device, m->norm.device,
                      MIXED, V, d->Dv, 1e-6f);
}

static bool mixer_whole(kernels *k, const mixer_case *m)
{
    const delta_shape *d = &m->shape;
    const int64_t V = d->value_heads;
    mixer_seq seqs[MIXED];
    for (int i = 0; i < MIXED; i++) {
        seqs[i] = (mixer_seq){m->x.device + i * m->channels,
                              m->z.device + i * V * d->Dv,
                              m->a.device + i * V,
                              m->b.device + i * V,
                              m->out[1].device + i * V * d->Dv,
                              m->tail[1].device + i * m->width * m->channels,
                              m->state[1].device + i * V * d->Dk * d->Dv};
    }
    const mixer_weights w = {m->conv.device,    m->width,       m->A_log.device,
                             m->dt_bias.device, m->norm.device, 1e-6f};
    return op_delta_mixer(k, seqs, MIXED, &w, d);
}

static void mixer_gives_what_parts_give(void **state)
{
    const sides *s = &((both *)*state)->fast;
    // key heads, value heads, Dk, Dv, width
    static const int64_t shapes[][5] = {{2, 2, 128, 128, 4}, {2, 4, 64, 32, 4},  {1, 3, 16, 24, 4},
                                        {3, 3, 24, 7, 2},    {1, 2, 32, 200, 3}, {1, 1, 200, 16, 4},
                                        {1, 1, 5, 3, 1}};
    for (int i = 0; i < 14; i++) {
        mixer_case m = mixer_case_new(s, shapes[i / 2], i % 2);
        mixer_parts(s, &m);
        assert_false(mixer_whole(s->cpu, &m));
        assert_true(mixer_whole(s->gpu, &m));
        check_same(&m.out[0], &m.out[1], "mixer");
        check_same(&m.tail[0], &m.tail[1], "mixer, tail");
        check_same(&m.state[0], &m.state[1], "mixer, state");
        mixer_case_free(&m);
    }
    static const int64_t wide[] = {1, 1, 300, 8, 4};
    mixer_case m = mixer_case_new(s, wide, false);
    assert_false(mixer_whole(s->gpu, &m));
    mixer_case_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delta_agrees_exact),
        cmocka_unit_test(delta_agrees_fast),
        cmocka_unit_test(delta_overwrites_a_repeated_key),
        cmocka_unit_test(delta_steps_are_rows),
        cmocka_unit_test(delta_keeps_sequences_apart),
        cmocka_unit_test(delta_goes_in_rounds),
        cmocka_unit_test(delta_takes_tiled_heads),
        cmocka_unit_test(mixer_gives_what_parts_give),
    };
    return device_run(tests, both_open, both_close);
}
