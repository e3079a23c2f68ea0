#include "support/test.h"

#include "base/json.h"

static json_t *object;

static json_fields parse(const char *text)
{
    if (object) json_decref(object);
    object = NULL;
    assert_ok(json_parse(&object, text, strlen(text), 1 << 20, "request", SIGHT_E_ARGUMENT));
    return (json_fields){object, "request", SIGHT_E_ARGUMENT};
}

static void a_missing_or_null_field_keeps_the_default(void **state)
{
    json_fields f = parse("{\"b\": null}");
    int64_t i = 7;
    double d = 2.5;
    bool yes = true;
    assert_ok(json_get_int(&f, &i, "a", 0, 10));
    assert_ok(json_get_int(&f, &i, "b", 0, 10));
    assert_ok(json_get_double(&f, &d, "a", 0, 10));
    assert_ok(json_get_bool(&f, &yes, "b"));
    assert_int_equal(i, 7);
    assert_true(d == 2.5 && yes);
    assert_fails(json_need(&f, "b"), SIGHT_E_ARGUMENT, "request: 'b' is missing");
}

static void ranges_and_types_are_named(void **state)
{
    json_fields f = parse("{\"n\": -1, \"x\": 1.5, \"s\": \"t\", \"w\": 3.0}");
    int64_t i = 7;
    double d = 1;
    bool yes;
    const char *s = NULL;
    assert_fails(json_get_int(&f, &i, "n", 0, 10), SIGHT_E_ARGUMENT,
                 "request: 'n' is -1, must be 0 to 10");
    assert_fails(json_get_int(&f, &i, "x", 0, 10), SIGHT_E_ARGUMENT, "'x' must be a whole number");
    assert_fails(json_get_double(&f, &d, "s", 0, 1), SIGHT_E_ARGUMENT, "'s' must be a number");
    assert_fails(json_get_bool(&f, &yes, "n"), SIGHT_E_ARGUMENT, "'n' must be true or false");
    assert_fails(json_get_string(&f, &s, "n"), SIGHT_E_ARGUMENT, "'n' must be a string");
    assert_int_equal(i, 7);
    assert_ok(json_get_int(&f, &i, "w", 0, 10));
    assert_int_equal(i, 3);
    assert_ok(json_get_string(&f, &s, "s"));
    assert_string_equal(s, "t");
}

static void what_is_not_json_is_refused_with_the_place(void **state)
{
    json_t *v = NULL;
    const char *bad[] = {"", "{", "{\"a\": NaN}", "{\"a\":1,\"a\":2}", "\"\xff\"", "[1] x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_fails(json_parse(&v, bad[i], strlen(bad[i]), 100, "r", SIGHT_E_MODEL),
                     SIGHT_E_MODEL, "r: not valid JSON at line 1");
    }
    char deep[20001];
    memset(deep, '[', 20000);
    deep[20000] = 0;
    assert_fails(json_parse(&v, deep, 20000, 1 << 20, "r", SIGHT_E_ARGUMENT), SIGHT_E_ARGUMENT,
                 "not valid JSON");
    assert_fails(json_parse(&v, deep, 20000, 100, "r", SIGHT_E_ARGUMENT), SIGHT_E_LIMIT,
                 "20000 bytes, the limit is 100");
    assert_null(v);
}

static int clean_up(void **state)
{
    json_decref(object);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_or_null_field_keeps_the_default),
        cmocka_unit_test(ranges_and_types_are_named),
        cmocka_unit_test(what_is_not_json_is_refused_with_the_place),
    };
    return cmocka_run_group_tests(tests, NULL, clean_up);
}
