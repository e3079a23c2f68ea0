// Where a running daemon takes media from: paths below its roots, and nowhere else.
#include "running.h"
#include "web.h"

#include "daemon/ticket.h"

static int fetch_events; // progress of fetching, since it was set to 0

static json_t *ask_for(sight_client *c, const char *path, const char *base_dir, sight_event_kind *kind)
{
    char id[SIGHT_ID_SIZE];
    json_t *q = json_pack("{s:[{s:s, s:[{s:s, s:s}]}], s:i, s:b, s:s*}", "messages", "role", "user", "content", "type",
                          "image", "image", path, "max_tokens", 4, "enable_thinking", 0, "base_dir", base_dir);
    char *json = json_dumps(q, 0);
    assert_non_null(json);
    assert_ok(sight_client_ask(c, id, json, NULL, 0));
    free(json);
    json_decref(q);
    for (;;) {
        json_t *body = next_event(c, id, kind);
        if (*kind == SIGHT_DONE || *kind == SIGHT_ERROR) return body;
        fetch_events += *kind == SIGHT_PROGRESS && !strcmp(text_at(body, "stage"), "fetch");
        json_decref(body);
    }
}

static void answered(sight_client *c, const char *path, const char *base_dir)
{
    sight_event_kind kind;
    json_t *body = ask_for(c, path, base_dir, &kind);
    if (kind != SIGHT_DONE) fail_msg("%s: %s", path, text_at(body, "message"));
    json_decref(body);
}

static void refused(sight_client *c, const char *path, const char *code, const char *says)
{
    sight_event_kind kind;
    json_t *body = ask_for(c, path, NULL, &kind);
    assert_refused(body, kind, code, says);
    json_decref(body);
}

static char *copy_picture(const char *folder)
{
    static char bytes[1 << 16];
    FILE *f = fopen(GOLDEN "/cases/image-200x130/a.png", "rb");
    assert_non_null(f);
    const size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    return test_write(folder, "a.png", bytes, n);
}

static void media_are_read_below_roots_only(void **state)
{
    char base[160], media[200], url[600];
    snprintf(base, sizeof base, "%s", test_folder());
    snprintf(media, sizeof media, "%s/media", base);
    assert_int_equal(mkdir(media, 0700), 0);
    char *picture = copy_picture(media), *other = copy_picture(base);
    const char *const args[] = {"--model", GOLDEN "/model", "--threads", "1", "--media-root", media, NULL};
    running r;
    daemon_start(&r, args);
    sight_client *c = daemon_connect(&r);
    answered(c, picture, NULL);
    answered(c, "a.png", media);
    answered(c, "media/a.png", base);
    snprintf(url, sizeof url, "file://%s", picture);
    answered(c, url, NULL);
    refused(c, other, "permission medium", "media-root");
    refused(c, "/nonexistent/a.png", "permission medium", "media-root");
    snprintf(url, sizeof url, "file://%s", other);
    refused(c, url, "permission medium", "media-root");
    assert_int_equal(unlink(picture) | symlink("../a.png", picture), 0);
    refused(c, picture, "permission medium", "media-root");
    sight_client_close(&c);
    daemon_stop(&r);
    free(picture);
    free(other);
}

static void tcp_names_no_paths(void **state)
{
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%d", free_port());
    const char *const args[] = {"--model", GOLDEN "/model", "--threads", "1", "--endpoint", endpoint, NULL};
    running r;
    daemon_start(&r, args);
    snprintf(r.endpoint, sizeof r.endpoint, "%s", endpoint);
    sight_client *c = daemon_connect(&r);
    refused(c, GOLDEN "/cases/image-200x130/a.png", "permission right", "it lacks the right 'paths'");
    sight_client_close(&c);
    daemon_stop(&r);
}

static void urls_are_refused_unless_turned_on(void **state)
{
    const char *const args[] = {"--model", GOLDEN "/model", "--threads", "1", NULL};
    running r;
    daemon_start(&r, args);
    sight_client *c = daemon_connect(&r);
    refused(c, "http://127.0.0.1/a.png", "unsupported", "the setting 'urls' is off");
    refused(c, "https://example.org/a.png", "unsupported", "the setting 'urls' is off");
    refused(c, "rtsp://camera/1", "unsupported", "the setting 'urls' is off");
    sight_client_close(&c);
    daemon_stop(&r);
}

static void serve_picture(web *w)
{
    static char bytes[1 << 16];
    FILE *f = fopen(GOLDEN "/cases/image-200x130/a.png", "rb");
    assert_non_null(f);
    web_start(w);
    w->file = bytes;
    w->file_size = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
}

static void start_fetching(running *r, const web *w, const char *private_too)
{
    char hosts[64];
    snprintf(hosts, sizeof hosts, "127.0.0.1:%d", w->port);
    const char *const args[] = {"--model", GOLDEN "/model", "--threads", "1", "--urls=on", "--url-hosts", hosts,
                                private_too, NULL};
    daemon_start(r, args);
}

// libcurl is loaded when it is needed, and need not be there.
static void skip_without_libcurl(running *r, web *w)
{
    for (int i = 0; i < 2000 && !daemon_logged(r, "serving"); i++) {
        if (daemon_logged(r, "libcurl")) {
            web_stop(w);
            print_message("skipped: no libcurl\n");
            skip();
        }
        pause_ms(5);
    }
}

// What a picture's path and its URL are answered with is the same.
static void media_are_fetched_when_turned_on(void **state)
{
    web w;
    running r;
    char url[100], says[100];
    sight_event_kind kind;
    serve_picture(&w);
    start_fetching(&r, &w, "--url-private=yes");
    skip_without_libcurl(&r, &w);
    sight_client *c = daemon_connect(&r);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/file", w.port);
    fetch_events = 0;
    json_t *a = ask_for(c, url, NULL, &kind);
    if (kind != SIGHT_DONE) fail_msg("%s", text_at(a, "message"));
    assert_true(fetch_events > 0);
    fetch_events = 0;
    json_t *b = ask_for(c, GOLDEN "/cases/image-200x130/a.png", NULL, &kind);
    const json_t *tokens = json_object_get(json_object_get(a, "usage"), "prompt_tokens");
    assert_true(json_integer_value(tokens) > 20);
    assert_int_equal(fetch_events, 0);
    assert_true(json_equal(tokens, json_object_get(json_object_get(b, "usage"), "prompt_tokens")));
    json_decref(a);
    json_decref(b);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/nothing", w.port);
    refused(c, url, "not_found medium", "/nothing' is not there (status 404)");
    snprintf(url, sizeof url, "http://127.0.0.1:%d/ok", w.port);
    refused(c, url, "media medium", "'ok'"); // "hello" is no picture
    snprintf(url, sizeof url, "http://127.0.0.1:%d/to/http://localhost:%d/ok", w.port, w.port);
    snprintf(says, sizeof says, "'localhost' port %d is not among the server's url-hosts", w.port);
    refused(c, url, "permission medium", says);
    refused(c, "http://example.org/a.png", "permission right", "'example.org' port 80 is not among");
    refused(c, "rtsp://camera/1", "unsupported", "only http:// and https://");
    refused(c, "http://u@127.0.0.1/", "argument", "names a user");
    assert_int_equal(count_requests(c), 0);
    sight_client_close(&c);
    daemon_stop(&r);
    web_stop(&w);
}

static void a_slow_page_holds_up_nobody_and_can_be_cancelled(void **state)
{
    web w;
    running r;
    char json[300], id[SIGHT_ID_SIZE];
    serve_picture(&w);
    start_fetching(&r, &w, "--url-private=yes");
    skip_without_libcurl(&r, &w);
    sight_client *c = daemon_connect(&r);
    snprintf(json, sizeof json, "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"image\": "
             "\"http://127.0.0.1:%d/hang\"}]}]}", w.port);
    assert_ok(sight_client_ask(c, id, json, NULL, 0));
    for (bool fetching = false; !fetching;) {
        json_t *body = wait_event(c, id, SIGHT_ACCEPTED);
        fetching = !strcmp(text_at(body, "state"), "fetching");
        json_decref(body);
    }
    answered(c, GOLDEN "/cases/image-200x130/a.png", NULL);
    char *reply;
    snprintf(json, sizeof json, "{\"id\": \"%s\"}", id);
    assert_ok(sight_client_call(c, &reply, SIGHT_CANCEL, json, NULL, 0, 30000));
    free(reply);
    json_t *done = wait_event(c, id, SIGHT_DONE);
    assert_string_equal(text_at(done, "finish_reason"), "cancelled");
    json_decref(done);
    // One that hangs when the daemon is told to stop does not hold that up either.
    snprintf(json, sizeof json, "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"image\": "
             "\"http://127.0.0.1:%d/hang\"}]}]}", w.port);
    assert_ok(sight_client_ask(c, id, json, NULL, 0));
    json_decref(wait_event(c, id, SIGHT_ACCEPTED));
    daemon_stop(&r);
    sight_client_close(&c);
    web_stop(&w);
}

static void another_model_has_what_was_fetched(void **state)
{
    web w;
    running r;
    char text[1024];
    serve_picture(&w);
    daemon_prepare(&r);
    snprintf(text, sizeof text,
             "threads = 1\nurls = on\nurl-hosts = 127.0.0.1:%d\nurl-private = yes\n"
             "[model a]\nmodel = " GOLDEN "/model\n[model b]\nmodel = " TEST_GOLDEN_DIR "/qwen3vl/model\n"
             "[router both]\nmodels = a, b\nrule = confidence 1\nmax-first-tokens = 2\n", w.port);
    char *file = test_write(r.folder, "sightd.conf", text, strlen(text));
    const char *const args[] = {"--config", file, NULL};
    daemon_spawn(&r, args);
    free(file);
    skip_without_libcurl(&r, &w);
    sight_client *c = daemon_connect(&r);
    char id[SIGHT_ID_SIZE];
    snprintf(text, sizeof text, "{\"model\": \"both\", \"max_tokens\": 4, \"temperature\": 0, \"messages\": [{\"role\": \"user\", "
             "\"content\": [{\"type\": \"image\", \"image\": \"http://127.0.0.1:%d/file\"}]}]}", w.port);
    assert_ok(sight_client_ask(c, id, text, NULL, 0));
    json_t *done = wait_event(c, id, SIGHT_DONE);
    assert_string_equal(text_at(done, "model"), "b");
    assert_int_equal(atomic_load(&w.asked), 1);
    json_decref(done);
    sight_client_close(&c);
    daemon_stop(&r);
    web_stop(&w);
}

static void loopback_is_not_public(void **state)
{
    web w;
    running r;
    char url[100];
    serve_picture(&w);
    start_fetching(&r, &w, "--url-private=no");
    skip_without_libcurl(&r, &w);
    sight_client *c = daemon_connect(&r);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/file", w.port);
    refused(c, url, "permission medium", "'127.0.0.1' is at an address that is loopback (see url-private)");
    assert_int_equal(atomic_load(&w.asked), 0);
    sight_client_close(&c);
    daemon_stop(&r);
    web_stop(&w);
}

static void wrong_hosts_end_the_start(void **state)
{
    const struct {
        const char *option, *value, *says;
    } wrong[] = {
        {"--url-hosts", "http://example.org", "url-hosts has 'http://example.org', must be a host"},
        {"--url-timeout", "30", "urls is on and url-hosts names none"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *const args[] = {"--model", GOLDEN "/model", "--urls=on", wrong[i].option, wrong[i].value, NULL};
        running r;
        daemon_start(&r, args);
        assert_int_equal(daemon_wait(&r, 60), 2);
        assert_true(daemon_logged(&r, wrong[i].says));
    }
}

static void a_root_that_is_none_ends_the_start(void **state)
{
    const char *const args[] = {"--model", GOLDEN "/model", "--media-root", "/nonexistent/media", NULL};
    running r;
    daemon_start(&r, args);
    assert_int_equal(daemon_wait(&r, 60), 2);
    assert_true(daemon_logged(&r, "media-root '/nonexistent/media' cannot be opened"));
}

static const roots *given(const char *name, bool is_key, const roots *servers)
{
    const identity_terms terms = {.rights = IDENTITY_ALL_RIGHTS};
    identity_table *table = NULL;
    identity *who = NULL;
    ticket t = {0};
    request_limits limits = request_limits_default();
    limits.roots = servers;
    assert_ok(identity_table_create(&table));
    if (name) assert_ok(identity_table_get(table, &who, name, is_key, &terms));
    ticket_set_who(&t, who, &limits);
    identity_table_destroy(&table);
    return t.limits.roots;
}

static void without_roots_only_its_own_user_names_anything(void **state)
{
    char own[40], other[40];
    snprintf(own, sizeof own, "uid %d", (int)geteuid());
    snprintf(other, sizeof other, "uid %d", (int)geteuid() + 4711);
    const char *tmp = "/tmp";
    roots *none = NULL, *some = NULL;
    assert_ok(roots_create(&none, NULL, 0, "media-root"));
    assert_ok(roots_create(&some, &tmp, 1, "media-root"));
    assert_null(given(NULL, false, none));
    assert_null(given(own, false, none));
    assert_null(given("uid 0", false, none));
    assert_ptr_equal(given(other, false, none), none);
    assert_ptr_equal(given("door", true, none), none);
    assert_ptr_equal(given(own, true, none), none); // a key that is called so
    assert_ptr_equal(given(NULL, false, some), some);
    assert_ptr_equal(given(own, false, some), some);
    assert_ptr_equal(given("door", true, some), some);
    roots_destroy(&none);
    roots_destroy(&some);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(media_are_read_below_roots_only),
        cmocka_unit_test(tcp_names_no_paths),
        cmocka_unit_test(without_roots_only_its_own_user_names_anything),
        cmocka_unit_test(urls_are_refused_unless_turned_on),
        cmocka_unit_test(media_are_fetched_when_turned_on),
        cmocka_unit_test(a_slow_page_holds_up_nobody_and_can_be_cancelled),
        cmocka_unit_test(another_model_has_what_was_fetched),
        cmocka_unit_test(loopback_is_not_public),
        cmocka_unit_test(wrong_hosts_end_the_start),
        cmocka_unit_test(a_root_that_is_none_ends_the_start),
    };
    return cmocka_run_group_tests_name("daemon/places", tests, NULL, NULL);
}
