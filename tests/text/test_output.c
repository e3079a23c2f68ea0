// The output layer against the full product: none of the k greatest is missing, logits have its
// bits, and samplers draw the same ids from candidates as from all logits.
#include "support/test.h"

#include <math.h>

#include "kernels/backend.h"
#include "text/output.h"
#include "text/sampler.h"

typedef struct fixture {
    kernels *k;
    weight head;
    void *memory;
    output_layer *few, *all; // with planes and without
    int32_t M, K;
    float *full;      // [M], of the x looked at
    output_row row;
} fixture;

static kernels *create_kernels(simd_level level)
{
    kernels *k = NULL;
    const kernels_options o = {.threads = 2, .simd = level};
    assert_ok(kernels_create(&k, &o));
    return k;
}

static void open_layers(fixture *f)
{
    const output_options planes = {.planes = true}, none = {.planes = false};
    assert_ok(output_create(&f->few, f->k, &f->head, &planes));
    assert_ok(output_create(&f->all, f->k, &f->head, &none));
    assert_true(output_bytes(f->few) > f->M * (int64_t)f->K && output_bytes(f->all) == 0);
    f->full = malloc((size_t)f->M * sizeof *f->full);
    f->row.ids = malloc((size_t)f->M * sizeof *f->row.ids);
    f->row.logits = malloc((size_t)f->M * sizeof *f->row.logits);
}

static void open_plain(fixture *f, kernels *k, const float *w, int32_t M, int32_t K,
                       tensor_type type)
{
    *f = (fixture){.k = k, .M = M, .K = K};
    f->memory = malloc((size_t)M * (size_t)K * 4);
    for (int64_t i = 0; i < (int64_t)M * K; i++) {
        if (type == TENSOR_F32) ((float *)f->memory)[i] = w[i];
        else ((uint16_t *)f->memory)[i] = f32_to_bf16(w[i]);
    }
    f->head.w = (tensor_view){.data = f->memory, .type = type, .n_dims = 2, .shape = {M, K}};
    open_layers(f);
}

// A head of random codes, its scales within a factor of four.
static void open_packed(fixture *f, kernels *k, const packed_format *format, int32_t M, int32_t K,
                        test_random *r, packed *p)
{
    *f = (fixture){.k = k, .M = M, .K = K};
    packed_rows rows;
    f->memory = aligned_alloc(64, (packed_bytes(format, M, K) + 63) / 64 * 64);
    packed_init(p, format, M, K, f->memory);
    assert_true(packed_rows_alloc(&rows, format, M, K));
    const int64_t groups = packed_groups(format, K), supers = packed_supers(format, K);
    for (int64_t i = 0; i < (int64_t)M * K; i++) {
        rows.codes[i] = (uint8_t)test_random_range(r, 0, format->f8 ? 100 : 255);
    }
    for (int64_t i = 0; i < M * groups; i++) {
        const int64_t v = test_random_range(r, 1, 4);
        if (format->scales == PACKED_FLAT) ((uint16_t *)rows.scales)[i] = (uint16_t)(0x1000 + v);
        else if (format->scales == PACKED_FLAT_F32) ((float *)rows.scales)[i] = 1e-3f * (float)v;
        else ((int8_t *)rows.scales)[i] = (int8_t)(v % 2 ? v : -v);
    }
    for (int64_t i = 0; i < M * supers; i++) rows.super[i] = 1e-3f;
    packed_put(p, 0, M, &rows);
    free(rows.codes);
    f->head.w = (tensor_view){.n_dims = 2, .shape = {M, K}};
    f->head.packed = p;
    open_layers(f);
}

static void close_fixture(fixture *f)
{
    output_destroy(&f->few);
    output_destroy(&f->all);
    assert_null(f->few);
    free(f->memory);
    free(f->full);
    free(f->row.ids);
    free(f->row.logits);
}

static int descending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

// The k-th greatest logit of those that compete; -inf when fewer do.
static float kth_logit(const fixture *f)
{
    const output_row *r = &f->row;
    float *sorted = malloc((size_t)f->M * sizeof *sorted);
    int32_t n = 0;
    for (int32_t m = 0; m < f->M; m++) {
        bool competes = !r->allowed || r->allowed[m];
        for (int32_t i = 0; i < r->n_always; i++) competes = competes && r->always[i] != m;
        if (competes) sorted[n++] = f->full[m];
    }
    qsort(sorted, (size_t)n, sizeof *sorted, descending);
    const float v = r->k <= n ? sorted[r->k - 1] : -INFINITY;
    free(sorted);
    return v;
}

// The row holds what was wanted, with the full product's bits.
static void check_row(const fixture *f, const char *what)
{
    const output_row *r = &f->row;
    const float least = r->n < f->M ? kth_logit(f) : 0;
    int32_t at = 0;
    if (r->n == f->M) assert_memory_equal(r->logits, f->full, (size_t)f->M * sizeof *f->full);
    for (int32_t m = 0; m < f->M && r->n < f->M; m++) {
        bool wanted = f->full[m] >= least && (!r->allowed || r->allowed[m]);
        for (int32_t i = 0; i < r->n_always; i++) wanted = wanted || r->always[i] == m;
        const bool there = at < r->n && r->ids[at] == m;
        if (wanted && !there) fail_msg("%s: id %d of %d is missing", what, m, r->n);
        if (there && memcmp(&r->logits[at], &f->full[m], sizeof(float)) != 0) {
            fail_msg("%s: id %d has %.9g, not %.9g", what, m, (double)r->logits[at],
                     (double)f->full[m]);
        }
        at += there;
    }
    if (r->n < f->M) assert_int_equal(at, r->n); // each once, rising
}

static void look_at(fixture *f, const float *x, int32_t k, const char *what)
{
    output_row *rows[1] = {&f->row};
    op_linear(f->k, f->full, x, &f->head, 1);
    f->row.k = k;
    output_run(f->few, x, rows, 1);
    check_row(f, what);
    output_run(f->all, x, rows, 1);
    assert_int_equal(f->row.n, f->M);
    check_row(f, what);
}

static float *normal(test_random *r, int64_t n, float scale)
{
    float *p = malloc((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++) p[i] = scale * test_random_normal(r);
    return p;
}

// ---- candidates ----

static void random_heads_give_the_greatest(void **state)
{
    test_random r = {11};
    const int32_t shapes[][2] = {{1000, 64}, {2003, 128}, {640, 513}, {5000, 96}};
    for (int level = SIMD_PLAIN; level < SIMD_COUNT; level++) {
        if (!simd_level_available((simd_level)level)) continue;
        kernels *k = create_kernels((simd_level)level);
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            const int32_t M = shapes[s][0], K = shapes[s][1];
            float *w = normal(&r, (int64_t)M * K, 0.02f);
            fixture f;
            open_plain(&f, k, w, M, K, s % 2 ? TENSOR_F32 : TENSOR_BF16);
            for (int round = 0; round < 12; round++) {
                float *x = normal(&r, K, 1);
                // From no row alike to one that stands out.
                for (int i = 0; i < K; i++) x[i] += (float)(round % 4) * 20 * w[K * 17 + i];
                look_at(&f, x, round % 3 ? 1 : 9, "random");
                free(x);
            }
            const output_counts c = output_get_counts(f.few);
            assert_true(c.scans > 0 && c.full < 12);
            close_fixture(&f);
            free(w);
        }
        kernels_destroy(&k);
    }
}

static void packed_heads_give_the_greatest(void **state)
{
    enum { M = 1703, K = 200 };
    test_random r = {16};
    const packed_format formats[] = {
        packed_format_int8(),
        {.bits = 8, .offset = 128, .group = 128, .scales = PACKED_FLAT_F32, .factor = 0.5f},
        {.bits = 8, .offset = 32, .group = 16, .scales = PACKED_TWO_LEVEL, .per_super = 16,
         .signed_sub = true},
        {.bits = 8, .f8 = true, .group = 128, .scales = PACKED_FLAT_F32, .factor = 1},
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        kernels *k = create_kernels(i % 2 ? SIMD_PLAIN : SIMD_AUTO);
        packed p;
        fixture f;
        open_packed(&f, k, &formats[i], M, K, &r, &p);
        float row[K];
        for (int round = 0; round < 8; round++) {
            float *x = normal(&r, K, 1);
            packed_get_row(&p, row, round * 211);
            for (int j = 0; j < K; j++) x[j] += (float)(round % 4) * 5 * row[j];
            look_at(&f, x, round % 3 ? 1 : 6, "packed");
            free(x);
        }
        const output_counts c = output_get_counts(f.few);
        assert_true(c.scans > 0 && c.full < 8);
        close_fixture(&f);
        kernels_destroy(&k);
    }
}

// Rows that differ in a last place, equal rows, zeros, channels and rows of all sizes.
static void near_ties_and_outliers_are_told_apart(void **state)
{
    enum { M = 1500, K = 160 };
    test_random r = {12};
    kernels *k = create_kernels(SIMD_AUTO);
    for (int kind = 0; kind < 6; kind++) {
        float *w = normal(&r, M * K, 0.03f), *x = normal(&r, K, 1);
        for (int m = 0; m < M; m++) {
            for (int i = 0; i < K; i++) {
                float *v = &w[m * K + i];
                if (kind == 0 && m % 50 == 7) *v = w[7 * K + i] + (i == m % K ? 1e-8f : 0);
                if (kind == 1 && m % 30 == 3) *v = w[3 * K + i];
                if (kind == 2) *v = m % 2 ? *v : 0;
                if (kind == 3 && (i == 11 || i == 90)) *v *= 300;
                if (kind == 4) *v *= expf(3 * test_random_normal(&r));
                if (kind == 5) *v = m % 7 ? *v : *v * 1e-20f;
            }
        }
        if (kind < 2) for (int i = 0; i < K; i++) x[i] += 60 * w[(kind ? 3 : 7) * K + i];
        if (kind >= 3) x[11] *= 100;
        fixture f;
        open_plain(&f, k, w, M, K, TENSOR_F32);
        for (int round = 0; round < 4; round++) {
            look_at(&f, x, round * 7 + 1, "near ties");
            x[round] = -x[round];
        }
        close_fixture(&f);
        free(w);
        free(x);
    }
    kernels_destroy(&k);
}

// All logits equal: nothing can be ruled out, and scanning rests.
static void flat_logits_fall_back(void **state)
{
    enum { M = 3000, K = 64 };
    float *w = malloc(M * K * sizeof *w), x[K];
    for (int i = 0; i < M * K; i++) w[i] = 0.5f + 1e-6f * (float)(i % K);
    kernels *k = create_kernels(SIMD_AUTO);
    fixture f;
    open_plain(&f, k, w, M, K, TENSOR_BF16);
    for (int i = 0; i < K; i++) x[i] = (float)i;
    for (int round = 0; round < 40; round++) look_at(&f, x, 1, "flat");
    output_counts c = output_get_counts(f.few);
    assert_int_equal(c.full, 40);
    assert_in_range(c.scans, 1, 6);
    memset(x, 0, sizeof x);
    look_at(&f, x, 3, "zero input");
    x[3] = NAN;
    look_at(&f, x, 3, "an input that is no number");
    x[3] = INFINITY;
    look_at(&f, x, 3, "an infinite input");
    close_fixture(&f);
    kernels_destroy(&k);
    free(w);
}

static void weights_that_are_no_numbers_get_no_planes(void **state)
{
    enum { M = 100, K = 64 };
    float *w = calloc(M * K, sizeof *w), x[K] = {1};
    w[77] = INFINITY;
    kernels *k = create_kernels(SIMD_AUTO);
    fixture f;
    open_plain(&f, k, w, M, K, TENSOR_F32);
    look_at(&f, x, 1, "infinite weight");
    assert_int_equal(output_get_counts(f.few).scans, 0);
    close_fixture(&f);
    kernels_destroy(&k);
    free(w);
}

static void adapters_on_the_head_get_the_full_product(void **state)
{
    enum { M = 900, K = 64 };
    test_random r = {17};
    float *w = normal(&r, M * K, 0.03f), *a = normal(&r, K, 1), *b = normal(&r, M, 1);
    float *x = normal(&r, K, 1);
    const low_rank addition = {
        .a = {.data = a, .type = TENSOR_F32, .n_dims = 2, .shape = {1, K}},
        .b = {.data = b, .type = TENSOR_F32, .n_dims = 2, .shape = {M, 1}},
        .scale = 1,
    };
    kernels *k = create_kernels(SIMD_AUTO);
    fixture f;
    open_plain(&f, k, w, M, K, TENSOR_BF16);
    look_at(&f, x, 1, "before");
    f.head.lora = &addition;
    look_at(&f, x, 1, "with an adapter");
    assert_int_equal(output_get_counts(f.few).scans, 1);
    close_fixture(&f);
    kernels_destroy(&k);
    free(w);
    free(a);
    free(b);
    free(x);
}

static void masks_and_ids_wanted_anyway(void **state)
{
    enum { M = 2100, K = 96 };
    test_random r = {13};
    float *w = normal(&r, M * K, 0.03f);
    kernels *k = create_kernels(SIMD_AUTO);
    fixture f;
    open_plain(&f, k, w, M, K, TENSOR_BF16);
    uint8_t allowed[M];
    int32_t always[12];
    for (int round = 0; round < 30; round++) {
        float *x = normal(&r, K, 1);
        for (int m = 0; m < M; m++) allowed[m] = round % 3 == 0 ? m < 900 : m % 5 != round % 5;
        if (round % 7 == 6) memset(allowed, 0, M);
        op_linear(k, f.full, x, &f.head, 1);
        f.row.n_always = round % 12;
        f.row.always = always;
        f.row.allowed = round % 4 ? allowed : NULL;
        int32_t best = 0; // the greatest is among those wanted anyway, and does not count
        for (int m = 0; m < M; m++) best = f.full[m] > f.full[best] ? m : best;
        for (int i = 0; i < 12; i++) always[i] = i ? (best + 61 * i) % M : best;
        look_at(&f, x, 1 + round % 6, "masks");
        free(x);
    }
    assert_true(output_get_counts(f.few).exact < 30 * 300);
    close_fixture(&f);
    kernels_destroy(&k);
    free(w);
}

// Many rows of x, of all wants, equal those alone.
static void rows_of_a_batch_equal_those_alone(void **state)
{
    enum { M = 1300, K = 128, N = 21 };
    test_random r = {14};
    float *w = normal(&r, M * K, 0.03f), *x = normal(&r, N * K, 1);
    kernels *k = create_kernels(SIMD_AUTO);
    fixture f;
    open_plain(&f, k, w, M, K, TENSOR_BF16);
    output_row rows[N], *list[N];
    for (int n = 0; n < N; n++) {
        rows[n] = (output_row){.k = n % 6 == 5 ? 0 : 1 + n % 4};
        rows[n].ids = malloc(M * sizeof *rows[n].ids);
        rows[n].logits = malloc(M * sizeof *rows[n].logits);
        list[n] = &rows[n];
    }
    output_run(f.few, x, list, N);
    output_row own = f.row;
    int few = 0;
    for (int n = 0; n < N; n++) {
        op_linear(k, f.full, x + n * K, &f.head, 1);
        f.row = rows[n];
        check_row(&f, "batch");
        if (rows[n].k == 0) assert_int_equal(rows[n].n, M);
        few += rows[n].n < M;
        free(rows[n].ids);
        free(rows[n].logits);
    }
    assert_true(few >= 5); // at least those before the first that wants all
    f.row = own;
    close_fixture(&f);
    kernels_destroy(&k);
    free(w);
    free(x);
}

// ---- with samplers ----

static void samplers_draw_the_same_ids(void **state)
{
    enum { M = 6000, K = 96, STEPS = 40 };
    test_random r = {15};
    float *w = normal(&r, M * K, 0.05f);
    uint8_t allowed[M];
    int32_t prompt[20];
    for (int m = 0; m < M; m++) allowed[m] = m % 11 != 4 && m < 5800;
    for (int i = 0; i < 20; i++) prompt[i] = 100 * i;
    const sampler_options kinds[] = {
        {.top_p = 1, .repetition_penalty = 1},
        {.top_p = 1, .repetition_penalty = 1.5},
        {.top_p = 1, .repetition_penalty = 1, .presence_penalty = -1, .frequency_penalty = 0.5},
        {.temperature = 1, .top_k = 20, .top_p = 0.95, .repetition_penalty = 1, .seed = 3},
        {.temperature = 0.7, .top_k = 5, .top_p = 1, .min_p = 0.1, .repetition_penalty = 0.8},
        {.temperature = 3, .top_k = 30, .top_p = 0.5, .repetition_penalty = 1,
         .presence_penalty = 2, .seed = 9},
        {.temperature = 1, .top_p = 0.9, .repetition_penalty = 1}, // needs all
    };
    kernels *k = create_kernels(SIMD_AUTO);
    fixture f;
    open_plain(&f, k, w, M, K, TENSOR_BF16);
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        sampler *a = NULL, *b = NULL;
        assert_ok(sampler_create(&a, &kinds[kind], M, allowed));
        assert_ok(sampler_create(&b, &kinds[kind], M, allowed));
        sampler_see_prompt(a, prompt, 20);
        sampler_see_prompt(b, prompt, 20);
        int32_t few = 0;
        for (int i = 0; i < STEPS; i++) {
            float *x = normal(&r, K, 2), p = 0, q = 0;
            int32_t id, other;
            output_row *rows[1] = {&f.row};
            const bool logprob = i % 8 == 7;
            sampler_wants(a, &f.row, logprob);
            output_run(f.few, x, rows, 1);
            few += f.row.n < M;
            op_linear(k, f.full, x, &f.head, 1);
            assert_ok(sampler_next_of(a, &id, logprob ? &p : NULL, &f.row));
            assert_ok(sampler_next(b, &other, logprob ? &q : NULL, f.full));
            assert_int_equal(id, other);
            assert_true(p == q);
            free(x);
        }
        if (kind == 6) assert_int_equal(few, 0);
        else if (few <= STEPS / 2) fail_msg("kind %d: candidates in %d steps", (int)kind, few);
        sampler_destroy(&a);
        sampler_destroy(&b);
    }
    close_fixture(&f);
    kernels_destroy(&k);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_heads_give_the_greatest),
        cmocka_unit_test(packed_heads_give_the_greatest),
        cmocka_unit_test(near_ties_and_outliers_are_told_apart),
        cmocka_unit_test(flat_logits_fall_back),
        cmocka_unit_test(weights_that_are_no_numbers_get_no_planes),
        cmocka_unit_test(adapters_on_the_head_get_the_full_product),
        cmocka_unit_test(masks_and_ids_wanted_anyway),
        cmocka_unit_test(rows_of_a_batch_equal_those_alone),
        cmocka_unit_test(samplers_draw_the_same_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
