// What a running daemon tells of itself: metrics, log, status, and what SIGHUP and SIGTERM do.
#include "running.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#define HELLO                                                                                                          \
    "{\"messages\": [{\"role\": \"user\", \"content\": \"a secret word\"}], \"temperature\": 0, \"max_tokens\": 8, "      \
    "\"enable_thinking\": false}"
#define ENDLESS                                                                                                        \
    "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"temperature\": 0, \"max_tokens\": 4000, "              \
    "\"repetition_guard\": false}"

static char endless[256];

static void start(running *r, const char *model, const char *const *more)
{
    const char *args[24] = {"--model", model, "--threads", "1", "--simd", "plain", "--log-format", "json"};
    int n = 8;
    for (int i = 0; more && more[i]; i++) args[n++] = more[i];
    daemon_start(r, args);
}

// ---- the metrics ----

static char *metrics_text(sight_client *c)
{
    char *reply;
    assert_ok(sight_client_call(c, &reply, SIGHT_STATUS, "{\"metrics\": true}", NULL, 0, 30000));
    json_t *status = json_loads(reply, 0, NULL);
    free(reply);
    char *text = strdup(text_at(status, "metrics"));
    json_decref(status);
    assert_true(text && *text);
    return text;
}

static double sample_of(const char *text, const char *name)
{
    char wanted[256];
    snprintf(wanted, sizeof wanted, "\n%s ", name);
    const char *at = strstr(text, wanted);
    if (!at) fail_msg("there is no %s", name);
    return strtod(at + strlen(wanted), NULL);
}

static double sample(sight_client *c, const char *name)
{
    char *text = metrics_text(c);
    const double v = sample_of(text, name);
    free(text);
    return v;
}

static int64_t count_at(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

// Two answers, a wrong request, one that is not there, a cancel: each is counted as what it was, and the sums agree with what
// clients were told.
static void what_happened_is_counted(void **state)
{
    running r;
    start(&r, endless, NULL);
    sight_client *c = daemon_connect(&r);
    char id[SIGHT_ID_SIZE];
    sight_event_kind kind;
    int64_t prompt = 0, reused = 0, generated = 0;
    for (int i = 0; i < 2; i++) {
        assert_ok(sight_client_ask(c, id, HELLO, NULL, 0));
        json_t *done = end_of(c, id, &kind);
        const json_t *usage = json_object_get(done, "usage");
        assert_int_equal(kind, SIGHT_DONE);
        prompt += count_at(usage, "prompt_tokens");
        reused += count_at(usage, "reused_tokens");
        generated += count_at(usage, "completion_tokens");
        json_decref(done);
    }
    assert_ok(sight_client_ask(c, id, "{\"messages\": 3}", NULL, 0));
    json_decref(end_of(c, id, &kind));
    assert_int_equal(kind, SIGHT_ERROR);
    assert_ok(sight_client_ask(c, id, ENDLESS, NULL, 0));
    json_decref(wait_event(c, id, SIGHT_DELTA));
    assert_ok(sight_client_cancel(c, id));
    json_t *cut = end_of(c, id, &kind);
    generated += count_at(json_object_get(cut, "usage"), "completion_tokens");
    prompt += count_at(json_object_get(cut, "usage"), "prompt_tokens");
    reused += count_at(json_object_get(cut, "usage"), "reused_tokens");
    json_decref(cut);
    char *text = metrics_text(c);
    assert_true(sample_of(text, "sightd_requests_total{verb=\"ask\",outcome=\"done\"}") == 2);
    assert_true(sample_of(text, "sightd_requests_total{verb=\"ask\",outcome=\"error\"}") == 1);
    assert_true(sample_of(text, "sightd_requests_total{verb=\"ask\",outcome=\"cancelled\"}") == 1);
    assert_true(sample_of(text, "sightd_errors_total{code=\"argument\"}") == 1);
    assert_true(sample_of(text, "sightd_messages_total{verb=\"ask\"}") == 4);
    assert_true(sample_of(text, "sightd_messages_total{verb=\"cancel\"}") == 1);
    assert_true(sample_of(text, "sightd_first_token_seconds_count{priority=\"interactive\"}") == 3);
    assert_true(sample_of(text, "sightd_request_seconds_count{verb=\"ask\"}") == 4);
    assert_true(sample_of(text, "sightd_received_bytes_total") > 300);
    assert_true(sample_of(text, "sightd_events_total") >= 12);
    assert_true(sample_of(text, "sightd_connections") >= 0);
    assert_true(sample_of(text, "sightd_turn_seconds_count") > 0);
    char name[128];
    const char *model = strrchr(endless, '/') + 1;
    snprintf(name, sizeof name, "sightd_tokens_total{model=\"%s\",kind=\"generated\"}", model);
    assert_true(sample_of(text, name) == (double)generated);
    snprintf(name, sizeof name, "sightd_tokens_total{model=\"%s\",kind=\"prompt\"}", model);
    assert_true(sample_of(text, name) == (double)(prompt - reused));
    snprintf(name, sizeof name, "sightd_tokens_total{model=\"%s\",kind=\"reused\"}", model);
    assert_true(sample_of(text, name) == (double)reused);
    // A token's gap is counted between every two tokens of each answer.
    assert_true(sample_of(text, "sightd_token_gap_seconds_count{priority=\"interactive\"}") == (double)(generated - 3));
    free(text);
    sight_client_close(&c);
    daemon_stop(&r);
}

static void a_refusal_is_counted_by_its_code(void **state)
{
    static const char *const one[] = {"--max-jobs", "1", NULL};
    running r;
    start(&r, endless, one);
    sight_client *c = daemon_connect(&r);
    char id[SIGHT_ID_SIZE], second[SIGHT_ID_SIZE];
    sight_event_kind kind;
    assert_ok(sight_client_ask(c, id, ENDLESS, NULL, 0));
    json_decref(wait_event(c, id, SIGHT_DELTA));
    assert_ok(sight_client_ask(c, second, HELLO, NULL, 0));
    json_t *body = end_of(c, second, &kind);
    assert_int_equal(kind, SIGHT_ERROR);
    assert_string_equal(text_at(body, "code"), "busy");
    json_decref(body);
    assert_true(sample(c, "sightd_refusals_total{code=\"busy\"}") == 1);
    // What runs is seen with its progress: by now it has drawn more than what was heard of first.
    json_decref(wait_event(c, id, SIGHT_DELTA));
    json_t *status = get_status(c);
    const json_t *request = json_array_get(json_object_get(status, "requests"), 0);
    assert_string_equal(text_at(request, "id"), id);
    assert_string_equal(text_at(request, "state"), "running");
    assert_string_equal(text_at(request, "stage"), "generate");
    assert_string_equal(text_at(request, "priority"), "interactive");
    assert_int_equal(count_at(request, "n"), 1);
    assert_true(count_at(request, "generated_tokens") > 0);
    assert_int_equal(count_at(request, "max_tokens"), 4000);
    assert_int_equal(count_at(json_object_get(status, "queue"), "running"), 1);
    assert_true(json_is_true(json_object_get(json_object_get(status, "engine"), "alive")));
    assert_int_equal(count_at(status, "refused"), 1);
    json_decref(status);
    kill(r.pid, SIGTERM);
    kill(r.pid, SIGTERM);
    sight_client_close(&c);
    assert_int_equal(daemon_wait(&r, 30), 0);
}

static void a_wrong_question_is_refused(void **state)
{
    running r;
    start(&r, GOLDEN "/model", NULL);
    sight_client *c = daemon_connect(&r);
    static const char *const wrong[] = {"{\"metrics\": 3}", "[]", "{", "{\"metrics\": true, \"metrics\": true}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *reply = NULL;
        assert_int_equal(sight_client_call(c, &reply, SIGHT_STATUS, wrong[i], NULL, 0, 30000), SIGHT_E_ARGUMENT);
        free(reply);
    }
    sight_client_close(&c);
    daemon_stop(&r);
}

// ---- the log ----

// Calls see with every line, which must be JSON.
static int read_log(const running *r, void (*see)(const json_t *line, void *arg), void *arg)
{
    static char text[1 << 20];
    int n = 0;
    FILE *f = fopen(r->log, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), n++) {
        json_t *o = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        if (!o) fail_msg("not JSON: %s", line);
        if (see) see(o, arg);
        json_decref(o);
    }
    return n;
}

typedef struct ended {
    int asks, plans;
    json_t *last;
} ended;

static void note_end(const json_t *line, void *arg)
{
    ended *e = arg;
    assert_true(json_is_string(json_object_get(line, "time")));
    assert_true(json_is_string(json_object_get(line, "level")));
    if (strcmp(text_at(line, "message"), "request ended")) return;
    assert_true(*text_at(line, "id") && count_at(line, "n") > 0);
    assert_true(*text_at(line, "identity") != 0);
    e->asks += !strcmp(text_at(line, "verb"), "ask");
    e->plans += !strcmp(text_at(line, "verb"), "plan");
    json_decref(e->last);
    e->last = json_deep_copy(line);
}

static void every_request_is_one_line_without_what_was_asked(void **state)
{
    running r;
    start(&r, GOLDEN "/model", (const char *const[]){"--log", "debug", NULL});
    sight_client *c = daemon_connect(&r);
    char id[SIGHT_ID_SIZE];
    sight_event_kind kind;
    char *reply;
    // An error's sentence may quote the request: it is not logged.
    assert_ok(sight_client_ask(c, id, "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"image\": "
                                      "\"/secret\\nerror/word.png\"}]}]}", NULL, 0));
    json_decref(end_of(c, id, &kind));
    assert_int_equal(kind, SIGHT_ERROR);
    assert_ok(sight_client_call(c, &reply, SIGHT_PLAN, HELLO, NULL, 0, 30000));
    free(reply);
    assert_ok(sight_client_ask(c, id, HELLO, NULL, 0));
    json_t *done = end_of(c, id, &kind);
    assert_int_equal(kind, SIGHT_DONE);
    json_decref(done);
    sight_client_close(&c);
    daemon_stop(&r);
    ended e = {0};
    assert_true(read_log(&r, note_end, &e) > 5);
    assert_int_equal(e.asks, 2);
    assert_int_equal(e.plans, 1);
    assert_string_equal(text_at(e.last, "id"), id);
    assert_string_equal(text_at(e.last, "outcome"), "done");
    assert_int_equal(count_at(e.last, "generated"), 8);
    assert_string_equal(text_at(e.last, "finish"), "length");
    static const char *const times[] = {"wait_s", "read_s", "first_token_s", "generate_s", "total_s"};
    for (size_t i = 0; i < 5; i++) assert_true(json_number_value(json_object_get(e.last, times[i])) > 0);
    json_decref(e.last);
    assert_false(daemon_logged(&r, "secret"));
}

// ---- settings read again ----

static char *write_config(const running *r, const char *text)
{
    return test_write(r->folder, "sightd.conf", text, strlen(text));
}

static bool wait_logged(const running *r, const char *text)
{
    for (int i = 0; i < 2000 && !daemon_logged(r, text); i++) pause_ms(5);
    return daemon_logged(r, text);
}

static int64_t limit_of(sight_client *c, const char *name)
{
    json_t *status = get_status(c);
    const int64_t v = count_at(json_object_get(status, "limits"), name);
    json_decref(status);
    return v;
}

// The daemon's own socket is systemd's: what it tells comes here.
static int open_notify(const running *r)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s/n", r->folder);
    const int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    const struct timeval limit = {30, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setenv("NOTIFY_SOCKET", a.sun_path, 1);
    return fd;
}

// The next word that begins so.
static void expect_word(int fd, const char *begin)
{
    char got[256];
    for (;;) {
        const ssize_t n = recv(fd, got, sizeof got - 1, 0);
        if (n <= 0) fail_msg("systemd never heard '%s'", begin);
        got[n] = 0;
        if (!strncmp(got, begin, strlen(begin))) return;
    }
}

static void settings_change_while_it_runs(void **state)
{
    running r;
    daemon_prepare(&r);
    const int notify = open_notify(&r);
    char *path = write_config(&r, "max-jobs = 5\nmax-tokens = 100\nsend-queue = 1000\n");
    const char *const args[] = {"--config", path, "--model", endless, "--threads", "1", "--simd", "plain", NULL};
    daemon_spawn(&r, args);
    expect_word(notify, "READY=1");
    unsetenv("NOTIFY_SOCKET");
    sight_client *c = daemon_connect(&r);
    char id[SIGHT_ID_SIZE];
    assert_int_equal(limit_of(c, "max_jobs"), 5);
    assert_ok(sight_client_ask(c, id, "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"max_tokens\": 100, "
                                      "\"temperature\": 0, \"repetition_guard\": false}", NULL, 0));
    json_decref(wait_event(c, id, SIGHT_DELTA));
    // What is good is applied, what needs a restart is named; a request under way goes on.
    free(write_config(&r, "max-jobs = 7\nmax-tokens = 50\nsend-queue = 2000\nmetrics = 127.0.0.1:0\nmedia-root = /usr\n"));
    kill(r.pid, SIGHUP);
    expect_word(notify, "RELOADING=1\nMONOTONIC_USEC=");
    expect_word(notify, "READY=1");
    assert_true(wait_logged(&r, "settings reloaded changed=\"max-jobs, max-tokens, media-root, metrics\""));
    assert_true(wait_logged(&r, "settings=send-queue"));
    assert_true(wait_logged(&r, "metrics at http://127.0.0.1:"));
    assert_int_equal(limit_of(c, "max_jobs"), 7);
    assert_int_equal(limit_of(c, "max_tokens"), 50);
    sight_event_kind kind;
    json_t *done = end_of(c, id, &kind);
    if (kind != SIGHT_DONE) fail_msg("%s", text_at(done, "message"));
    assert_int_equal(count_at(json_object_get(done, "usage"), "completion_tokens"), 100);
    json_decref(done);
    // A file with one wrong line changes nothing, and neither does one that names what is not there.
    static const char *const bad[] = {"max-jobs = 9\nmax-tokens = x\n", "max-jobs = 9\nmedia-root = /nonexistent\n",
                                      "max-jobs = 9\nno-such = 1\n", "max-jobs = 9\nmetrics = 127.0.0.1:1:2\n"};
    static const char *const why[] = {"max-tokens is 'x'", "media-root '/nonexistent'", "no setting 'no-such'",
                                      "metrics is '127.0.0.1:1:2'"};
    for (int i = 0; i < 4; i++) {
        free(write_config(&r, bad[i]));
        kill(r.pid, SIGHUP);
        expect_word(notify, "READY=1");
        assert_true(wait_logged(&r, why[i]));
        assert_int_equal(limit_of(c, "max_jobs"), 7);
    }
    // A model more, which answers under the name that it has there; and the folder that was allowed is not any more.
    free(write_config(&r, "max-jobs = 7\n[model other]\nmodel = " GOLDEN "/model\nload = use\n"));
    kill(r.pid, SIGHUP);
    expect_word(notify, "READY=1");
    assert_true(wait_logged(&r, "changed=\"max-tokens, media-root, metrics, models and routers\""));
    assert_ok(sight_client_ask(c, id, "{\"model\": \"other\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], "
                                      "\"max_tokens\": 3}", NULL, 0));
    done = end_of(c, id, &kind);
    if (kind != SIGHT_DONE) fail_msg("%s", text_at(done, "message"));
    assert_string_equal(text_at(done, "model"), "other");
    json_decref(done);
    assert_true(sample(c, "sightd_reloads_total{result=\"bad\"}") == 4);
    assert_true(sample(c, "sightd_reloads_total{result=\"good\"}") == 2);
    sight_client_close(&c);
    kill(r.pid, SIGTERM);
    expect_word(notify, "STOPPING=1");
    expect_word(notify, "EXTEND_TIMEOUT_USEC=");
    assert_int_equal(daemon_wait(&r, 30), 0);
    close(notify);
    free(path);
}

// ---- stopping ----

// One runs, one waits, one comes too late: the first may end, the second is told at once, the third is refused with when to
// come back.
static void a_stop_lets_what_runs_end(void **state)
{
    static const char *const one[] = {"--max-running", "1", "--grace", "600", NULL};
    running r;
    start(&r, endless, one);
    sight_client *c = daemon_connect(&r);
    char id[3][SIGHT_ID_SIZE];
    sight_event_kind kind;
    const char *some = "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"temperature\": 0, \"max_tokens\": 600, "
                       "\"repetition_guard\": false}";
    assert_ok(sight_client_ask(c, id[0], some, NULL, 0));
    json_decref(wait_event(c, id[0], SIGHT_DELTA));
    assert_ok(sight_client_ask(c, id[1], HELLO, NULL, 0));
    json_decref(wait_event(c, id[1], SIGHT_ACCEPTED));
    kill(r.pid, SIGTERM);
    assert_true(wait_logged(&r, "\"message\":\"stopping\""));
    assert_ok(sight_client_ask(c, id[2], HELLO, NULL, 0));
    json_t *ends[3] = {NULL};
    char order[4] = "";
    for (int n = 0; n < 3;) {
        sight_event e;
        assert_ok(sight_client_next(c, &e, 60000));
        if (e.kind != SIGHT_DONE && e.kind != SIGHT_ERROR) continue;
        for (int i = 0; i < 3; i++) {
            if (strcmp(e.id, id[i])) continue;
            ends[i] = json_loadb(e.json, e.json_size, 0, NULL);
            order[n++] = (char)('0' + i);
        }
    }
    assert_int_equal(order[2], '0'); // the one that ran, last
    assert_int_equal(count_at(json_object_get(ends[0], "usage"), "completion_tokens"), 600);
    assert_string_equal(text_at(ends[1], "code"), "cancelled");
    assert_string_equal(text_at(ends[2], "code"), "busy");
    assert_true(count_at(ends[2], "retry_after_s") > 5);
    for (int i = 0; i < 3; i++) json_decref(ends[i]);
    (void)kind;
    sight_client_close(&c);
    assert_int_equal(daemon_wait(&r, 60), 0);
}

// ---- for people ----

static char *run_sight(const running *r, const char *command)
{
    static char text[1 << 18];
    char line[512];
    snprintf(line, sizeof line, TEST_BINARY_DIR "/sight %s -e %s 2>&1", command, r->endpoint);
    FILE *p = popen(line, "r");
    assert_non_null(p);
    text[fread(text, 1, sizeof text - 1, p)] = 0;
    assert_int_equal(pclose(p), 0);
    return text;
}

static void people_see_it_too(void **state)
{
    running r;
    start(&r, endless, NULL);
    sight_client *c = daemon_connect(&r);
    char id[SIGHT_ID_SIZE];
    assert_ok(sight_client_ask(c, id, ENDLESS, NULL, 0));
    json_decref(wait_event(c, id, SIGHT_DELTA));
    const char *text = run_sight(&r, "top"); // no terminal: one look
    assert_non_null(strstr(text, "requests  1 running"));
    assert_non_null(strstr(text, id));
    assert_non_null(strstr(text, "generate"));
    assert_null(strchr(text, '\033'));
    text = run_sight(&r, "status");
    assert_non_null(strstr(text, "requests  1 running"));
    text = run_sight(&r, "status --metrics");
    assert_non_null(strstr(text, "# TYPE sightd_requests_total counter\n"));
    json_t *json = json_loads(run_sight(&r, "status --json"), 0, NULL);
    assert_true(json_is_object(json_object_get(json, "rates")));
    json_decref(json);
    sight_client_close(&c);
    daemon_stop(&r);
}

static int set_up(void **state)
{
    endless_model(endless, sizeof endless);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_happened_is_counted),
        cmocka_unit_test(a_refusal_is_counted_by_its_code),
        cmocka_unit_test(a_wrong_question_is_refused),
        cmocka_unit_test(every_request_is_one_line_without_what_was_asked),
        cmocka_unit_test(settings_change_while_it_runs),
        cmocka_unit_test(a_stop_lets_what_runs_end),
        cmocka_unit_test(people_see_it_too),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
