// A daemon's status as people read it: whole, narrow, and with nonsense in it.
#include "support/test.h"

#include "clients/cli/overview.h"

static const char status[] =
    "{\"version\": \"0.1.0\", \"model\": \"mini\", \"state\": \"busy\", \"uptime_s\": 7265, \"connections\": 3,"
    "\"queue\": {\"arrived\": 1, \"planning\": 1, \"waiting\": 2, \"running\": 1},"
    "\"ended\": {\"done\": 10, \"error\": 1, \"cancelled\": 2, \"timeout\": 1, \"gone\": 3, \"stopped\": 0}, \"refused\": 4,"
    "\"rates\": {\"generated_per_s\": 41.26, \"read_per_s\": 300, \"batch\": 2.5},"
    "\"first_token_s\": {\"interactive\": {\"count\": 3, \"p50\": 0.04, \"p95\": 1.25}},"
    "\"token_gap_s\": {\"batch\": {\"count\": 3, \"p50\": 0.024, \"p95\": 0.06}},"
    "\"engine\": {\"alive\": true, \"turn_s\": 0.01, \"longest_turn_s\": 0.4},"
    "\"memory\": {\"resident\": 1610612736, \"models\": [{\"model\": \"mini\", \"loaded\": true, \"weights\": 10523440,"
    "\"caches\": 2048, \"cache_budget\": 1073741824, \"promised\": 0}, {\"model\": \"large\", \"loaded\": false}]},"
    "\"stores\": [{\"model\": \"mini\", \"store\": \"prefix\", \"entries\": 12, \"bytes\": 1048576, \"hits\": 40, \"misses\": 20}],"
    "\"requests\": ["
    "{\"id\": \"ask-1\", \"n\": 12, \"who\": \"uid 1000\", \"verb\": \"ask\", \"model\": \"mini\", \"state\": \"running\","
    " \"place\": 0, \"age_s\": 3.2, \"priority\": \"interactive\", \"prompt_tokens\": 300, \"max_tokens\": 512,"
    " \"stage\": \"generate\", \"generated_tokens\": 12, \"tokens_per_s\": 41.2},"
    "{\"id\": \"ask-2\", \"n\": 13, \"who\": \"door\", \"verb\": \"ask\", \"model\": \"mini\", \"state\": \"running\", \"place\": 0,"
    " \"age_s\": 70, \"priority\": \"camera\", \"stage\": \"read\", \"done\": 50, \"total\": 200, \"per_s\": 310, \"left_s\": 0.5},"
    "{\"id\": \"ask-3\", \"n\": 14, \"who\": \"door\", \"verb\": \"plan\", \"state\": \"waiting\", \"place\": 2, \"age_s\": 0.01}]}";

static char *text_of(const char *json, const overview_look *look)
{
    static char text[1 << 16];
    json_t *s = json_loads(json, 0, NULL);
    assert_non_null(s);
    buf out;
    buf_init(&out);
    overview_write(&out, s, look);
    assert_false(buf_failed(&out));
    snprintf(text, sizeof text, "%s", buf_text(&out));
    buf_done(&out);
    json_decref(s);
    return text;
}

static void expect(const char *text, const char *wanted)
{
    if (!strstr(text, wanted)) fail_msg("no '%s' in:\n%s", wanted, text);
}

static void all_is_there(void **state)
{
    const overview_look look = {.selected = -1};
    const char *text = text_of(status, &look);
    expect(text, "sightd 0.1.0  mini  busy  up 2 h 1 min  3 clients\n");
    expect(text, "requests  1 running, 2 waiting, 2 being priced; done 10, failed 2, ended early 5, refused 4\n");
    expect(text, "speed     41.3 tokens/s written, 300 read; 2.5 answers in a step\n");
    expect(text, "times     first token 40 ms, 95 % in 1.2 s; next (batch) 24 ms, 95 % in 60 ms\n");
    expect(text, "models    mini: weights 10 MiB, caches 2.0 KiB of 1.0 GiB, promised 0 B\n");
    expect(text, "          large: not loaded\n");
    expect(text, "memory    1.5 GiB in RAM\n");
    expect(text, "stores    prefix: 12 entries, 1.0 MiB; found 40 of 60\n");
    expect(text, "ask-1");
    expect(text, "12/512");
    expect(text, "read 25 % 0.5 s");
    expect(text, "waiting 2");
    assert_null(strchr(text, '\033'));
}

static int count_lines(const char *text)
{
    int n = 0;
    for (; (text = strchr(text, '\n')); text++) n++;
    return n;
}

// However narrow, no line is wider, and who it is and how far stays longest.
static void narrow_terminals_lose_columns(void **state)
{
    for (int width = 1; width < 160; width++) {
        const overview_look look = {.width = width, .selected = -1};
        for (const char *s = text_of(status, &look); *s; s += strcspn(s, "\n") + 1) {
            assert_true(strcspn(s, "\n") <= (size_t)width);
        }
    }
    const overview_look narrow = {.width = 30, .selected = -1};
    const char *text = text_of(status, &narrow);
    expect(text, "ID               STATE\n");
    expect(text, "ask-2            running\n");
    const overview_look half = {.width = 60, .selected = -1};
    expect(text_of(status, &half), "AGE");
}

static void few_rows_keep_the_selected_one(void **state)
{
    const overview_look look = {.rows = 1, .selected = 2, .colour = true};
    const char *text = text_of(status, &look);
    expect(text, "ask-3");
    expect(text, "and 2 more");
    expect(text, "\033[7m");
    assert_null(strstr(text, "ask-1"));
    const overview_look all = {.selected = -1};
    assert_true(count_lines(text_of(status, &all)) > count_lines(text_of(status, &look)));
}

static void replicas_have_a_line(void **state)
{
    const overview_look look = {.selected = -1};
    expect(text_of("{\"replicas\": [{\"replica\": 0, \"running\": 2, \"busy_s\": 75}, {\"replica\": 1, \"running\": 0, "
                   "\"busy_s\": 0.02}]}", &look),
           "replicas  0: 2 running, busy for 1 min 15 s; 1: 0 running, busy for 20 ms\n");
}

static void a_stuck_engine_is_shown(void **state)
{
    const overview_look look = {.selected = -1};
    expect(text_of("{\"engine\": {\"alive\": false, \"turn_s\": 75}}", &look), "ENGINE STUCK for 1 min 15 s");
}

// An older daemon, or one that means no good: nothing but plain characters comes out.
static void strange_replies_are_harmless(void **state)
{
    static const char *const strange[] = {
        "{}", "{\"requests\": 3, \"queue\": [], \"memory\": \"x\", \"stores\": {\"a\": 1}}",
        "{\"requests\": [null, [], {\"id\": \"\\u001b[2Jx\\n\\u009b1m\", \"who\": \"\\u00e9\\u202e\", \"age_s\": -1e300}]}",
        "{\"version\": \"\\u001b]0;x\\u0007\", \"uptime_s\": 1e300, \"first_token_s\": {\"x\\ny\": 1}, \"rates\": {}}",
    };
    const overview_look look = {.width = 80, .selected = 1};
    for (size_t i = 0; i < sizeof strange / sizeof *strange; i++) {
        for (const char *s = text_of(strange[i], &look); *s; s++) {
            assert_true(*s == '\n' || ((unsigned char)*s >= 0x20 && (unsigned char)*s < 0x7f));
        }
    }
}

static void numbers_are_short(void **state)
{
    static const struct {
        double v;
        const char *bytes, *seconds;
    } cases[] = {{0, "0 B", "0 ms"},           {1023, "1023 B", "17 min 3 s"}, {1536, "1.5 KiB", "25 min 36 s"},
                 {59.5, "60 B", "59 s"},       {9.94, "10 B", "9.9 s"},        {86400, "84 KiB", "1 d 0 h"}};
    char text[64];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        overview_bytes(text, sizeof text, cases[i].v);
        assert_string_equal(text, cases[i].bytes);
        overview_seconds(text, sizeof text, cases[i].v);
        assert_string_equal(text, cases[i].seconds);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_is_there),
        cmocka_unit_test(narrow_terminals_lose_columns),
        cmocka_unit_test(few_rows_keep_the_selected_one),
        cmocka_unit_test(replicas_have_a_line),
        cmocka_unit_test(a_stuck_engine_is_shown),
        cmocka_unit_test(strange_replies_are_harmless),
        cmocka_unit_test(numbers_are_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
