// Priorities and deadlines, as clients of a running daemon see them.
#include "running.h"

static char endless[300];

static int make_model(void **state)
{
    endless_model(endless, sizeof endless);
    return 0;
}

static running start(const char *running_at_once)
{
    const char *const args[] = {"--model", endless, "--threads", "1", "--simd", "plain", "--max-running", running_at_once,
                                NULL};
    running r;
    daemon_start(&r, args);
    return r;
}

#define ASK(fields) "{\"messages\": [{\"role\": \"user\", \"content\": \"tell me more\"}], " fields "}"

static void ask(sight_client *c, char *id, const char *json)
{
    assert_ok(sight_client_ask(c, id, json, NULL, 0));
}

// The error that a request ends with.
static json_t *error_of(sight_client *c, const char *json)
{
    sight_event_kind kind;
    json_t *body = ask_to_end(c, json, &kind);
    assert_int_equal(kind, SIGHT_ERROR);
    return body;
}

static void expect_error(sight_client *c, const char *json, const char *code, const char *text)
{
    json_t *body = error_of(c, json);
    assert_refused(body, SIGHT_ERROR, code, text);
    json_decref(body);
}

static void fields_are_checked(void **state)
{
    (void)state;
    running r = start("2");
    sight_client *c = daemon_connect(&r);
    expect_error(c, ASK("\"priority\": \"urgent\""), "argument", "interactive, camera or batch");
    expect_error(c, ASK("\"priority\": 1"), "argument", "'priority'");
    expect_error(c, ASK("\"deadline_s\": 0"), "argument", "'deadline_s'");
    expect_error(c, ASK("\"deadline_s\": \"soon\""), "argument", "'deadline_s'");
    sight_client_close(&c);
    daemon_stop(&r);
}

// One that runs and one that waits end when their time has come.
static void what_is_late_ends(void **state)
{
    (void)state;
    running r = start("1");
    sight_client *c = daemon_connect(&r);
    char other[SIGHT_ID_SIZE];
    ask(c, other, ASK("\"max_tokens\": 4000, \"deadline_s\": 1"));
    json_decref(wait_event(c, other, SIGHT_ACCEPTED));
    expect_error(c, ASK("\"max_tokens\": 4000, \"deadline_s\": 0.3"), "timeout", "'deadline_s'");
    for (sight_event_kind kind = SIGHT_ALIVE; kind != SIGHT_ERROR;) {
        json_t *body = next_event(c, other, &kind);
        assert_int_not_equal(kind, SIGHT_DONE);
        if (kind == SIGHT_ERROR) assert_non_null(strstr(text_at(body, "message"), "'deadline_s' of 1 s"));
        json_decref(body);
    }
    assert_int_equal(count_requests(c), 0);
    sight_client_close(&c);
    daemon_stop(&r);
}

// Once it is known how fast it goes, what cannot be in time is not begun.
static void what_cannot_be_in_time_is_refused(void **state)
{
    (void)state;
    running r = start("1");
    sight_client *c = daemon_connect(&r);
    double per_s = 0;
    for (int i = 0; i < 3; i++) {
        char id[SIGHT_ID_SIZE];
        ask(c, id, ASK("\"max_tokens\": 200"));
        json_t *done = wait_event(c, id, SIGHT_DONE);
        per_s = json_number_value(json_object_get(json_object_get(done, "timings"), "tokens_per_s"));
        assert_true(per_s > 0);
        json_decref(done);
    }
    char json[300];
    snprintf(json, sizeof json, ASK("\"max_tokens\": 3500, \"deadline_s\": %.3f"), 0.3 * 3500 / per_s);
    expect_error(c, json, "timeout", "would be over in about");
    snprintf(json, sizeof json, ASK("\"max_tokens\": 20, \"deadline_s\": %.3f"), 60 + 3500 / per_s);
    char id[SIGHT_ID_SIZE];
    ask(c, id, json);
    json_decref(wait_event(c, id, SIGHT_DONE));
    sight_client_close(&c);
    daemon_stop(&r);
}

// Waits until the request is told that place.
static void wait_place(sight_client *c, const char *id, int place)
{
    for (int told = -1; told != place;) {
        json_t *body = wait_event(c, id, SIGHT_ACCEPTED);
        told = (int)json_integer_value(json_object_get(body, "place"));
        json_decref(body);
    }
}

static void urgent_requests_overtake(void **state)
{
    (void)state;
    running r = start("1");
    sight_client *c = daemon_connect(&r), *b = daemon_connect(&r), *a = daemon_connect(&r);
    char running_id[SIGHT_ID_SIZE], batch[SIGHT_ID_SIZE], camera[SIGHT_ID_SIZE], now[SIGHT_ID_SIZE];
    ask(c, running_id, ASK("\"max_tokens\": 4000"));
    json_decref(wait_event(c, running_id, SIGHT_DELTA));
    ask(c, batch, ASK("\"max_tokens\": 4000, \"priority\": \"batch\""));
    wait_place(c, batch, 1);
    ask(b, camera, ASK("\"max_tokens\": 4000, \"priority\": \"camera\""));
    wait_place(b, camera, 1);
    ask(a, now, ASK("\"max_tokens\": 5"));
    wait_place(c, batch, 3);
    assert_ok(sight_client_cancel(c, running_id));
    json_decref(wait_event(a, now, SIGHT_DONE));
    json_decref(wait_event(b, camera, SIGHT_DELTA));
    assert_ok(sight_client_cancel(b, camera));
    json_decref(wait_event(c, batch, SIGHT_DELTA));
    sight_client_close(&a);
    sight_client_close(&b);
    sight_client_close(&c);
    daemon_stop(&r);
}

// Eight answers at once end together, not one after another: each has begun before any is over.
static void answers_run_side_by_side(void **state)
{
    (void)state;
    enum { N = 8 };
    running r = start("16");
    sight_client *c[N];
    char id[N][SIGHT_ID_SIZE];
    for (int i = 0; i < N; i++) {
        c[i] = daemon_connect(&r);
        ask(c[i], id[i], ASK("\"max_tokens\": 3000, \"temperature\": 0"));
    }
    for (int i = 0; i < N; i++) json_decref(wait_event(c[i], id[i], SIGHT_DELTA));
    assert_int_equal(count_requests(c[0]), N);
    for (int i = 0; i < N; i++) {
        assert_ok(sight_client_cancel(c[i], id[i]));
        json_decref(wait_event(c[i], id[i], SIGHT_DONE));
        sight_client_close(&c[i]);
    }
    daemon_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_checked),
        cmocka_unit_test(what_is_late_ends),
        cmocka_unit_test(what_cannot_be_in_time_is_refused),
        cmocka_unit_test(urgent_requests_overtake),
        cmocka_unit_test(answers_run_side_by_side),
    };
    return cmocka_run_group_tests(tests, make_model, NULL);
}
