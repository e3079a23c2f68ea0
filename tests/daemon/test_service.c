// The daemon from outside: started, asked, cancelled, left, killed.
#include "running.h"

#include <zmq.h>

#define HELLO                                                                                      \
    "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"temperature\": 0, "             \
    "\"max_tokens\": 8, \"enable_thinking\": false}"
#define ENDLESS                                                                                    \
    "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"temperature\": 0, "             \
    "\"max_tokens\": 4000}"

static char endless[256];

static running start_golden(void)
{
    const char *const args[] = {"--model", GOLDEN "/model", "--threads", "1", NULL};
    running r;
    daemon_start(&r, args);
    return r;
}

// Slow enough that much can happen meanwhile.
// One request runs at a time, unless that is the option.
static running start_endless(const char *option, const char *value)
{
    const char *const args[] = {"--model", endless, "--threads", "1", "--simd", "plain",
                                "--max-running", "1", option, value, NULL};
    running r;
    daemon_start(&r, args);
    return r;
}

// Asks, and gives the end: `done` with the deltas joined under "text", or `error`.
static json_t *ask(sight_client *c, const char *json, const sight_part *parts, size_t n,
                   sight_event_kind *kind)
{
    char id[SIGHT_ID_SIZE];
    assert_ok(sight_client_ask(c, id, json, parts, n));
    return end_of(c, id, kind);
}

static void expect_error(sight_client *c, const char *json, const char *code, const char *text)
{
    sight_event_kind kind;
    json_t *body = ask_to_end(c, json, &kind);
    assert_refused(body, kind, code, text);
    json_decref(body);
}

static void answers_equal_the_reference(void **state)
{
    running r = start_golden();
    sight_client *c = daemon_connect(&r);
    json_t *wanted = json_load_file(GOLDEN "/cases/image-200x130/case.json", 0, NULL);
    json_t *request = json_object_get(wanted, "request");
    json_object_set_new(request, "base_dir", json_string(GOLDEN "/cases/image-200x130"));
    // Of the reference's text, what comes before a token that answers leave out.
    char *text = json_dumps(request, 0);
    sight_event_kind kind;
    json_t *done = ask(c, text, NULL, 0, &kind);
    assert_int_equal(kind, SIGHT_DONE);
    const json_t *usage = json_object_get(done, "usage");
    assert_int_equal(json_integer_value(json_object_get(usage, "prompt_tokens")), 47);
    assert_int_equal(json_integer_value(json_object_get(usage, "visual_tokens")), 24);
    const char *got = text_at(done, "text"), *expected = text_at(wanted, "greedy_text");
    if (strncmp(got, expected, 20)) fail_msg("'%s' is not '%s'", got, expected);
    free(text);
    json_decref(done);
    json_decref(wanted);
    sight_client_close(&c);
    daemon_stop(&r);
}

static void media_come_by_path_and_by_bytes_alike(void **state)
{
    running r = start_golden();
    sight_client *c = daemon_connect(&r);
    FILE *f = fopen(GOLDEN "/cases/video-96x80-30f/v.mkv", "rb");
    static char bytes[1 << 20];
    const sight_part part = {bytes, fread(bytes, 1, sizeof bytes, f)};
    fclose(f);
    sight_event_kind kind;
    const char *form =
        "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"video\", %s}, "
        "{\"type\": \"text\", \"text\": \"What moves?\"}]}], \"temperature\": 0, "
        "\"max_tokens\": 8, \"stream\": false, \"enable_thinking\": false}";
    char by_path[1024], by_bytes[1024];
    snprintf(by_path, sizeof by_path, form,
             "\"video\": \"" GOLDEN "/cases/video-96x80-30f/v.mkv\"");
    snprintf(by_bytes, sizeof by_bytes, form, "\"attachment\": 0");
    json_t *a = ask(c, by_path, NULL, 0, &kind);
    assert_int_equal(kind, SIGHT_DONE);
    json_t *b = ask(c, by_bytes, &part, 1, &kind);
    assert_int_equal(kind, SIGHT_DONE);
    assert_true(strlen(text_at(a, "answer")) > 0); // no stream: the text is in the end
    assert_string_equal(text_at(a, "answer"), text_at(b, "answer"));
    json_decref(a);
    json_decref(b);
    sight_client_close(&c);
    daemon_stop(&r);
}

static void plans_price_without_work(void **state)
{
    running r = start_golden();
    sight_client *c = daemon_connect(&r);
    char *reply;
    assert_ok(sight_client_call(
        c, &reply, SIGHT_PLAN,
        "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"video\", \"video\": "
        "\"" GOLDEN "/cases/video-96x80-30f/v.mkv\"}]}], \"max_tokens\": 5000, \"colour\": 1}",
        NULL, 0, 30000));
    json_t *plan = json_loads(reply, 0, NULL);
    const json_t *m = json_array_get(json_object_get(plan, "media"), 0);
    assert_string_equal(text_at(m, "kind"), "video");
    assert_int_equal(json_integer_value(json_object_get(m, "tokens")), 18);
    assert_int_equal(json_array_size(json_object_get(m, "frames")), 6);
    assert_true(json_integer_value(json_object_get(plan, "memory_bytes")) > 0);
    assert_int_equal(json_array_size(json_object_get(plan, "warnings")), 2); // colour, max_tokens
    json_decref(plan);
    free(reply);
    assert_ok(sight_client_call(c, &reply, SIGHT_MODELS, NULL, NULL, 0, 30000));
    assert_non_null(strstr(reply, "\"family\":\"qwen3_5\""));
    free(reply);
    sight_client_close(&c);
    daemon_stop(&r);
}

static void wrong_requests_get_a_sentence_and_the_daemon_serves_on(void **state)
{
    running r = start_golden();
    sight_client *c = daemon_connect(&r);
    char *empty = test_write(r.folder, "empty.png", "", 0);
    char *text = test_write(r.folder, "text.mp4", "not a film at all, only words\n", 30);
    char json[2048];
    const char *form =
        "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"%s\", \"%s\": "
        "\"%s\"}]}]}";
    const struct {
        const char *type, *path, *code, *says;
    } media[] = {
        {"image", "/nonexistent/a.png", "not_found medium", "/nonexistent/a.png"},
        {"video", "/nonexistent/a.mp4", "not_found medium", "/nonexistent/a.mp4"},
        {"image", "/tmp", "io medium", "folder"},
        {"image", empty, "media medium", "empty"},
        {"video", text, "media medium", "text.mp4"},
        {"image", text, "media medium", "text.mp4"},
        {"image", "http://localhost/a.png", "unsupported", "fetches nothing"},
    };
    for (size_t i = 0; i < sizeof media / sizeof *media; i++) {
        snprintf(json, sizeof json, form, media[i].type, media[i].type, media[i].path);
        expect_error(c, json, media[i].code, media[i].says);
    }
    expect_error(c, "{", "argument", "not valid JSON");
    expect_error(c, "{\"messages\": [{\"role\": \"user\", \"content\": \"\xff\"}]}", "argument",
                 "UTF-8");
    expect_error(c,
                 "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"max_tokens\": -4}",
                 "argument", "'max_tokens' is -4");
    expect_error(c,
                 "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"temperature\": NaN}",
                 "argument", "NaN");
    expect_error(c,
                 "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"model\": \"other\"}",
                 "not_found model", "there is no model 'other'");
    expect_error(c, "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\"}]}]}",
                 "argument", "says where it is");
    char *deep = malloc(20001);
    memset(deep, '[', 20000);
    deep[20000] = 0;
    expect_error(c, deep, "argument", "JSON");
    free(deep);
    // A prompt longer than the context of 4,096.
    char *longer = malloc(100200);
    strcpy(longer, "{\"messages\": [{\"role\": \"user\", \"content\": \"");
    const size_t head = strlen(longer);
    for (size_t i = 0; i < 50000; i++)
        memcpy(longer + head + 2 * i, "z ", 2);
    strcpy(longer + head + 100000, "\"}]}");
    expect_error(c, longer, "limit", "the prompt has");
    free(longer);
    sight_event_kind kind;
    json_t *done = ask(c, HELLO, NULL, 0, &kind);
    assert_int_equal(kind, SIGHT_DONE);
    json_decref(done);
    assert_int_equal(count_requests(c), 0);
    sight_client_close(&c);
    free(empty);
    free(text);
    daemon_stop(&r);
}

static void a_second_client_is_told_its_place(void **state)
{
    running r = start_endless(NULL, NULL);
    sight_client *a = daemon_connect(&r), *b = daemon_connect(&r);
    char first[SIGHT_ID_SIZE], second[SIGHT_ID_SIZE];
    assert_ok(sight_client_ask(a, first, ENDLESS, NULL, 0));
    json_decref(wait_event(a, first, SIGHT_DELTA)); // it runs
    assert_ok(sight_client_ask(b, second, ENDLESS, NULL, 0));
    json_t *body;
    do {
        body = wait_event(b, second, SIGHT_ACCEPTED);
    } while (strcmp(text_at(body, "state"), "waiting") && (json_decref(body), true));
    assert_int_equal(json_integer_value(json_object_get(body, "place")), 1);
    assert_true(json_integer_value(json_object_get(body, "prompt_tokens")) > 0);
    json_decref(body);
    // Status and plans do not wait for the running one.
    const double before = clock_now_s();
    assert_int_equal(count_requests(b), 2);
    char *plan;
    assert_ok(sight_client_call(b, &plan, SIGHT_PLAN, HELLO, NULL, 0, 30000));
    free(plan);
    assert_true(clock_now_s() - before < 2);
    assert_ok(sight_client_cancel(a, first));
    body = wait_event(a, first, SIGHT_DONE);
    assert_string_equal(text_at(body, "finish_reason"), "cancelled");
    assert_true(json_integer_value(
                    json_object_get(json_object_get(body, "usage"), "completion_tokens")) > 0);
    json_decref(body);
    do {
        body = wait_event(b, second, SIGHT_ACCEPTED);
    } while (json_integer_value(json_object_get(body, "place")) && (json_decref(body), true));
    json_decref(body);
    json_decref(wait_event(b, second, SIGHT_DELTA));
    sight_client_close(&a);
    sight_client_close(&b);
    daemon_stop(&r);
}

// While an answer without end runs, a picture is looked at and another question answered.
static void a_running_answer_lets_others_through(void **state)
{
    running r = start_endless("--max-running", "2");
    sight_client *a = daemon_connect(&r), *b = daemon_connect(&r);
    char first[SIGHT_ID_SIZE], second[SIGHT_ID_SIZE];
    assert_ok(sight_client_ask(a, first, ENDLESS, NULL, 0));
    json_decref(wait_event(a, first, SIGHT_DELTA));
    assert_ok(sight_client_ask(b, second,
                               "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": "
                               "\"image\", \"image\": \"" GOLDEN "/cases/image-200x130/a.png\"}, "
                               "{\"type\": \"text\", \"text\": \"what?\"}]}], \"max_tokens\": 3}",
                               NULL, 0));
    json_t *body = wait_event(b, second, SIGHT_DONE);
    assert_string_equal(text_at(body, "finish_reason"), "length");
    json_decref(body);
    assert_int_equal(count_requests(b), 1); // the first goes on
    assert_ok(sight_client_cancel(a, first));
    body = wait_event(a, first, SIGHT_DONE);
    assert_string_equal(text_at(body, "finish_reason"), "cancelled");
    json_decref(body);
    sight_client_close(&a);
    sight_client_close(&b);
    daemon_stop(&r);
}

static void a_waiting_request_can_be_cancelled(void **state)
{
    running r = start_endless(NULL, NULL);
    sight_client *c = daemon_connect(&r);
    char first[SIGHT_ID_SIZE], second[SIGHT_ID_SIZE];
    assert_ok(sight_client_ask(c, first, ENDLESS, NULL, 0));
    assert_ok(sight_client_ask(c, second, ENDLESS, NULL, 0));
    json_decref(wait_event(c, second, SIGHT_ACCEPTED));
    assert_ok(sight_client_cancel(c, second));
    json_t *body = wait_event(c, second, SIGHT_DONE);
    assert_string_equal(text_at(body, "finish_reason"), "cancelled");
    json_decref(body);
    // One that is not there, or somebody else's, changes nothing.
    sight_client *other = daemon_connect(&r);
    assert_ok(sight_client_cancel(other, first));
    assert_ok(sight_client_cancel(c, "unknown"));
    pause_ms(300);
    assert_int_equal(count_requests(c), 1);
    sight_client_close(&other);
    sight_client_close(&c);
    daemon_stop(&r);
}

// Waits for an empty queue and gives how long that took.
static double time_until_free(const running *r)
{
    sight_client *c = daemon_connect(r);
    const double start = clock_now_s();
    while (count_requests(c) && clock_now_s() - start < 20)
        pause_ms(20);
    sight_client_close(&c);
    return clock_now_s() - start;
}

static void a_killed_client_frees_its_work(void **state)
{
    running r = start_endless(NULL, NULL);
    sight_client_close(&(sight_client *){daemon_connect(&r)}); // it serves
    int told[2];
    assert_int_equal(pipe(told), 0);
    const pid_t child = fork();
    if (child == 0) {
        sight_client *c;
        char id[2][SIGHT_ID_SIZE];
        if (sight_client_connect(&c, r.endpoint, 60000)) _exit(1);
        for (int i = 0; i < 2; i++)
            sight_client_ask(c, id[i], ENDLESS, NULL, 0);
        for (sight_event e; !sight_client_next(c, &e, 60000);) {
            if (e.kind == SIGHT_DELTA && write(told[1], "", 1) == 1) pause();
        }
        _exit(1);
    }
    char byte;
    assert_int_equal(read(told[0], &byte, 1), 1);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_true(time_until_free(&r) < 1.5);
    close(told[0]);
    close(told[1]);
    daemon_stop(&r);
}

static void a_client_that_closes_frees_its_work(void **state)
{
    running r = start_endless(NULL, NULL);
    sight_client *c = daemon_connect(&r);
    char id[SIGHT_ID_SIZE];
    assert_ok(sight_client_ask(c, id, ENDLESS, NULL, 0));
    json_decref(wait_event(c, id, SIGHT_DELTA));
    sight_client_close(&c);
    assert_true(time_until_free(&r) < 1.5);
    daemon_stop(&r);
}

static void a_reader_that_sleeps_is_dropped(void **state)
{
    running r = start_endless("--send-queue", "10");
    sight_client_close(&(sight_client *){daemon_connect(&r)});
    void *context = zmq_ctx_new(), *dealer = zmq_socket(context, ZMQ_DEALER);
    const int one = 1, none = 0, small = 4096;
    zmq_setsockopt(dealer, ZMQ_RCVHWM, &one, sizeof one);
    zmq_setsockopt(dealer, ZMQ_RCVBUF, &small, sizeof small);
    zmq_setsockopt(dealer, ZMQ_LINGER, &none, sizeof none);
    assert_int_equal(zmq_connect(dealer, r.endpoint), 0);
    for (int i = 0; i < 8; i++) { // the system's own buffers take in many events
        char id[8];
        snprintf(id, sizeof id, "a%d", i);
        zmq_send(dealer, "SIGHT1", 6, ZMQ_SNDMORE);
        zmq_send(dealer, id, strlen(id), ZMQ_SNDMORE);
        zmq_send(dealer, "ask", 3, ZMQ_SNDMORE);
        zmq_send(dealer, ENDLESS, strlen(ENDLESS), 0);
    }
    sight_client *c = daemon_connect(&r);
    const double start = clock_now_s();
    while (!daemon_logged(&r, "does not read") && clock_now_s() - start < 120)
        pause_ms(100);
    assert_true(daemon_logged(&r, "does not read"));
    pause_ms(1500);
    assert_int_equal(count_requests(c), 0);
    sight_client_close(&c);
    zmq_close(dealer);
    zmq_ctx_term(context);
    daemon_stop(&r);
}

static void a_full_queue_says_when_to_come_back(void **state)
{
    running r = start_endless("--max-jobs", "1");
    sight_client *c = daemon_connect(&r);
    char id[SIGHT_ID_SIZE];
    assert_ok(sight_client_ask(c, id, ENDLESS, NULL, 0));
    json_decref(wait_event(c, id, SIGHT_ACCEPTED));
    sight_event_kind kind;
    json_t *body = ask(c, HELLO, NULL, 0, &kind);
    assert_int_equal(kind, SIGHT_ERROR);
    assert_string_equal(text_at(body, "code"), "busy");
    assert_true(json_integer_value(json_object_get(body, "retry_after_s")) > 0);
    json_decref(body);
    sight_client_close(&c);
    daemon_stop(&r);
}

static void a_request_has_its_time(void **state)
{
    running r = start_endless("--max-request-seconds", "1");
    sight_client *c = daemon_connect(&r);
    expect_error(c, ENDLESS, "timeout", "over 1 s");
    sight_client_close(&c);
    daemon_stop(&r);
}

static void told_to_stop_it_refuses_and_ends(void **state)
{
    running r = start_endless("--grace", "1");
    sight_client *c = daemon_connect(&r);
    char first[SIGHT_ID_SIZE], second[SIGHT_ID_SIZE], third[SIGHT_ID_SIZE];
    assert_ok(sight_client_ask(c, first, ENDLESS, NULL, 0));
    json_decref(wait_event(c, first, SIGHT_DELTA));
    assert_ok(sight_client_ask(c, second, ENDLESS, NULL, 0));
    json_decref(wait_event(c, second, SIGHT_ACCEPTED));
    kill(r.pid, SIGTERM);
    json_t *body = wait_event(c, second, SIGHT_ERROR); // the waiting one at once
    assert_string_equal(text_at(body, "code"), "cancelled");
    json_decref(body);
    assert_ok(sight_client_ask(c, third, HELLO, NULL, 0));
    body = wait_event(c, third, SIGHT_ERROR);
    assert_string_equal(text_at(body, "code"), "busy");
    assert_non_null(strstr(text_at(body, "message"), "stopping"));
    json_decref(body);
    // The running one after its grace.
    sight_event e;
    sight_err err;
    while (!(err = sight_client_next(c, &e, 20000)) && e.kind == SIGHT_DELTA)
        continue;
    assert_int_equal(daemon_wait(&r, 30), 0);
    while (!err)
        err = sight_client_next(c, &e, 20000);
    assert_int_equal(err, SIGHT_E_IO); // and then the server is gone
    sight_client_close(&c);
    assert_int_not_equal(access(endpoint_file(&r), F_OK), 0);
}

static void a_second_signal_ends_it_at_once(void **state)
{
    running r = start_endless("--grace", "600");
    sight_client *c = daemon_connect(&r);
    char id[SIGHT_ID_SIZE];
    assert_ok(sight_client_ask(c, id, ENDLESS, NULL, 0));
    json_decref(wait_event(c, id, SIGHT_DELTA));
    kill(r.pid, SIGTERM);
    pause_ms(300);
    kill(r.pid, SIGTERM);
    assert_int_equal(daemon_wait(&r, 10), 0);
    sight_client_close(&c);
}

static void two_daemons_do_not_share_a_socket(void **state)
{
    running r = start_golden(), second = r;
    sight_client *c = daemon_connect(&r);
    struct stat st;
    assert_int_equal(stat(endpoint_file(&r), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    const char *const args[] = {"--model", GOLDEN "/model", NULL};
    daemon_spawn(&second, args);
    assert_int_equal(daemon_wait(&second, 30), 5);
    assert_true(daemon_logged(&r, "another sightd (process"));
    sight_event_kind kind; // the first serves on
    json_t *done = ask(c, HELLO, NULL, 0, &kind);
    assert_int_equal(kind, SIGHT_DONE);
    json_decref(done);
    sight_client_close(&c);
    // A killed one leaves its files; the next takes over.
    kill(r.pid, SIGKILL);
    assert_int_equal(daemon_wait(&r, 30), -1);
    assert_fails(sight_client_connect(&c, r.endpoint, 0), SIGHT_E_NOT_FOUND, "no sightd serves");
    daemon_spawn(&r, args);
    c = daemon_connect(&r);
    sight_client_close(&c);
    daemon_stop(&r);
}

static void too_large_requests_are_refused(void **state)
{
    const char *const args[] = {"--model", GOLDEN "/model", "--max-message-bytes", "1M", NULL};
    running r;
    daemon_start(&r, args);
    sight_client *c = daemon_connect(&r);
    char *big = calloc(1, 40 << 20);
    const sight_part part = {big, 2 << 20};
    // The library knows the limit ...
    assert_fails(sight_client_ask(c, NULL, HELLO, &part, 1), SIGHT_E_LIMIT, "limit is 1048576");
    // ... the server refuses what a stranger sends, and hangs up on what is far too much.
    void *context = zmq_ctx_new();
    for (int i = 0; i < 2; i++) {
        void *dealer = zmq_socket(context, ZMQ_DEALER);
        const int wait_ms = i ? 1000 : 30000, none = 0;
        zmq_setsockopt(dealer, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms);
        zmq_setsockopt(dealer, ZMQ_LINGER, &none, sizeof none);
        zmq_connect(dealer, r.endpoint);
        zmq_send(dealer, "SIGHT1", 6, ZMQ_SNDMORE);
        zmq_send(dealer, "big", 3, ZMQ_SNDMORE);
        zmq_send(dealer, "ask", 3, ZMQ_SNDMORE);
        zmq_send(dealer, big, i ? 40 << 20 : 3 << 20, 0);
        char frame[256];
        const int n = zmq_recv(dealer, frame, sizeof frame, 0);
        assert_int_equal(n, i ? -1 : 6);
        if (!i) {
            zmq_recv(dealer, frame, sizeof frame, 0);
            zmq_recv(dealer, frame, sizeof frame, 0);
            assert_memory_equal(frame, "error", 5);
        }
        zmq_close(dealer);
    }
    zmq_ctx_term(context);
    sight_event_kind kind;
    json_t *done = ask(c, HELLO, NULL, 0, &kind);
    assert_int_equal(kind, SIGHT_DONE);
    json_decref(done);
    free(big);
    sight_client_close(&c);
    daemon_stop(&r);
}

static void strange_frames_are_refused(void **state)
{
    running r = start_golden();
    sight_client_close(&(sight_client *){daemon_connect(&r)});
    void *context = zmq_ctx_new(), *dealer = zmq_socket(context, ZMQ_DEALER);
    const int wait_ms = 30000, none = 0;
    zmq_setsockopt(dealer, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms);
    zmq_setsockopt(dealer, ZMQ_LINGER, &none, sizeof none);
    assert_int_equal(zmq_connect(dealer, r.endpoint), 0);
    const struct {
        const char *frames[4], *id, *says;
    } cases[] = {
        {{"hello"}, "-", "SIGHT1"},
        {{"SIGHT1", "b a d", "ask", "{}"}, "-", "request id"},
        {{"SIGHT1", "a"}, "a", "2 frames"},
        {{"SIGHT1", "a", "sing", "{}"}, "a", "verb"},
        {{"SIGHT1", "a", "watch", "{}"}, "a", "cameras"},
        {{"SIGHT1", "a", "cancel", "{}"}, "a", "'id'"},
        {{"SIGHT1", "a", "cancel", "x"}, "a", "JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int k = 0; k < 4 && cases[i].frames[k]; k++) {
            const int more = k < 3 && cases[i].frames[k + 1] ? ZMQ_SNDMORE : 0;
            zmq_send(dealer, cases[i].frames[k], strlen(cases[i].frames[k]), more);
        }
        char got[4][512] = {{0}};
        for (int k = 0; k < 4; k++)
            assert_true(zmq_recv(dealer, got[k], 511, 0) > 0);
        assert_string_equal(got[1], cases[i].id);
        assert_string_equal(got[2], "error");
        if (!strstr(got[3], cases[i].says)) fail_msg("%s: not '%s'", got[3], cases[i].says);
    }
    zmq_close(dealer);
    zmq_ctx_term(context);
    daemon_stop(&r);
}

static void a_private_daemon_ends_when_left_alone(void **state)
{
    const char *const args[] = {"--model", GOLDEN "/model", "--private", "1", NULL};
    running r;
    daemon_start(&r, args);
    sight_client *c = daemon_connect(&r);
    pause_ms(2500);
    assert_int_equal(count_requests(c), 0); // it lives while somebody is connected
    sight_client_close(&c);
    assert_int_equal(daemon_wait(&r, 20), 0);
}

static void settings_and_models_that_are_wrong_end_it(void **state)
{
    const struct {
        const char *args[5];
        int code;
        const char *says;
    } cases[] = {
        {{"--max-frames", "x", NULL}, 2, "--max-frames is 'x'"},
        {{"--model", "/nonexistent", NULL}, 4, "/nonexistent"},
        {{"--endpoint", "tcp://0.0.0.0:5", NULL}, 2, "served with keys only"},
        {{"--model", GOLDEN "/model", "--memory", "1K", NULL}, 6, "MiB"},
        {{"--model", GOLDEN "/model", "--context", "99999999", NULL}, 2, "context is 99999999"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        running r;
        daemon_start(&r, cases[i].args);
        assert_int_equal(daemon_wait(&r, 60), cases[i].code);
        if (!daemon_logged(&r, cases[i].says)) fail_msg("nothing about '%s'", cases[i].says);
    }
    const char *const check[] = {"--model", GOLDEN "/model", "--check", NULL};
    running r;
    daemon_start(&r, check);
    assert_int_equal(daemon_wait(&r, 60), 0);
    assert_true(daemon_logged(&r, "\"context\": 4096"));
}

static int prepare(void **state)
{
    endless_model(endless, sizeof endless);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_equal_the_reference),
        cmocka_unit_test(media_come_by_path_and_by_bytes_alike),
        cmocka_unit_test(plans_price_without_work),
        cmocka_unit_test(wrong_requests_get_a_sentence_and_the_daemon_serves_on),
        cmocka_unit_test(a_second_client_is_told_its_place),
        cmocka_unit_test(a_running_answer_lets_others_through),
        cmocka_unit_test(a_waiting_request_can_be_cancelled),
        cmocka_unit_test(a_killed_client_frees_its_work),
        cmocka_unit_test(a_client_that_closes_frees_its_work),
        cmocka_unit_test(a_reader_that_sleeps_is_dropped),
        cmocka_unit_test(a_full_queue_says_when_to_come_back),
        cmocka_unit_test(a_request_has_its_time),
        cmocka_unit_test(told_to_stop_it_refuses_and_ends),
        cmocka_unit_test(a_second_signal_ends_it_at_once),
        cmocka_unit_test(two_daemons_do_not_share_a_socket),
        cmocka_unit_test(too_large_requests_are_refused),
        cmocka_unit_test(strange_frames_are_refused),
        cmocka_unit_test(a_private_daemon_ends_when_left_alone),
        cmocka_unit_test(settings_and_models_that_are_wrong_end_it),
    };
    return cmocka_run_group_tests(tests, prepare, NULL);
}
