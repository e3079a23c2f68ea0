// The golden tokenizer through GGUF metadata: the same ids and texts as from tokenizer.json.
#include "support/gguf_golden.h"

#include "base/json.h"
#include "text/chat.h"
#include "text/tokenizer.h"

static gguf_write *new_file(void)
{
    gguf_write *w = calloc(1, sizeof *w);
    assert_non_null(w);
    return w;
}

static char *written(gguf_write *w)
{
    char *path = gguf_write_file(w, test_folder(), "t.gguf");
    gguf_write_done(w);
    free(w);
    return path;
}

static char *golden_file(const char *template)
{
    gguf_write *w = new_file();
    gguf_golden_tokens(w, TEST_GOLDEN_DIR "/tokenizer", 3008);
    gguf_u32(w, "tokenizer.ggml.eos_token_id", 2976);
    if (template) gguf_string(w, "tokenizer.chat_template", template);
    return written(w);
}

static void same_ids(const tokenizer *a, const tokenizer *b, const char *text, size_t n)
{
    for (int mode = TOKENIZER_PLAIN; mode <= TOKENIZER_TOKENS; mode++) {
        token_list x = {0}, y = {0};
        assert_ok(tokenizer_encode(a, &x, text, n, (tokenizer_mode)mode));
        assert_ok(tokenizer_encode(b, &y, text, n, (tokenizer_mode)mode));
        assert_int_equal(x.n, y.n);
        if (x.n) assert_memory_equal(x.ids, y.ids, x.n * sizeof *x.ids);
        token_list_done(&x);
        token_list_done(&y);
    }
}

static void check_ids(const json_t *c, const tokenizer *t)
{
    const json_t *text = json_object_get(c, "text"), *want = json_object_get(c, "ids");
    token_list ids = {0};
    assert_ok(tokenizer_encode(t, &ids, json_string_value(text), json_string_length(text),
                               TOKENIZER_TOKENS));
    assert_int_equal(ids.n, json_array_size(want));
    for (size_t i = 0; i < ids.n; i++) {
        assert_int_equal(ids.ids[i], json_integer_value(json_array_get(want, i)));
    }
    token_list_done(&ids);
}

static void golden_cases(void **state)
{
    tokenizer *a = NULL, *b = NULL;
    json_t *cases = NULL, *c;
    size_t i, seen = 0;
    char *path = golden_file(NULL);
    assert_ok(tokenizer_open(&a, TEST_GOLDEN_DIR "/tokenizer"));
    assert_ok(tokenizer_open(&b, path));
    assert_ok(json_parse_file(&cases, TEST_GOLDEN_DIR "/tokenizer/cases.json", 1 << 24,
                              SIGHT_E_MODEL));
    json_array_foreach(cases, i, c) {
        const json_t *text = json_object_get(c, "text");
        if (!text) continue;
        check_ids(c, b);
        same_ids(a, b, json_string_value(text), json_string_length(text));
        seen++;
    }
    assert_true(seen > 100);
    json_decref(cases);
    tokenizer_close(&a);
    tokenizer_close(&b);
    free(path);
}

static void same_tokens(void **state)
{
    tokenizer *a = NULL, *b = NULL;
    char *path = golden_file(NULL);
    assert_ok(tokenizer_open(&a, TEST_GOLDEN_DIR "/tokenizer"));
    assert_ok(tokenizer_open(&b, path));
    assert_int_equal(tokenizer_size(a), tokenizer_size(b)); // unused ones at the end are none
    for (int32_t id = 0; id < tokenizer_size(a); id++) {
        size_t n, m;
        const char *x = tokenizer_bytes(a, id, &n), *y = tokenizer_bytes(b, id, &m);
        assert_int_equal(tokenizer_has(a, id), tokenizer_has(b, id));
        assert_int_equal(tokenizer_is_added(a, id), tokenizer_is_added(b, id));
        assert_int_equal(tokenizer_is_special(a, id), tokenizer_is_special(b, id));
        assert_int_equal(n, m);
        if (n) assert_memory_equal(x, y, n);
    }
    tokenizer_close(&a);
    tokenizer_close(&b);
    free(path);
}

static char *prompt_of(const char *template)
{
    tokenizer *t = NULL;
    chat *c = NULL;
    bool built_in = false;
    char *path = golden_file(template), *prompt = NULL;
    size_t n;
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", "Hi");
    assert_ok(tokenizer_open(&t, path));
    assert_ok(chat_open(&c, path, t, &built_in));
    assert_int_equal(built_in, template == NULL);
    assert_ok(chat_render(c, &prompt, &n, messages, NULL, NULL));
    json_decref(messages);
    chat_close(&c);
    tokenizer_close(&t);
    free(path);
    return prompt;
}

static void chat_template(void **state)
{
    char *prompt = prompt_of("{{ messages[0].content }}{{ eos_token }}");
    assert_non_null(strstr(prompt, "Hi"));
    assert_non_null(strstr(prompt, "<|im_end|>"));
    free(prompt);
    prompt = prompt_of(NULL); // the built-in one
    assert_non_null(strstr(prompt, "<|im_start|>"));
    free(prompt);
}

static void bad_template(void **state)
{
    tokenizer *t = NULL;
    chat *c = NULL;
    char *path = golden_file("{{ messages");
    assert_ok(tokenizer_open(&t, path));
    assert_true(chat_open(&c, path, t, NULL) != SIGHT_OK);
    assert_non_null(strstr(sight_error(), "tokenizer.chat_template"));
    tokenizer_close(&t);
    free(path);
}

static void refuse(gguf_write *w, sight_err code, const char *sentence)
{
    tokenizer *t = NULL;
    char *path = written(w);
    assert_fails(tokenizer_open(&t, path), code, sentence);
    assert_null(t);
    free(path);
}

static void put_tokens(gguf_write *w, const char *token, int kind, size_t kinds)
{
    gguf_string(w, "tokenizer.ggml.model", "gpt2");
    gguf_string(w, "tokenizer.ggml.pre", "qwen35");
    gguf_start_array(w, "tokenizer.ggml.tokens", 8, 1);
    gguf_put_text(&w->keys, token, strlen(token));
    gguf_start_array(w, "tokenizer.ggml.token_type", 5, kinds);
    for (size_t i = 0; i < kinds; i++) gguf_put(&w->keys, (uint64_t)kind, 4);
    gguf_start_array(w, "tokenizer.ggml.merges", 8, 0);
}

static void refusals(void **state)
{
    gguf_write *w = new_file();
    gguf_string(w, "tokenizer.ggml.model", "llama");
    refuse(w, SIGHT_E_UNSUPPORTED, "tokenizer.ggml.model 'llama' is not supported, only gpt2");
    w = new_file();
    refuse(w, SIGHT_E_UNSUPPORTED, "tokenizer.ggml.model 'without a name'");
    w = new_file();
    gguf_string(w, "tokenizer.ggml.model", "gpt2");
    gguf_string(w, "tokenizer.ggml.pre", "llama-bpe");
    refuse(w, SIGHT_E_UNSUPPORTED, "tokenizer.ggml.pre 'llama-bpe' is not supported");
    w = new_file();
    gguf_string(w, "tokenizer.ggml.model", "gpt2");
    gguf_string(w, "tokenizer.ggml.pre", "qwen2");
    refuse(w, SIGHT_E_MODEL, "has no 'tokenizer.ggml.tokens'");
    w = new_file();
    put_tokens(w, "a", 1, 2);
    refuse(w, SIGHT_E_MODEL, "1 tokens have 2 kinds");
    w = new_file();
    put_tokens(w, "a", 6, 1);
    refuse(w, SIGHT_E_UNSUPPORTED, "token 0 is of kind 6");
    w = new_file();
    put_tokens(w, "\xff", 1, 1);
    refuse(w, SIGHT_E_MODEL, "token 0 is not UTF-8");
    w = new_file();
    put_tokens(w, "\"\\\n\x01", 3, 1);
    refuse(w, SIGHT_E_MODEL, "no token for the byte 0x00");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_cases),  cmocka_unit_test(same_tokens),
        cmocka_unit_test(chat_template), cmocka_unit_test(bad_template),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
