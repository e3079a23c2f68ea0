#include "daemon/media/base64.h"

#include <string.h>

static int digit(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

size_t base64_capacity(size_t n)
{
    return n / 4 * 3 + 3;
}

int64_t base64_decode(uint8_t *out, const char *text, size_t n)
{
    if (n % 4 == 0 && n && text[n - 1] == '=') n -= text[n - 2] == '=' ? 2 : 1;
    if (n % 4 == 1) return -1;
    uint32_t bits = 0;
    int held = 0;
    int64_t size = 0;
    for (size_t i = 0; i < n; i++) {
        int d = digit(text[i]);
        if (d < 0) return -1;
        bits = bits << 6 | (uint32_t)d;
        held += 6;
        if (held < 8) continue;
        held -= 8;
        out[size++] = (uint8_t)(bits >> held);
        bits &= (1u << held) - 1;
    }
    return bits ? -1 : size; // left-over bits of the last character must be 0
}
