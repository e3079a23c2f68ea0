// A request's messages and tools through the built-in template. Whatever they hold, only the
// template begins a turn: one a message, one for tools, one for the answer.
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t count(const char *text, size_t n, const char *word)
{
    size_t found = 0, k = strlen(word);
    for (size_t i = 0; i + k <= n; i++) found += memcmp(text + i, word, k) == 0;
    return found;
}

static const chat *built_in(void)
{
    static tokenizer *t;
    static chat *c;
    if (!c && (tokenizer_open(&t, TEST_GOLDEN_DIR "/tokenizer") ||
               chat_open(&c, TEST_GOLDEN_DIR "/tokenizer", t, NULL)))
        abort();
    return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_error_t e;
    json_t *request = json_loadb((const char *)data, size, JSON_ALLOW_NUL, &e);
    const json_t *messages = json_object_get(request, "messages");
    chat_options o = { .enable_thinking = (int)(size % 3) - 1, .add_vision_id = size % 2 };
    char *prompt;
    size_t n;
    if (!chat_render(built_in(), &prompt, &n, messages, json_object_get(request, "tools"), &o)) {
        if (count(prompt, n, "<|im_start|>") > json_array_size(messages) + 2) abort();
        free(prompt);
    }
    json_decref(request);
    return 0;
}
