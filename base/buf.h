// base/buf.h - a growable run of bytes, always followed by a NUL that is not counted.
//
// Errors stick: after an allocation fails every call is a no-op and buf_failed() says so, so that
// building text needs one check at its end. Threads: one at a time.
#ifndef SIGHT_BASE_BUF_H
#define SIGHT_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

typedef struct buf {
    char *data; // NULL until the first byte; buf_text() is never NULL
    size_t size;
    size_t capacity;
    bool failed;
} buf;

void buf_init(buf *b);
void buf_done(buf *b); // frees; b is as after buf_init
void buf_clear(buf *b); // size 0, memory kept
void buf_add(buf *b, const void *bytes, size_t n);
void buf_puts(buf *b, const char *text);
void buf_putc(buf *b, char c);
void buf_printf(buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_add_utf8(buf *b, unsigned int code_point);
// Room for n more bytes; false (and sticky) when it cannot be had.
bool buf_reserve(buf *b, size_t n);
bool buf_failed(const buf *b);
const char *buf_text(const buf *b);
// Hands the memory to the caller (free()); NULL when failed. b is as after buf_init.
char *buf_take(buf *b);

#endif
