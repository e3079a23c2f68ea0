// text/template_text.h - Python's view of UTF-8 text: code points, whitespace, case.
//
// Bytes that are not UTF-8 count as one character each. Internal to text/template*.
#ifndef SIGHT_TEXT_TEMPLATE_TEXT_H
#define SIGHT_TEXT_TEMPLATE_TEXT_H

#include "base/buf.h"
#include "text/template_value.h"

// The character at s.text (s.n > 0); *n is its length in bytes.
int32_t text_char(tstr s, size_t *n);
// The length in bytes of the last character (s.n > 0).
size_t text_last(tstr s);
size_t text_length(tstr s); // in characters
// The byte offset of character i (to s.n when i is past the end).
size_t text_offset(tstr s, size_t i);

bool text_is_space(int32_t c);
// Without whitespace at its ends, as str.strip().
tstr text_strip_space(tstr s, bool left, bool right);
// Without the characters of `chars` at its ends, as str.strip(chars).
tstr text_strip(tstr s, tstr chars, bool left, bool right);

// The offset of needle in s, or -1. From the right: the last one.
ptrdiff_t text_find(tstr s, tstr needle, bool from_right);
bool text_starts(tstr s, tstr prefix);
bool text_ends(tstr s, tstr suffix);

typedef enum text_case { TEXT_UPPER, TEXT_LOWER, TEXT_CAPITALIZE, TEXT_TITLE, TEXT_SWAP } text_case;

// Appends s in another case. One character stays one character, but for the German sharp s.
void text_add_case(buf *out, tstr s, text_case to);

bool text_is_alpha(int32_t c);
bool text_is_digit(int32_t c);
bool text_is_upper(int32_t c);
bool text_is_lower(int32_t c);
bool text_is_printable(int32_t c); // as str.isprintable

#endif
