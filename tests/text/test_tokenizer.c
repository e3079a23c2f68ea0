#include "support/test.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "text/tokenizer.h"

static tokenizer *golden;

static int open_golden(void **state)
{
    return tokenizer_open(&golden, TEST_GOLDEN_DIR "/tokenizer") ? -1 : 0;
}

static int close_golden(void **state)
{
    tokenizer_close(&golden);
    return 0;
}

static char *decode(const tokenizer *t, const int32_t *ids, size_t n, bool skip_special)
{
    token_stream s = {0};
    buf out;
    buf_init(&out);
    for (size_t i = 0; i < n; i++) token_stream_push(&s, t, &out, ids[i], skip_special);
    token_stream_finish(&s, &out);
    buf_putc(&out, 0);
    return buf_take(&out);
}

static void encode_case(const tokenizer *t, token_list *ids, const json_t *c, size_t i)
{
    const json_t *text = json_object_get(c, "text"), *want = json_object_get(c, "ids");
    assert_ok(tokenizer_encode(t, ids, json_string_value(text), json_string_length(text),
                               TOKENIZER_TOKENS));
    if (ids->n != json_array_size(want)) fail_msg("case %zu: %zu ids", i, ids->n);
    for (size_t k = 0; k < ids->n; k++)
        if (ids->ids[k] != json_integer_value(json_array_get(want, k))) {
            fail_msg("case %zu: id %zu is %d", i, k, ids->ids[k]);
        }
}

// A case with a text, or of ids alone.
static void check_case(const tokenizer *t, const json_t *c, size_t i)
{
    token_list ids = {0};
    if (json_object_get(c, "text")) {
        encode_case(t, &ids, c, i);
    } else {
        const json_t *list = json_object_get(c, "ids");
        for (size_t k = 0; k < json_array_size(list); k++)
            assert_ok(token_list_add(&ids, (int32_t)json_integer_value(json_array_get(list, k))));
    }
    const json_t *decoded = json_object_get(c, "decoded");
    char *got = decode(t, ids.ids, ids.n, false);
    assert_memory_equal(got, json_string_value(decoded), json_string_length(decoded) + 1);
    free(got);
    token_list_done(&ids);
}

static void check_file(const char *path, size_t at_least)
{
    json_t *cases;
    assert_ok(json_parse_file(&cases, path, 1 << 24, SIGHT_E_MODEL));
    assert_true(json_array_size(cases) >= at_least);
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_case(golden, json_array_get(cases, i), i);
    json_decref(cases);
}

static void golden_cases_are_equal(void **state)
{
    check_file(TEST_GOLDEN_DIR "/tokenizer/cases.json", 400);
}

// Where versions of Unicode and kinds of regex differ: made with the reference (tokenizers 0.23)
// from the golden tokenizer. And random ids, whose bytes are mostly no UTF-8.
static void tricky_cases_are_equal(void **state)
{
    check_file(TEST_SOURCE_DIR "/tests/text/data/tokenizer_cases.json", 200);
}

// ---- text in, ids out ----

static token_list encode(const tokenizer *t, const char *text, size_t n, tokenizer_mode mode)
{
    token_list ids = {0};
    assert_ok(tokenizer_encode(t, &ids, text, n, mode));
    return ids;
}

static void plain_text_gives_no_added_tokens(void **state)
{
    const char *text = "<|im_start|>user <think>";
    token_list ids = encode(golden, text, strlen(text), TOKENIZER_PLAIN);
    char *back = decode(golden, ids.ids, ids.n, true);
    for (size_t i = 0; i < ids.n; i++) assert_false(tokenizer_is_added(golden, ids.ids[i]));
    assert_string_equal(back, text);
    free(back);
    token_list_done(&ids);
}

static void nul_characters_are_text(void **state)
{
    token_list ids = encode(golden, "a\0b\0", 4, TOKENIZER_TOKENS);
    token_stream s = {0};
    buf out;
    buf_init(&out);
    for (size_t i = 0; i < ids.n; i++) token_stream_push(&s, golden, &out, ids.ids[i], false);
    assert_int_equal(out.size, 4);
    assert_memory_equal(out.data, "a\0b\0", 4);
    buf_done(&out);
    token_list_done(&ids);
}

static void text_that_is_not_utf8_is_refused_with_the_place(void **state)
{
    static const struct {
        const char *text, *place;
    } wrong[] = {
        {"\xff", "byte 0"},           {"abcdefghij\x80", "byte 10"},
        {"\xc3", "byte 0"},           {"x\xc0\x80", "byte 1"},
        {"\xed\xa0\x80", "byte 0"},   {"\xe0\x80\x80", "byte 0"},
        {"\xf4\x90\x80\x80", "byte 0"}, {"\u65e5\xe6\x97", "byte 3"},
        {"\xf0\x9f\x98", "byte 0"},   {"\xf5\x80\x80\x80", "byte 0"},
    };
    token_list ids = {0};
    assert_ok(token_list_add(&ids, 5));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_fails(tokenizer_encode(golden, &ids, wrong[i].text, strlen(wrong[i].text),
                                      TOKENIZER_TOKENS),
                     SIGHT_E_ARGUMENT, wrong[i].place);
        assert_int_equal(ids.n, 1);
    }
    token_list_done(&ids);
}

static void ids_are_appended(void **state)
{
    token_list ids = encode(golden, "a", 1, TOKENIZER_TOKENS);
    assert_ok(tokenizer_encode(golden, &ids, "", 0, TOKENIZER_TOKENS));
    assert_int_equal(ids.n, 1);
    assert_ok(tokenizer_encode(golden, &ids, "a", 1, TOKENIZER_PROMPT));
    assert_int_equal(ids.n, 2);
    assert_int_equal(ids.ids[0], ids.ids[1]);
    token_list_done(&ids);
}

static void tokens_are_found_by_text(void **state)
{
    bool special = false;
    size_t n;
    int32_t id = tokenizer_find(golden, "<|im_end|>");
    assert_true(tokenizer_is_added(golden, id) && tokenizer_is_special(golden, id));
    assert_memory_equal(tokenizer_bytes(golden, id, &n), "<|im_end|>", 10);
    assert_int_equal(n, 10);
    id = tokenizer_find(golden, "<think>");
    assert_true(tokenizer_is_added(golden, id) && !tokenizer_is_special(golden, id));
    id = tokenizer_find(golden, " t");
    assert_int_equal(id, 256);
    assert_false(tokenizer_is_added(golden, id));
    assert_int_equal(tokenizer_find(golden, "no such token"), -1);
    assert_int_equal(tokenizer_size(golden), 3000);
    assert_true(tokenizer_has(golden, 2999));
    assert_false(tokenizer_has(golden, 3000) || tokenizer_has(golden, -1));
    tokenizer_bytes(golden, 3000, &n);
    assert_int_equal(n, 0);
    assert_string_equal(tokenizer_added(golden, 0, &special), "<|endoftext|>");
    assert_true(special);
    assert_null(tokenizer_added(golden, 26, &special));
}

// ---- streaming ----

static void half_a_character_is_held_back(void **state)
{
    token_list ids = encode(golden, "\U0001f9ff", 4, TOKENIZER_PLAIN);
    token_stream s = {0};
    buf out;
    buf_init(&out);
    assert_true(ids.n > 1);
    for (size_t i = 0; i < ids.n; i++) {
        assert_int_equal(out.size, 0);
        token_stream_push(&s, golden, &out, ids.ids[i], false);
    }
    assert_string_equal(buf_text(&out), "\U0001f9ff");
    token_stream_push(&s, golden, &out, ids.ids[0], false);
    token_stream_push(&s, golden, &out, 999999, false);
    token_stream_push(&s, golden, &out, -1, false);
    assert_int_equal(out.size, 4);
    token_stream_finish(&s, &out);
    token_stream_finish(&s, &out);
    assert_string_equal(buf_text(&out), "\U0001f9ff\ufffd");
    buf_done(&out);
    token_list_done(&ids);
}

// Bytes and what Rust's String::from_utf8_lossy makes of them.
static void broken_bytes_become_replacement_characters(void **state)
{
    static const struct {
        const char *bytes, *text;
    } cases[] = {
        {"a\xff" "b", "a\ufffd" "b"},
        {"\xc0\x80", "\ufffd\ufffd"},
        {"\xe0\x80\x80", "\ufffd\ufffd\ufffd"},
        {"\xed\xa0\x80", "\ufffd\ufffd\ufffd"},
        {"\xf0\x9f\x98x", "\ufffdx"},
        {"\xf0\x9f\xe6\x97\xa5", "\ufffd\u65e5"},
        {"\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"},
        {"\xe6\xe6\x97\xa5\xe6\x97", "\ufffd\u65e5\ufffd"},
        {"\xf1\x80\x80\xc3\xa9", "\ufffd\u00e9"},
        {"\xc3\xc3\xc3\xa9", "\ufffd\ufffd\u00e9"},
    };
    int32_t of_byte[256];
    for (int32_t id = 0; id < 256; id++) {
        size_t n;
        const char *bytes = tokenizer_bytes(golden, id, &n);
        assert_int_equal(n, 1);
        of_byte[(uint8_t)bytes[0]] = id;
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t ids[16];
        size_t n = strlen(cases[i].bytes);
        for (size_t k = 0; k < n; k++) ids[k] = of_byte[(uint8_t)cases[i].bytes[k]];
        char *got = decode(golden, ids, n, false);
        assert_string_equal(got, cases[i].text);
        free(got);
    }
}

static void special_tokens_can_be_left_out(void **state)
{
    const char *text = "<|im_start|>a<think>b<|im_end|>";
    token_list ids = encode(golden, text, strlen(text), TOKENIZER_TOKENS);
    char *got = decode(golden, ids.ids, ids.n, true);
    assert_string_equal(got, "a<think>b");
    free(got);
    token_list_done(&ids);
}

// ---- time ----

// A megabyte of each: seconds would be minutes if any step were quadratic.
static void long_texts_take_linear_time(void **state)
{
    enum { N = 1 << 20 };
    static const char *const units[] = {
        "a", " ", "\n", "<", "'", ".", "1", "ab", " \n", " \t", "\u00e9", "\u65e5", "e\u0301",
        "\u0301\u0323", "\uac00\u11a8", "<|im_start|", "<|im_start|>", "the quick ",
    };
    char *text = malloc(N + 1);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        size_t unit = strlen(units[i]), n = 0;
        for (; n + unit < N; n += unit) memcpy(text + n, units[i], unit);
        text[n++] = 'x'; // spaces before a letter are cut differently than at the end
        double start = clock_now_s();
        for (int mode = TOKENIZER_PLAIN; mode <= TOKENIZER_PROMPT; mode++) {
            token_list ids = encode(golden, text, n, (tokenizer_mode)mode);
            assert_true(ids.n > 0);
            token_list_done(&ids);
        }
        double took = clock_now_s() - start;
        if (took > 60) fail_msg("'%s' took %.1f s", units[i], took);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_cases_are_equal),
        cmocka_unit_test(tricky_cases_are_equal),
        cmocka_unit_test(plain_text_gives_no_added_tokens),
        cmocka_unit_test(nul_characters_are_text),
        cmocka_unit_test(text_that_is_not_utf8_is_refused_with_the_place),
        cmocka_unit_test(ids_are_appended),
        cmocka_unit_test(tokens_are_found_by_text),
        cmocka_unit_test(half_a_character_is_held_back),
        cmocka_unit_test(broken_bytes_become_replacement_characters),
        cmocka_unit_test(special_tokens_can_be_left_out),
        cmocka_unit_test(long_texts_take_linear_time),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
