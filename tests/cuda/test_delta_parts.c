// What stands around the delta rule on a GPU, against plain C and double: convolution, gates, gated norm.
#include "cuda/delta_sides.h"

#include "kernels/backend.h"

// ---- convolution ----

// Two sequences of n and m rows.
typedef struct conv_case {
    int64_t n, m, channels, width, x_stride;
    pair w, x[2], y[2], tail[2];
} conv_case;

static conv_case conv_case_new(const sides *s, const int64_t *shape, int64_t shift, uint64_t seed)
{
    conv_case c = {.n = shape[0], .m = shape[1], .channels = shape[2], .width = shape[3]};
    c.x_stride = c.channels + (shift ? 5 : 4);
    c.w = pair_normal(s, c.channels * c.width, 1, seed, shift);
    for (int i = 0; i < 2; i++) {
        const int64_t rows = i ? c.m : c.n;
        c.x[i] = pair_normal(s, rows * c.x_stride, 2, seed + 1 + (uint64_t)i, shift);
        c.y[i] = pair_room(s, rows * c.channels, shift);
        pair_send(&c.y[i]);
        c.tail[i] = pair_normal(s, (c.width > 1 ? c.width - 1 : 1) * c.channels, 2,
                                seed + 3 + (uint64_t)i, shift);
    }
    return c;
}

static void conv_case_free(conv_case *c)
{
    pair_free(&c->w);
    for (int i = 0; i < 2; i++) {
        pair_free(&c->x[i]);
        pair_free(&c->y[i]);
        pair_free(&c->tail[i]);
    }
}

static conv_seq conv_of(const conv_case *c, int i, bool device)
{
    return (conv_seq){device ? c->y[i].device : c->y[i].plain,
                      device ? c->x[i].device : c->x[i].plain,
                      device ? c->tail[i].device : c->tail[i].plain, i ? c->m : c->n};
}

static void conv_agrees(void **state)
{
    const sides *s = &((both *)*state)->exact;
    static const int64_t shapes[][4] = {
        {1, 1, 1, 4},   {1, 2, 520, 4}, {2, 33, 17, 4}, {3, 5, 64, 3},   {70, 4, 300, 4},
        {32, 31, 9, 2}, {7, 40, 33, 1}, {2, 40, 40, 6}, {65, 1, 19, 16}, {50, 20, 8, 40}};
    for (int i = 0; i < 20; i++) {
        conv_case c = conv_case_new(s, shapes[i / 2], i % 2, 40 + 10 * (uint64_t)i);
        const conv_seq plain[] = {conv_of(&c, 0, false), conv_of(&c, 1, false)};
        const conv_seq device[] = {conv_of(&c, 0, true), conv_of(&c, 1, true)};
        op_conv_silu(s->cpu, plain, 2, c.w.plain, c.channels, c.width, c.x_stride);
        op_conv_silu(s->gpu, device, 2, c.w.device, c.channels, c.width, c.x_stride);
        for (int j = 0; j < 2; j++) {
            // a sum of `width` products of numbers to 8 and 4, and silu's last places
            const double terms = (double)c.width * 8;
            check_within(&c.y[j], ((double)c.width + 8) * (double)FLT_EPSILON * terms, "conv_silu");
            pair_check(&c.tail[j], 0, "conv tail");
        }
        conv_case_free(&c);
    }
}

// A row at a time gives the same bits.
static void conv_goes_on(void **state)
{
    const sides *s = &((both *)*state)->exact;
    static const int64_t shapes[][4] = {{9, 40, 36, 4}, {5, 3, 21, 4}, {4, 6, 16, 5}};
    for (int i = 0; i < 3; i++) {
        conv_case whole = conv_case_new(s, shapes[i], 0, 7),
                  rows = conv_case_new(s, shapes[i], 0, 7);
        const conv_seq all[] = {conv_of(&whole, 0, true), conv_of(&whole, 1, true)};
        op_conv_silu(s->gpu, all, 2, whole.w.device, whole.channels, whole.width, whole.x_stride);
        for (int j = 0; j < 2; j++) {
            conv_seq one = conv_of(&rows, j, true);
            one.n = 1;
            for (int64_t t = 0; t < (j ? rows.m : rows.n); t++) {
                op_conv_silu(s->gpu, &one, 1, rows.w.device, rows.channels, rows.width,
                             rows.x_stride);
                one.x += rows.x_stride;
                one.y += rows.channels;
            }
            check_same(&whole.y[j], &rows.y[j], "conv_silu row by row");
            check_same(&whole.tail[j], &rows.tail[j], "conv tail row by row");
        }
        conv_case_free(&whole);
        conv_case_free(&rows);
    }
}

// ---- gates and norm ----

static void gates_agree(void **state)
{
    const sides *s = &((both *)*state)->exact;
    static const int64_t heads_of[] = {1, 5, 16, 48};
    enum { N = 23 };
    for (int h = 0; h < 4; h++) {
        const int64_t heads = heads_of[h], n = N * heads;
        pair a = pair_normal(s, n, 8, 60, 0), b = pair_normal(s, n, 5, 61, 1);
        pair A_log = pair_normal(s, heads, 1, 62, 0), bias = pair_normal(s, heads, 1, 63, 0);
        pair g = pair_room(s, n, 0), beta = pair_room(s, n, 0);
        a.plain[0] = 1000; // softplus(x) = x
        a.plain[1] = -200; // softplus(x) = 0
        pair_send(&a);
        op_delta_gates(s->gpu, g.device, beta.device, a.device, b.device, A_log.device, bias.device,
                       N, heads);
        float *got_g = fetched(&g), *got_beta = fetched(&beta);
        for (int64_t i = 0; i < n; i++) {
            const double x = (double)(a.plain[i] + bias.plain[i % heads]);
            const double decay =
                -exp((double)A_log.plain[i % heads]) * (x > 20 ? x : log1p(exp(x)));
            assert_true(got_g[i] <= 0);
            assert_true(fabs((double)got_g[i] - decay) <=
                        16 * (double)FLT_EPSILON * fabs(decay) + 1e-30);
            const double open = 1 / (1 + exp(-(double)b.plain[i]));
            assert_true(fabs((double)got_beta[i] - open) <= 8 * (double)FLT_EPSILON * open);
        }
        free(got_g);
        free(got_beta);
        pair *const all[] = {&a, &b, &A_log, &bias, &g, &beta};
        for (int i = 0; i < 6; i++)
            pair_free(all[i]);
    }
}

static void gated_norm_agrees(void **state)
{
    const sides *s = &((both *)*state)->exact;
    static const int64_t widths[] = {1, 3, 16, 24, 64, 128, 200, 520};
    for (int i = 0; i < 32; i++) {
        const int64_t C = widths[i / 4], heads = 1 + i % 3, N = i % 4 == 3 ? 40 : 1 + i % 4,
                      shift = i % 2;
        const int64_t n = N * heads * C;
        pair o = pair_normal(s, n, 3, 70, shift), z = pair_normal(s, n, 2, 71, shift);
        pair w = pair_normal(s, C, 1, 72, 0), y = pair_room(s, n, shift);
        op_rms_norm_gated(s->cpu, y.plain, o.plain, z.plain, w.plain, N, heads, C, 1e-6f);
        op_rms_norm_gated(s->gpu, y.device, o.device, z.device, w.device, N, heads, C, 1e-6f);
        pair_check(&y, (double)(C + 16) * (double)FLT_EPSILON, "rms_norm_gated");
        op_rms_norm_gated(s->gpu, o.device, o.device, z.device, w.device, N, heads, C, 1e-6f);
        check_same(&y, &o, "rms_norm_gated in place");
        pair *const all[] = {&o, &z, &w, &y};
        for (int j = 0; j < 4; j++)
            pair_free(all[j]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv_agrees),
        cmocka_unit_test(conv_goes_on),
        cmocka_unit_test(gates_agree),
        cmocka_unit_test(gated_norm_agrees),
    };
    return device_run(tests, both_open, both_close);
}
