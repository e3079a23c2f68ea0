// tests/support/gguf_write.h - GGUF files put together in memory, byte by byte.
#ifndef TESTS_SUPPORT_GGUF_WRITE_H
#define TESTS_SUPPORT_GGUF_WRITE_H

#include "support/test.h"

#include "base/buf.h"
#include "checkpoint/gguf.h"

#define GGUF_WRITE_MAX 512

typedef struct gguf_write_tensor {
    char name[64];
    int32_t n_dims;
    int64_t shape[GGUF_MAX_DIMS]; // outermost first
    uint32_t type;
    const void *data; // borrowed
    size_t bytes;
    uint64_t offset; // set by gguf_write_place, or by a test afterwards
} gguf_write_tensor;

typedef struct gguf_write { // zeroed is empty
    buf keys;
    uint64_t n_keys;
    gguf_write_tensor tensors[GGUF_WRITE_MAX];
    size_t n;
} gguf_write;

static inline void gguf_put(buf *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) buf_putc(b, (char)(v >> 8 * i));
}

static inline void gguf_put_text(buf *b, const char *text, size_t n)
{
    gguf_put(b, n, 8);
    buf_add(b, text, n);
}

// A key and the kind of its value, which the caller then puts.
static inline void gguf_key(gguf_write *w, const char *key, uint32_t kind)
{
    gguf_put_text(&w->keys, key, strlen(key));
    gguf_put(&w->keys, kind, 4);
    w->n_keys++;
}

static inline void gguf_u32(gguf_write *w, const char *key, int64_t v)
{
    gguf_key(w, key, 4);
    gguf_put(&w->keys, (uint64_t)v, 4);
}

static inline void gguf_f32(gguf_write *w, const char *key, double v)
{
    const float f = (float)v;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    gguf_key(w, key, 6);
    gguf_put(&w->keys, bits, 4);
}

static inline void gguf_bool(gguf_write *w, const char *key, bool v)
{
    gguf_key(w, key, 7);
    gguf_put(&w->keys, v, 1);
}

static inline void gguf_string(gguf_write *w, const char *key, const char *text)
{
    gguf_key(w, key, 8);
    gguf_put_text(&w->keys, text, strlen(text));
}

// An array's head; the caller puts its elements.
static inline void gguf_start_array(gguf_write *w, const char *key, uint32_t kind, size_t n)
{
    gguf_key(w, key, 9);
    gguf_put(&w->keys, kind, 4);
    gguf_put(&w->keys, n, 8);
}

static inline gguf_write_tensor *gguf_add(gguf_write *w, const char *name, uint32_t type,
                                          const void *data, size_t bytes, int32_t n_dims, ...)
{
    assert_true(w->n < GGUF_WRITE_MAX);
    gguf_write_tensor *t = &w->tensors[w->n++];
    *t = (gguf_write_tensor){.n_dims = n_dims, .type = type, .data = data, .bytes = bytes};
    snprintf(t->name, sizeof t->name, "%s", name);
    va_list args;
    va_start(args, n_dims);
    for (int32_t i = 0; i < n_dims && i < GGUF_MAX_DIMS; i++) t->shape[i] = va_arg(args, int64_t);
    va_end(args);
    return t;
}

static inline void gguf_write_place(gguf_write *w)
{
    uint64_t at = 0;
    for (size_t i = 0; i < w->n; i++) {
        w->tensors[i].offset = at;
        at = (at + w->tensors[i].bytes + 31) / 32 * 32;
    }
}

// The file; offsets as they stand in the tensors.
static inline void gguf_write_bytes(const gguf_write *w, buf *b)
{
    buf_add(b, "GGUF", 4);
    gguf_put(b, 3, 4);
    gguf_put(b, w->n, 8);
    gguf_put(b, w->n_keys, 8);
    buf_add(b, buf_text(&w->keys), w->keys.size);
    for (size_t i = 0; i < w->n; i++) {
        const gguf_write_tensor *t = &w->tensors[i];
        gguf_put_text(b, t->name, strlen(t->name));
        gguf_put(b, (uint64_t)t->n_dims, 4);
        for (int32_t k = t->n_dims - 1; k >= 0; k--) gguf_put(b, (uint64_t)t->shape[k], 8);
        gguf_put(b, t->type, 4);
        gguf_put(b, t->offset, 8);
    }
    while (b->size % 32) buf_putc(b, 0);
    const size_t start = b->size;
    for (size_t i = 0; i < w->n; i++) {
        if (!w->tensors[i].data) continue;
        while (b->size - start < w->tensors[i].offset) buf_putc(b, 0);
        buf_add(b, w->tensors[i].data, w->tensors[i].bytes);
    }
    assert_false(buf_failed(b));
}

// Writes it into a folder and gives its path (malloc).
static inline char *gguf_write_file(gguf_write *w, const char *folder, const char *name)
{
    buf b;
    buf_init(&b);
    gguf_write_place(w);
    gguf_write_bytes(w, &b);
    char *path = test_write(folder, name, buf_text(&b), b.size);
    buf_done(&b);
    return path;
}

static inline void gguf_write_done(gguf_write *w)
{
    buf_done(&w->keys);
}

#endif
