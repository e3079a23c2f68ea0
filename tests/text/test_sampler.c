#include "support/test.h"

#include <float.h>
#include <math.h>

#include "text/sampler.h"
#include "text/sampler_random.h"

static const sampler_options greedy = {.top_p = 1, .repetition_penalty = 1};
static const sampler_options plain = {.temperature = 1, .top_p = 1, .repetition_penalty = 1};

static sampler *create(const sampler_options *o, int32_t vocab, const uint8_t *allowed)
{
    sampler *s = NULL;
    assert_ok(sampler_create(&s, o, vocab, allowed));
    return s;
}

// One id from a copy of logits.
static int32_t next(sampler *s, const float *logits, int32_t n, float *logprob)
{
    float *copy = malloc((size_t)n * sizeof *copy);
    int32_t id = -1;
    memcpy(copy, logits, (size_t)n * sizeof *copy);
    assert_ok(sampler_next(s, &id, logprob, copy));
    free(copy);
    assert_in_range(id, 0, n - 1);
    return id;
}

static void wrong_options_are_refused(void **state)
{
    sampler *s = NULL;
    struct {
        sampler_options o;
        const char *name;
    } wrong[] = {
        {{.temperature = -1, .top_p = 1, .repetition_penalty = 1}, "temperature"},
        {{.temperature = NAN, .top_p = 1, .repetition_penalty = 1}, "temperature"},
        {{.temperature = 101, .top_p = 1, .repetition_penalty = 1}, "temperature"},
        {{.top_k = -1, .top_p = 1, .repetition_penalty = 1}, "top_k"},
        {{.top_p = 0, .repetition_penalty = 1}, "top_p"},
        {{.top_p = 1.01, .repetition_penalty = 1}, "top_p"},
        {{.top_p = 1, .min_p = 1, .repetition_penalty = 1}, "min_p"},
        {{.top_p = 1, .min_p = -0.1, .repetition_penalty = 1}, "min_p"},
        {{.top_p = 1, .presence_penalty = 2.1, .repetition_penalty = 1}, "presence_penalty"},
        {{.top_p = 1, .frequency_penalty = -INFINITY, .repetition_penalty = 1},
         "frequency_penalty"},
        {{.top_p = 1, .repetition_penalty = 0}, "repetition_penalty"},
        {{.top_p = 1, .repetition_penalty = INFINITY}, "repetition_penalty"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_fails(sampler_create(&s, &wrong[i].o, 10, NULL), SIGHT_E_ARGUMENT, wrong[i].name);
        assert_null(s);
    }
    assert_fails(sampler_create(&s, &plain, 0, NULL), SIGHT_E_ARGUMENT, "vocabulary");
    sampler_destroy(&s);
}

static void greedy_takes_the_lowest_of_the_greatest(void **state)
{
    const float logits[] = {1, 5, -2, 5, 5};
    const uint8_t allowed[] = {1, 0, 1, 1, 1};
    sampler *s = create(&greedy, 5, NULL);
    assert_int_equal(next(s, logits, 5, NULL), 1);
    sampler_destroy(&s);
    s = create(&greedy, 5, allowed);
    assert_int_equal(next(s, logits, 5, NULL), 3);
    sampler_destroy(&s);
    assert_null(s);
}

static void greedy_heeds_penalties(void **state)
{
    const float logits[] = {4, 5, -1, 4.5f};
    const int32_t prompt[] = {1, -7, 99, 1};
    sampler_options o = greedy;
    o.repetition_penalty = 1.25;
    sampler *s = create(&o, 4, NULL);
    sampler_see_prompt(s, prompt, 4);
    assert_int_equal(next(s, logits, 4, NULL), 3); // 5 / 1.25 = 4
    assert_int_equal(next(s, logits, 4, NULL), 0); // 4.5 / 1.25; ties go to the lower id
    assert_int_equal(next(s, logits, 4, NULL), 1);
    sampler_destroy(&s);
    o = greedy;
    o.frequency_penalty = 0.4; // 5, then 4.6, then 4.2; the prompt does not count
    s = create(&o, 4, NULL);
    sampler_see_prompt(s, prompt, 4);
    const int32_t want[] = {1, 1, 3, 1, 3, 0};
    for (int i = 0; i < 6; i++) assert_int_equal(next(s, logits, 4, NULL), want[i]);
    sampler_destroy(&s);
    o = greedy;
    o.presence_penalty = 0.75; // once: 4.25, 3.75, 3.25
    s = create(&o, 4, NULL);
    const int32_t present[] = {1, 3, 1, 1, 1};
    for (int i = 0; i < 5; i++) assert_int_equal(next(s, logits, 4, NULL), present[i]);
    sampler_destroy(&s);
}

static void negative_logits_are_multiplied_by_the_repetition_penalty(void **state)
{
    const float logits[] = {-1, -1.5f};
    const int32_t prompt[] = {0};
    sampler_options o = greedy;
    o.repetition_penalty = 2;
    sampler *s = create(&o, 2, NULL);
    sampler_see_prompt(s, prompt, 1);
    assert_int_equal(next(s, logits, 2, NULL), 1);
    sampler_destroy(&s);
}

static void logits_that_are_not_finite_are_never_drawn(void **state)
{
    const float logits[] = {NAN, INFINITY, -INFINITY, -3, 700};
    const float none[] = {NAN, INFINITY, -INFINITY, 1};
    const uint8_t allowed[] = {1, 1, 1, 0, 1};
    sampler_options o = plain;
    for (int round = 0; round < 200; round++) {
        o.seed = (uint64_t)round;
        sampler *s = create(&o, 5, NULL);
        float logprob;
        assert_int_equal(next(s, logits, 5, &logprob), 4);
        assert_float_equal(logprob, 0, 1e-6);
        sampler_destroy(&s);
    }
    sampler *s = create(&greedy, 4, allowed);
    float copy[4];
    int32_t id = 77;
    memcpy(copy, none, sizeof copy);
    assert_fails(sampler_next(s, &id, NULL, copy), SIGHT_E_INTERNAL, "finite");
    assert_int_equal(id, 77);
    sampler_destroy(&s);
}

static void extreme_options_still_draw(void **state)
{
    const float logits[] = {3e38f, -3e38f, 3e38f, 0};
    sampler_options o = plain;
    o.temperature = 1e-320;
    o.repetition_penalty = 1e-320;
    o.top_p = 1e-320;
    o.top_k = INT32_MAX;
    o.min_p = 0.999;
    sampler *s = create(&o, 4, NULL);
    int32_t first = next(s, logits, 4, NULL);
    assert_true(first == 0 || first == 2);
    for (int i = 0; i < 50; i++) next(s, logits, 4, NULL);
    sampler_destroy(&s);
}

// ---- the reference's rules, naively, in double ----

typedef struct naive {
    double p[512];
    int32_t order[512];
} naive;

static const float *sorted_by;

static int by_logit(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    if (sorted_by[x] != sorted_by[y]) return sorted_by[x] > sorted_by[y] ? -1 : 1;
    return x < y ? -1 : 1;
}

static void normalize(naive *r, int32_t n)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++) sum += r->p[i];
    for (int32_t i = 0; i < n; i++) r->p[i] /= sum;
}

static void expect(naive *r, const float *logits, int32_t n, const sampler_options *o)
{
    for (int32_t i = 0; i < n; i++) r->order[i] = i;
    sorted_by = logits;
    qsort(r->order, (size_t)n, sizeof *r->order, by_logit);
    double best = (double)logits[r->order[0]], before = 0;
    for (int32_t i = 0; i < n; i++) r->p[i] = exp(((double)logits[i] - best) / o->temperature);
    if (o->top_k > 0 && o->top_k < n)
        for (int32_t i = 0; i < n; i++)
            if (logits[i] < logits[r->order[o->top_k - 1]]) r->p[i] = 0;
    normalize(r, n);
    for (int32_t k = 0; k < n; k++) {
        double p = r->p[r->order[k]];
        if (before >= o->top_p) r->p[r->order[k]] = 0;
        before += p;
    }
    for (int32_t i = 0; i < n; i++)
        if (r->p[i] < o->min_p * r->p[r->order[0]]) r->p[i] = 0;
    normalize(r, n);
}

// Draws often; nothing outside the expected set may come, and the frequencies must fit: Pearson's
// statistic is within 5 standard deviations of its mean (degrees of freedom d, variance 2 d).
static void check_distribution(const float *logits, int32_t n, const sampler_options *o)
{
    enum { DRAWS = 20000 };
    naive r;
    int32_t counts[512] = {0};
    expect(&r, logits, n, o);
    sampler *s = create(o, n, NULL);
    for (int i = 0; i < DRAWS; i++) counts[next(s, logits, n, NULL)]++;
    sampler_destroy(&s);
    double statistic = 0, rest = DRAWS, rest_seen = DRAWS, degrees = -1;
    for (int32_t i = 0; i < n; i++) {
        double want = r.p[i] * DRAWS;
        if (r.p[i] == 0) assert_int_equal(counts[i], 0);
        if (want < 10) continue;
        statistic += (counts[i] - want) * (counts[i] - want) / want;
        rest -= want;
        rest_seen -= counts[i];
        degrees++;
    }
    if (rest > 10) {
        statistic += (rest_seen - rest) * (rest_seen - rest) / rest;
        degrees++;
    }
    if (degrees > 0 && statistic > degrees + 5 * sqrt(2 * degrees)) {
        fail_msg("statistic %g for %g degrees (T %g, k %d, p %g, min %g)", statistic, degrees,
                 o->temperature, o->top_k, o->top_p, o->min_p);
    }
}

static void draws_follow_the_reference(void **state)
{
    static const double temperatures[] = {0.3, 0.7, 1, 2.5}, top_ps[] = {1, 0.8, 0.95, 0.1};
    static const int32_t top_ks[] = {0, 1, 20, 300}, sizes[] = {1, 7, 100, 500};
    static const double min_ps[] = {0, 0.05};
    test_random random = {7};
    float logits[512];
    for (int round = 0; round < 32; round++) {
        int32_t n = sizes[round % 4];
        // Quarter steps in half of the rounds: ties at every border.
        for (int32_t i = 0; i < n; i++) {
            logits[i] = 3 * test_random_normal(&random);
            if (round & 1) logits[i] = roundf(logits[i] * 4) / 4;
        }
        sampler_options o = plain;
        o.temperature = temperatures[test_random_range(&random, 0, 3)];
        o.top_k = top_ks[test_random_range(&random, 0, 3)];
        o.top_p = top_ps[test_random_range(&random, 0, 3)];
        o.min_p = min_ps[test_random_range(&random, 0, 1)];
        o.seed = (uint64_t)round;
        check_distribution(logits, n, &o);
    }
}

static void a_large_vocabulary_works(void **state)
{
    enum { N = 248320 };
    float *logits = malloc(N * sizeof *logits);
    uint8_t *allowed = calloc(N, 1);
    test_random random = {3};
    for (int32_t i = 0; i < N; i++) {
        logits[i] = test_random_normal(&random);
        allowed[i] = i < 248000;
    }
    logits[777] = 20; // e^20 against 248,320 e^0.5: half of the mass is well over it
    logits[248100] = 90;
    for (int k = 0; k < 3; k++) {
        sampler_options o = plain;
        if (k == 0) o.top_k = 1;
        if (k == 1) o.top_p = 0.5;
        if (k == 2) o.min_p = 0.5;
        sampler *s = create(&o, N, allowed);
        for (int i = 0; i < 5; i++) assert_int_equal(next(s, logits, N, NULL), 777);
        sampler_destroy(&s);
    }
    free(logits);
    free(allowed);
}

static void one_seed_gives_the_same_ids_everywhere(void **state)
{
    static const int32_t want[2][8] = {{76, 88, 10, 51, 87, 99, 50, 62},
                                       {65, 88, 62, 87, 64, 87, 40, 88}};
    float logits[100];
    test_random random = {11};
    for (int i = 0; i < 100; i++) logits[i] = (float)test_random_range(&random, -800, 800) / 256;
    for (int k = 0; k < 2; k++) {
        sampler_options o = plain;
        o.seed = k ? UINT64_MAX : 0;
        o.presence_penalty = 0.5;
        sampler *s = create(&o, 100, NULL);
        for (int i = 0; i < 8; i++) assert_int_equal(next(s, logits, 100, NULL), want[k][i]);
        sampler_destroy(&s);
    }
}

static void random_bits_are_the_published_ones(void **state)
{
    // The authors' own program from state 1, 2, 3, 4.
    static const uint64_t want[] = {11520, 0, 1509978240, 1215971899390074240u};
    sampler_random r = {{1, 2, 3, 4}};
    for (int i = 0; i < 4; i++) assert_true(sampler_random_bits(&r) == want[i]);
}

static void logprob_is_the_models_own(void **state)
{
    const float logits[] = {1, 2, 3, -INFINITY};
    const int32_t prompt[] = {2};
    const double sum = exp(1) + exp(2) + exp(3);
    sampler_options o = plain;
    o.temperature = 0.5;
    o.repetition_penalty = 3;
    o.presence_penalty = 1;
    o.top_k = 2;
    for (int i = 0; i < 50; i++) {
        o.seed = (uint64_t)i;
        sampler *s = create(&o, 4, NULL);
        sampler_see_prompt(s, prompt, 1);
        for (int k = 0; k < 3; k++) {
            float logprob;
            int32_t id = next(s, logits, 4, &logprob);
            assert_float_equal(logprob, log(exp((double)logits[id]) / sum), 1e-6);
        }
        sampler_destroy(&s);
    }
}

// With scores it is that among the ids that may be drawn, whatever penalties and temperature make of them.
static void scores_are_among_what_may_be_drawn(void **state)
{
    const float logits[] = {1.5f, -2, 0.25f, 3, NAN};
    static const uint8_t allowed[] = {1, 1, 1, 0, 1};
    const double sum = exp(1.5) + exp(-2.0) + exp(0.25);
    for (int kind = 0; kind < 3; kind++) {
        sampler_options o = kind ? plain : greedy;
        o.scores = true;
        o.temperature = kind == 2 ? 5 : o.temperature;
        o.presence_penalty = kind == 2 ? 1 : 0;
        o.top_k = kind == 2 ? 2 : 0;
        sampler *s = create(&o, 5, allowed);
        assert_true(sampler_scores(s));
        for (int i = 0; i < 10; i++) {
            float logprob;
            const int32_t id = next(s, logits, 5, &logprob);
            assert_int_not_equal(id, 3);
            assert_float_equal(logprob, log(exp((double)logits[id]) / sum), 1e-6);
            assert_int_equal(sampler_choices(s), 3);
        }
        sampler_destroy(&s);
    }
    static const uint8_t one[] = {0, 0, 1, 0, 0};
    static const int32_t ends[] = {0, 2, 3};
    sampler_options o = greedy;
    float logprob;
    o.scores = true;
    o.alike = ends; // 3 may not be drawn
    o.n_alike = 3;
    sampler *both = create(&o, 5, allowed);
    assert_int_equal(next(both, logits, 5, &logprob), 0);
    assert_float_equal(logprob, log((exp(1.5) + exp(0.25)) / sum), 1e-6);
    assert_int_equal(sampler_choices(both), 2);
    sampler_destroy(&both);
    sampler *s = create(&o, 5, one);
    assert_int_equal(next(s, logits, 5, &logprob), 2);
    assert_float_equal(logprob, 0, 0);
    assert_int_equal(sampler_choices(s), 1); // none
    sampler_destroy(&s);
}

static void exponentials_are_near(void **state)
{
    double worst = 0;
    for (int i = 0; i <= 86000; i++) {
        float x = -(float)i / 1000;
        double want = exp((double)x);
        worst = fmax(worst, fabs((double)sampler_exp(x) - want) / want);
    }
    assert_true(worst < 3e-7);
    assert_true(sampler_exp(0) == 1);
    assert_true(sampler_exp(-88) == 0);
    assert_true(sampler_exp(-INFINITY) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(greedy_takes_the_lowest_of_the_greatest),
        cmocka_unit_test(greedy_heeds_penalties),
        cmocka_unit_test(negative_logits_are_multiplied_by_the_repetition_penalty),
        cmocka_unit_test(logits_that_are_not_finite_are_never_drawn),
        cmocka_unit_test(extreme_options_still_draw),
        cmocka_unit_test(draws_follow_the_reference),
        cmocka_unit_test(a_large_vocabulary_works),
        cmocka_unit_test(one_seed_gives_the_same_ids_everywhere),
        cmocka_unit_test(random_bits_are_the_published_ones),
        cmocka_unit_test(logprob_is_the_models_own),
        cmocka_unit_test(scores_are_among_what_may_be_drawn),
        cmocka_unit_test(exponentials_are_near),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
