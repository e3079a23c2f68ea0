// Two engines over the same prompts: what equals, what differs, and what cannot be compared.
#include "support/test.h"

#include <math.h>

#include "daemon/compare.h"

#define HYBRID  TEST_GOLDEN_DIR "/hybrid/model"
#define QWEN3VL TEST_GOLDEN_DIR "/qwen3vl/model"
#define BUNDLED TEST_SOURCE_DIR "/models/mini"

static engine *open_with(const char *path, weights_form form)
{
    engine_options o = engine_options_exact();
    o.model = path;
    o.weights.form = form;
    o.weights.cache = "none";
    engine *e = NULL;
    assert_ok(engine_open(&e, &o));
    return e;
}

static const char text[] =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"one two three\"},"
    " {\"role\": \"assistant\", \"content\": \"four five\"}]}";
static const char with_picture[] =
    "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"image\": \"picture.png\"},"
    " {\"type\": \"text\", \"text\": \"How many objects are there?\"}]},"
    " {\"role\": \"assistant\", \"content\": \"Two.\"}]}";

static sight_err add(compared *c, engine *a, engine *b, const char *json)
{
    const request_limits limits = request_limits_default();
    const request_source source = {.json = json, .size = strlen(json), .base_dir = BUNDLED "/demo"};
    return compare_add(c, a, b, &source, &limits);
}

static void the_same_weights(void **state)
{
    engine *a = open_with(HYBRID, WEIGHTS_STORED), *b = open_with(HYBRID, WEIGHTS_STORED);
    compared c = {0};
    compare_summary s = compare_sum_up(&c);
    assert_true(s.mean == 0 && s.same == 0);
    assert_ok(add(&c, a, b, text));
    assert_ok(add(&c, a, b, text));
    assert_true(c.n > 10 && c.n % 2 == 0);
    s = compare_sum_up(&c);
    assert_true(s.largest == 0 && s.mean == 0);
    assert_true(s.same == 1);
    assert_true(s.first_perplexity == s.second_perplexity && s.first_perplexity > 1);
    compared_done(&c);
    engine_close(&a);
    engine_close(&b);
}

// On trained weights, about twice what docs/KERNELS.md tells of many prompts.
static void fewer_bits(void **state)
{
    static const weights_form forms[] = {WEIGHTS_INT8, WEIGHTS_INT4};
    static const double most[] = {1e-3, 0.03};
    engine *a = open_with(BUNDLED, WEIGHTS_STORED);
    double before = 0;
    for (int i = 0; i < 2; i++) {
        engine *b = open_with(BUNDLED, forms[i]);
        assert_string_equal(engine_weights(b), weights_form_name(forms[i]));
        compared c = {0};
        assert_ok(add(&c, a, b, with_picture));
        const compare_summary s = compare_sum_up(&c);
        print_message("%s: KL %.3g, same likeliest %.3g\n", engine_weights(b), s.mean, s.same);
        assert_true(s.mean > before && s.mean < most[i]);
        assert_true(s.median <= s.p99 && s.p99 <= s.largest);
        before = s.mean;
        compared_done(&c);
        engine_close(&b);
    }
    engine_close(&a);
}

static void other_tokens(void **state)
{
    engine *a = open_with(HYBRID, WEIGHTS_STORED), *b = open_with(QWEN3VL, WEIGHTS_STORED);
    compared c = {0};
    if (engine_config(a)->text.vocab != engine_config(b)->text.vocab) {
        assert_fails(add(&c, a, b, text), SIGHT_E_ARGUMENT, "vocabularies of");
    } else {
        assert_fails(add(&c, a, b, text), SIGHT_E_ARGUMENT, "read different tokens");
    }
    compared_done(&c);
    engine_close(&a);
    engine_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_weights),
        cmocka_unit_test(fewer_bits),
        cmocka_unit_test(other_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
