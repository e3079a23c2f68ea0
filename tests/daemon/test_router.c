// What a router keeps, sends and drops, without models.
#include "support/test.h"

#include "daemon/models/router.h"

#include <math.h>

// What was sent, as words: "delta:a ", "done:small " and so on.
static char sent[512];
static json_t *last; // body

static void on_sent(void *arg, sight_event_kind kind, const json_t *body)
{
    const char *text = json_string_value(json_object_get(body, "text"));
    const size_t used = strlen(sent);
    snprintf(sent + used, sizeof sent - used, "%s:%s ", sight_event_name(kind), text ? text : "");
    json_decref(last);
    last = json_incref((json_t *)body);
}

static int clear(void **state)
{
    sent[0] = 0;
    json_decref(last);
    last = NULL;
    return 0;
}

static route *make(double bound, int32_t first_tokens, int n)
{
    router_spec spec = {.name = "auto", .n_models = n, .confidence = bound, .first_tokens = first_tokens};
    static const char *const names[] = {"small", "middle", "large"};
    for (int i = 0; i < n; i++) strcpy(spec.models[i], names[i]);
    route *r;
    assert_ok(route_create(&r, &spec));
    return r;
}

static confidence sure(double mean, int32_t tokens)
{
    return (confidence){.log_sum = log(mean) * tokens, .counted = tokens, .tokens = tokens};
}

static void say(route *r, sight_event_kind kind, const char *text, const confidence *c)
{
    json_t *body = kind == SIGHT_DONE ? json_pack("{s:s, s:s}", "finish_reason", text, "text", route_model(r))
                                      : json_pack("{s:s}", kind == SIGHT_ERROR ? "message" : "text", text);
    assert_ok(route_event(r, kind, body, c, on_sent, NULL));
    json_decref(body);
}

static const json_t *tried(size_t i)
{
    return json_array_get(json_object_get(json_object_get(last, "routed"), "tried"), i);
}

static const char *word(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static void numbers_are_what_they_are_called(void **state)
{
    confidence c = {0};
    assert_true(isnan(confidence_value(&c)));
    confidence_add(&c, 0, 1); // no choice
    assert_float_equal(confidence_value(&c), 1, 0);
    confidence_add(&c, log(0.5), 7);
    confidence_add(&c, log(0.125), 2);
    assert_float_equal(confidence_value(&c), 0.25, 1e-12); // the root of 1/16
    assert_int_equal(c.tokens, 3);
    c.product = true;
    assert_float_equal(confidence_value(&c), 0.0625, 1e-12);
}

static void nothing_is_sent_before_it_is_decided(void **state)
{
    route *r = make(0.6, 3, 2);
    confidence c = sure(0.9, 2);
    assert_true(route_looks(r));
    say(r, SIGHT_PROGRESS, "p", &c); // but this
    say(r, SIGHT_WARNING, "w", &c);
    say(r, SIGHT_DELTA, "a", &c);
    route_look(r, &c, on_sent, NULL); // two tokens
    assert_string_equal(sent, "progress:p ");
    c = sure(0.61, 3);
    route_look(r, &c, on_sent, NULL);
    assert_string_equal(sent, "progress:p warning:w delta:a ");
    assert_false(route_looks(r));
    c = sure(0.1, 9); // is not looked at any more
    say(r, SIGHT_DELTA, "b", &c);
    route_look(r, &c, on_sent, NULL);
    say(r, SIGHT_DONE, "stop", &c);
    assert_false(route_gives_up(r));
    assert_string_equal(sent, "progress:p warning:w delta:a delta:b done:small ");
    assert_string_equal(word(json_object_get(last, "routed"), "router"), "auto");
    assert_null(tried(0));
    route_destroy(&r);
}

static void who_is_not_sure_is_followed_by_the_next(void **state)
{
    route *r = make(0.6, 3, 3);
    confidence c = sure(0.59, 3);
    say(r, SIGHT_DELTA, "a", &c);
    route_look(r, &c, on_sent, NULL);
    assert_true(route_gives_up(r));
    say(r, SIGHT_DELTA, "x", &c); // as it is ended
    route_next(r);
    assert_string_equal(route_model(r), "middle");
    assert_true(route_looks(r));
    c = sure(0.3, 2);
    say(r, SIGHT_DELTA, "b", &c);
    say(r, SIGHT_DONE, "stop", &c); // short
    assert_true(route_gives_up(r));
    route_next(r);
    assert_false(route_looks(r)); // the last one is sure enough for us
    c = (confidence){0};
    say(r, SIGHT_DELTA, "c", &c);
    assert_string_equal(sent, "delta:c ");
    say(r, SIGHT_DONE, "stop", &c);
    assert_string_equal(sent, "delta:c done:large ");
    assert_string_equal(word(tried(0), "model"), "small");
    assert_string_equal(word(tried(0), "why"), "confidence");
    assert_float_equal(json_real_value(json_object_get(tried(0), "confidence")), 0.59, 1e-9);
    assert_int_equal(json_integer_value(json_object_get(tried(1), "tokens")), 2);
    assert_int_equal(route_asked(r), 2);
    route_destroy(&r);
}

static void ends_are_decided_too(void **state)
{
    route *r = make(0.6, 0, 2);
    confidence c = sure(0.9, 5000);
    say(r, SIGHT_DELTA, "a", &c);
    route_look(r, &c, on_sent, NULL); // only at the end
    assert_string_equal(sent, "");
    say(r, SIGHT_DONE, "stop", &c);
    assert_string_equal(sent, "delta:a done:small ");
    route_destroy(&r);
    clear(NULL);
    r = make(0, 0, 2);
    say(r, SIGHT_DELTA, "a", &c);
    say(r, SIGHT_DONE, "repetition", &c); // however sure
    assert_true(route_gives_up(r));
    route_destroy(&r);
    r = make(0, 0, 2);
    c = (confidence){0};
    say(r, SIGHT_DONE, "length", &c); // never came to answer
    assert_true(route_gives_up(r));
    route_destroy(&r);
    r = make(1, 8, 2);
    say(r, SIGHT_DELTA, "a", &c);
    say(r, SIGHT_DONE, "cancelled", &c); // what there is
    assert_string_equal(sent, "delta:a done:small ");
    route_destroy(&r);
}

static void an_answer_that_was_there_is_better_than_none(void **state)
{
    route *r = make(0.6, 8, 2);
    bool was_sent;
    confidence c = sure(0.3, 2);
    say(r, SIGHT_DELTA, "a", &c);
    say(r, SIGHT_DONE, "stop", &c);
    assert_true(route_gives_up(r));
    route_next(r);
    assert_false(route_fails(r, SIGHT_E_MEMORY, "no room", &was_sent, on_sent, NULL));
    assert_true(was_sent);
    assert_string_equal(sent, "delta:a done:small ");
    assert_string_equal(word(tried(1), "message"), "no room");
    route_destroy(&r);
    clear(NULL);
    // One that was cut short is none.
    r = make(0.6, 2, 2);
    say(r, SIGHT_DELTA, "a", &c);
    route_look(r, &c, on_sent, NULL);
    route_next(r);
    assert_false(route_fails(r, SIGHT_E_MEMORY, "no room", &was_sent, on_sent, NULL));
    assert_false(was_sent);
    route_destroy(&r);
}

static void models_that_cannot_are_passed_over(void **state)
{
    route *r = make(0.6, 8, 2);
    bool was_sent;
    assert_true(route_fails(r, SIGHT_E_UNSUPPORTED, "takes no pictures", &was_sent, on_sent, NULL));
    route_next(r);
    confidence c = {0};
    say(r, SIGHT_DONE, "stop", &c);
    assert_string_equal(word(tried(0), "why"), "error");
    assert_string_equal(word(tried(0), "message"), "takes no pictures");
    route_destroy(&r);
    r = make(0.6, 8, 2);
    assert_false(route_fails(r, SIGHT_E_ARGUMENT, "wrong", &was_sent, on_sent, NULL)); // for all
    route_destroy(&r);
    r = make(0.6, 8, 2);
    say(r, SIGHT_ERROR, "broken", &c);
    assert_true(route_gives_up(r));
    route_destroy(&r);
    route_destroy(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(numbers_are_what_they_are_called, clear),
        cmocka_unit_test_setup(nothing_is_sent_before_it_is_decided, clear),
        cmocka_unit_test_setup(who_is_not_sure_is_followed_by_the_next, clear),
        cmocka_unit_test_setup(ends_are_decided_too, clear),
        cmocka_unit_test_setup(an_answer_that_was_there_is_better_than_none, clear),
        cmocka_unit_test_setup_teardown(models_that_cannot_are_passed_over, clear, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
