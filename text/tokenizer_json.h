// text/tokenizer_json.h - reads the two long parts of tokenizer.json, strictly, without a tree.
//
// A vocabulary of 250,000 entries takes jansson half a second and 100 MB; the rest of the file is
// left to it. The text must be valid UTF-8. Threads: a reader by one at a time.
#ifndef SIGHT_TEXT_TOKENIZER_JSON_H
#define SIGHT_TEXT_TOKENIZER_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

typedef struct tokenizer_json {
    const char *begin, *at, *end; // borrowed
    const char *what;             // the file's name in errors; borrowed
    buf unescaped;                // the last string that had escapes
} tokenizer_json;

void tokenizer_json_init(tokenizer_json *j, const char *text, size_t n, const char *what);
void tokenizer_json_done(tokenizer_json *j);

// All: SIGHT_E_MODEL with the byte position when the text is otherwise, SIGHT_E_MEMORY.

// Enters '{' or '['.
sight_err tokenizer_json_enter(tokenizer_json *j, char bracket);
// Moves to the next element before the closing bracket: *more is false when that was passed.
// *first is true before the first call and is set to false.
sight_err tokenizer_json_next(tokenizer_json *j, char closing, bool *first, bool *more);
// *text is valid until the next string is read.
sight_err tokenizer_json_string(tokenizer_json *j, const char **text, size_t *n);
sight_err tokenizer_json_colon(tokenizer_json *j);
// A whole number from 0 to max.
sight_err tokenizer_json_integer(tokenizer_json *j, int32_t *out, int32_t max);
// The first character of the next value, or 0 at the end.
char tokenizer_json_peek(tokenizer_json *j);
// Passes a value; only brackets and strings are looked at.
sight_err tokenizer_json_skip(tokenizer_json *j, const char **value, size_t *n);

#endif
