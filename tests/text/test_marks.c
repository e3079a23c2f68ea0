#include "support/test.h"

#include "base/buf.h"
#include "text/marks.h"
#include "text/tokenizer_parts.h"

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

// A tokenizer of the 256 bytes, without merges, with these added tokens.
static tokenizer *bytes_with(const char *const *added, size_t n, bool normalized)
{
    buf json;
    buf_init(&json);
    buf_puts(&json, "{\"added_tokens\": [");
    for (size_t i = 0; i < n; i++) {
        buf_printf(&json,
                   "%s{\"id\": %zu, \"content\": \"%s\", \"special\": %s, \"normalized\": %s}",
                   i ? ", " : "", 256 + i, added[i], i % 2 ? "false" : "true",
                   normalized ? "true" : "false");
    }
    buf_puts(&json, "], \"normalizer\": {\"type\": \"NFC\"}, \"pre_tokenizer\": {\"type\": "
                    "\"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": "
                    "{\"Regex\": \"\\\\p{L}+|\\\\s+|[^\\\\s\\\\p{L}]\"}, \"behavior\": "
                    "\"Isolated\"}, {\"type\": \"ByteLevel\", \"use_regex\": false}]}, "
                    "\"decoder\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\", "
                    "\"merges\": [], \"vocab\": {");
    unsigned next = 256;
    for (unsigned b = 0; b < 256; b++) {
        bool itself = (b >= 33 && b <= 126) || (b >= 161 && b != 173);
        buf_printf(&json, "%s\"", b ? ", " : "");
        if (b == '"' || b == '\\') buf_putc(&json, '\\');
        buf_add_utf8(&json, itself ? b : next++);
        buf_printf(&json, "\": %u", b);
    }
    buf_puts(&json, "}}}");
    tokenizer *t = NULL;
    assert_false(buf_failed(&json));
    assert_ok(tokenizer_parse(&t, buf_text(&json), json.size, "made-up"));
    buf_done(&json);
    return t;
}

static void check_marks(const char *text, const char *want, bool special_only)
{
    buf out;
    buf_init(&out);
    marks_add(&out, text, strlen(text), golden, special_only);
    assert_string_equal(buf_text(&out), want);
    buf_done(&out);
}

static void tokens_are_broken_after_their_first_character(void **state)
{
    check_marks("", "", false);
    check_marks("plain < text >", "plain < text >", false);
    check_marks("a <|im_start|> b", "a <" MARK "|im_start|> b", false);
    check_marks("<think>", "<" MARK "think>", false);
    check_marks("<think><|im_end|>", "<think><" MARK "|im_end|>", true);
    check_marks("x" MARK "y", "x" MARK MARK "y", false);
    check_marks("<<|im_end|>", "<<" MARK "|im_end|>", false);
}

static void edges_are_broken_where_a_token_could_span(void **state)
{
    check_marks("|im_end|> x", MARK "|im_end|> x", false);
    check_marks("> quote", MARK "> quote", false);
    check_marks("> quote", MARK "> quote", true);
    check_marks("im", MARK "im", false);
    check_marks("a <|im_", "a <" MARK "|im_", false);
    check_marks("a <", "a " MARK "<", false);
    check_marks("a </thi", "a </thi", true);
}

static void removing_gives_the_text_back(void **state)
{
    static const char *const texts[] = {
        "", "x", MARK, MARK MARK MARK, "<think>" MARK "<|im_end|>" MARK MARK, "\xef\xb7\x91\xef",
        "a" MARK "<", "\xef\xb7", "<" MARK "think>",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        buf marked, back;
        buf_init(&marked);
        buf_init(&back);
        marks_add(&marked, texts[i], strlen(texts[i]), golden, false);
        marks_remove(&back, buf_text(&marked), marked.size);
        assert_string_equal(buf_text(&back), texts[i]);
        buf_done(&marked);
        buf_done(&back);
    }
}

// ---- properties ----

// A text of whole, cut and glued added tokens, marks, and characters that normalisation changes.
static void random_text(buf *out, const tokenizer *t, test_random *r)
{
    static const char *const others[] = {
        "<", ">", "|", "a", " ", "\n", MARK, "e\u0301", "\u212b", "\u1fef", "\u226f", "\u0338",
        "\u1100\u1161", "don't", "\U0001f600", "x",
    };
    for (int64_t k = test_random_range(r, 0, 8); k > 0; k--) {
        const char *content = tokenizer_added(t, (size_t)test_random_range(r, 0, 63), NULL);
        if (!content) {
            buf_puts(out, others[test_random_range(r, 0, 15)]);
            continue;
        }
        // Cut at characters.
        int64_t n = (int64_t)strlen(content), begin = 0, end = n;
        if (test_random_range(r, 0, 1)) begin = test_random_range(r, 0, n);
        if (test_random_range(r, 0, 1)) end = test_random_range(r, begin, n);
        while (begin < n && (content[begin] & 0xc0) == 0x80) begin++;
        while (end < n && (content[end] & 0xc0) == 0x80) end++;
        if (end > begin) buf_add(out, content + begin, (size_t)(end - begin));
    }
}

static void encode(const tokenizer *t, token_list *out, const buf *text, tokenizer_mode mode)
{
    assert_ok(tokenizer_encode(t, out, buf_text(text), text->size, mode));
}

static void assert_same(const token_list *a, const token_list *b)
{
    assert_int_equal(a->n, b->n);
    if (a->n) assert_memory_equal(a->ids, b->ids, a->n * sizeof *a->ids);
}

// Marked text gives the ids of plain text, alone and between a template's tokens.
static void check_text(const tokenizer *t, const buf *text)
{
    token_list plain = {0}, marked = {0}, framed = {0}, frame = {0};
    buf with, whole;
    buf_init(&with);
    buf_init(&whole);
    marks_add(&with, buf_text(text), text->size, t, false);
    encode(t, &plain, text, TOKENIZER_PLAIN);
    encode(t, &marked, &with, TOKENIZER_PROMPT);
    assert_same(&plain, &marked);
    const char *first = tokenizer_added(t, 0, NULL), *second = tokenizer_added(t, 1, NULL);
    buf_printf(&whole, "%s%s%s", first, buf_text(&with), second);
    encode(t, &framed, &whole, TOKENIZER_PROMPT);
    assert_ok(token_list_add(&frame, tokenizer_find(t, first)));
    for (size_t i = 0; i < plain.n; i++) assert_ok(token_list_add(&frame, plain.ids[i]));
    assert_ok(token_list_add(&frame, tokenizer_find(t, second)));
    assert_same(&framed, &frame);
    for (size_t i = 0; i < plain.n; i++) assert_false(tokenizer_is_added(t, plain.ids[i]));
    token_list_done(&plain);
    token_list_done(&marked);
    token_list_done(&framed);
    token_list_done(&frame);
    buf_done(&with);
    buf_done(&whole);
}

// No added token arises where two texts, or a text and a template's words, meet.
static void check_meeting(const tokenizer *t, const buf *a, const buf *b)
{
    token_list ids = {0};
    buf whole;
    buf_init(&whole);
    marks_add(&whole, buf_text(a), a->size, t, false);
    marks_add(&whole, buf_text(b), b->size, t, false);
    encode(t, &ids, &whole, TOKENIZER_PROMPT);
    for (size_t i = 0; i < ids.n; i++) assert_false(tokenizer_is_added(t, ids.ids[i]));
    buf back;
    buf_init(&back);
    marks_remove(&back, buf_text(&whole), whole.size);
    assert_int_equal(back.size, a->size + b->size);
    if (a->size) assert_memory_equal(back.data, a->data, a->size);
    if (b->size) assert_memory_equal(back.data + a->size, b->data, b->size);
    buf_done(&back);
    buf_done(&whole);
    token_list_done(&ids);
}

static void check_random(const tokenizer *t, int rounds)
{
    test_random r = {5};
    for (int i = 0; i < rounds; i++) {
        buf a, b;
        buf_init(&a);
        buf_init(&b);
        random_text(&a, t, &r);
        random_text(&b, t, &r);
        check_text(t, &a);
        check_meeting(t, &a, &b);
        buf_done(&a);
        buf_done(&b);
    }
}

static void user_text_never_becomes_an_added_token(void **state)
{
    check_random(golden, 10000);
}

// Tokens that overlap themselves and each other, of one character, without brackets, of several
// bytes, with spaces; and of both kinds.
static void odd_added_tokens_are_broken_too(void **state)
{
    static const char *const added[] = {
        "[S]", "[E]", "aa", "aaa", "aba", "\u65e5", "\u00e9\u00e9", "\U0001f600",
        "\U0001f600\U0001f600", "a b", "  ", "<K>", "\u2260", "e\u0301", ">\u0338", "\u212b",
        "\u1fef\u1fef", "\u65e5\u672c",
    };
    for (int normalized = 0; normalized < 2; normalized++) {
        tokenizer *t = bytes_with(added, sizeof added / sizeof *added, normalized);
        check_random(t, 10000);
        tokenizer_close(&t);
    }
}

// A template's own words around a text cannot complete a token with it.
static void a_templates_words_do_not_complete_tokens(void **state)
{
    static const char *const cuts[][3] = {
        {"<", "think", ">"}, {"<", "think>", ""}, {"", "<think", ">"}, {"<|im", "_", "end|>"},
        {"", "<", "think>"}, {"<|", "im_end|>", "x"}, {"<think", ">", ""},
    };
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        buf whole;
        token_list ids = {0};
        buf_init(&whole);
        buf_puts(&whole, cuts[i][0]);
        marks_add(&whole, cuts[i][1], strlen(cuts[i][1]), golden, false);
        buf_puts(&whole, cuts[i][2]);
        encode(golden, &ids, &whole, TOKENIZER_PROMPT);
        for (size_t k = 0; k < ids.n; k++) assert_false(tokenizer_is_added(golden, ids.ids[k]));
        token_list_done(&ids);
        buf_done(&whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_broken_after_their_first_character),
        cmocka_unit_test(edges_are_broken_where_a_token_could_span),
        cmocka_unit_test(removing_gives_the_text_back),
        cmocka_unit_test(user_text_never_becomes_an_added_token),
        cmocka_unit_test(odd_added_tokens_are_broken_too),
        cmocka_unit_test(a_templates_words_do_not_complete_tokens),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
