// Bad requests on the wire against one daemon, each with its one sentence; after each the daemon
// answers a good one. What queues, cancels and vanishes is in tests/daemon/test_service.c;
// files and options are in check_bad_input.sh.
#include "daemon/running.h"

#include <zmq.h>

#include "ipc/wire.h"

#define HELLO "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"temperature\": 0, " \
              "\"max_tokens\": 2, \"enable_thinking\": false}"
#define USER(content) "{\"role\": \"user\", \"content\": " content "}"
#define HI USER("\"hi\"")
#define PICTURE GOLDEN "/cases/image-200x130/a.png"

static running server;
static sight_client *client;

// The end of a request: `done` or `error`; the first warning's sentence is copied to warning.
static json_t *ask(const char *json, const sight_part *parts, size_t n, sight_event_kind *kind,
                   char *warning, size_t size)
{
    char id[SIGHT_ID_SIZE];
    assert_ok(sight_client_ask(client, id, json, parts, n));
    for (;;) {
        json_t *body = next_event(client, id, kind);
        if (*kind == SIGHT_WARNING && warning && !*warning) {
            snprintf(warning, size, "%s", text_at(body, "message"));
        }
        if (*kind == SIGHT_DONE || *kind == SIGHT_ERROR) return body;
        json_decref(body);
    }
}

static void expect_good(void)
{
    sight_event_kind kind;
    json_t *body = ask(HELLO, NULL, 0, &kind, NULL, 0);
    if (kind != SIGHT_DONE) fail_msg("a good request got '%s'", text_at(body, "message"));
    json_decref(body);
}

static void expect_error_of(const char *json, const sight_part *parts, size_t n, const char *code,
                            const char *says)
{
    sight_event_kind kind;
    json_t *body = ask(json, parts, n, &kind, NULL, 0);
    if (kind != SIGHT_ERROR) fail_msg("%.200s was taken, expected '%s'", json, says);
    const char *line = text_at(body, "message");
    if (!strstr(line, says)) fail_msg("%.200s: '%s' does not say '%s'", json, line, says);
    if (strcmp(text_at(body, "code"), code)) {
        fail_msg("%.200s: code '%s', expected '%s'", json, text_at(body, "code"), code);
    }
    assert_null(strchr(line, '\n'));
    print_message("%s: %s\n", code, line);
    json_decref(body);
    expect_good();
}

static void expect_error(const char *json, const char *code, const char *says)
{
    expect_error_of(json, NULL, 0, code, says);
}

// ---- fields ----

static void fields_out_of_range_are_named(void **state)
{
    const struct {
        const char *field, *code, *says;
    } cases[] = {
        {"\"max_tokens\": -1", "argument", "'max_tokens' is -1, must be 1 to"},
        {"\"max_tokens\": 0", "argument", "'max_tokens' is 0"},
        {"\"max_tokens\": 1e12", "argument", "'max_tokens' is 1000000000000"},
        {"\"max_tokens\": 99999999999999999999", "argument", "not valid JSON"},
        {"\"max_tokens\": 1.5", "argument", "'max_tokens' must be a whole number"},
        {"\"max_tokens\": \"5\"", "argument", "'max_tokens' must be a whole number"},
        {"\"temperature\": -1", "argument", "'temperature' is -1, must be 0 to 100"},
        {"\"temperature\": 1000", "argument", "'temperature' is 1000"},
        {"\"temperature\": NaN", "argument", "not valid JSON"},
        {"\"temperature\": \"nan\"", "argument", "'temperature' must be a number"},
        {"\"temperature\": 1e999", "argument", "not valid JSON"},
        {"\"top_p\": 0", "argument", "'top_p' is 0"},
        {"\"top_p\": 1.1", "argument", "'top_p' is 1.1"},
        {"\"top_k\": -2", "argument", "'top_k' is -2"},
        {"\"min_p\": -0.1", "argument", "'min_p' is -0.1"},
        {"\"repetition_penalty\": 0", "argument", "'repetition_penalty' is 0"},
        {"\"presence_penalty\": 3", "argument", "'presence_penalty' is 3"},
        {"\"stop\": [\"\"]", "argument", "'stop'"},
        {"\"stop\": 5", "argument", "'stop'"},
        {"\"seed\": \"x\"", "argument", "'seed'"},
        {"\"enable_thinking\": 1", "argument", "'enable_thinking' must be true or false"},
        {"\"tools\": 3", "argument", "'tools'"},
        {"\"tools\": [3]", "argument", "'tools'"},
        {"\"base_dir\": \"here\"", "argument", "'base_dir'"},
        {"\"model\": \"other\"", "not_found", "'other'"},
        {"\"n\": 2", "unsupported", "'n' can only be 1"},
        {"\"response_format\": {\"type\": \"xml\"}", "argument", "'response_format.type' is 'xml'"},
        {"\"response_format\": {\"type\": \"json_schema\", \"json_schema\": {\"schema\": {\"type\": \"x\"}}}", "argument",
         "'response_format.json_schema.schema' at /type"},
        {"\"messages\": []", "argument", "not valid JSON"}, // twice the same key
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[512];
        snprintf(json, sizeof json, "{\"messages\": [" HI "], %s}", cases[i].field);
        expect_error(json, cases[i].code, cases[i].says);
    }
}

static void messages_of_a_wrong_shape_are_refused(void **state)
{
    const struct {
        const char *messages, *code, *says;
    } cases[] = {
        {"[]", "argument", "message"},
        {"{}", "argument", "'messages'"},
        {"null", "argument", "'messages'"},
        {"[5]", "argument", "messages[0] must be an object"},
        {"[{}]", "argument", "messages[0]"},
        {"[{\"role\": 5}]", "argument", "messages[0]"},
        {"[{\"role\": \"king\", \"content\": \"hi\"}]", "argument", "king"},
        {"[{\"role\": \"user\", \"content\": 5}]", "argument", "messages[0]: 'content'"},
        {"[{\"role\": \"user\", \"content\": [5]}]", "argument", "messages[0].content[0]"},
        {"[{\"role\": \"user\", \"content\": [{\"type\": \"smell\"}]}]", "argument", "smell"},
        {"[{\"role\": \"user\", \"content\": [{\"type\": \"text\"}]}]", "argument", "'text'"},
        {"[" HI ", {\"role\": \"system\", \"content\": \"x\"}, " HI "]", "argument", "ystem"},
        {"[{\"role\": \"system\", \"content\": \"hi\"}]", "argument", "user"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[512];
        snprintf(json, sizeof json, "{\"messages\": %s, \"max_tokens\": 2}", cases[i].messages);
        expect_error(json, cases[i].code, cases[i].says);
    }
}

// ---- JSON ----

static char *repeat(const char *head, const char *unit, size_t n, const char *tail)
{
    const size_t a = strlen(head), b = strlen(unit);
    char *out = malloc(a + n * b + strlen(tail) + 1);
    assert_non_null(out);
    strcpy(out, head);
    for (size_t i = 0; i < n; i++) memcpy(out + a + i * b, unit, b);
    strcpy(out + a + n * b, tail);
    return out;
}

static void strange_json_is_refused(void **state)
{
    expect_error("", "argument", "JSON");
    expect_error("null", "argument", "must be a JSON object");
    expect_error("[]", "argument", "must be a JSON object");
    expect_error("{} {}", "argument", "not valid JSON");
    expect_error("{\"messages\": [{\"role\": \"user\", \"content\": \"\xc3\x28\"}]}", "argument",
                 "UTF-8");
    expect_error("{\"messages\": [{\"role\": \"user\", \"content\": \"\\ud800\"}]}", "argument",
                 "not valid JSON");
    const char *const units[] = {"[", "{\"a\":", "{\"messages\":["};
    for (size_t i = 0; i < 3; i++) {
        char *deep = repeat("", units[i], 10000, "");
        expect_error(deep, "argument", "a depth of over 2048");
        free(deep);
    }
    char *closed = repeat("{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"tools\": ",
                          "[", 1500, "");
    char *whole = repeat(closed, "]", 1500, "}");
    expect_error(whole, "argument", "'tools'");
    free(closed);
    free(whole);
    char *many = repeat("{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}",
                        ", {\"role\": \"user\", \"content\": \"hi\"}", 5000, "]}");
    expect_error(many, "limit", "5001 messages, the limit is 4096");
    free(many);
    char *longer = repeat("{\"messages\": [{\"role\": \"user\", \"content\": \"", "z ", 50000,
                          "\"}]}");
    expect_error(longer, "limit", "the limit is 4095");
    free(longer);
}

static void unknown_fields_are_named_in_a_warning(void **state)
{
    const char *const cases[] = {
        "{\"messages\": [" HI "], \"max_tokens\": 2, \"colour\": 1}",
        "{\"messages\": [" USER("\"hi\", \"colour\": 1") "], \"max_tokens\": 2}",
        "{\"messages\": [" USER("[{\"type\": \"text\", \"text\": \"hi\", \"colour\": 1}]") "], "
        "\"max_tokens\": 2}",
        "{\"messages\": [" USER("[{\"type\": \"image\", \"image\": \"" PICTURE "\", "
        "\"colour\": 1}]") "], \"max_tokens\": 2}",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sight_event_kind kind;
        char warning[300] = "";
        json_t *body = ask(cases[i], NULL, 0, &kind, warning, sizeof warning);
        if (kind != SIGHT_DONE) fail_msg("%s: %s", cases[i], text_at(body, "message"));
        if (!strstr(warning, "'colour'")) fail_msg("%s: warning '%s'", cases[i], warning);
        json_decref(body);
    }
    expect_good();
}

// ---- media ----

static void media_fields_are_checked(void **state)
{
    static const char clip[] = GOLDEN "/cases/video-96x80-30f/v.mkv";
    const struct {
        const char *type, *fields, *code, *says;
    } cases[] = {
        {"video", "\"fps\": 0", "argument", "'fps' is 0"},
        {"video", "\"fps\": -1", "argument", "'fps' is -1"},
        {"video", "\"fps\": \"nan\"", "argument", "'fps' must be a number"},
        {"video", "\"fps\": 1e999", "argument", "not valid JSON"},
        {"video", "\"fps\": 5000", "argument", "'fps' is 5000"},
        {"video", "\"frames\": 0", "argument", "'frames' is 0"},
        {"video", "\"frames\": 100000", "argument", "'frames' is 100000, must be 1 to"},
        {"video", "\"start\": \"nan\"", "argument", "'start' is 'nan'"},
        {"video", "\"start\": -1", "argument", "'start' is -1"},
        {"video", "\"start\": true", "argument", "'start' must be"},
        {"video", "\"end\": \"1:99\"", "argument", "'end' is '1:99'"},
        {"video", "\"start\": 2, \"end\": 1", "argument", "'end' 1 s is not after 'start' 2 s"},
        {"video", "\"start\": 3600", "argument", "the range starts at 3600"},
        {"video", "\"min_pixels\": 0", "argument", "'min_pixels' is 0"},
        {"video", "\"max_pixels\": 1e15", "argument", "'max_pixels' is 1000000000000000"},
        {"video", "\"min_pixels\": 9000, \"max_pixels\": 8000", "argument", "over 'max_pixels'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[1024];
        snprintf(json, sizeof json, "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": "
                 "\"%s\", \"%s\": \"%s\", %s}]}], \"max_tokens\": 2}", cases[i].type, cases[i].type,
                 clip, cases[i].fields);
        expect_error(json, cases[i].code, cases[i].says);
    }
}

static void ask_about(char *json, size_t size, const char *where)
{
    snprintf(json, size, "{\"messages\": [" USER("[{\"type\": \"image\", %s}]") "], "
             "\"max_tokens\": 2, \"enable_thinking\": false}", where);
}

static void places_of_media_are_checked(void **state)
{
    const struct {
        const char *where, *code, *says;
    } cases[] = {
        {"\"image\": \"http://localhost/a.png\"", "unsupported", "http://localhost/a.png"},
        {"\"url\": \"https://localhost/a.png\"", "unsupported", "fetches nothing"},
        {"\"url\": \"s3://a/b.png\"", "unsupported", "fetches nothing"},
        {"\"image\": \"file://other/a.png\"", "argument", "file URL"},
        {"\"image\": \"file:///%zz\"", "argument", "file URL"},
        {"\"image\": \"data:image/png;base64,@@@@\"", "argument", "base64"},
        {"\"image\": \"data:image/png,abc\"", "unsupported", "base64"},
        {"\"image\": \"data:image/png;base64,\"", "media", "empty"},
        {"\"image\": \"data:image/png;base64,aGVsbG8gd29ybGQ=\"", "media", "data URL"},
        {"\"image\": \"here.png\"", "argument", "relative path"},
        {"\"image\": \"\"", "argument", "empty"},
        {"\"image\": \"/a\\u0000b\"", "argument", "NUL"},
        {"\"image\": 5", "argument", "must be a path"},
        {"\"image\": [\"/a\", \"/b\"]", "unsupported", "list"},
        {"\"attachment\": 0", "argument", "the message has 0 binary parts"},
        {"\"attachment\": -1", "argument", "'attachment'"},
        {"\"attachment\": \"0\"", "argument", "'attachment'"},
        {"\"attachment\": 0, \"image\": \"/a\"", "argument", "not both"},
        {"\"image\": \"/\"", "io", "folder"},
        {"\"image\": \"/dev/zero\"", "io", "device"},
        {"\"image\": \"" PICTURE "/x\"", "not_found", "Not a directory"},
        {"\"detail\": \"low\"", "argument", "says where it is"},
    };
    char json[1024];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ask_about(json, sizeof json, cases[i].where);
        expect_error(json, cases[i].code, cases[i].says);
    }
    const sight_part parts[] = {{"", 0}, {"GIF89a", 6}};
    ask_about(json, sizeof json, "\"attachment\": 2");
    expect_error_of(json, parts, 2, "argument", "must be 0 to 1; the message has 2 binary parts");
    ask_about(json, sizeof json, "\"attachment\": 0");
    expect_error_of(json, parts, 2, "media", "attachment 0' is empty");
    ask_about(json, sizeof json, "\"attachment\": 1");
    expect_error_of(json, parts, 2, "media", "attachment 1");
    char *many = repeat("{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", "
                        "\"text\": \"hi\"}", ", {\"type\": \"image\", \"image\": \"" PICTURE "\"}",
                        65, "]}]}");
    expect_error(many, "limit", "more than 64 pictures and clips");
    free(many);
}

static void good_places_are_taken(void **state)
{
    static const char pixel[] = // 1 x 1, grey
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJ"
        "RU5ErkJggg==";
    char data[400], json[1024];
    snprintf(data, sizeof data, "\"url\": \"data:image/png;base64,%s\"", pixel);
    const char *const places[] = {"\"image\": \"file://" PICTURE "\"",
                                  "\"image\": \"file://localhost" PICTURE "\"",
                                  "\"path\": \"" PICTURE "\"", data};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        sight_event_kind kind;
        ask_about(json, sizeof json, places[i]);
        json_t *body = ask(json, NULL, 0, &kind, NULL, 0);
        if (kind != SIGHT_DONE) fail_msg("%s: %s", places[i], text_at(body, "message"));
        json_decref(body);
    }
}

// ---- frames ----

static void *dealer_open(void *context)
{
    void *dealer = zmq_socket(context, ZMQ_DEALER);
    const int wait_ms = 30000, none = 0;
    zmq_setsockopt(dealer, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms);
    zmq_setsockopt(dealer, ZMQ_LINGER, &none, sizeof none);
    assert_int_equal(zmq_connect(dealer, server.endpoint), 0);
    return dealer;
}

static void send_frames(void *dealer, const wire_frame *frames, int n)
{
    for (int i = 0; i < n; i++) {
        const int more = i + 1 < n ? ZMQ_SNDMORE : 0;
        assert_true(zmq_send(dealer, frames[i].data, frames[i].size, more) >= 0);
    }
}

static void expect_refusal(void *dealer, const char *id, const char *says)
{
    char got[4][600] = {{0}};
    for (int i = 0; i < 4; i++) assert_true(zmq_recv(dealer, got[i], sizeof got[i] - 1, 0) >= 0);
    assert_string_equal(got[1], id);
    assert_string_equal(got[2], "error");
    if (!strstr(got[3], says)) fail_msg("%s does not say '%s'", got[3], says);
    print_message("%s\n", got[3]);
    expect_good();
}

#define FRAME(s) {s, sizeof(s) - 1}

static void garbage_frames_are_refused(void **state)
{
    void *context = zmq_ctx_new(), *dealer = dealer_open(context);
    const struct {
        wire_frame frames[4];
        int n;
        const char *id, *says;
    } cases[] = {
        {{FRAME("")}, 1, "-", "SIGHT1"},
        {{FRAME("SIGHT2"), FRAME("a"), FRAME("ask"), FRAME("{}")}, 4, "-", "SIGHT1"},
        {{FRAME("SIGHT1\0"), FRAME("a"), FRAME("ask"), FRAME("{}")}, 4, "-", "SIGHT1"},
        {{FRAME("SIGHT1"), FRAME(""), FRAME("ask"), FRAME("{}")}, 4, "-", "request id"},
        {{FRAME("SIGHT1"), FRAME("a\0b"), FRAME("ask"), FRAME("{}")}, 4, "-", "request id"},
        {{FRAME("SIGHT1"), FRAME("a"), FRAME("ask")}, 3, "a", "3 frames"},
        {{FRAME("SIGHT1"), FRAME("a"), FRAME(""), FRAME("{}")}, 4, "a", "verb"},
        {{FRAME("SIGHT1"), FRAME("a"), FRAME("ASK"), FRAME("{}")}, 4, "a", "verb"},
        {{FRAME("SIGHT1"), FRAME("a"), FRAME("watch"), FRAME("{}")}, 4, "a", "cameras"},
        {{FRAME("SIGHT1"), FRAME("a"), FRAME("unwatch"), FRAME("{}")}, 4, "a", "cameras"},
        {{FRAME("SIGHT1"), FRAME("a"), FRAME("cancel"), FRAME("{\"id\": 5}")}, 4, "a", "'id'"},
        {{FRAME("SIGHT1"), FRAME("a"), FRAME("cancel"), FRAME("{\"id\": \" \"}")}, 4, "a", "'id'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        send_frames(dealer, cases[i].frames, cases[i].n);
        expect_refusal(dealer, cases[i].id, cases[i].says);
    }
    wire_frame many[100] = {FRAME("SIGHT1"), FRAME("many"), FRAME("ask"), FRAME(HELLO)};
    for (int i = 4; i < 100; i++) many[i] = (wire_frame){"x", 1};
    send_frames(dealer, many, 100);
    expect_refusal(dealer, "many", "binary parts");
    char random[3000];
    srand(5);
    for (int i = 0; i < 50; i++) { // whatever they are, they begin no request
        for (size_t k = 0; k < sizeof random; k++) random[k] = (char)rand();
        wire_frame noise[3];
        for (int k = 0; k < 3; k++) noise[k] = (wire_frame){random + 900 * k, (size_t)rand() % 900};
        send_frames(dealer, noise, 1 + i % 3);
    }
    expect_refusal(dealer, "-", "SIGHT1");
    zmq_close(dealer);
    zmq_ctx_term(context);
}

// An unknown id is no error: the request may just have ended.
static void a_cancel_of_nothing_says_so(void **state)
{
    void *context = zmq_ctx_new(), *dealer = dealer_open(context);
    const wire_frame frames[] = {FRAME("SIGHT1"), FRAME("c"), FRAME("cancel"),
                                 FRAME("{\"id\": \"nobody\"}")};
    send_frames(dealer, frames, 4);
    char got[4][200] = {{0}};
    for (int i = 0; i < 4; i++) assert_true(zmq_recv(dealer, got[i], sizeof got[i] - 1, 0) >= 0);
    assert_string_equal(got[2], "done");
    assert_non_null(strstr(got[3], "\"found\":false"));
    zmq_close(dealer);
    zmq_ctx_term(context);
}

// ---- files that change ----

static void copy_file(const char *from, const char *to)
{
    static char bytes[1 << 20];
    FILE *f = fopen(from, "rb"), *g = fopen(to, "wb");
    assert_non_null(f);
    assert_non_null(g);
    fwrite(bytes, 1, fread(bytes, 1, sizeof bytes, f), g);
    fclose(f);
    fclose(g);
}

// A picture may be overwritten while its request waits behind another.
static void a_picture_that_shrinks_while_it_waits_is_refused(void **state)
{
    char path[200], json[1024], first[SIGHT_ID_SIZE], second[SIGHT_ID_SIZE];
    snprintf(path, sizeof path, "%s/shrinks.png", server.folder);
    copy_file(PICTURE, path);
    FILE *f = fopen(path, "ab"); // bytes that nobody has asked about: else it is known, and not read again
    assert_non_null(f);
    assert_int_equal(fputs("anew", f) == EOF, 0);
    fclose(f);
    snprintf(json, sizeof json, "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": "
             "\"image\", \"image\": \"%s\"}]}], \"max_tokens\": 2}", path);
    assert_ok(sight_client_ask(client, first,
                               "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], "
                               "\"temperature\": 2, \"seed\": 1, \"max_tokens\": 3000}", NULL, 0));
    assert_ok(sight_client_ask(client, second, json, NULL, 0));
    for (bool planned = false; !planned;) {
        json_t *body = wait_event(client, second, SIGHT_ACCEPTED);
        planned = json_object_get(body, "prompt_tokens") != NULL;
        json_decref(body);
    }
    assert_int_equal(truncate(path, 0), 0);
    assert_ok(sight_client_cancel(client, first));
    sight_event_kind kind;
    json_t *body;
    do {
        body = next_event(client, second, &kind);
    } while (kind != SIGHT_DONE && kind != SIGHT_ERROR && (json_decref(body), true));
    assert_int_equal(kind, SIGHT_ERROR);
    assert_non_null(strstr(text_at(body, "message"), "shrinks.png"));
    json_decref(body);
    expect_good();
}

// ---- the whole ----

static long resident_mib(void)
{
    char path[64], line[128];
    long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)server.pid);
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    while (fgets(line, sizeof line, f)) sscanf(line, "VmRSS: %ld", &kib);
    fclose(f);
    return kib / 1024;
}

static long resident_before;

static int start(void **state)
{
    char model[256];
    endless_model(model, sizeof model);
    const char *const args[] = {"--model", model, "--threads", "1", "--max-running", "1", NULL}; // so that a second one waits
    daemon_start(&server, args);
    client = daemon_connect(&server);
    expect_good();
    resident_before = resident_mib();
    return 0;
}

static int stop(void **state)
{
    const long after = resident_mib();
    print_message("sightd: %ld MiB before, %ld MiB after\n", resident_before, after);
    assert_true(after < resident_before + 200);
    assert_int_equal(count_requests(client), 0);
    sight_client_close(&client);
    daemon_stop(&server);
    assert_false(daemon_logged(&server, "Sanitizer"));
    assert_false(daemon_logged(&server, "runtime error"));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_out_of_range_are_named),
        cmocka_unit_test(messages_of_a_wrong_shape_are_refused),
        cmocka_unit_test(strange_json_is_refused),
        cmocka_unit_test(unknown_fields_are_named_in_a_warning),
        cmocka_unit_test(media_fields_are_checked),
        cmocka_unit_test(places_of_media_are_checked),
        cmocka_unit_test(good_places_are_taken),
        cmocka_unit_test(garbage_frames_are_refused),
        cmocka_unit_test(a_cancel_of_nothing_says_so),
        cmocka_unit_test(a_picture_that_shrinks_while_it_waits_is_refused),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
