#include "text/tokenizer_utf8.h"

#include <string.h>

// How many bytes the lead asks for (0: not a lead), and the range of the second one
// (Unicode 15, table 3-7).
static size_t lead_length(uint8_t b, uint8_t *low, uint8_t *high)
{
    *low = b == 0xe0 ? 0xa0 : b == 0xf0 ? 0x90 : 0x80;
    *high = b == 0xed ? 0x9f : b == 0xf4 ? 0x8f : 0xbf;
    if (b < 0x80) return 1;
    if (b < 0xc2 || b > 0xf4) return 0;
    return b < 0xe0 ? 2 : b < 0xf0 ? 3 : 4;
}

tokenizer_utf8_state tokenizer_utf8_state_of(const uint8_t *bytes, size_t n)
{
    uint8_t low, high;
    size_t length = lead_length(bytes[0], &low, &high);
    if (length < n) return TOKENIZER_UTF8_INVALID;
    if (n > 1) {
        uint8_t last = bytes[n - 1];
        if (n > 2) low = 0x80, high = 0xbf;
        if (last < low || last > high) return TOKENIZER_UTF8_INVALID;
    }
    return n == length ? TOKENIZER_UTF8_WHOLE : TOKENIZER_UTF8_PART;
}

static size_t ascii_run(const char *text, size_t n)
{
    size_t i = 0;
    for (uint64_t word; i + 8 <= n; i += 8) {
        memcpy(&word, text + i, 8);
        if (word & 0x8080808080808080u) break;
    }
    while (i < n && !(text[i] & 0x80)) i++;
    return i;
}

size_t tokenizer_utf8_valid(const char *text, size_t n)
{
    const uint8_t *b = (const uint8_t *)text;
    size_t i = 0;
    while (i < n) {
        if (b[i] < 0x80) {
            i += ascii_run(text + i, n - i);
            continue;
        }
        uint8_t low, high;
        size_t length = lead_length(b[i], &low, &high);
        if (length == 0 || length > n - i) return i;
        if (b[i + 1] < low || b[i + 1] > high) return i;
        for (size_t k = 2; k < length; k++)
            if ((b[i + k] & 0xc0) != 0x80) return i;
        i += length;
    }
    return n;
}

uint32_t tokenizer_utf8_decode(const char *text, size_t *length)
{
    const uint8_t *b = (const uint8_t *)text;
    *length = tokenizer_utf8_length(text[0]);
    switch (*length) {
    case 1: return b[0];
    case 2: return (b[0] & 0x1fu) << 6 | (b[1] & 0x3fu);
    case 3: return (b[0] & 0x0fu) << 12 | (b[1] & 0x3fu) << 6 | (b[2] & 0x3fu);
    default:
        return (b[0] & 0x07u) << 18 | (b[1] & 0x3fu) << 12 | (b[2] & 0x3fu) << 6 | (b[3] & 0x3fu);
    }
}

size_t tokenizer_utf8_encode(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t k = n - 1; k > 0; k--, c >>= 6) out[k] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(leads[n] | c);
    return n;
}
