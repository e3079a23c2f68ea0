// The row-wise ops: every level against plain C, plain C against double.
#include "kernels/levels.h"

#define EPS 1e-6f

static const int64_t widths[] = {1, 3, 15, 16, 17, 40, 64, 257, 1024, 1031};
#define N_WIDTHS (int)(sizeof widths / sizeof *widths)

// Rows of a run: enough for several pieces at the larger widths.
static int64_t rows_for(int64_t width)
{
    return width > 200 ? 41 : 5;
}

// Runs one op at every level. `call` gets a fresh copy of the inputs' in-place operand in y.
typedef struct run {
    int64_t n;             // outputs
    const float *y_before; // NULL: y starts poisoned
    const double *reference;
    double plain_bound; // relative to the largest value
    const char *what;
    void (*call)(kernels *k, float *y, void *arg);
    void *arg;
} run;

static float *run_on(kernels *k, const run *r)
{
    float *y = r->y_before ? guarded_copy(r->y_before, r->n) : guarded(r->n);
    r->call(k, y, r->arg);
    return y;
}

static void run_levels(const levels *l, const run *r)
{
    float *plain = run_on(l->k[0], r), *last = NULL;
    const double bound = r->plain_bound * largest_of(r->reference, r->n);
    for (int i = 0; i < l->n; i++) {
        guarded_free(last);
        last = run_on(l->k[i], r);
        check_level(l, i, last, plain, r->reference, r->n, bound, r->what);
    }
    float *single = run_on(l->single, r);
    assert_memory_equal(single, last, (size_t)r->n * sizeof *single);
    guarded_free(single);
    guarded_free(last);
    guarded_free(plain);
}

// ---- norms ----

typedef struct norm_case {
    int64_t N, D;
    float *x, *z, *w, *b;
    double *reference;
} norm_case;

static norm_case norm_case_new(int64_t N, int64_t D, uint64_t seed)
{
    test_random r = {seed};
    norm_case c = {.N = N, .D = D};
    c.x = guarded_normal(N * D, &r, 3);
    c.z = guarded_normal(N * D, &r, 4);
    c.w = guarded_normal(D, &r, 1);
    c.b = guarded_normal(D, &r, 1);
    for (int64_t i = 0; i < D; i++) c.x[i] = 0; // an all-zero row
    c.reference = doubles(N * D);
    return c;
}

static void norm_case_free(norm_case *c)
{
    guarded_free(c->x);
    guarded_free(c->z);
    guarded_free(c->w);
    guarded_free(c->b);
    free(c->reference);
}

static double silu_d(double x)
{
    return x / (1 + exp(-x));
}

static void rms_reference(norm_case *c, int gated)
{
    for (int64_t i = 0; i < c->N; i++) {
        const float *x = c->x + i * c->D;
        double sum = 0;
        for (int64_t d = 0; d < c->D; d++) sum += (double)x[d] * x[d];
        const double scale = 1 / sqrt(sum / (double)c->D + EPS);
        for (int64_t d = 0; d < c->D; d++) {
            c->reference[i * c->D + d] =
                x[d] * scale * c->w[d] * (gated ? silu_d(c->z[i * c->D + d]) : 1);
        }
    }
}

static void layer_reference(norm_case *c)
{
    for (int64_t i = 0; i < c->N; i++) {
        const float *x = c->x + i * c->D;
        double mean = 0, var = 0;
        for (int64_t d = 0; d < c->D; d++) mean += x[d] / (double)c->D;
        for (int64_t d = 0; d < c->D; d++) var += (x[d] - mean) * (x[d] - mean) / (double)c->D;
        for (int64_t d = 0; d < c->D; d++) {
            c->reference[i * c->D + d] = (x[d] - mean) / sqrt(var + EPS) * c->w[d] + c->b[d];
        }
    }
}

static void call_rms(kernels *k, float *y, void *arg)
{
    norm_case *c = arg;
    op_rms_norm(k, y, c->x, c->w, c->N, c->D, EPS);
}

static void call_rms_in_place(kernels *k, float *y, void *arg)
{
    norm_case *c = arg;
    op_rms_norm(k, y, y, c->w, c->N, c->D, EPS);
}

static void call_layer(kernels *k, float *y, void *arg)
{
    norm_case *c = arg;
    op_layer_norm(k, y, c->x, c->w, c->b, c->N, c->D, EPS);
}

static void call_layer_in_place(kernels *k, float *y, void *arg)
{
    norm_case *c = arg;
    op_layer_norm(k, y, y, c->w, c->b, c->N, c->D, EPS);
}

static void call_gated(kernels *k, float *y, void *arg)
{
    norm_case *c = arg;
    // rows of 1 head or of as many as divide
    const int64_t heads = c->N % 5 == 0 ? 5 : 1;
    op_rms_norm_gated(k, y, c->x, c->z, c->w, c->N / heads, heads, c->D, EPS);
}

static void norms_agree(void **state)
{
    const levels *l = *state;
    for (int i = 0; i < N_WIDTHS; i++) {
        norm_case c = norm_case_new(rows_for(widths[i]), widths[i], 11 + (uint64_t)i);
        // a sum of D squares in order errs by at most D/2 last places
        run r = {c.N * c.D, NULL, c.reference, (double)(c.D + 8) * FLT_EPSILON, "rms_norm",
                 call_rms, &c};
        rms_reference(&c, 0);
        run_levels(l, &r);
        r.y_before = c.x;
        r.call = call_rms_in_place;
        run_levels(l, &r);
        rms_reference(&c, 1);
        r.y_before = NULL;
        r.call = call_gated;
        r.what = "rms_norm_gated";
        run_levels(l, &r);
        layer_reference(&c);
        r.call = call_layer;
        r.what = "layer_norm";
        // one column: variance 0, and the mean's rounding is divided by sqrt(eps)
        r.plain_bound = (double)(c.D + 8) * FLT_EPSILON * 10;
        run_levels(l, &r);
        r.y_before = c.x;
        r.call = call_layer_in_place;
        run_levels(l, &r);
        norm_case_free(&c);
    }
}

// ---- elementwise ----

typedef struct map_case {
    int64_t n;
    float *x;
} map_case;

static void call_add(kernels *k, float *y, void *arg)
{
    op_add(k, y, ((map_case *)arg)->x, ((map_case *)arg)->n);
}

static void call_gelu_tanh(kernels *k, float *y, void *arg)
{
    op_gelu_tanh(k, y, ((map_case *)arg)->x, ((map_case *)arg)->n);
}

static void call_gelu_erf(kernels *k, float *y, void *arg)
{
    op_gelu_erf(k, y, ((map_case *)arg)->x, ((map_case *)arg)->n);
}

static void call_gelu_erf_in_place(kernels *k, float *y, void *arg)
{
    op_gelu_erf(k, y, y, ((map_case *)arg)->n);
}

static void maps_agree(void **state)
{
    const levels *l = *state;
    static const int64_t sizes[] = {1, 7, 16, 33, 1000, 50001};
    for (int i = 0; i < 6; i++) {
        test_random rnd = {99 + (uint64_t)i};
        map_case c = {sizes[i], guarded_normal(sizes[i], &rnd, 3)};
        double *reference = doubles(c.n);
        for (int64_t j = 0; j < c.n; j++) reference[j] = 2.0 * c.x[j];
        run r = {c.n, c.x, reference, FLT_EPSILON, "add", call_add, &c};
        run_levels(l, &r);
        for (int64_t j = 0; j < c.n; j++) {
            const double x = c.x[j];
            reference[j] = x / 2 * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
        }
        r = (run){c.n, NULL, reference, 8 * FLT_EPSILON, "gelu_tanh", call_gelu_tanh, &c};
        run_levels(l, &r);
        for (int64_t j = 0; j < c.n; j++) {
            reference[j] = c.x[j] / 2.0 * (1 + erf(c.x[j] * M_SQRT1_2));
        }
        r = (run){c.n, NULL, reference, 8 * FLT_EPSILON, "gelu_erf", call_gelu_erf, &c};
        run_levels(l, &r);
        r.y_before = c.x;
        r.call = call_gelu_erf_in_place;
        run_levels(l, &r);
        free(reference);
        guarded_free(c.x);
    }
}

// Large arguments saturate; nothing becomes NaN.
static void gelu_saturates(void **state)
{
    const levels *l = *state;
    static const float x[] = {-1e30f, -1000, -100, -20, -0.0f, 0, 1e-30f, 20, 100, 1000, 1e12f};
    static const float expected[] = {0, 0, 0, 0, 0, 0, 5e-31f, 20, 100, 1000, 1e12f};
    for (int i = 0; i < l->n; i++) {
        float y[11];
        op_gelu_tanh(l->k[i], y, x, 11);
        for (int j = 0; j < 11; j++) assert_float_equal(y[j], expected[j], 1e-20);
        op_gelu_erf(l->k[i], y, x, 11);
        for (int j = 0; j < 11; j++) assert_float_equal(y[j], expected[j], 1e-20);
    }
}

// ---- heads inside wider rows ----

typedef struct heads_case {
    int64_t N, H, C, R, row_stride, head_stride;
    float *x, *w, *cosine, *sine;
    const float *norm; // w or NULL
} heads_case;

static heads_case heads_case_new(int64_t N, int64_t H, int64_t C, int64_t R, uint64_t seed)
{
    test_random r = {seed};
    heads_case c = {.N = N, .H = H, .C = C, .R = R, .head_stride = 2 * C + 1};
    c.row_stride = H * c.head_stride + 3;
    c.x = guarded_normal(N * c.row_stride, &r, 2);
    c.w = guarded_normal(C, &r, 1);
    c.cosine = guarded(N * R / 2);
    c.sine = guarded(N * R / 2);
    for (int64_t i = 0; i < N * R / 2; i++) {
        const float angle = 3 * test_random_normal(&r);
        c.cosine[i] = cosf(angle);
        c.sine[i] = sinf(angle);
    }
    return c;
}

static void heads_case_free(heads_case *c)
{
    guarded_free(c->x);
    guarded_free(c->w);
    guarded_free(c->cosine);
    guarded_free(c->sine);
}

static void rope_reference(const heads_case *c, double *y)
{
    for (int64_t i = 0; i < c->N * c->H; i++) {
        const int64_t row = i / c->H;
        const float *x = c->x + row * c->row_stride + i % c->H * c->head_stride;
        double sum = 0, *to = y + i * c->C;
        for (int64_t d = 0; d < c->C; d++) sum += (double)x[d] * x[d];
        const double scale = 1 / sqrt(sum / (double)c->C + EPS);
        for (int64_t d = 0; d < c->C; d++) to[d] = c->norm ? x[d] * scale * c->norm[d] : x[d];
        for (int64_t d = 0; d < c->R / 2; d++) {
            const double a = to[d], b = to[d + c->R / 2];
            const double cosine = c->cosine[row * c->R / 2 + d];
            const double sine = c->sine[row * c->R / 2 + d];
            to[d] = a * cosine - b * sine;
            to[d + c->R / 2] = b * cosine + a * sine;
        }
    }
}

static void call_rope(kernels *k, float *y, void *arg)
{
    heads_case *c = arg;
    op_norm_rope(k, y, c->x, c->norm, c->cosine, c->sine, c->N, c->H, c->C, c->R, c->row_stride,
                 c->head_stride, EPS);
}

static void call_rope_in_place(kernels *k, float *y, void *arg)
{
    heads_case *c = arg;
    op_norm_rope(k, y, y, c->norm, c->cosine, c->sine, c->N, c->H, c->C, c->R, c->H * c->C, c->C,
                 EPS);
}

static void norm_rope_agrees(void **state)
{
    const levels *l = *state;
    static const int64_t shapes[][4] = {{1, 1, 2, 2},    {3, 2, 16, 4},    {5, 3, 72, 72},
                                        {2, 2, 80, 80},  {40, 8, 256, 64}, {9, 4, 128, 128},
                                        {7, 2, 33, 10},  {4, 2, 64, 0},    {3, 1, 20, 18}};
    for (int i = 0; i < 9; i++) {
        const int64_t *s = shapes[i];
        heads_case c = heads_case_new(s[0], s[1], s[2], s[3], 5 + (uint64_t)i);
        const int64_t n = c.N * c.H * c.C;
        double *reference = doubles(n);
        for (int with_norm = 0; with_norm < 2; with_norm++) {
            c.norm = with_norm ? c.w : NULL;
            rope_reference(&c, reference);
            run r = {n, NULL, reference, (double)(c.C + 8) * FLT_EPSILON, "norm_rope", call_rope,
                     &c};
            run_levels(l, &r);
            // in place: x contiguous
            float *x = guarded(n);
            for (int64_t j = 0; j < c.N * c.H; j++) {
                memcpy(x + j * c.C, c.x + j / c.H * c.row_stride + j % c.H * c.head_stride,
                       (size_t)c.C * sizeof *x);
            }
            r.y_before = x;
            r.call = call_rope_in_place;
            run_levels(l, &r);
            guarded_free(x);
        }
        free(reference);
        heads_case_free(&c);
    }
}

static void call_sigmoid_mul(kernels *k, float *y, void *arg)
{
    heads_case *c = arg;
    op_sigmoid_mul(k, y, c->x, c->N, c->H, c->C, c->row_stride, c->head_stride);
}

static void sigmoid_mul_agrees(void **state)
{
    const levels *l = *state;
    static const int64_t shapes[][3] = {{1, 1, 1}, {3, 2, 16}, {21, 8, 256}, {5, 3, 37}};
    for (int i = 0; i < 4; i++) {
        const int64_t *s = shapes[i];
        heads_case c = heads_case_new(s[0], s[1], s[2], 0, 50 + (uint64_t)i);
        const int64_t n = c.N * c.H * c.C;
        c.x[0] = -200; // sigmoid 0, without a NaN on the way
        test_random r = {77};
        float *y = guarded_normal(n, &r, 1);
        double *reference = doubles(n);
        for (int64_t j = 0; j < n; j++) {
            const int64_t row = j / (c.H * c.C), h = j / c.C % c.H, d = j % c.C;
            reference[j] = y[j] / (1 + exp(-(double)c.x[row * c.row_stride + h * c.head_stride + d]));
        }
        run run_it = {n, y, reference, 8 * FLT_EPSILON, "sigmoid_mul", call_sigmoid_mul, &c};
        run_levels(l, &run_it);
        free(reference);
        guarded_free(y);
        heads_case_free(&c);
    }
}

// ---- embedding ----

static void embed_copies_rows(void **state)
{
    const levels *l = *state;
    enum { V = 13, D = 37, N = 900 };
    test_random r = {3};
    float table[V * D], y[N * D];
    uint16_t half[V * D];
    int32_t ids[N];
    for (int i = 0; i < V * D; i++) {
        half[i] = (uint16_t)(test_random_bits(&r) & 0xbfff); // any finite value
        table[i] = test_random_normal(&r);
    }
    for (int i = 0; i < N; i++) ids[i] = (int32_t)test_random_range(&r, 0, V - 1);
    static const tensor_type types[] = {TENSOR_F32, TENSOR_BF16, TENSOR_F16};
    for (int t = 0; t < 3; t++) {
        const void *data = types[t] == TENSOR_F32 ? (void *)table : (void *)half;
        const weight rows = {.w = {data, types[t], 2, {V, D}}};
        for (int i = 0; i < l->n; i++) {
            memset(y, 0xff, sizeof y);
            op_embed(l->k[i], y, ids, &rows, N);
            for (int j = 0; j < N * D; j++) {
                const float expected = tensor_get_f32(&rows.w, (int64_t)ids[j / D] * D + j % D);
                assert_memory_equal(&y[j], &expected, sizeof expected);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_agree),        cmocka_unit_test(maps_agree),
        cmocka_unit_test(gelu_saturates),     cmocka_unit_test(norm_rope_agrees),
        cmocka_unit_test(sigmoid_mul_agrees), cmocka_unit_test(embed_copies_rows),
    };
    return cmocka_run_group_tests(tests, levels_open, levels_close);
}
