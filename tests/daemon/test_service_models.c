// Several models in one daemon, from outside.
#include "running.h"

#define ASK(model, more)                                                                           \
    "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"temperature\": 0, \"enable_thinking\": false, "     \
    "\"model\": \"" model "\"" more "}"
#define SHORT ", \"max_tokens\": 8"

static char endless[256];

// A daemon with golden models of several names, and what more is in its file.
static running start(const char *more)
{
    running r;
    char text[4096];
    daemon_prepare(&r);
    snprintf(text, sizeof text,
             "threads = 1\nmemory = 600M\n[model small]\nmodel = " GOLDEN "/model\n[model large]\nmodel = %s\nload = use\n"
             "[model other]\nmodel = " TEST_GOLDEN_DIR "/qwen3vl/model\nload = use\n"
             "[model broken]\nmodel = %s\nload = use\n%s",
             endless, r.folder, more);
    char *file = test_write(r.folder, "sightd.conf", text, strlen(text));
    const char *const args[] = {"--config", file, NULL};
    daemon_spawn(&r, args);
    free(file);
    return r;
}

static json_t *answer(sight_client *c, const char *json)
{
    sight_event_kind kind;
    json_t *done = ask_to_end(c, json, &kind);
    if (kind == SIGHT_ERROR) fail_msg("%s", text_at(done, "message"));
    return done;
}

static void expect_error(sight_client *c, const char *json, const char *says)
{
    sight_event_kind kind;
    json_t *body = ask_to_end(c, json, &kind);
    assert_refused(body, kind, NULL, says);
    json_decref(body);
}

static json_t *describe(sight_client *c, const char *name)
{
    char *reply;
    size_t i;
    json_t *about, *found = NULL;
    assert_ok(sight_client_call(c, &reply, SIGHT_MODELS, NULL, NULL, 0, 30000));
    json_t *all = json_loads(reply, 0, NULL);
    free(reply);
    json_array_foreach(json_object_get(all, "models"), i, about) {
        if (!strcmp(text_at(about, "name"), name)) found = json_incref(about);
    }
    json_decref(all);
    assert_non_null(found);
    return found;
}

static void expect_state(sight_client *c, const char *name, const char *state)
{
    json_t *about = describe(c, name);
    assert_string_equal(text_at(about, "state"), state);
    json_decref(about);
}

static const json_t *tried(const json_t *done, size_t i)
{
    return json_array_get(json_object_get(json_object_get(done, "routed"), "tried"), i);
}

static void each_is_asked_by_name(void **state)
{
    running r = start("");
    sight_client *c = daemon_connect(&r);
    expect_state(c, "small", "loaded");
    expect_state(c, "other", "not loaded");
    json_t *first = answer(c, ASK("small", SHORT)), *other = answer(c, ASK("other", SHORT));
    assert_string_equal(text_at(first, "model"), "small");
    assert_string_equal(text_at(other, "model"), "other");
    expect_state(c, "other", "loaded");
    // The answers are those that each gives alone.
    json_t *again = answer(c, ASK("small", SHORT)), *folder = answer(c, ASK(TEST_GOLDEN_DIR "/qwen3vl/model", SHORT));
    assert_string_equal(text_at(first, "text"), text_at(again, "text"));
    assert_string_equal(text_at(other, "text"), text_at(folder, "text"));
    running alone;
    const char *const args[] = {"--model", TEST_GOLDEN_DIR "/qwen3vl/model", "--threads", "1", NULL};
    daemon_start(&alone, args);
    sight_client *d = daemon_connect(&alone);
    json_t *lone = answer(d, "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"temperature\": 0, "
                             "\"enable_thinking\": false" SHORT "}");
    assert_string_equal(text_at(other, "text"), text_at(lone, "text"));
    sight_client_close(&d);
    daemon_stop(&alone);
    expect_error(c, ASK("none", SHORT), "this server has 'small', 'large', 'other', 'broken'");
    expect_error(c, ASK("broken", SHORT), "the model 'broken' cannot be loaded");
    expect_state(c, "broken", "failed");
    json_decref(answer(c, ASK("small", SHORT))); // goes on
    json_decref(first);
    json_decref(other);
    json_decref(again);
    json_decref(folder);
    json_decref(lone);
    sight_client_close(&c);
    daemon_stop(&r);
}

// One answers without end while another is loaded and answers.
static void one_does_not_wait_for_the_other(void **state)
{
    running r = start("");
    sight_client *c = daemon_connect(&r);
    char id[SIGHT_ID_SIZE];
    assert_ok(sight_client_ask(c, id, ASK("large", ", \"max_tokens\": 4000"), NULL, 0));
    json_decref(wait_event(c, id, SIGHT_DELTA));
    sight_client *d = daemon_connect(&r);
    json_decref(answer(d, ASK("small", SHORT)));
    json_decref(answer(d, ASK("other", SHORT)));
    json_decref(wait_event(c, id, SIGHT_DELTA)); // is still at it
    char cancel[128], *reply;
    snprintf(cancel, sizeof cancel, "{\"id\": \"%s\"}", id);
    assert_ok(sight_client_call(c, &reply, SIGHT_CANCEL, cancel, NULL, 0, 30000));
    free(reply);
    json_t *done = wait_event(c, id, SIGHT_DONE);
    assert_string_equal(text_at(done, "model"), "large");
    json_decref(done);
    sight_client_close(&c);
    sight_client_close(&d);
    daemon_stop(&r);
}

static void an_unused_one_is_let_go_and_comes_back(void **state)
{
    running r = start("unload-after = 0.2\n[model brief]\nmodel = " GOLDEN "/model\nload = use\nunload-after = 0.2\n");
    sight_client *c = daemon_connect(&r);
    json_decref(answer(c, ASK("brief", SHORT)));
    const double start_s = clock_now_s();
    for (bool gone = false; !gone;) {
        json_t *about = describe(c, "brief");
        gone = !strcmp(text_at(about, "state"), "not loaded");
        json_decref(about);
        if (clock_now_s() - start_s > 60) fail_msg("it was not let go");
        pause_ms(20);
    }
    assert_true(daemon_logged(&r, "model 'brief': unloaded, not used for"));
    json_decref(answer(c, ASK("brief", SHORT)));
    sight_client_close(&c);
    daemon_stop(&r);
}

#define ROUTERS                                                                                    \
    "[router sure]\nmodels = small, other\nrule = confidence 0\nmax-first-tokens = 4\n"                \
    "[router unsure]\nmodels = small, other\nrule = confidence 1\nmax-first-tokens = 4\n"              \
    "[router slow]\nmodels = large, small\nrule = confidence 1\nmax-first-tokens = 0\n"                \
    "[router lame]\nmodels = broken, small\nrule = confidence 0.5\n"                                   \
    "[router late]\nmodels = small, broken\nrule = confidence 1\n"

static void a_router_takes_who_is_sure(void **state)
{
    running r = start(ROUTERS);
    sight_client *c = daemon_connect(&r);
    json_t *small = answer(c, ASK("small", SHORT ", \"confidence\": true")), *other = answer(c, ASK("other", SHORT));
    const double sure = json_real_value(json_object_get(small, "confidence"));
    assert_true(sure > 0 && sure < 1);
    assert_null(json_object_get(other, "confidence")); // not asked for
    json_t *done = answer(c, ASK("sure", SHORT));
    assert_string_equal(text_at(done, "model"), "small");
    assert_string_equal(text_at(done, "text"), text_at(small, "text"));
    assert_float_equal(json_real_value(json_object_get(done, "confidence")), sure, 1e-6);
    assert_string_equal(text_at(json_object_get(done, "routed"), "router"), "sure");
    assert_null(tried(done, 0));
    json_decref(done);
    done = answer(c, ASK("unsure", SHORT));
    assert_string_equal(text_at(done, "model"), "other");
    assert_string_equal(text_at(done, "text"), text_at(other, "text")); // and nothing of the first one's
    assert_string_equal(text_at(tried(done, 0), "model"), "small");
    assert_string_equal(text_at(tried(done, 0), "why"), "confidence");
    assert_int_equal(json_integer_value(json_object_get(tried(done, 0), "tokens")), 4);
    json_decref(done);
    done = answer(c, ASK("unsure", SHORT ", \"stream\": false"));
    assert_string_equal(text_at(done, "answer"), text_at(other, "text"));
    json_decref(done);
    // Drafts change nothing.
    done = answer(c, ASK("small", SHORT ", \"confidence\": true, \"drafts\": \"off\""));
    assert_float_equal(json_real_value(json_object_get(done, "confidence")), sure, 1e-6);
    json_decref(done);
    json_decref(small);
    json_decref(other);
    sight_client_close(&c);
    daemon_stop(&r);
}

// Of choices it is the probability of the one that was taken.
static void choices_have_a_probability(void **state)
{
    running r = start("");
    sight_client *c = daemon_connect(&r);
    json_t *only = answer(c, ASK("small", ", \"confidence\": true, \"response_format\": {\"type\": \"choice\", "
                                          "\"choices\": [\"7\"]}"));
    assert_string_equal(text_at(only, "text"), "7");
    assert_float_equal(json_number_value(json_object_get(only, "confidence")), 1, 0);
    double sum = 0;
    bool seen[2] = {false};
    for (int seed = 1; seed < 2000 && !(seen[0] && seen[1]); seed++) {
        char json[512];
        snprintf(json, sizeof json, "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"temperature\": 1, "
                 "\"top_k\": 0, \"top_p\": 1, \"enable_thinking\": false, \"model\": \"small\", \"seed\": %d, \"confidence\": "
                 "true, \"response_format\": {\"type\": \"choice\", \"choices\": [\"7\", \"8\"]}}", seed);
        json_t *done = answer(c, json);
        const int i = text_at(done, "text")[0] - '7';
        if (!seen[i]) sum += json_number_value(json_object_get(done, "confidence"));
        seen[i] = true;
        json_decref(done);
    }
    assert_true(seen[0] && seen[1]);
    assert_float_equal(sum, 1, 1e-6);
    json_decref(only);
    sight_client_close(&c);
    daemon_stop(&r);
}

static void a_router_passes_over_who_cannot(void **state)
{
    running r = start(ROUTERS);
    sight_client *c = daemon_connect(&r);
    json_t *small = answer(c, ASK("small", SHORT));
    json_t *done = answer(c, ASK("lame", SHORT));
    assert_string_equal(text_at(done, "text"), text_at(small, "text"));
    assert_string_equal(text_at(tried(done, 0), "why"), "error");
    assert_non_null(strstr(text_at(tried(done, 0), "message"), "cannot be loaded"));
    json_decref(done);
    done = answer(c, ASK("late", SHORT)); // its answer was whole
    assert_string_equal(text_at(done, "text"), text_at(small, "text"));
    assert_string_equal(text_at(tried(done, 1), "model"), "broken");
    json_decref(done);
    json_decref(small);
    char *reply;
    assert_ok(sight_client_call(c, &reply, SIGHT_PLAN, ASK("lame", ""), NULL, 0, 30000));
    assert_non_null(strstr(reply, "\"model\":\"small\""));
    free(reply);
    expect_error(c, ASK("sure", ", \"temperature\": -1"), "temperature");
    sight_client_close(&c);
    daemon_stop(&r);
}

// Nothing of an answer is sent while it is looked at; it can be ended.
static void a_routed_request_is_cancelled(void **state)
{
    running r = start(ROUTERS);
    sight_client *c = daemon_connect(&r);
    char id[SIGHT_ID_SIZE];
    assert_ok(sight_client_ask(c, id, ASK("slow", ", \"max_tokens\": 4000"), NULL, 0));
    for (bool runs = false; !runs;) {
        sight_event_kind kind;
        json_t *body = next_event(c, id, &kind);
        assert_true(kind != SIGHT_DELTA && kind != SIGHT_DONE && kind != SIGHT_ERROR);
        runs = kind == SIGHT_ACCEPTED && !strcmp(text_at(body, "state"), "running");
        json_decref(body);
    }
    char cancel[128], *reply;
    snprintf(cancel, sizeof cancel, "{\"id\": \"%s\"}", id);
    assert_ok(sight_client_call(c, &reply, SIGHT_CANCEL, cancel, NULL, 0, 30000));
    free(reply);
    json_t *done = wait_event(c, id, SIGHT_DONE);
    assert_string_equal(text_at(done, "finish_reason"), "cancelled");
    json_decref(done);
    assert_int_equal(count_requests(c), 0);
    sight_client_close(&c);
    daemon_stop(&r);
}

static void check_opens_all(void **state)
{
    running r;
    daemon_prepare(&r);
    const char *const args[] = {"--model", "a=" GOLDEN "/model", "--model", "b=" TEST_GOLDEN_DIR "/qwen3vl/model",
                                "--check", NULL};
    daemon_spawn(&r, args);
    assert_int_equal(daemon_wait(&r, 60), 0);
    assert_true(daemon_logged(&r, "\"routers\": []"));
    assert_true(daemon_logged(&r, "\"family\": \"qwen3_vl\""));
    const char *const wrong[] = {"--model", "a=" GOLDEN "/model", "--model", "b=/nonexistent/b", "--check", NULL};
    daemon_spawn(&r, wrong);
    assert_int_equal(daemon_wait(&r, 60), 4);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    endless_model(endless, sizeof endless);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_asked_by_name),
        cmocka_unit_test(one_does_not_wait_for_the_other),
        cmocka_unit_test(an_unused_one_is_let_go_and_comes_back),
        cmocka_unit_test(a_router_takes_who_is_sure),
        cmocka_unit_test(choices_have_a_probability),
        cmocka_unit_test(a_router_passes_over_who_cannot),
        cmocka_unit_test(a_routed_request_is_cancelled),
        cmocka_unit_test(check_opens_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
