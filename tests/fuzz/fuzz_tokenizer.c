// tokenizer.json from strangers: parsed, and if it is taken, run over a few texts. What comes back
// from a text in plain mode must be the text (no normaliser) or at least whole UTF-8.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "text/marks.h"
#include "text/tokenizer.h"
#include "text/tokenizer_utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int good)
{
    if (!good) abort();
}

static void run(const tokenizer *t, const char *text, size_t n, tokenizer_mode mode)
{
    token_list ids = {0};
    token_stream s = {0};
    buf out;
    buf_init(&out);
    if (tokenizer_encode(t, &ids, text, n, mode) == SIGHT_OK) {
        for (size_t i = 0; i < ids.n; i++) {
            check(tokenizer_has(t, ids.ids[i]));
            token_stream_push(&s, t, &out, ids.ids[i], i % 2);
            check(tokenizer_utf8_valid(buf_text(&out), out.size) == out.size);
        }
        token_stream_finish(&s, &out);
    }
    buf_done(&out);
    token_list_done(&ids);
}

static void run_marked(const tokenizer *t, const char *text, size_t n)
{
    token_list plain = {0}, marked = {0};
    buf with;
    buf_init(&with);
    marks_add(&with, text, n, t, false);
    if (tokenizer_encode(t, &plain, text, n, TOKENIZER_PLAIN) == SIGHT_OK) {
        check(!tokenizer_encode(t, &marked, buf_text(&with), with.size, TOKENIZER_PROMPT));
        check(plain.n == marked.n);
        check(!plain.n || !memcmp(plain.ids, marked.ids, plain.n * sizeof *plain.ids));
    }
    buf_done(&with);
    token_list_done(&plain);
    token_list_done(&marked);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] =
        "Don't  stop\r\n\n 123 <|im_start|><think>e\u0301\u0323 \u65e5\u672c\U0001f600 \xef\xb7\x90"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    tokenizer *t = NULL;
    if (tokenizer_parse(&t, (const char *)data, size, "fuzz") != SIGHT_OK) return 0;
    size_t n = size < 4096 ? tokenizer_utf8_valid((const char *)data, size) : 0;
    for (int mode = TOKENIZER_PLAIN; mode <= TOKENIZER_PROMPT; mode++) {
        run(t, text, sizeof text - 1, (tokenizer_mode)mode);
        run(t, (const char *)data, n, (tokenizer_mode)mode);
    }
    run_marked(t, text, sizeof text - 1);
    run_marked(t, (const char *)data, n);
    for (int32_t id = -1; id <= tokenizer_size(t) && id < 10000; id++)
        check(tokenizer_has(t, id) || !tokenizer_is_added(t, id));
    tokenizer_close(&t);
    return 0;
}
