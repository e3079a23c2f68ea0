// Forms of answers: which texts they take, that masks are what trying every token gives, and that whatever is drawn within
// them is of the form.
#include "support/test.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "text/grammar.h"

typedef struct fixture {
    tokenizer *t;
    grammar_vocabulary *v;
} fixture;

static fixture f;

static int open_tokenizer(void **state)
{
    (void)state;
    assert_ok(tokenizer_open(&f.t, TEST_GOLDEN_DIR "/../../models/mini"));
    assert_ok(grammar_vocabulary_create(&f.v, f.t, tokenizer_size(f.t) + 5, (const int32_t[]){1020}, 1));
    return 0;
}

static int close_tokenizer(void **state)
{
    (void)state;
    grammar_vocabulary_destroy(&f.v);
    tokenizer_close(&f.t);
    return 0;
}

static json_t *parse(const char *text)
{
    json_error_t e;
    json_t *j = json_loads(text, JSON_DECODE_ANY, &e);
    if (!j) fail_msg("%s: %s", text, e.text);
    return j;
}

static grammar *of_schema(const char *text)
{
    grammar *g = NULL;
    json_t *schema = parse(text);
    const sight_err err = grammar_from_schema(&g, f.v, schema, &(grammar_options){.what = "schema"});
    if (err) fail_msg("%s: %s", text, sight_error());
    json_decref(schema);
    return g;
}

// Whether the whole text is of the form, token by token, as the tokenizer cuts it.
static bool takes(grammar *g, const char *text)
{
    token_list ids = {0};
    assert_ok(tokenizer_encode(f.t, &ids, text, strlen(text), TOKENIZER_PLAIN));
    int32_t at = 0;
    for (size_t i = 0; i < ids.n && at >= 0; i++) at = grammar_next(g, at, ids.ids[i]);
    token_list_done(&ids);
    assert_ok(grammar_status(g));
    return at >= 0 && grammar_may_end(g, at);
}

static void check(grammar *g, const char *const *good, const char *const *bad)
{
    for (; *good; good++) {
        if (!takes(g, *good)) fail_msg("refused: %s", *good);
    }
    for (; *bad; bad++) {
        if (takes(g, *bad)) fail_msg("taken: %s", *bad);
    }
    grammar_destroy(&g);
    assert_null(g);
}

#define TEXTS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void objects(void **state)
{
    (void)state;
    check(of_schema("{\"type\": \"object\", \"properties\": {\"name\": {\"type\": \"string\"}, \"n\": {\"type\": \"integer\"}},"
                    " \"required\": [\"name\", \"n\"], \"additionalProperties\": false}"),
          TEXTS("{\"name\": \"a\", \"n\": 3}", "{\"name\":\"\",\"n\":-12}", "{\n  \"name\": \"\\u00e9\\n\",\n  \"n\": 0\n}"),
          TEXTS("{}", "{\"name\": \"a\"}", "{\"n\": 3, \"name\": \"a\"}", "{\"name\": \"a\", \"n\": 3.5}",
                "{\"name\": \"a\", \"n\": 03}", "{\"name\": \"a\", \"n\": 3, \"m\": 1}", "{\"name\": \"a\", \"n\": 3},",
                "{\"name\": \"a\nb\", \"n\": 3}", "[]", "{\"name\": \"\\ud800\", \"n\": 1}"));
    check(of_schema("{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"boolean\"}, \"b\": {\"type\": \"null\"}, \"c\":"
                    " {\"type\": \"number\"}}, \"required\": [\"b\"], \"additionalProperties\": false}"),
          TEXTS("{\"b\": null}", "{\"a\": true, \"b\": null}", "{\"b\": null, \"c\": 1e5}",
                "{\"a\": false, \"b\": null, \"c\": -0.25}"),
          TEXTS("{\"a\": true}", "{, \"b\": null}", "{\"b\": null,}", "{\"a\": true \"b\": null}"));
    check(of_schema("{\"type\": \"object\", \"properties\": {\"ab\": {\"type\": \"integer\"}, \"ac\": {\"type\": \"integer\"}},"
                    " \"additionalProperties\": {\"type\": \"string\"}}"),
          TEXTS("{}", "{\"ab\": 1}", "{\"x\": \"y\"}", "{\"ab\": 1, \"ad\": \"\", \"abc\": \"\", \"\": \"\"}", "{\"a\": \"\"}"),
          TEXTS("{\"ab\": \"\"}", "{\"x\": 1}", "{\"x\": \"\", \"ab\": \"\"}", "{\"x\": \"\", \"ac\": 1}"));
}

static void arrays(void **state)
{
    (void)state;
    check(of_schema("{\"type\": \"array\", \"items\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 1000}, \"minItems\": 2,"
                    " \"maxItems\": 4}"),
          TEXTS("[1, 2]", "[0,1000,7]", "[ 9, 99, 999, 5 ]"), TEXTS("[]", "[1]", "[1, 2, 3, 4, 5]", "[1, 1001]", "[1, -1]", "[1,]"));
    check(of_schema("{\"type\": \"array\", \"items\": {\"type\": \"string\"}}"), TEXTS("[]", "[\"a\"]", "[\"a\", \"b\", \"c\"]"),
          TEXTS("[1]", "[\"a\" \"b\"]"));
    check(of_schema("{\"prefixItems\": [{\"type\": \"string\"}, {\"type\": \"integer\"}], \"items\": false}"), TEXTS("[\"a\", 1]"),
          TEXTS("[\"a\"]", "[1, \"a\"]", "[\"a\", 1, 2]"));
}

static void strings(void **state)
{
    (void)state;
    check(of_schema("{\"type\": \"string\", \"minLength\": 2, \"maxLength\": 3}"),
          TEXTS("\"ab\"", "\"abc\"", "\"\\n\\u0041\"", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""),
          TEXTS("\"a\"", "\"abcd\"", "\"\xc3\xa9\"", "ab", "\"ab"));
    check(of_schema("{\"type\": \"string\", \"pattern\": \"^[a-c]+-\\\\d{2,3}$\"}"), TEXTS("\"a-12\"", "\"cab-123\""),
          TEXTS("\"a-1\"", "\"d-12\"", "\"a-1234\"", "\" a-12\""));
    check(of_schema("{\"type\": \"string\", \"pattern\": \"no\"}"), TEXTS("\"no\"", "\"I know\""), TEXTS("\"n, on\"", "\"n o\""));
    check(of_schema("{\"type\": \"string\", \"pattern\": \"^a|b$\"}"), TEXTS("\"ax\"", "\"xb\"", "\"a\""), TEXTS("\"xa\"", "\"bx\""));
    check(of_schema("{\"type\": \"string\", \"pattern\": \"^.\\\"\\\\\\\\.$\"}"), TEXTS("\"a\\\"\\\\b\""), TEXTS("\"a\"\\b\""));
    check(of_schema("{\"type\": \"string\", \"format\": \"date\"}"), TEXTS("\"2026-11-21\""), TEXTS("\"2026-13-01\"", "\"26-01-01\""));
    check(of_schema("{\"type\": \"string\", \"format\": \"ipv4\"}"), TEXTS("\"192.168.0.255\""), TEXTS("\"256.1.1.1\"", "\"1.2.3\""));
    check(of_schema("{\"enum\": [\"red\", \"green\", 3, null]}"), TEXTS("\"red\"", "3", "null"), TEXTS("\"re\"", "red", "33"));
    check(of_schema("{\"const\": {\"a\": [1]}}"), TEXTS("{\"a\":[1]}"), TEXTS("{\"a\": [2]}"));
}

static void numbers(void **state)
{
    (void)state;
    check(of_schema("{\"type\": \"number\", \"minimum\": 0, \"maximum\": 1}"), TEXTS("0", "1", "0.5", "1.0", "0.001"),
          TEXTS("1.5", "-0.5", "2", "1.01", "1e1"));
    check(of_schema("{\"type\": \"number\", \"exclusiveMinimum\": 0, \"exclusiveMaximum\": 2}"), TEXTS("0.1", "1", "1.9", "0.0004"),
          TEXTS("0", "0.0", "2", "2.0", "-1"));
    check(of_schema("{\"type\": \"number\", \"minimum\": -2, \"maximum\": 10}"), TEXTS("-2", "-1.5", "0", "9.99", "10", "-2.0"),
          TEXTS("-2.1", "10.1", "11", "-3"));
    check(of_schema("{\"type\": \"integer\", \"minimum\": -15, \"exclusiveMaximum\": 123}"),
          TEXTS("-15", "-1", "0", "9", "10", "99", "100", "122"), TEXTS("-16", "123", "1000", "-150", "1.0"));
}

// Every whole number from -130 to 1,300 against ranges of all kinds.
static void integer_ranges(void **state)
{
    (void)state;
    static const int ranges[][2] = {{0, 0}, {7, 7}, {3, 12}, {-5, 5}, {-120, -3}, {10, 99}, {99, 101}, {0, 1000}, {123, 1234}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        char text[128];
        snprintf(text, sizeof text, "{\"type\": \"integer\", \"minimum\": %d, \"maximum\": %d}", ranges[i][0], ranges[i][1]);
        grammar *g = of_schema(text);
        for (int x = -130; x <= 1300; x++) {
            snprintf(text, sizeof text, "%d", x);
            if (takes(g, text) != (x >= ranges[i][0] && x <= ranges[i][1])) fail_msg("%d in %d..%d", x, ranges[i][0], ranges[i][1]);
        }
        grammar_destroy(&g);
    }
}

static void recursion_and_choices(void **state)
{
    (void)state;
    check(of_schema("{\"$ref\": \"#/$defs/tree\", \"$defs\": {\"tree\": {\"type\": \"object\", \"properties\": {\"v\": {\"type\":"
                    " \"integer\"}, \"next\": {\"anyOf\": [{\"$ref\": \"#/$defs/tree\"}, {\"type\": \"null\"}]}}, \"required\":"
                    " [\"v\", \"next\"], \"additionalProperties\": false}}}"),
          TEXTS("{\"v\": 1, \"next\": null}", "{\"v\": 1, \"next\": {\"v\": 2, \"next\": {\"v\": 3, \"next\": null}}}"),
          TEXTS("{\"v\": 1}", "{\"v\": 1, \"next\": {\"v\": 2}}"));
    check(of_schema("{\"type\": [\"string\", \"null\"]}"), TEXTS("null", "\"a\""), TEXTS("1", "true"));
    check(of_schema("true"), TEXTS("1", "{\"a\": [1, {\"b\": null}]}", "[[[]]]", "\"x\""), TEXTS("", "{", "[1}", "tru"));
    grammar *g = NULL;
    json_t *list = parse("[\"yes\", \"no\", \"not sure\"]");
    assert_ok(grammar_from_choice(&g, f.v, list, &(grammar_options){.what = "choice"}));
    json_decref(list);
    check(g, TEXTS("yes", "no", "not sure"), TEXTS("not", "yess", "", "no "));
    assert_ok(grammar_from_regex(&g, f.v, "[0-9]+:[0-9]{2} (am|pm)?",
                                 &(grammar_options){.what = "regex"}));
    check(g, TEXTS("12:30 am", "1:05 "), TEXTS("12:3 am", ":30", "x12:30 "));
    assert_ok(grammar_from_json_object(&g, f.v, &(grammar_options){.what = "format", .after_thinking = true}));
    check(g, TEXTS("{}", "{\"a\": 1}", "\n\n{}"), TEXTS("[]", "1", "{\"a\"}"));
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *words;
        sight_err code;
    } cases[] = {
        {"{\"type\": \"strin\"}", "schema at /type", SIGHT_E_ARGUMENT},
        {"{\"type\": \"object\", \"properties\": {\"a/b\": {\"type\": \"string\", \"minLength\": -1}}}",
         "schema at /properties/a~1b/minLength: must be", SIGHT_E_ARGUMENT},
        {"{\"type\": \"object\", \"patternProperties\": {}}", "schema at /patternProperties: this keyword", SIGHT_E_UNSUPPORTED},
        {"{\"type\": \"string\", \"maxLength\": 100000}", "100000 is over the limit of 16384", SIGHT_E_LIMIT},
        {"{\"type\": \"string\", \"pattern\": \"(a\"}", "schema at /pattern, at character 3: a group without its )", SIGHT_E_ARGUMENT},
        {"{\"type\": \"string\", \"pattern\": \"(?=a)b\"}", "look around", SIGHT_E_UNSUPPORTED},
        {"{\"$ref\": \"#/$defs/no\"}", "schema at /$ref: points to nothing", SIGHT_E_ARGUMENT},
        {"{\"anyOf\": []}", "schema at /anyOf", SIGHT_E_ARGUMENT},
        {"{\"type\": \"object\", \"properties\": {}, \"required\": [\"a\"]}", "schema at /required", SIGHT_E_ARGUMENT},
        {"{\"type\": \"integer\", \"minimum\": 5, \"maximum\": 4}", "no whole number", SIGHT_E_ARGUMENT},
        {"{\"$ref\": \"#\"}", "no answer has that form", SIGHT_E_ARGUMENT},
        {"{\"oneOf\": [{\"type\": \"number\"}, {\"type\": \"null\"}, {\"type\": \"integer\"}]}",
         "schema at /oneOf: 0 and 2 may hold together", SIGHT_E_UNSUPPORTED},
        {"{\"anyOf\": [false, false]}", "schema at /anyOf: must be a list with something in it that can hold", SIGHT_E_ARGUMENT},
        {"{\"type\": \"object\", \"properties\": {\"a\": false}, \"required\": [\"a\"]}", "schema at /properties/a: nothing", SIGHT_E_ARGUMENT},
        {"{\"type\": \"string\", \"const\": 5}", "schema at /const: has no value of the type", SIGHT_E_ARGUMENT},
        {"{\"type\": \"array\", \"items\": false, \"minItems\": 1}", "schema at /minItems", SIGHT_E_ARGUMENT},
        {"[]", "schema at /", SIGHT_E_ARGUMENT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        grammar *g = NULL;
        json_t *schema = parse(cases[i].schema);
        assert_fails(grammar_from_schema(&g, f.v, schema, &(grammar_options){.what = "schema"}), cases[i].code, cases[i].words);
        assert_null(g);
        json_decref(schema);
    }
}

static const char *const drawn_from[] = {
    "true",
    "{\"type\": \"object\", \"properties\": {\"who\": {\"type\": \"string\", \"maxLength\": 70}, \"at\": {\"type\": \"array\", \"items\":"
    " {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 1000}, \"minItems\": 4, \"maxItems\": 4}, \"kind\": {\"enum\": [\"car\","
    " \"cat\"]}}, \"required\": [\"who\", \"at\"], \"additionalProperties\": {\"type\": \"boolean\"}}",
    "{\"type\": \"string\", \"minLength\": 66, \"maxLength\": 140}",
    "{\"type\": \"string\", \"pattern\": \"^(ab|c)*[^x\\\\n]{3}$\"}",
};

// mask[id] is whether the token may come, at every place of random walks; and what is drawn to its end parses.
static void masks_are_what_tokens_do(void **state)
{
    (void)state;
    test_random r = {11};
    for (size_t i = 0; i < sizeof drawn_from / sizeof *drawn_from; i++) {
        grammar *g = of_schema(drawn_from[i]);
        for (int walk = 0; walk < 12; walk++) {
            buf text = {0};
            int32_t at = 0;
            for (int step = 0; step < 400 && !grammar_must_end(g, at); step++) {
                uint64_t serial = 0;
                const uint8_t *mask = grammar_mask(g, at, &serial);
                assert_non_null(mask);
                assert_true(serial > 0);
                int32_t n = 0, chosen = -1;
                for (int32_t id = 0; id < tokenizer_size(f.t); id++) {
                    const bool end = id == 1020; // allowed where the answer is whole
                    if (end) assert_int_equal(mask[id], grammar_may_end(g, at));
                    if (step < 40 && !end && mask[id] != (grammar_next(g, at, id) >= 0)) fail_msg("form %zu, token %d", i, id);
                    if (mask[id] && !end && test_random_range(&r, 0, n++) == 0) chosen = id;
                }
                if (chosen < 0) break;
                size_t size;
                const char *bytes = tokenizer_bytes(f.t, chosen, &size);
                buf_add(&text, bytes, size);
                at = grammar_next(g, at, chosen);
                assert_true(at >= 0);
            }
            if (grammar_may_end(g, at) && text.size > 0 && i != 3) {
                json_error_t e;
                json_t *j = json_loadb(text.data, text.size, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
                if (!j) fail_msg("%s: %.*s", e.text, (int)text.size, text.data);
                json_decref(j);
            }
            buf_done(&text);
        }
        assert_ok(grammar_status(g));
        grammar_destroy(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects),
        cmocka_unit_test(arrays),
        cmocka_unit_test(strings),
        cmocka_unit_test(numbers),
        cmocka_unit_test(integer_ranges),
        cmocka_unit_test(recursion_and_choices),
        cmocka_unit_test(refusals),
        cmocka_unit_test(masks_are_what_tokens_do),
    };
    return cmocka_run_group_tests(tests, open_tokenizer, close_tokenizer);
}
