// Quantised folders as they run: products of every form, and the whole model against the same numbers
// in float32.
#include "checkpoint/quantised_copy.h"

#include <math.h>

#include "checkpoint/prepare.h"
#include "daemon/engine.h"
#include "daemon/trace.h"
#include "kernels/ops.h"

#define DOWN "model.language_model.layers.3.mlp.down_proj"

static const char *const names[] = {
    "ct-fp8-tensor", "ct-fp8-channel", "ct-fp8-block",      "ct-int4",        "ct-int4-asym",
    "ct-int4-channel", "ct-int8-pack-asym", "ct-int8",      "ct-int8-asym",   "ct-nvfp4",
    "ct-mxfp4",      "ct-mixed",       "qwen-fp8",          "modelopt-mixed", "awq",
    "auto-round-awq", "gptq",          "gptq-asym",         "gptq-v2-int8",   "auto-round-gptq",
    "auto-round"};

#define N_NAMES (sizeof names / sizeof *names)

static void prepare(checkpoint *c)
{
    const prepare_options o = {.form = WEIGHTS_STORED};
    assert_ok(checkpoint_prepare(c, &o));
}

// In float32 as the rows say, but for roundings; with int8 rows within their own error.
static void multiply(const packed *p, bool exact, double tolerance, const char *name)
{
    enum { N = 3 };
    kernels *k = NULL;
    const kernels_options o = {.threads = 2, .exact = exact};
    assert_ok(kernels_create(&k, &o));
    test_random r = {5};
    float *x = malloc((size_t)(N * p->K) * sizeof *x), *y = malloc((size_t)(N * p->M) * sizeof *y);
    float *row = malloc((size_t)p->K * sizeof *row);
    for (int64_t i = 0; i < N * p->K; i++) x[i] = test_random_normal(&r);
    const weight w = {.w = {NULL, TENSOR_F32, 2, {p->M, p->K}}, .packed = p};
    op_linear(k, y, x, &w, N);
    double worst = 0, largest = 0;
    for (int64_t m = 0; m < p->M; m++) {
        packed_get_row(p, row, m);
        for (int64_t n = 0; n < N; n++) {
            double sum = 0;
            for (int64_t i = 0; i < p->K; i++) sum += (double)x[n * p->K + i] * row[i];
            worst = fmax(worst, fabs(y[n * p->M + m] - sum));
            largest = fmax(largest, fabs(sum));
        }
    }
    if (!(worst <= tolerance * largest)) fail_msg("%s: off by %.2e", name, worst / largest);
    free(x);
    free(y);
    free(row);
    kernels_destroy(&k);
}

static void products_of_every_form(void **state)
{
    for (size_t i = 0; i < N_NAMES; i++) {
        quantised_copy q = quantised_load(names[i]);
        checkpoint *c = NULL;
        tensor_view v;
        const packed *p = NULL;
        assert_ok(checkpoint_open(&c, quantised_write(&q)));
        prepare(c);
        assert_ok(checkpoint_matrix(c, &v, &p, DOWN ".weight"));
        multiply(p, true, 1e-5, names[i]);
        multiply(p, false, 2e-2, names[i]);
        checkpoint_close(&c);
        quantised_free(&q);
    }
}

// The same model with each quantised matrix as the float32 numbers that it stands for.
static const char *write_plain(const quantised_copy *q, const char *quantised)
{
    char path[1100];
    checkpoint *c = NULL;
    safetensors *expected = NULL;
    assert_ok(checkpoint_open(&c, quantised));
    prepare(c);
    model_copy *m = copy_load("hybrid");
    quantised_path(path, sizeof path, "awq", "expected.safetensors");
    assert_ok(safetensors_open(&expected, path));
    for (size_t i = 0; i < safetensors_count(expected); i++) {
        const char *name = safetensors_name(expected, i);
        const packed *p = NULL;
        tensor_view v;
        safetensors_entry *e = copy_entry(m, name);
        assert_ok(checkpoint_matrix(c, &v, &p, name));
        assert_non_null(p);
        float *rows = copy_own(m, malloc((size_t)(p->M * p->K) * sizeof *rows));
        for (int64_t r = 0; r < p->M; r++) packed_get_row(p, rows + r * p->K, r);
        e->view.data = rows;
        e->view.type = TENSOR_F32;
    }
    const char *folder = copy_write(m);
    safetensors_close(&expected);
    checkpoint_close(&c);
    copy_free(m);
    return folder;
}

static void trace(const char *model, const char *out)
{
    static const char text[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"Read the total of "
                               "all the lines.\"}], \"max_tokens\": 4, \"temperature\": 0}";
    engine *e = NULL;
    engine_options o = engine_options_exact();
    o.model = model;
    o.weights.cache = "none";
    assert_ok(engine_open(&e, &o));
    const request_source source = {.json = text, .size = strlen(text), .base_dir = "."};
    const request_limits limits = request_limits_default();
    assert_ok(trace_run(e, &source, &limits, out));
    engine_close(&e);
}

static void compare_logits(const char *got, const char *wanted, const char *name)
{
    safetensors *a = NULL, *b = NULL;
    tensor_view x, y;
    assert_ok(safetensors_open(&a, got));
    assert_ok(safetensors_open(&b, wanted));
    assert_true(safetensors_view(a, &x, (size_t)safetensors_find(a, "logits")));
    assert_true(safetensors_view(b, &y, (size_t)safetensors_find(b, "logits")));
    assert_int_equal(tensor_count(&x), tensor_count(&y));
    double worst = 0, largest = 0;
    for (int64_t i = 0; i < tensor_count(&x); i++) {
        worst = fmax(worst, fabs(tensor_get_f32(&x, i) - tensor_get_f32(&y, i)));
        largest = fmax(largest, fabs(tensor_get_f32(&y, i)));
    }
    if (!(worst <= 1e-4 * largest)) fail_msg("%s: off by %.2e", name, worst / largest);
    safetensors_close(&a);
    safetensors_close(&b);
}

static void the_whole_model(void **state)
{
    static const char *const some[] = {"ct-fp8-channel", "ct-nvfp4", "awq", "gptq", "ct-int8"};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        char got[1100], wanted[1100];
        quantised_copy q = quantised_load(some[i]);
        const char *folder = quantised_write(&q), *plain = write_plain(&q, folder);
        snprintf(got, sizeof got, "%s/trace.safetensors", folder);
        snprintf(wanted, sizeof wanted, "%s/trace.safetensors", plain);
        trace(folder, got);
        trace(plain, wanted);
        compare_logits(got, wanted, some[i]);
        quantised_free(&q);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_every_form),
        cmocka_unit_test(the_whole_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
