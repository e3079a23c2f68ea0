// daemon/media/base64.h - RFC 4648 base64, as data URLs carry it. Threads: any.
#ifndef SIGHT_DAEMON_BASE64_H
#define SIGHT_DAEMON_BASE64_H

#include <stddef.h>
#include <stdint.h>

// Bytes that n characters can give, at most.
size_t base64_capacity(size_t n);
// Decodes n characters into out [base64_capacity(n)] and gives the number of bytes, or -1 when a
// character, the length or the padding is wrong. Padding may be left out.
int64_t base64_decode(uint8_t *out, const char *text, size_t n);

#endif
