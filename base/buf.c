#include "base/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_init(buf *b)
{
    *b = (buf){0};
}

void buf_done(buf *b)
{
    free(b->data);
    buf_init(b);
}

void buf_clear(buf *b)
{
    b->size = 0;
    if (b->data) b->data[0] = 0;
}

bool buf_reserve(buf *b, size_t n)
{
    if (b->failed) return false;
    if (n > SIZE_MAX / 2 - b->size - 1) {
        b->failed = true;
        return false;
    }
    size_t need = b->size + n + 1;
    if (need <= b->capacity) return true;
    size_t capacity = b->capacity ? b->capacity : 64;
    while (capacity < need) capacity *= 2;
    char *data = realloc(b->data, capacity);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->capacity = capacity;
    return true;
}

void buf_add(buf *b, const void *bytes, size_t n)
{
    if (!buf_reserve(b, n)) return;
    if (n) memcpy(b->data + b->size, bytes, n);
    b->size += n;
    b->data[b->size] = 0;
}

void buf_puts(buf *b, const char *text)
{
    buf_add(b, text, strlen(text));
}

void buf_putc(buf *b, char c)
{
    buf_add(b, &c, 1);
}

void buf_printf(buf *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n >= 0 && buf_reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->size, (size_t)n + 1, format, again);
        b->size += (size_t)n;
    }
    va_end(again);
}

void buf_add_utf8(buf *b, unsigned int c)
{
    unsigned char u[4];
    size_t n;
    if (c < 0x80) {
        u[0] = (unsigned char)c;
        n = 1;
    } else if (c < 0x800) {
        u[0] = (unsigned char)(0xc0 | c >> 6);
        u[1] = (unsigned char)(0x80 | (c & 0x3f));
        n = 2;
    } else if (c < 0x10000) {
        u[0] = (unsigned char)(0xe0 | c >> 12);
        u[1] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
        u[2] = (unsigned char)(0x80 | (c & 0x3f));
        n = 3;
    } else {
        u[0] = (unsigned char)(0xf0 | c >> 18);
        u[1] = (unsigned char)(0x80 | (c >> 12 & 0x3f));
        u[2] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
        u[3] = (unsigned char)(0x80 | (c & 0x3f));
        n = 4;
    }
    buf_add(b, u, n);
}

bool buf_failed(const buf *b)
{
    return b->failed;
}

const char *buf_text(const buf *b)
{
    return b->data ? b->data : "";
}

char *buf_take(buf *b)
{
    if (!b->failed && !b->data) buf_reserve(b, 0);
    char *data = b->failed ? NULL : b->data;
    if (b->failed) free(b->data);
    else data[b->size] = 0;
    buf_init(b);
    return data;
}
