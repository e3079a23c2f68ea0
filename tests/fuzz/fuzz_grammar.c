// A form of answers, its first byte the kind, then the schema, the expression or the choices; some texts are drawn within it.
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text/grammar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// The bundled model's, opened once.
static grammar_vocabulary *vocabulary(void)
{
    static tokenizer *t;
    static grammar_vocabulary *v;
    if (v) return v;
    if (tokenizer_open(&t, TEST_GOLDEN_DIR "/../../models/mini")) abort();
    if (grammar_vocabulary_create(&v, t, tokenizer_size(t), NULL, 0)) abort();
    return v;
}

static void draw(grammar *g, uint32_t seed, int32_t size)
{
    int32_t at = 0;
    for (int step = 0; step < 60 && !grammar_must_end(g, at); step++) {
        uint64_t serial;
        const uint8_t *mask = grammar_mask(g, at, &serial);
        int32_t chosen = -1;
        uint32_t n = 0;
        for (int32_t id = 0; mask && id < size; id++) {
            seed = seed * 1664525 + 1013904223;
            if (mask[id] && seed >> 8 <= (UINT32_MAX >> 8) / ++n) chosen = id;
        }
        if (chosen < 0) return;
        at = grammar_next(g, at, chosen);
        if (at < 0 && !grammar_status(g)) abort(); // the mask said that it may come
        if (at < 0) return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const grammar_options o = {.what = "fuzz"};
    grammar_vocabulary *v = vocabulary();
    grammar *g = NULL;
    if (size < 2 || size > 4096) return 0;
    char *text = calloc(1, size);
    if (!text) return 0;
    memcpy(text, data + 1, size - 1);
    json_t *json = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    json_t *string = json ? NULL : json_string(text); // UTF-8 only, as in a request
    if (json && data[0] % 2) grammar_from_choice(&g, v, json, &o);
    else if (json) grammar_from_schema(&g, v, json, &o);
    else if (string) grammar_from_regex(&g, v, text, &o);
    if (g) draw(g, data[0], 1024);
    json_decref(json);
    json_decref(string);
    free(text);
    grammar_destroy(&g);
    return 0;
}
