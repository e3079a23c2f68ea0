// Replicas: which of them gets a request, and a daemon with two of them on the CPU: the answers of one, at the same time.
#include "running.h"

#include "daemon/replica.h"

// ---- the choice ----

static replica_view view(int requests, double left_s, int32_t kept)
{
    return (replica_view){true, requests, left_s, kept};
}

static int choose(const replica_view *v, int n, double token_s)
{
    bool for_kept;
    const int at = replica_choose(v, n, 1000, token_s, &for_kept);
    if (at >= 0 && v[at].kept == 0) assert_false(for_kept);
    return at;
}

static void the_one_with_less_to_do_is_taken(void **state)
{
    replica_view v[3] = {view(1, 5, 0), view(2, 3, 0), view(1, 4, 0)};
    assert_int_equal(choose(v, 3, 0.01), 1);
    assert_int_equal(choose(v, 3, 0), 1);
    v[1].usable = false;
    assert_int_equal(choose(v, 3, 0.01), 2);
    v[0].usable = v[2].usable = false;
    assert_int_equal(choose(v, 3, 0.01), -1);
    // Of those that are alike the one with fewer requests, then the first.
    replica_view same[3] = {view(2, 1, 0), view(1, 1, 0), view(1, 1, 0)};
    assert_int_equal(choose(same, 3, 0.01), 1);
    assert_int_equal(choose(same, 1, 0.01), 0);
}

static void a_request_goes_to_where_its_past_is(void **state)
{
    bool for_kept;
    replica_view v[3] = {view(0, 0, 0), view(1, 2, 900), view(0, 0, 100)};
    // 800 more tokens to read elsewhere: 8 s, and 2 s to do there.
    assert_int_equal(replica_choose(v, 3, 1000, 0.01, &for_kept), 1);
    assert_true(for_kept);
    // 0.8 s, not worth 2.
    assert_int_equal(choose(v, 3, 0.001), 2);
    v[1].left_s = 0.8 + REPLICA_STAY_S - 0.01; // hardly
    assert_int_equal(choose(v, 3, 0.001), 1);
    v[1].left_s = 0.8 + REPLICA_STAY_S + 0.01;
    assert_int_equal(choose(v, 3, 0.001), 2);
    v[2].usable = false; // the one with nothing kept is not worth it either
    assert_int_equal(choose(v, 3, 0.001), 1);
    v[1].usable = false;
    assert_int_equal(choose(v, 3, 0.001), 0);
    // Two that have kept as much.
    replica_view twins[2] = {view(3, 3, 500), view(2, 2, 500)};
    assert_int_equal(replica_choose(twins, 2, 1000, 0.01, &for_kept), 1);
    assert_true(for_kept);
}

// Before anything is known of how long reading takes.
static void without_estimates_requests_are_counted(void **state)
{
    replica_view v[2] = {view(0, 0, 0), view(1, 5, 900)};
    assert_int_equal(choose(v, 2, 0), 1);
    v[1] = view(2, 10, 900);
    assert_int_equal(choose(v, 2, 0), 0);
}

// ---- a daemon ----

static char endless[256];

#define ASK(text, more)                                                                                                  \
    "{\"messages\": [{\"role\": \"user\", \"content\": " text "}], \"enable_thinking\": false" more "}"
#define TEXT(s)  "{\"type\": \"text\", \"text\": \"" s "\"}"
#define IMAGE    "{\"type\": \"image\", \"image\": \"" GOLDEN "/cases/image-200x130/a.png\"}"
#define VIDEO    "{\"type\": \"video\", \"video\": \"" GOLDEN "/cases/video-96x80-30f/v.mkv\"}"
#define GREEDY   ", \"temperature\": 0, \"max_tokens\": 24"
#define ENDLESS  ASK("\"go on\"", ", \"temperature\": 0, \"max_tokens\": 4000")
#define TWENTY   "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
#define LONG     TWENTY TWENTY TWENTY TWENTY TWENTY TWENTY TWENTY TWENTY

static running start(const char *device, const char *before)
{
    running r;
    char text[1024];
    daemon_prepare(&r);
    snprintf(text, sizeof text, "threads = 1\nmemory = 600M\ndevice = %s\n%s[model golden]\nmodel = " GOLDEN "/model\n"
             "[model endless]\nmodel = %s\n", device, before, endless);
    char *file = test_write(r.folder, "sightd.conf", text, strlen(text));
    const char *const args[] = {"--config", file, NULL};
    daemon_spawn(&r, args);
    free(file);
    return r;
}

// The end, with the deltas joined under "text".
static json_t *await(sight_client *c, const char *id)
{
    char text[8192] = "";
    for (;;) {
        sight_event_kind kind;
        json_t *body = next_event(c, id, &kind);
        if (kind == SIGHT_DELTA) strncat(text, text_at(body, "text"), sizeof text - 1 - strlen(text));
        if (kind == SIGHT_ERROR) fail_msg("%s", text_at(body, "message"));
        if (kind == SIGHT_DONE) json_object_set_new(body, "text", json_string(text));
        if (kind == SIGHT_DONE) return body;
        json_decref(body);
    }
}

static json_t *answer(sight_client *c, const char *json)
{
    char id[SIGHT_ID_SIZE];
    assert_ok(sight_client_ask(c, id, json, NULL, 0));
    return await(c, id);
}

static int64_t usage(const json_t *done, const char *field)
{
    return json_integer_value(json_object_get(json_object_get(done, "usage"), field));
}

static void cancel(sight_client *c, const char *id)
{
    char json[128], *reply;
    snprintf(json, sizeof json, "{\"id\": \"%s\"}", id);
    assert_ok(sight_client_call(c, &reply, SIGHT_CANCEL, json, NULL, 0, 30000));
    free(reply);
    json_decref(wait_event(c, id, SIGHT_DONE));
}

// Where a request runs; -1: it does not.
static int replica_of(sight_client *c, const char *id)
{
    json_t *status = get_status(c), *job;
    size_t i;
    int found = -1;
    json_array_foreach(json_object_get(status, "requests"), i, job) {
        if (strcmp(text_at(job, "id"), id) || strcmp(text_at(job, "state"), "running")) continue;
        found = (int)json_integer_value(json_object_get(job, "replica"));
    }
    json_decref(status);
    return found;
}

// What is told of a replica.
static double told(sight_client *c, int replica, const char *what)
{
    json_t *status = get_status(c);
    const json_t *list = json_object_get(status, "replicas");
    assert_int_equal(json_array_size(list), 2);
    const double v = json_number_value(json_object_get(json_array_get(list, (size_t)replica), what));
    json_decref(status);
    return v;
}

// Keeps a replica at work, and gives the request's id.
static void occupy(sight_client *c, char id[SIGHT_ID_SIZE])
{
    char json[512];
    snprintf(json, sizeof json, "%.*s, \"model\": \"endless\"}", (int)strlen(ENDLESS) - 1, ENDLESS);
    assert_ok(sight_client_ask(c, id, json, NULL, 0));
    json_decref(wait_event(c, id, SIGHT_DELTA));
}

static const char *const questions[] = {
    ASK("\"hi\"", GREEDY),
    ASK("\"tell me more\"", ", \"temperature\": 0.9, \"seed\": 7, \"max_tokens\": 24"),
    ASK("[" IMAGE "," TEXT("what is this") "]", GREEDY),
    ASK("[" VIDEO "," TEXT("what happens") "]", GREEDY),
    ASK("\"yes or no\"", GREEDY ", \"response_format\": {\"type\": \"choice\", \"choices\": [\"yes\", \"no\", \"perhaps\"]}"),
    ASK("[" IMAGE "," TEXT("what else is this") "]", GREEDY ", \"drafts\": 3"),
    ASK("\"" LONG "\"", GREEDY),
    ASK("\"" LONG " and more\"", GREEDY ", \"response_format\": {\"type\": \"json_object\"}"),
};
#define QUESTIONS (sizeof questions / sizeof *questions)

// All of them, several at a time where there is room.
static void ask_all(const running *r, char texts[QUESTIONS][8192])
{
    sight_client *c[QUESTIONS];
    char ids[QUESTIONS][SIGHT_ID_SIZE];
    for (size_t i = 0; i < QUESTIONS; i++) {
        c[i] = daemon_connect(r);
        assert_ok(sight_client_ask(c[i], ids[i], questions[i], NULL, 0));
    }
    for (size_t i = 0; i < QUESTIONS; i++) {
        json_t *done = await(c[i], ids[i]);
        snprintf(texts[i], sizeof texts[i], "%s %s", text_at(done, "text"), text_at(done, "finish_reason"));
        json_decref(done);
        sight_client_close(&c[i]);
    }
}

static void both_answer_alike(void **state)
{
    static char one[QUESTIONS][8192], two[QUESTIONS][8192];
    running r = start("cpu", "");
    ask_all(&r, one);
    daemon_stop(&r);
    r = start("cpu/cpu", "");
    sight_client *c = daemon_connect(&r);
    char busy[SIGHT_ID_SIZE];
    for (int round = 0; round < 3; round++) { // pasts and features of earlier rounds are used again
        if (round == 1) occupy(c, busy); // most goes to the other one
        ask_all(&r, two);
        for (size_t i = 0; i < QUESTIONS; i++) assert_string_equal(one[i], two[i]);
        if (round == 1) cancel(c, busy);
    }
    const double begun = told(c, 0, "begun_for_load") + told(c, 0, "begun_for_kept"),
                 other = told(c, 1, "begun_for_load") + told(c, 1, "begun_for_kept");
    assert_true(begun > 0 && other > 0);
    assert_int_equal(begun + other, 3 * QUESTIONS + 1);
    assert_true(told(c, 0, "busy_s") > 0 && told(c, 1, "busy_s") > 0);
    sight_client_close(&c);
    daemon_stop(&r);
}

static void two_run_at_once_and_a_third_waits(void **state)
{
    running r = start("cpu/cpu", "");
    sight_client *c = daemon_connect(&r);
    char first[SIGHT_ID_SIZE], second[SIGHT_ID_SIZE];
    occupy(c, first);
    occupy(c, second);
    assert_int_equal(replica_of(c, first), 0);
    assert_int_equal(replica_of(c, second), 1);
    cancel(c, first);
    json_decref(wait_event(c, second, SIGHT_DELTA)); // goes on
    occupy(c, first);
    assert_int_equal(replica_of(c, first), 0); // which has nothing to do
    cancel(c, first);
    cancel(c, second);
    sight_client_close(&c);
    daemon_stop(&r);
}

// A conversation stays where it was begun, also when the other one is free, and the first.
static void a_conversation_stays(void **state)
{
    running r = start("cpu/cpu", "");
    sight_client *c = daemon_connect(&r);
    char busy[SIGHT_ID_SIZE];
    occupy(c, busy);
    json_t *done = answer(c, ASK("[" TEXT(LONG) "," IMAGE "," TEXT("what is it") "]", GREEDY));
    assert_int_equal(usage(done, "reused_tokens"), 0);
    json_decref(done);
    assert_int_equal(told(c, 1, "begun_for_load"), 1);
    cancel(c, busy);
    done = answer(c, ASK("[" TEXT(LONG) "," IMAGE "," TEXT("and what else") "]", GREEDY));
    assert_true(usage(done, "reused_tokens") > 0);
    json_decref(done);
    assert_int_equal(told(c, 1, "begun_for_kept"), 1);
    // Something else goes to the first.
    json_decref(answer(c, ASK("\"hello\"", GREEDY)));
    assert_int_equal(told(c, 0, "begun_for_load"), 2);
    sight_client_close(&c);
    daemon_stop(&r);
}

// A picture that one has seen the other does not encode again.
static void features_are_shared(void **state)
{
    running r = start("cpu/cpu", "");
    sight_client *c = daemon_connect(&r);
    char busy[SIGHT_ID_SIZE];
    json_decref(answer(c, ASK("[" TEXT("first") "," IMAGE "]", GREEDY)));
    occupy(c, busy);
    json_t *done = answer(c, ASK("[" TEXT("second, another one") "," IMAGE "]", GREEDY));
    assert_int_equal(told(c, 1, "begun_for_load"), 1);
    assert_true(usage(done, "reused_features") > 0);
    json_decref(done);
    cancel(c, busy);
    sight_client_close(&c);
    daemon_stop(&r);
}

// What one has read and written down the other brings back.
static void the_folder_is_shared(void **state)
{
    char before[256], busy[SIGHT_ID_SIZE];
    snprintf(before, sizeof before, "max-running = 1\nstore = %s/store\n", test_folder());
    running r = start("cpu/cpu", before);
    sight_client *c = daemon_connect(&r);
    json_t *done = answer(c, ASK("[" TEXT(LONG) "," IMAGE "," TEXT("what is it") "]", GREEDY));
    assert_int_equal(usage(done, "reused_tokens"), 0);
    json_decref(done);
    assert_int_equal(told(c, 0, "begun_for_load"), 1);
    occupy(c, busy); // where the past is; it has room for one
    done = answer(c, ASK("[" TEXT(LONG) "," IMAGE "," TEXT("and what else") "]", GREEDY));
    assert_int_equal(told(c, 1, "begun_for_load"), 1);
    assert_true(usage(done, "reused_tokens") > 0);
    json_decref(done);
    cancel(c, busy);
    sight_client_close(&c);
    daemon_stop(&r);
}

static void both_are_told_when_it_stops(void **state)
{
    running r = start("cpu/cpu", "");
    sight_client *c[2] = {daemon_connect(&r), daemon_connect(&r)};
    char ids[2][SIGHT_ID_SIZE];
    for (int i = 0; i < 2; i++) occupy(c[i], ids[i]);
    kill(r.pid, SIGTERM);
    while (!daemon_logged(&r, "stopping")) pause_ms(5);
    kill(r.pid, SIGTERM); // at once
    for (int i = 0; i < 2; i++) {
        sight_event_kind kind = SIGHT_ALIVE;
        while (kind != SIGHT_ERROR && kind != SIGHT_DONE) json_decref(next_event(c[i], ids[i], &kind));
        assert_int_equal(kind, SIGHT_ERROR);
        sight_client_close(&c[i]);
    }
    assert_int_equal(daemon_wait(&r, 30), 0);
}

// Read again, the settings give a model another replica.
static void a_replica_more(void **state)
{
    running r;
    char text[1024];
    daemon_prepare(&r);
    static const char *const devices[] = {"cpu", "cpu/cpu"};
    for (int i = 0; i < 2; i++) {
        snprintf(text, sizeof text, "threads = 1\nmemory = 600M\n[model endless]\nmodel = %s\ndevice = %s\n", endless, devices[i]);
        char *file = test_write(r.folder, "sightd.conf", text, strlen(text));
        const char *const args[] = {"--config", file, NULL};
        if (i == 0) daemon_spawn(&r, args);
        free(file);
        if (i) break;
        json_t *status = NULL;
        sight_client *c = daemon_connect(&r);
        status = get_status(c);
        assert_null(json_object_get(status, "replicas"));
        json_decref(status);
        sight_client_close(&c);
    }
    kill(r.pid, SIGHUP);
    sight_client *c = daemon_connect(&r);
    for (size_t n = 0; n != 2;) {
        json_t *status = get_status(c);
        n = json_array_size(json_object_get(status, "replicas"));
        json_decref(status);
        pause_ms(10);
    }
    char ids[2][SIGHT_ID_SIZE];
    for (int i = 0; i < 2; i++) occupy(c, ids[i]);
    assert_int_equal(replica_of(c, ids[0]), 0);
    assert_int_equal(replica_of(c, ids[1]), 1);
    for (int i = 0; i < 2; i++) cancel(c, ids[i]);
    sight_client_close(&c);
    daemon_stop(&r);
}

static int prepare(void **state)
{
    endless_model(endless, sizeof endless);
    return 0;
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_one_with_less_to_do_is_taken),
        cmocka_unit_test(a_request_goes_to_where_its_past_is),
        cmocka_unit_test(without_estimates_requests_are_counted),
        cmocka_unit_test(both_answer_alike),
        cmocka_unit_test(two_run_at_once_and_a_third_waits),
        cmocka_unit_test(a_conversation_stays),
        cmocka_unit_test(features_are_shared),
        cmocka_unit_test(the_folder_is_shared),
        cmocka_unit_test(both_are_told_when_it_stops),
        cmocka_unit_test(a_replica_more),
    };
    return cmocka_run_group_tests(tests, prepare, NULL);
}
