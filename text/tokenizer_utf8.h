// text/tokenizer_utf8.h - UTF-8, strictly: no surrogates, no overlong forms, nothing past U+10FFFF.
//
// Threads: any.
#ifndef SIGHT_TEXT_TOKENIZER_UTF8_H
#define SIGHT_TEXT_TOKENIZER_UTF8_H

#include <stddef.h>
#include <stdint.h>

// The length of the longest valid start of text: n when all of it is UTF-8.
size_t tokenizer_utf8_valid(const char *text, size_t n);

typedef enum tokenizer_utf8_state {
    TOKENIZER_UTF8_WHOLE,   // exactly one character
    TOKENIZER_UTF8_PART,    // the start of one
    TOKENIZER_UTF8_INVALID, // neither: the last byte does not continue what stands before it
} tokenizer_utf8_state;

// What bytes[n] are, n 1..4, of which the first n - 1 are known to be PART.
tokenizer_utf8_state tokenizer_utf8_state_of(const uint8_t *bytes, size_t n);

// The character at valid UTF-8, and its length in bytes.
uint32_t tokenizer_utf8_decode(const char *text, size_t *length);
// Writes the character to out, which has room for 4; returns the length.
size_t tokenizer_utf8_encode(char *out, uint32_t c);

// The length of the character that this lead byte begins, in valid UTF-8.
static inline size_t tokenizer_utf8_length(char lead)
{
    uint8_t b = (uint8_t)lead;
    return b < 0x80 ? 1 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : 4;
}

#endif
