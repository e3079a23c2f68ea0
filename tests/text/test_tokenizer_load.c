// Which tokenizer.json files are taken, and how the others are refused.
#include "support/test.h"

#include "base/buf.h"
#include "base/file.h"
#include "text/tokenizer.h"

static char *whole; // the golden file
static size_t whole_size;

static int read_golden(void **state)
{
    return file_read(&whole, &whole_size, TEST_GOLDEN_DIR "/tokenizer/tokenizer.json", 1 << 24);
}

static int free_golden(void **state)
{
    free(whole);
    return 0;
}

// The golden file with the first `from` replaced by `to`.
static void change(buf *out, const char *from, const char *to)
{
    const char *at = strstr(whole, from);
    if (!at) fail_msg("the golden file does not have: %s", from);
    buf_init(out);
    buf_add(out, whole, (size_t)(at - whole));
    buf_puts(out, to);
    buf_puts(out, at + strlen(from));
}

static void check_refused(const char *from, const char *to, sight_err code, const char *says)
{
    tokenizer *t = NULL;
    buf text;
    change(&text, from, to);
    assert_fails(tokenizer_parse(&t, buf_text(&text), text.size, "t.json"), code, says);
    assert_null(t);
    assert_non_null(strstr(sight_error(), "t.json"));
    buf_done(&text);
}

static void check_taken(const char *from, const char *to)
{
    tokenizer *t = NULL;
    buf text;
    change(&text, from, to);
    assert_ok(tokenizer_parse(&t, buf_text(&text), text.size, "t.json"));
    buf_done(&text);
    tokenizer_close(&t);
    assert_null(t);
}

static void what_is_not_done_here_is_refused_by_name(void **state)
{
    const sight_err no = SIGHT_E_UNSUPPORTED;
    check_refused("\"type\": \"NFC\"", "\"type\": \"NFKC\"", no, "normalizer 'NFKC'");
    check_refused("\"type\": \"BPE\"", "\"type\": \"Unigram\"", no, "model 'Unigram'");
    check_refused("\"type\": \"BPE\"", "\"other\": 1", no, "model 'without a type'");
    check_refused("\"type\": \"Sequence\"", "\"type\": \"Metaspace\"", no, "'Metaspace'");
    check_refused("\"type\": \"Split\"", "\"type\": \"Digits\"", no, "'Digits'");
    check_refused("\"behavior\": \"Isolated\"", "\"behavior\": \"Removed\"", no, "'Removed'");
    check_refused("\"invert\": false", "\"invert\": true", no, "invert");
    check_refused("\"Regex\"", "\"String\"", no, "Regex");
    check_refused("\"add_prefix_space\": false", "\"add_prefix_space\": true", no,
                  "add_prefix_space");
    check_refused("\"use_regex\": false", "\"use_regex\": true", no, "use_regex");
    check_refused("\"TemplateProcessing\"", "\"BertProcessing\"", no, "'BertProcessing'");
    check_refused("\"single\": [", "\"single\": [{\"SpecialToken\": {}},", no,
                  "'TemplateProcessing'");
    check_refused("\"dropout\": null", "\"dropout\": 0.1", no, "dropout");
    check_refused("\"byte_fallback\": false", "\"byte_fallback\": true", no, "byte_fallback");
    check_refused("\"end_of_word_suffix\": null", "\"end_of_word_suffix\": \"</w>\"", no,
                  "end_of_word_suffix");
    check_refused("\"lstrip\": false", "\"lstrip\": true", no, "lstrip");
    check_refused("\"rstrip\": false", "\"rstrip\": true", no, "rstrip");
    check_refused("\"single_word\": false", "\"single_word\": true", no, "single_word");
    check_refused("\"<|endoftext|>\"", "\"<|\\ufdd0|>\"", no, "U+FDD0");
    check_refused("\"<|endoftext|>\"", "\"<|\\u0000|>\"", no, "U+0000");
    check_refused("\"merges\"", "\"merge\"", no, "merges");
}

static void damage_is_refused_with_the_place(void **state)
{
    const sight_err bad = SIGHT_E_MODEL;
    check_refused("\"!\": 0", "\"!\": 1", bad, "id 1");
    check_refused("\"!\": 0", "\"!\": -1", bad, "whole number");
    check_refused("\"!\": 0", "\"!\": 0.5", bad, "byte");
    check_refused("\"!\": 0", "\"!\": 00", bad, "leading zeros");
    check_refused("\"!\": 0", "\"!\": 99999999999999999999", bad, "limit of 4194303");
    check_refused("\"!\": 0", "\"!!!!!\": 0", bad, "byte 0x21");
    check_refused("\"!\": 0", "\"#\": 0", bad, "'#' stands in it twice");
    check_refused("\"!\": 0", "\"\\q\": 0", bad, "an escape");
    check_refused("\"!\": 0", "\"\\ud800x\": 0", bad, "surrogate");
    check_refused("\"!\": 0", "\"!\": 0,", bad, "");
    check_refused("\"!\": 0", "\"!\" 0", bad, "':'");
    check_refused("\"!\": 0", "\"!\n\": 0", bad, "control character");
    check_refused("\"vocab\": {", "\"vocab\": [", bad, "'{'");
    check_refused("\"merges\": [", "\"merges\": [\"x\",", bad, "two byte strings");
    check_refused("\"merges\": [", "\"merges\": [[\"x\"],", bad, "expected a string");
    check_refused("\"merges\": [", "\"merges\": [[\"x\", \"y\", \"z\"],", bad, "byte strings");
    check_refused("\"merges\": [", "\"merges\": [\"q \xe4\xb8\x80\",", bad, "byte strings");
    check_refused("\"merges\": [", "\"merges\": [\"q qqqqqq\",", bad, "merge 0 ('q' and 'qqqqqq')");
    check_refused("\"id\": 2974", "\"id\": 2975", bad, "");
    check_refused("\"id\": 2974", "\"id\": -1", bad, "added_tokens[0]");
    check_refused("\"id\": 2974", "\"id\": \"2974\"", bad, "added_tokens[0]");
    check_refused("\"<|endoftext|>\"", "\"\"", bad, "added_tokens[0]");
    check_refused("\"<|endoftext|>\"", "\"<think>\"", bad, "<think>");
    check_refused("\"<|endoftext|>\"", "\"!\"", bad, "0 in the vocab");
    check_refused("\"model\": {", "\"model\": 5, \"x\": {", bad, "must be an object");
    check_refused("\"model\"", "\"nodel\"", bad, "no 'model'");
    check_refused("\"version\"", "\"\xff\"", bad, "not UTF-8 at byte");
    check_refused("\"version\"", "\"model\": {\"type\": \"BPE\", \"vocab\": {}, \"merges\": []}, "
                                 "\"version\"", bad, "uplicate");
    check_refused("\"vocab\": {", "\"vocab\": {}, \"vocab\": {", bad, "uplicate");
}

static void regexes_that_mean_something_else_are_refused(void **state)
{
    static const char *const wrong[] = {
        ".", "^a", "a$", "\\\\d", "\\\\w", "\\\\b", "\\\\h", "\\\\R", "\\\\X", "\\\\1", "\\\\x41",
        "\\\\k<a>", "[[:alpha:]]", "[a[b]]", "[a&&b]", "(?x:a)", "(?-i:a)", "(?<n>a)", "(?P<n>a)",
        "(?i)a", "(*UTF)a", "a{1}+", "a{,3}", "\\\\p{Greek}", "\\\\p{^L}", "\\\\pL", "[\\\\P{L}]",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char to[64];
        snprintf(to, sizeof to, "\"Regex\": \"%s|", wrong[i]);
        check_refused("\"Regex\": \"", to, SIGHT_E_UNSUPPORTED, "regex is not supported");
    }
    check_refused("\"Regex\": \"", "\"Regex\": \"(", SIGHT_E_MODEL, "not valid");
    check_refused("\"Regex\": \"", "\"Regex\": \"[", SIGHT_E_UNSUPPORTED, "not supported");
}

static void other_spellings_are_taken(void **state)
{
    check_taken("\"type\": \"NFC\"", "\"type\": \"NFC\"");
    check_taken("\"merges\": [", "\"merges\": [\"o n\", [\"o\",\"n\"], ");
    check_taken("\"version\"", "\"\\u0041\\ud83d\\ude00\": [{\"]\": \"}\\\"\"}], \"version\"");
    check_taken("\"!\": 0", "\"\\u0021\": 0");
    check_taken("\"ignore_merges\": false", "\"ignore_merges\": true");
    check_taken("\"normalized\": false", "\"normalized\": true");
    check_taken("\"Regex\": \"", "\"Regex\": \"[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[\\\\p{Lu}\\\\p{M}]*|"
                                 "\\\\p{N}{1,3}|(?=x)(?<!y)(?>z++)|[\\\\S]\\\\S\\\\P{N}|\\\\/|");
}

static void every_cut_of_the_file_is_refused(void **state)
{
    test_random r = {1};
    for (int i = 0; i < 300; i++) {
        tokenizer *t = NULL;
        size_t n = (size_t)test_random_range(&r, 0, (int64_t)whole_size - 3);
        if (i < 100) n = (size_t)i * 37;
        char *cut = malloc(n + 1);
        memcpy(cut, whole, n);
        assert_int_equal(tokenizer_parse(&t, cut, n, "t.json"), SIGHT_E_MODEL);
        assert_null(t);
        free(cut);
    }
}

static void a_folder_without_the_file_is_not_found(void **state)
{
    tokenizer *t = NULL;
    assert_fails(tokenizer_open(&t, test_folder()), SIGHT_E_NOT_FOUND, "tokenizer.json");
    free(test_write(test_folder(), "tokenizer.json", "", 0));
    assert_int_equal(tokenizer_open(&t, test_folder()), SIGHT_E_NOT_FOUND); // another new folder
    assert_null(t);
    tokenizer_close(&t);
}

static void an_empty_file_is_damaged(void **state)
{
    tokenizer *t = NULL;
    const char *folder = test_folder();
    free(test_write(folder, "tokenizer.json", "", 0));
    assert_fails(tokenizer_open(&t, folder), SIGHT_E_MODEL, "tokenizer.json");
    assert_null(t);
}

// With ignore_merges a piece that is a token is taken whole, whatever the merges say.
static void ignore_merges_takes_whole_pieces(void **state)
{
    tokenizer *t = NULL;
    buf text;
    change(&text, "\"!\": 0", "\"qqqq\": 5000, \"!\": 0");
    char *flag = strstr(text.data, "\"ignore_merges\": false");
    for (int round = 0; round < 2; round++) {
        token_list ids = {0};
        assert_ok(tokenizer_parse(&t, buf_text(&text), text.size, "t.json"));
        assert_ok(tokenizer_encode(t, &ids, "qqqq", 4, TOKENIZER_TOKENS));
        assert_int_equal(ids.n, round ? 1 : 4);
        token_list_done(&ids);
        tokenizer_close(&t);
        memcpy(flag + 17, "true ", 5);
    }
    buf_done(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_done_here_is_refused_by_name),
        cmocka_unit_test(damage_is_refused_with_the_place),
        cmocka_unit_test(regexes_that_mean_something_else_are_refused),
        cmocka_unit_test(other_spellings_are_taken),
        cmocka_unit_test(every_cut_of_the_file_is_refused),
        cmocka_unit_test(a_folder_without_the_file_is_not_found),
        cmocka_unit_test(an_empty_file_is_damaged),
        cmocka_unit_test(ignore_merges_takes_whole_pieces),
    };
    return cmocka_run_group_tests(tests, read_golden, free_golden);
}
