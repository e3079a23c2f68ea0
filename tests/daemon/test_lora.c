// A whole request with adapters on text and vision, against PEFT's numbers (golden/make_lora.py).
#include "support/test.h"

#include <math.h>

#include "base/file.h"
#include "base/json.h"
#include "checkpoint/safetensors.h"
#include "daemon/engine.h"
#include "daemon/trace.h"

#define CASE TEST_GOLDEN_DIR "/hybrid/cases/image-40x40"

static char *request_text(void)
{
    json_t *whole = NULL;
    assert_ok(json_parse_file(&whole, CASE "/case.json", 1 << 20, SIGHT_E_MODEL));
    char *text = json_dumps(json_object_get(whole, "request"), 0);
    json_decref(whole);
    return text;
}

static void trace_with(const char *const *lora, size_t n, const char *out)
{
    engine *e = NULL;
    engine_options o = engine_options_exact();
    o.model = TEST_GOLDEN_DIR "/hybrid/model";
    o.lora = lora;
    o.n_lora = n;
    assert_ok(engine_open(&e, &o));
    char *text = request_text();
    const request_source source = {.json = text, .size = strlen(text), .base_dir = CASE};
    const request_limits limits = request_limits_default();
    assert_ok(trace_run(e, &source, &limits, out));
    free(text);
    engine_close(&e);
}

static tensor_view view_of(const safetensors *s, const char *name)
{
    tensor_view v;
    const int64_t i = safetensors_find(s, name);
    assert_true(i >= 0 && safetensors_view(s, &v, (size_t)i));
    return v;
}

// As the golden cases: the largest difference over the largest logit.
static void compare(const char *path, const char *name)
{
    safetensors *got = NULL, *wanted = NULL;
    assert_ok(safetensors_open(&got, path));
    assert_ok(safetensors_open(&wanted, TEST_GOLDEN_DIR "/lora/expected.safetensors"));
    const tensor_view a = view_of(got, "logits"), b = view_of(wanted, name);
    const tensor_view rows = view_of(wanted, "logit_positions");
    double worst = 0, largest = 0;
    for (int64_t i = 0; i < tensor_count(&b); i++) {
        const int64_t row = ((const int32_t *)rows.data)[i / b.shape[1]];
        const double y = tensor_get_f32(&b, i);
        worst = fmax(worst, fabs(tensor_get_f32(&a, row * b.shape[1] + i % b.shape[1]) - y));
        largest = fmax(largest, fabs(y));
    }
    if (!(worst <= 1e-3 * largest)) fail_msg("%s: off by %.2e", name, worst / largest);
    safetensors_close(&got);
    safetensors_close(&wanted);
}

static void as_peft(void **state)
{
    const char *const lora[] = {TEST_GOLDEN_DIR "/lora/first", TEST_GOLDEN_DIR "/lora/second:0.5"};
    char path[1100];
    snprintf(path, sizeof path, "%s/out.safetensors", test_folder());
    trace_with(lora, 1, path);
    compare(path, "first");
    trace_with(lora, 2, path);
    compare(path, "both");
}

static void refused(void **state)
{
    const char *const missing[] = {"/no/such/folder"};
    engine *e = NULL;
    engine_options o = engine_options_exact();
    o.model = TEST_GOLDEN_DIR "/hybrid/model";
    o.lora = missing;
    o.n_lora = 1;
    assert_fails(engine_open(&e, &o), SIGHT_E_NOT_FOUND, "/no/such/folder/adapter_config.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_peft), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
