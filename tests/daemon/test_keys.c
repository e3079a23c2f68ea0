// Who may ask over tcp: who has a key, and what each of them may.
#include "running.h"

#include <limits.h>
#include <zmq.h>

#include "ipc/key.h"

#define HELLO                                                                                      \
    "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"temperature\": 0, "             \
    "\"max_tokens\": 4, \"enable_thinking\": false}"
#define ENDLESS                                                                                    \
    "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"temperature\": 0, "             \
    "\"max_tokens\": 4000}"

static char endless[256];

// ---- a daemon with keys ----

typedef struct keyed {
    running r;
    char folder[160], endpoint[64], server[200];
} keyed;

static char *path_of(const keyed *k, const char *name, const char *suffix)
{
    static char path[4][300];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s%s", k->folder, name, suffix);
    return path[next];
}

// A pair of that name in the folder, or, with listed false, its secret half alone: a stranger.
static void make_key(const keyed *k, const char *name, const key_meta *meta, size_t n, bool listed)
{
    char public_key[KEY_SIZE], secret_key[KEY_SIZE];
    assert_ok(key_generate(public_key, secret_key));
    assert_ok(key_write(path_of(k, name, KEY_SECRET), public_key, secret_key, NULL, 0, true));
    if (listed) assert_ok(key_write(path_of(k, name, KEY_SUFFIX), public_key, NULL, meta, n, true));
}

static void change_key(const keyed *k, const char *name, const key_meta *meta, size_t n)
{
    char public_key[KEY_SIZE];
    assert_ok(key_read_public(public_key, path_of(k, name, KEY_SUFFIX)));
    assert_ok(key_write(path_of(k, name, KEY_SUFFIX), public_key, NULL, meta, n, true));
}

static void prepare_keys(keyed *k)
{
    snprintf(k->folder, sizeof k->folder, "%s", test_folder());
    snprintf(k->endpoint, sizeof k->endpoint, "tcp://127.0.0.1:%d", free_port());
    make_key(k, "server", NULL, 0, true);
    snprintf(k->server, sizeof k->server, "%s", path_of(k, "server", KEY_SUFFIX));
}

static void start(keyed *k, const char *model)
{
    const char *const args[] = {"--model", model, "--threads", "1", "--simd", "plain", "--endpoint", k->endpoint,
                                "--keys", k->folder, NULL};
    daemon_start(&k->r, args);
    sight_client_close(&(sight_client *){daemon_connect(&k->r)}); // over ipc: it serves
}

// One key, "door", is known.
static void start_with_door(keyed *k)
{
    prepare_keys(k);
    make_key(k, "door", NULL, 0, true);
    start(k, GOLDEN "/model");
}

static sight_err open_as(sight_client **out, const keyed *k, const char *name)
{
    const sight_connect_options o = {.size = sizeof o, .endpoint = k->endpoint, .timeout_ms = 20000,
                                     .key_file = path_of(k, name, KEY_SECRET), .server_key = k->server};
    return sight_client_open(out, &o);
}

static sight_client *connect_as(const keyed *k, const char *name)
{
    sight_client *c;
    assert_ok(open_as(&c, k, name));
    return c;
}

static void answered(sight_client *c, const char *json)
{
    sight_event_kind kind;
    json_t *body = ask_to_end(c, json, &kind);
    if (kind != SIGHT_DONE) fail_msg("refused: %s", text_at(body, "message"));
    json_decref(body);
}

static int refused(sight_client *c, const char *json, const char *code, const char *says)
{
    sight_event_kind kind;
    json_t *body = ask_to_end(c, json, &kind);
    assert_refused(body, kind, code, says);
    const int retry_after_s = (int)json_integer_value(json_object_get(body, "retry_after_s"));
    json_decref(body);
    return retry_after_s;
}

// ---- the tests ----

static void a_key_asks_under_its_name(void **state)
{
    keyed k;
    start_with_door(&k);
    sight_client *c = connect_as(&k, "door"), *local = daemon_connect(&k.r);
    answered(c, HELLO);
    answered(local, HELLO); // ids of different endpoints do not meet
    char own[48];
    snprintf(own, sizeof own, "identity=\"uid %lu\"", (unsigned long)geteuid());
    for (int i = 0; i < 500 && !(daemon_logged(&k.r, "identity=door") && daemon_logged(&k.r, own)); i++) pause_ms(20);
    assert_true(daemon_logged(&k.r, "identity=door") && daemon_logged(&k.r, own));
    sight_client_close(&c);
    sight_client_close(&local);
    daemon_stop(&k.r);
}

// How a client that does not fit is told so; tells it apart from a server that is not there.
static void strangers_are_turned_away(void **state)
{
    keyed k;
    sight_client *c;
    prepare_keys(&k);
    make_key(&k, "door", NULL, 0, true);
    make_key(&k, "stranger", NULL, 0, false);
    start(&k, GOLDEN "/model");
    assert_fails(open_as(&c, &k, "stranger"), SIGHT_E_PERMISSION, "does not know this key");
    assert_fails(open_as(&c, &k, "server"), SIGHT_E_PERMISSION, "does not know this key"); // it is no client
    assert_fails(sight_client_connect(&c, k.endpoint, 20000), SIGHT_E_PERMISSION, "with keys only");
    sight_connect_options o = {.size = sizeof o, .endpoint = k.endpoint, .timeout_ms = 20000,
                               .key_file = path_of(&k, "door", KEY_SECRET), .server_key = path_of(&k, "door", KEY_SUFFIX)};
    assert_fails(sight_client_open(&c, &o), SIGHT_E_PERMISSION, "its key is another");
    o.endpoint = k.r.endpoint; // an ipc socket has no keys
    o.server_key = k.server;
    assert_fails(sight_client_open(&c, &o), SIGHT_E_PERMISSION, "uses no keys");
    char nowhere[64];
    snprintf(nowhere, sizeof nowhere, "tcp://127.0.0.1:%d", free_port());
    o.endpoint = nowhere;
    o.timeout_ms = 0;
    assert_fails(sight_client_open(&c, &o), SIGHT_E_NOT_FOUND, "no sightd serves");
    for (int i = 0; i < 500 && !daemon_logged(&k.r, "unknown keys were turned away"); i++) pause_ms(20);
    assert_true(daemon_logged(&k.r, "unknown keys were turned away"));
    c = connect_as(&k, "door");
    answered(c, HELLO);
    sight_client_close(&c);
    daemon_stop(&k.r);
}

static void wrong_options_are_named(void **state)
{
    keyed k;
    sight_client *c;
    prepare_keys(&k);
    make_key(&k, "door", NULL, 0, true);
    sight_connect_options o = {.size = sizeof o, .endpoint = k.endpoint, .key_file = path_of(&k, "door", KEY_SECRET)};
    assert_fails(sight_client_open(&c, &o), SIGHT_E_ARGUMENT, "without the server's public one");
    o.key_file = NULL;
    o.server_key = k.server;
    assert_fails(sight_client_open(&c, &o), SIGHT_E_ARGUMENT, "without one of the client's own");
    o.key_file = path_of(&k, "door", KEY_SUFFIX);
    assert_fails(sight_client_open(&c, &o), SIGHT_E_ARGUMENT, "public key only");
    o.key_file = path_of(&k, "nobody", KEY_SECRET);
    assert_fails(sight_client_open(&c, &o), SIGHT_E_NOT_FOUND, "nobody.key_secret");
    o.size = 0;
    assert_fails(sight_client_open(&c, &o), SIGHT_E_ARGUMENT, "size");
    assert_fails(sight_client_open(&c, NULL), SIGHT_E_ARGUMENT, "size");
}

static void a_removed_key_loses_its_connection(void **state)
{
    keyed k;
    prepare_keys(&k);
    make_key(&k, "door", NULL, 0, true);
    make_key(&k, "gate", NULL, 0, true);
    start(&k, endless);
    sight_client *door = connect_as(&k, "door"), *gate = connect_as(&k, "gate"), *c;
    char id[SIGHT_ID_SIZE], other[SIGHT_ID_SIZE];
    assert_ok(sight_client_ask(door, id, ENDLESS, NULL, 0));
    assert_ok(sight_client_ask(gate, other, ENDLESS, NULL, 0));
    json_decref(wait_event(door, id, SIGHT_DELTA));
    json_decref(wait_event(gate, other, SIGHT_DELTA));
    assert_int_equal(unlink(path_of(&k, "door", KEY_SUFFIX)), 0);
    sight_event e;
    sight_err err;
    while (!(err = sight_client_next(door, &e, 60000)) && (e.kind == SIGHT_DELTA || e.kind == SIGHT_ACCEPTED)) continue;
    assert_int_equal(err, SIGHT_E_IO); // ended by the server
    assert_fails(open_as(&c, &k, "door"), SIGHT_E_PERMISSION, "does not know this key");
    json_decref(wait_event(gate, other, SIGHT_DELTA)); // who is known is not disturbed
    // Its requests are over, those of the other go on.
    sight_client *local = daemon_connect(&k.r);
    for (int i = 0; i < 500 && count_requests(local) != 1; i++) pause_ms(20);
    assert_int_equal(count_requests(local), 1);
    // A key that is added counts without a restart.
    make_key(&k, "new", NULL, 0, true);
    for (int i = 0; (err = open_as(&c, &k, "new")) == SIGHT_E_PERMISSION && i < 200; i++) pause_ms(50);
    assert_ok(err);
    sight_client_close(&c);
    sight_client_close(&door);
    sight_client_close(&gate);
    sight_client_close(&local);
    daemon_stop(&k.r);
}

static void a_damaged_file_counts_as_none(void **state)
{
    keyed k;
    sight_client *c;
    start_with_door(&k);
    sight_client_close(&(sight_client *){connect_as(&k, "door")});
    change_key(&k, "door", &(key_meta){"max-tokens", "many"}, 1);
    for (int i = 0; i < 500 && !daemon_logged(&k.r, "door.key: max-tokens is 'many'"); i++) pause_ms(20);
    assert_true(daemon_logged(&k.r, "door.key: max-tokens is 'many'"));
    assert_fails(open_as(&c, &k, "door"), SIGHT_E_PERMISSION, "does not know this key");
    daemon_stop(&k.r);
}

static void a_key_has_its_rights_and_ceilings(void **state)
{
    keyed k;
    prepare_keys(&k);
    const key_meta little[] = {{"rights", "plan"}};
    const key_meta some[] = {{"rights", "ask"}, {"max-tokens", "6"}, {"requests-per-minute", "4"}};
    const key_meta one[] = {{"rights", "ask paths"}, {"max-jobs", "1"}};
    make_key(&k, "little", little, 1, true);
    make_key(&k, "some", some, 3, true);
    make_key(&k, "one", one, 2, true);
    start(&k, GOLDEN "/model");
    sight_client *c = connect_as(&k, "little");
    refused(c, HELLO, "permission right", "the key 'little' may not ask: it lacks the right 'ask'");
    char *reply;
    assert_ok(sight_client_call(c, &reply, SIGHT_PLAN, HELLO, NULL, 0, 30000));
    free(reply);
    sight_client_close(&c);

    c = connect_as(&k, "some");
    refused(c, "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"max_tokens\": 7}", "argument", "1 to 6");
    refused(c, "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"image\": "
               "\"" GOLDEN "/cases/image-200x130/a.png\"}]}]}", "permission right", "the key 'some' may not name media by path");
    sight_event_kind kind;
    json_t *done = ask_to_end(c, "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}", &kind); // no max_tokens: its ceiling
    assert_int_equal(kind, SIGHT_DONE);
    assert_true(json_integer_value(json_object_get(json_object_get(done, "usage"), "completion_tokens")) <= 6);
    json_decref(done);
    answered(c, HELLO);
    assert_true(refused(c, HELLO, "busy", "'some' has asked") > 0); // the fifth of this minute
    sight_client_close(&c);

    // Over all of its connections.
    sight_client *a = connect_as(&k, "one"), *b = connect_as(&k, "one");
    char first[SIGHT_ID_SIZE];
    kill(k.r.pid, SIGSTOP); // both arrive together
    assert_ok(sight_client_ask(a, first, HELLO, NULL, 0));
    char second[SIGHT_ID_SIZE];
    pause_ms(100);
    assert_ok(sight_client_ask(b, second, HELLO, NULL, 0));
    kill(k.r.pid, SIGCONT);
    json_t *end_a, *end_b;
    do end_a = next_event(a, first, &kind);
    while (kind != SIGHT_DONE && kind != SIGHT_ERROR && (json_decref(end_a), true));
    sight_event_kind kind_b;
    do end_b = next_event(b, second, &kind_b);
    while (kind_b != SIGHT_DONE && kind_b != SIGHT_ERROR && (json_decref(end_b), true));
    const json_t *told = kind == SIGHT_ERROR ? end_a : end_b;
    assert_int_not_equal(kind, kind_b);
    assert_string_equal(text_at(told, "code"), "busy");
    assert_non_null(strstr(text_at(told, "message"), "the key 'one' has 1 unfinished requests"));
    json_decref(end_a);
    json_decref(end_b);
    sight_client_close(&a);
    sight_client_close(&b);
    daemon_stop(&k.r);
}

static void a_key_has_its_priority_and_its_bytes(void **state)
{
    keyed k;
    prepare_keys(&k);
    const key_meta meta[] = {{"priority", "batch"}, {"max-media-bytes", "1000"}, {"max-running", "1"}};
    make_key(&k, "small", meta, 3, true);
    start(&k, GOLDEN "/model");
    sight_client *c = connect_as(&k, "small");
    char id[SIGHT_ID_SIZE];
    assert_ok(sight_client_ask(c, id, "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"max_tokens\": 4, "
                                      "\"priority\": \"interactive\"}", NULL, 0));
    json_t *warning = wait_event(c, id, SIGHT_WARNING);
    assert_non_null(strstr(text_at(warning, "message"), "priority is batch instead of interactive"));
    json_decref(warning);
    json_decref(wait_event(c, id, SIGHT_DONE));
    static const char bytes[1001];
    const sight_part part = {bytes, sizeof bytes};
    assert_ok(sight_client_ask(c, id, "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\", "
                                      "\"attachment\": 0}]}]}", &part, 1));
    json_t *error = wait_event(c, id, SIGHT_ERROR);
    assert_string_equal(text_at(error, "code"), "limit");
    assert_non_null(strstr(text_at(error, "message"), "1001 bytes"));
    json_decref(error);
    sight_client_close(&c);
    daemon_stop(&k.r);
}

static void rights_change_while_connected(void **state)
{
    keyed k;
    start_with_door(&k);
    sight_client *c = connect_as(&k, "door");
    answered(c, HELLO);
    change_key(&k, "door", &(key_meta){"rights", "plan"}, 1);
    sight_event_kind kind = SIGHT_DONE;
    for (int i = 0; i < 200 && kind == SIGHT_DONE; i++) {
        json_decref(ask_to_end(c, HELLO, &kind));
        pause_ms(50);
    }
    refused(c, HELLO, "permission right", "may not ask");
    sight_client_close(&c);
    daemon_stop(&k.r);
}

static void requests_of_others_are_theirs(void **state)
{
    keyed k;
    prepare_keys(&k);
    make_key(&k, "door", NULL, 0, true);
    make_key(&k, "watcher", &(key_meta){"rights", "status"}, 1, true);
    make_key(&k, "gate", NULL, 0, true);
    start(&k, endless);
    sight_client *door = connect_as(&k, "door"), *gate = connect_as(&k, "gate"), *watcher = connect_as(&k, "watcher");
    sight_client *local = daemon_connect(&k.r);
    char id[SIGHT_ID_SIZE], *reply;
    assert_ok(sight_client_ask(door, id, ENDLESS, NULL, 0));
    json_decref(wait_event(door, id, SIGHT_DELTA));
    assert_int_equal(count_requests(door), 1);
    assert_int_equal(count_requests(gate), 0);
    assert_int_equal(count_requests(watcher), 1);
    json_t *status = get_status(local);
    assert_string_equal(text_at(json_array_get(json_object_get(status, "requests"), 0), "who"), "door");
    json_decref(status);
    // Ending it is for its owner, over another connection too, and for who has the right.
    char cancel[160];
    snprintf(cancel, sizeof cancel, "{\"id\": \"%s\", \"who\": \"door\"}", id);
    assert_fails(sight_client_call(gate, &reply, SIGHT_CANCEL, cancel, NULL, 0, 30000), SIGHT_E_PERMISSION, "the right 'admin'");
    assert_fails(sight_client_call(watcher, &reply, SIGHT_CANCEL, cancel, NULL, 0, 30000), SIGHT_E_PERMISSION, "the right 'admin'");
    sight_client *again = connect_as(&k, "door");
    assert_ok(sight_client_call(again, &reply, SIGHT_CANCEL, cancel, NULL, 0, 30000));
    assert_string_equal(reply, "{\"found\":true}");
    free(reply);
    json_t *done = wait_event(door, id, SIGHT_DONE);
    assert_string_equal(text_at(done, "finish_reason"), "cancelled");
    json_decref(done);
    assert_ok(sight_client_call(local, &reply, SIGHT_CANCEL, cancel, NULL, 0, 30000)); // this user has all rights
    assert_string_equal(reply, "{\"found\":false}");
    free(reply);
    sight_client_close(&again);
    sight_client_close(&door);
    sight_client_close(&gate);
    sight_client_close(&watcher);
    sight_client_close(&local);
    daemon_stop(&k.r);
}

// ---- what strangers cost ----

static int count_files(pid_t pid)
{
    char path[64];
    int n = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *d = opendir(path);
    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static long resident_kib(pid_t pid)
{
    char path[64], line[256];
    long kib = -1;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (!strncmp(line, "VmRSS:", 6)) kib = strtol(line + 6, NULL, 10);
    }
    fclose(f);
    return kib;
}

// Bytes that are no handshake, or half of one.
static void knock(const keyed *k, int i)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)atoi(strrchr(k->endpoint, ':') + 1))};
    static const unsigned char greeting[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0, 'C', 'U', 'R', 'V', 'E'};
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    if (i % 3 == 0) send(fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL);
    if (i % 3 == 1) send(fd, greeting, sizeof greeting, MSG_NOSIGNAL);
    if (i % 3 == 2) send(fd, greeting, 20, MSG_NOSIGNAL);
    close(fd);
}

static void thousand_strangers_leave_nothing_behind(void **state)
{
    keyed k;
    sight_client *c;
    prepare_keys(&k);
    make_key(&k, "door", NULL, 0, true);
    make_key(&k, "stranger", NULL, 0, false);
    start(&k, GOLDEN "/model");
    long before_kib = 0;
    int files = 0;
    for (int i = 0; i < 1200; i++) {
        if (i == 200) { // by now all that is made once is there
            for (int j = 0; j < 500 && (files = count_files(k.r.pid)) > 40; j++) pause_ms(20);
            before_kib = resident_kib(k.r.pid);
        }
        if (i % 40 == 0) assert_int_equal(open_as(&c, &k, "stranger"), SIGHT_E_PERMISSION);
        else if (i % 40 == 1) assert_int_equal(sight_client_connect(&c, k.endpoint, 20000), SIGHT_E_PERMISSION);
        else knock(&k, i);
    }
    int left = 0;
    for (int i = 0; i < 500 && (left = count_files(k.r.pid)) > files; i++) pause_ms(20);
    assert_true(left <= files);
#ifdef __SANITIZE_ADDRESS__ // which keeps freed memory for a while
    before_kib = LONG_MAX / 2;
#endif
    assert_true(resident_kib(k.r.pid) < before_kib + 8192);
    c = connect_as(&k, "door");
    answered(c, HELLO);
    sight_client_close(&c);
    char *reply; // each was counted
    c = daemon_connect(&k.r);
    assert_ok(sight_client_call(c, &reply, SIGHT_STATUS, "{\"metrics\": true}", NULL, 0, 30000));
    json_t *told = json_loads(reply, 0, NULL);
    const char *text = text_at(told, "metrics");
    if (!strstr(text, "sightd_turned_away_total{class=\"key\"} 30\n")) fail_msg("%s", text);
    if (!strstr(text, "sightd_authenticated_total{class=\"key\"} 1\n")) fail_msg("%s", text);
    json_decref(told);
    free(reply);
    sight_client_close(&c);
    daemon_stop(&k.r);
}

static void wrong_settings_end_the_start(void **state)
{
    keyed k;
    prepare_keys(&k);
    make_key(&k, "door", &(key_meta){"max-jobs", "-3"}, 1, true);
    char empty[200];
    snprintf(empty, sizeof empty, "%s", test_folder());
    const struct {
        const char *args[8], *says;
    } cases[] = {
        {{"--keys", k.folder, NULL}, "door.key: max-jobs is '-3'"},
        {{"--keys", "/nonexistent/keys", NULL}, "there is no server key at"},
        {{"--keys", empty, NULL}, "sight keys server"},
        {{"--server-key", k.server, NULL}, "without keys"},
        {{"--socket-mode", "0700", NULL}, "socket-mode is '0700'"},
        {{"--socket-mode", "rw", NULL}, "socket-mode is 'rw'"},
        {{"--socket-group", "no-such-group", NULL}, "no group 'no-such-group'"},
        {{"--allow-uid", "no-such-user", NULL}, "no user 'no-such-user'"},
        {{"--uid-rights", "fly", NULL}, "uid-rights has 'fly'"},
        {{"--tcp-rights", "", NULL}, "tcp-rights is empty"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        running r;
        daemon_start(&r, cases[i].args);
        assert_int_equal(daemon_wait(&r, 60), 2);
        if (!daemon_logged(&r, cases[i].says)) fail_msg("nothing about '%s'", cases[i].says);
    }
    // A secret key that everybody may read is none.
    assert_int_equal(unlink(path_of(&k, "door", KEY_SUFFIX)) | chmod(path_of(&k, "server", KEY_SECRET), 0604), 0);
    running r;
    daemon_start(&r, cases[0].args);
    assert_int_equal(daemon_wait(&r, 60), 2);
    assert_true(daemon_logged(&r, "every user may read it"));
}

static int prepare(void **state)
{
    endless_model(endless, sizeof endless);
    return 0;
}

int main(void)
{
    if (!zmq_has("curve")) {
        printf("skipped: this libzmq has no CURVE\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_asks_under_its_name),
        cmocka_unit_test(strangers_are_turned_away),
        cmocka_unit_test(wrong_options_are_named),
        cmocka_unit_test(a_removed_key_loses_its_connection),
        cmocka_unit_test(a_damaged_file_counts_as_none),
        cmocka_unit_test(a_key_has_its_rights_and_ceilings),
        cmocka_unit_test(a_key_has_its_priority_and_its_bytes),
        cmocka_unit_test(rights_change_while_connected),
        cmocka_unit_test(requests_of_others_are_theirs),
        cmocka_unit_test(thousand_strangers_leave_nothing_behind),
        cmocka_unit_test(wrong_settings_end_the_start),
    };
    return cmocka_run_group_tests(tests, prepare, NULL);
}
