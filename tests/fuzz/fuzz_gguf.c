// Any bytes as a GGUF file: every value read, every block of every known matrix unpacked; then as a
// model's file, as its vision file, and as its tokenizer.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/gguf.h"
#include "checkpoint/gguf_blocks.h"
#include "checkpoint/gguf_model.h"
#include "text/tokenizer_gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_matrix(const gguf_tensor *t)
{
    stored s;
    packed_rows rows;
    if (t->bytes > 1 << 16 || gguf_blocks_stored(&s, t, "name", "fuzz")) return;
    if (!packed_rows_alloc(&rows, &s.format, s.M, s.K)) return;
    s.read(&s, &rows, 0, s.M);
    free(rows.codes);
}

static void read_arrays(const gguf *g, const char *key)
{
    gguf_array a = {0};
    volatile double sum = 0;
    volatile size_t bytes = 0;
    if (gguf_get_ints(g, &a, key)) a.n = 0;
    for (size_t i = 0; i < a.n; i++) sum = sum + (double)gguf_array_int(&a);
    a = (gguf_array){0};
    if (gguf_get_doubles(g, &a, key)) a.n = 0;
    for (size_t i = 0; i < a.n; i++) sum = sum + gguf_array_double(&a);
    a = (gguf_array){0};
    if (gguf_get_texts(g, &a, key)) a.n = 0;
    for (size_t i = 0; i < a.n; i++) {
        const gguf_text t = gguf_array_text(&a);
        for (size_t k = 0; k < t.n; k++) bytes = bytes + (unsigned char)t.data[k];
    }
}

static void read_values(const gguf *g, const char *key)
{
    int64_t i = 0;
    double d = 0;
    bool b = false;
    gguf_text t = {0};
    gguf_get_int(g, &i, key, INT64_MIN, INT64_MAX);
    gguf_get_double(g, &d, key, -1e300, 1e300);
    gguf_get_bool(g, &b, key);
    gguf_get_text(g, &t, key);
    read_arrays(g, key);
}

static void read_model(gguf *g)
{
    gguf_model m = {.parts = &g, .n = 1, .mmproj = g};
    model_config config;
    if (gguf_config(&config, &m)) {
        m.mmproj = NULL;
        gguf_config(&config, &m);
    }
    buf json;
    buf_init(&json);
    tokenizer_gguf_json(&json, g);
    buf_done(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    // Those of the corpus; a mutation may move its bytes to any of them.
    static const char *const keys[] = {"general.architecture", "general.alignment", "a", "b",
                                       "tokenizer.ggml.tokens", "qwen35.block_count"};
    unsigned char *bytes = malloc(size ? size : 1); // exact, so that a read past the end is seen
    if (!bytes) return 0;
    if (size) memcpy(bytes, data, size);
    gguf *g = NULL;
    if (gguf_parse(&g, bytes, size, "fuzz") == SIGHT_OK) {
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) read_values(g, keys[i]);
        for (size_t i = 0; i < gguf_count(g); i++) {
            if (gguf_find(g, gguf_at(g, i)->name) != gguf_at(g, i)) abort();
            read_matrix(gguf_at(g, i));
        }
        read_model(g);
    }
    gguf_close(&g);
    free(bytes);
    return 0;
}
