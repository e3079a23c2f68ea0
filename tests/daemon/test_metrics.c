// What is counted, and its text as Prometheus reads it.
#include "support/test.h"

#include <ctype.h>
#include <math.h>
#include <pthread.h>

#include "daemon/watch/heartbeat.h"
#include "daemon/watch/metrics.h"

// ---- a reader of the text exposition format 0.0.4 ----

typedef struct sample {
    char name[96], labels[256]; // as between the braces
    double value;
    char type[16]; // of the family that it stands in
} sample;

typedef struct scrape {
    sample samples[4096];
    int n;
} scrape;

static bool is_name(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char)s[i]) && s[i] != '_' && s[i] != ':') return false;
    }
    return n > 0 && !isdigit((unsigned char)*s);
}

// name="value",...} with escapes; gives what comes after the brace.
static const char *read_labels(const char *s, char *out, size_t size)
{
    const char *start = s;
    while (*s != '}') {
        const char *equals = strchr(s, '=');
        assert_non_null(equals);
        assert_true(is_name(s, (size_t)(equals - s)));
        assert_int_equal(equals[1], '"');
        for (s = equals + 2; *s != '"'; s++) {
            assert_true(*s && *s != '\n');
            if (*s != '\\') continue;
            s++;
            assert_true(*s == '\\' || *s == '"' || *s == 'n');
        }
        s++;
        if (*s == ',') s++;
        else assert_int_equal(*s, '}');
    }
    snprintf(out, size, "%.*s", (int)(s - start), start);
    return s + 1;
}

static void read_sample(sample *out, const char *line, const char *family, const char *type)
{
    const size_t n = strcspn(line, "{ ");
    assert_true(is_name(line, n));
    snprintf(out->name, sizeof out->name, "%.*s", (int)n, line);
    snprintf(out->type, sizeof out->type, "%s", type);
    assert_int_equal(strncmp(out->name, family, strlen(family)), 0);
    const char *suffix = out->name + strlen(family);
    if (!strcmp(type, "histogram")) {
        assert_true(!strcmp(suffix, "_bucket") || !strcmp(suffix, "_sum") || !strcmp(suffix, "_count"));
    } else {
        assert_string_equal(suffix, "");
    }
    out->labels[0] = 0;
    const char *s = line + n;
    if (*s == '{') s = read_labels(s + 1, out->labels, sizeof out->labels);
    assert_int_equal(*s, ' ');
    char *end;
    out->value = strtod(s + 1, &end);
    assert_true(end > s + 1 && !*end);
}

static void read_scrape(scrape *out, const char *text)
{
    char family[96] = "", type[16] = "", line[1024];
    out->n = 0;
    while (*text) {
        const size_t n = strcspn(text, "\n");
        assert_int_equal(text[n], '\n'); // the last line too
        assert_true(n < sizeof line);
        memcpy(line, text, n);
        line[n] = 0;
        text += n + 1;
        if (!strncmp(line, "# HELP ", 7)) {
            assert_int_equal(sscanf(line + 7, "%95s", family), 1);
            type[0] = 0;
        } else if (!strncmp(line, "# TYPE ", 7)) {
            char of[96];
            assert_int_equal(sscanf(line + 7, "%95s %15s", of, type), 2);
            assert_string_equal(of, family);
        } else {
            assert_true(*type != 0 && out->n < 4096);
            read_sample(&out->samples[out->n++], line, family, type);
        }
    }
}

static double value_at(const scrape *s, const char *name, const char *labels)
{
    for (int i = 0; i < s->n; i++) {
        if (!strcmp(s->samples[i].name, name) && !strcmp(s->samples[i].labels, labels)) return s->samples[i].value;
    }
    fail_msg("there is no %s{%s}", name, labels);
    return NAN;
}

static void scrape_of(scrape *out, const metrics *m)
{
    buf text;
    buf_init(&text);
    metrics_write(m, &text);
    assert_false(buf_failed(&text));
    read_scrape(out, buf_text(&text));
    buf_done(&text);
}

static scrape got;

// ---- the tests ----

static void every_metric_is_written_with_its_kind(void **state)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    metrics *m;
    assert_ok(metrics_create(&m));
    metrics_name_model(m, 0, "mini");
    scrape_of(&got, m);
    for (int id = 0; id < METRIC_COUNT; id++) {
        const metric_info *info = metrics_info((metric_id)id);
        assert_non_null(info);
        assert_non_null(info->help);
        const size_t n = strlen(info->name);
        const bool total = n > 6 && !strcmp(info->name + n - 6, "_total");
        assert_int_equal(total, info->kind == METRIC_COUNTER); // as the format's users expect
        int found = 0;
        for (int i = 0; i < got.n; i++) {
            if (strncmp(got.samples[i].name, info->name, n)) continue;
            found += !strcmp(got.samples[i].type, kinds[info->kind]);
        }
        if (!found) fail_msg("%s is not written", info->name);
        for (int other = 0; other < id; other++) {
            assert_string_not_equal(info->name, metrics_info((metric_id)other)->name);
        }
    }
    assert_null(metrics_info(METRIC_COUNT));
    metrics_destroy(&m);
    assert_null(m);
}

static void counters_grow_and_gauges_move(void **state)
{
    metrics *m;
    assert_ok(metrics_create(&m));
    metrics_add_to(m, METRIC_REQUESTS, SIGHT_ASK, BY_OUTCOME_DONE, 1);
    metrics_add_to(m, METRIC_REQUESTS, SIGHT_ASK, BY_OUTCOME_DONE, 2);
    metrics_add_to(m, METRIC_REQUESTS, SIGHT_ASK, BY_OUTCOME_DONE, -5);  // counters do not fall
    metrics_add_to(m, METRIC_REQUESTS, SIGHT_ASK, BY_OUTCOME_COUNT, 1);  // no such label
    metrics_add_to(m, METRIC_REQUESTS, -1, BY_OUTCOME_DONE, 1);
    metrics_add(m, METRIC_CONNECTIONS, 4); // not a counter
    metrics_name_model(m, 2, "mini");
    metrics_set_at(m, METRIC_MEMORY_BYTES, 2, BY_MEMORY_CACHES, 1.5e9);
    metrics_set(m, METRIC_CONNECTIONS, 7);
    metrics_set(m, METRIC_CONNECTIONS, 3);
    metrics_raise(m, METRIC_TURN_LONGEST_SECONDS, .25);
    metrics_raise(m, METRIC_TURN_LONGEST_SECONDS, .125);
    metrics_take(m, METRIC_CPU_SECONDS, 0, 0, 12.5);
    scrape_of(&got, m);
    assert_true(value_at(&got, "sightd_requests_total", "verb=\"ask\",outcome=\"done\"") == 3);
    assert_true(value_at(&got, "sightd_requests_total", "verb=\"plan\",outcome=\"done\"") == 0);
    assert_true(value_at(&got, "sightd_connections", "") == 3);
    assert_true(value_at(&got, "sightd_memory_bytes", "model=\"mini\",what=\"caches\"") == 1.5e9);
    assert_true(value_at(&got, "sightd_turn_longest_seconds", "") == .25);
    assert_true(value_at(&got, "process_cpu_seconds_total", "") == 12.5);
    assert_true(metrics_get(m, METRIC_REQUESTS, SIGHT_ASK, BY_OUTCOME_DONE) == 3);
    metrics_destroy(&m);
}

static void nothing_is_counted_without_an_object(void **state)
{
    metrics_add(NULL, METRIC_EVENTS, 1);
    metrics_set(NULL, METRIC_CONNECTIONS, 1);
    metrics_observe(NULL, METRIC_TURN_SECONDS, 1);
    metrics_raise(NULL, METRIC_TURN_LONGEST_SECONDS, 1);
    metrics_take(NULL, METRIC_CPU_SECONDS, 0, 0, 1);
    metrics_name_model(NULL, 0, "x");
    buf out;
    buf_init(&out);
    metrics_write(NULL, &out);
    assert_int_equal(out.size, 0);
    assert_true(metrics_get(NULL, METRIC_EVENTS, 0, 0) == 0);
    assert_true(isnan(metrics_quantile(NULL, METRIC_TURN_SECONDS, 0, 0, .5)));
    metrics *none = NULL;
    metrics_destroy(&none);
}

// Buckets are cumulative, the last counts all, and the sum is that of what was observed.
static void histograms_add_up(void **state)
{
    metrics *m;
    assert_ok(metrics_create(&m));
    static const double seen[] = {0, .0005, .001, .0011, .3, 9.9, 10, 11, 1e6};
    const int n = (int)(sizeof seen / sizeof *seen);
    double sum = 0;
    for (int i = 0; i < n; i++) {
        metrics_observe(m, METRIC_TURN_SECONDS, seen[i]);
        sum += seen[i];
    }
    metrics_observe(m, METRIC_TURN_SECONDS, NAN); // not observed
    scrape_of(&got, m);
    double last = 0;
    int buckets = 0;
    for (int i = 0; i < got.n; i++) {
        const sample *s = &got.samples[i];
        if (strcmp(s->name, "sightd_turn_seconds_bucket")) continue;
        double le, wanted = 0;
        assert_int_equal(sscanf(s->labels, "le=\"%lf\"", &le), 1);
        for (int j = 0; j < n; j++) wanted += seen[j] <= le;
        assert_true(s->value == wanted && s->value >= last);
        last = s->value;
        buckets++;
    }
    assert_true(buckets > 5);
    assert_true(value_at(&got, "sightd_turn_seconds_bucket", "le=\"+Inf\"") == n);
    assert_true(value_at(&got, "sightd_turn_seconds_count", "") == n);
    assert_true(fabs(value_at(&got, "sightd_turn_seconds_sum", "") - sum) < 1e-3);
    assert_true(metrics_get(m, METRIC_TURN_SECONDS, 0, 0) == n);
    metrics_destroy(&m);
}

static void quantiles_lie_in_their_bucket(void **state)
{
    metrics *m;
    assert_ok(metrics_create(&m));
    assert_true(isnan(metrics_quantile(m, METRIC_FIRST_TOKEN_SECONDS, 0, 0, .5)));
    for (int i = 0; i < 95; i++) metrics_observe_at(m, METRIC_FIRST_TOKEN_SECONDS, BY_PRIORITY_BATCH, 0, .3);
    for (int i = 0; i < 5; i++) metrics_observe_at(m, METRIC_FIRST_TOKEN_SECONDS, BY_PRIORITY_BATCH, 0, 30);
    const double p50 = metrics_quantile(m, METRIC_FIRST_TOKEN_SECONDS, BY_PRIORITY_BATCH, 0, .5);
    const double p99 = metrics_quantile(m, METRIC_FIRST_TOKEN_SECONDS, BY_PRIORITY_BATCH, 0, .99);
    assert_true(p50 > .25 && p50 <= .5);
    assert_true(p99 > 25 && p99 <= 50);
    assert_true(isnan(metrics_quantile(m, METRIC_FIRST_TOKEN_SECONDS, BY_PRIORITY_CAMERA, 0, .5)));
    metrics_destroy(&m);
}

// A model's name is what somebody called a folder: it cannot end a label, or a line.
static void names_are_escaped(void **state)
{
    metrics *m;
    assert_ok(metrics_create(&m));
    metrics_name_model(m, 0, "a\"b\\c\nd");
    metrics_name_model(m, METRICS_MODELS - 1, "last");
    metrics_name_model(m, METRICS_MODELS, "none");
    metrics_add_to(m, METRIC_TOKENS, 0, BY_TOKENS_GENERATED, 5);
    metrics_add_to(m, METRIC_TOKENS, METRICS_MODELS + 3, BY_TOKENS_GENERATED, 2); // counted under the last
    scrape_of(&got, m);
    assert_true(value_at(&got, "sightd_tokens_total", "model=\"a\\\"b\\\\c\\nd\",kind=\"generated\"") == 5);
    assert_true(value_at(&got, "sightd_tokens_total", "model=\"last\",kind=\"generated\"") == 2);
    metrics_name_model(m, 0, "");
    scrape_of(&got, m);
    for (int i = 0; i < got.n; i++) assert_null(strstr(got.samples[i].labels, "a\\\"b"));
    metrics_destroy(&m);
}

// docs/OPERATIONS.md has a line for each metric, and one for each label with its values.
static void the_page_for_people_says_the_same(void **state)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    static char page[1 << 16];
    FILE *f = fopen(TEST_SOURCE_DIR "/docs/OPERATIONS.md", "r");
    assert_non_null(f);
    page[fread(page, 1, sizeof page - 1, f)] = 0;
    fclose(f);
    for (int id = 0; id < METRIC_COUNT; id++) {
        const metric_info *m = metrics_info((metric_id)id);
        char line[512], labels[128] = "";
        for (int i = 0; i < METRICS_LABELS_MAX && m->labels[i]; i++) {
            const size_t n = strlen(labels);
            snprintf(labels + n, sizeof labels - n, "%s`%s`", n ? ", " : "", metrics_label_name(m->labels[i]));
        }
        snprintf(line, sizeof line, "\n| `%s` | %s | %s | %s | %s |\n", m->name, kinds[m->kind], m->unit, labels, m->help);
        if (!strstr(page, line)) fail_msg("docs/OPERATIONS.md lacks%s", line);
    }
    for (int label = LABEL_NONE + 1; label < LABEL_MODEL; label++) {
        char line[512];
        int n = snprintf(line, sizeof line, "\n| `%s` |", metrics_label_name((metric_label)label));
        const char *value;
        for (int v = 0; (value = metrics_label_value((metric_label)label, v)); v++) {
            n += snprintf(line + n, sizeof line - (size_t)n, "%s `%s`", v ? "," : "", value);
        }
        snprintf(line + n, sizeof line - (size_t)n, " |\n");
        if (!strstr(page, line)) fail_msg("docs/OPERATIONS.md lacks%s", line);
    }
}

static metrics *shared;

static void *add_much(void *arg)
{
    for (int i = 0; i < 20000; i++) {
        metrics_add(shared, METRIC_EVENTS, 1);
        metrics_observe(shared, METRIC_TURN_SECONDS, .02);
        metrics_raise(shared, METRIC_TURN_LONGEST_SECONDS, i);
    }
    return NULL;
}

static void threads_lose_nothing(void **state)
{
    assert_ok(metrics_create(&shared));
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, add_much, NULL), 0);
    double last = 0;
    for (int i = 0; i < 20; i++) { // reading meanwhile: counters never fall
        scrape_of(&got, shared);
        const double now = value_at(&got, "sightd_turn_seconds_count", "");
        assert_true(now >= last);
        assert_true(now == value_at(&got, "sightd_turn_seconds_bucket", "le=\"+Inf\""));
        last = now;
    }
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    assert_true(metrics_get(shared, METRIC_EVENTS, 0, 0) == 80000);
    assert_true(metrics_get(shared, METRIC_TURN_SECONDS, 0, 0) == 80000);
    assert_true(metrics_get(shared, METRIC_TURN_LONGEST_SECONDS, 0, 0) == 19999);
    metrics_destroy(&shared);
}

static void a_heart_beats_or_rests(void **state)
{
    heartbeat h = {0};
    assert_true(heartbeat_turn_s(&h, clock_now_s() + 100) == 0);
    assert_true(heartbeat_beat(&h) == 0);
    assert_true(heartbeat_turn_s(&h, clock_now_s() + 100) >= 99);
    assert_true(heartbeat_beat(&h) >= 0);
    assert_true(heartbeat_rest(&h) >= 0);
    assert_true(heartbeat_turn_s(&h, clock_now_s() + 100) == 0);
    assert_true(heartbeat_rest(&h) == 0);
    assert_int_equal(atomic_load(&h.turns), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_metric_is_written_with_its_kind),
        cmocka_unit_test(counters_grow_and_gauges_move),
        cmocka_unit_test(nothing_is_counted_without_an_object),
        cmocka_unit_test(histograms_add_up),
        cmocka_unit_test(quantiles_lie_in_their_bucket),
        cmocka_unit_test(names_are_escaped),
        cmocka_unit_test(the_page_for_people_says_the_same),
        cmocka_unit_test(threads_lose_nothing),
        cmocka_unit_test(a_heart_beats_or_rests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
