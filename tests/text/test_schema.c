// What is told of JSON schemas without a grammar.
#include "support/test.h"

#include "text/schema.h"

static json_t *parse(const char *text)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(value);
    return value;
}

static void apart(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool apart;
    } cases[] = {
        {"{\"type\": \"string\"}", "{\"type\": \"null\"}", true},
        {"{\"type\": \"number\"}", "{\"type\": \"integer\"}", false},
        {"{\"type\": [\"string\", \"null\"]}", "{\"type\": [\"null\", \"array\"]}", false},
        {"{}", "{\"type\": \"string\"}", false},
        {"true", "false", true},
        {"{\"const\": 1}", "{\"const\": 1.0}", false},
        {"{\"const\": 1}", "{\"enum\": [2, \"1\"]}", true},
        {"{\"enum\": [1, \"a\"]}", "{\"type\": \"string\"}", false},
        {"{\"enum\": [1, 2]}", "{\"type\": \"integer\", \"minimum\": 3}", true},
        {"{\"type\": \"integer\", \"maximum\": 2}", "{\"type\": \"number\", \"minimum\": 3}", true},
        {"{\"type\": \"integer\", \"maximum\": 3}", "{\"type\": \"number\", \"minimum\": 3}", false},
        {"{\"type\": \"string\", \"maxLength\": 2}", "{\"type\": \"string\", \"minLength\": 3}", true},
        {"{\"maxLength\": 2}", "{\"minLength\": 3}", false}, // a number matches both
        {"{\"type\": \"array\", \"minItems\": 4}", "{\"type\": \"array\", \"maxItems\": 3}", true},
        {"{\"type\": \"object\", \"properties\": {\"k\": {\"const\": \"a\"}}, \"required\": [\"k\"]}",
         "{\"type\": \"object\", \"properties\": {\"k\": {\"const\": \"b\"}}}", true},
        {"{\"type\": \"object\", \"properties\": {\"k\": {\"const\": \"a\"}}}",
         "{\"type\": \"object\", \"properties\": {\"k\": {\"const\": \"b\"}}}", false}, // neither needs k
        {"{\"type\": \"object\", \"properties\": {\"k\": {}}, \"required\": [\"k\"]}",
         "{\"type\": \"object\", \"additionalProperties\": false}", true},
        {"{\"$ref\": \"#/$defs/s\"}", "{\"type\": \"null\"}", true},
        {"{\"$ref\": \"#/$defs/loop\"}", "{\"type\": \"null\"}", false},
        {"{\"anyOf\": [{\"type\": \"string\"}, {\"type\": \"array\"}]}", "{\"type\": \"null\"}", true},
        {"{\"type\": \"null\"}", "{\"anyOf\": [{\"type\": \"string\"}, {\"type\": \"null\"}]}", false},
        {"{\"anyOf\": [{\"const\": 1}, {\"const\": 2}]}", "{\"anyOf\": [{\"const\": 3}, {\"const\": 4}]}", true},
    };
    json_t *root = parse("{\"$defs\": {\"s\": {\"type\": \"string\"}, \"loop\": {\"$ref\": \"#/$defs/loop\"}}}");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *a = parse(cases[i].a), *b = parse(cases[i].b);
        if (schema_apart(root, a, b) != cases[i].apart || schema_apart(root, b, a) != cases[i].apart) {
            fail_msg("%s and %s", cases[i].a, cases[i].b);
        }
        json_decref(a);
        json_decref(b);
    }
    json_decref(root);
}

static void resolving(void **state)
{
    (void)state;
    json_t *root = parse("{\"a/b\": {\"%x\": [1, {\"~\": 2}]}, \"\": 3}");
    assert_int_equal(json_integer_value(schema_resolve(root, "#/a~1b/%25x/1/~0")), 2);
    assert_int_equal(json_integer_value(schema_resolve(root, "#%2Fa~1b/%25x/0")), 1);
    assert_int_equal(json_integer_value(schema_resolve(root, "#/")), 3);
    assert_ptr_equal(schema_resolve(root, "#"), root);
    assert_null(schema_resolve(root, "#/a%2Fb/%25x/0")); // decoded first: the / parts keys
    assert_null(schema_resolve(root, "#/b"));
    assert_null(schema_resolve(root, "#a"));
    assert_null(schema_resolve(root, "other.json"));
    json_decref(root);
}

static void types(void **state)
{
    (void)state;
    json_t *list = parse("[\"integer\", \"null\"]"), *whole = json_real(3.0), *part = json_real(3.5);
    assert_true(schema_is_of_type(whole, list));
    assert_false(schema_is_of_type(part, list));
    assert_true(schema_is_of_type(json_null(), list));
    assert_true(schema_is_of_type(part, NULL));
    json_t *schema = parse("{\"maxItems\": 2}");
    assert_string_equal(schema_type_by_keywords(schema), "array");
    assert_null(schema_type_by_keywords(list));
    json_decref(schema);
    json_decref(list);
    json_decref(whole);
    json_decref(part);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(apart),
        cmocka_unit_test(resolving),
        cmocka_unit_test(types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
