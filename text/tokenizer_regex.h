// text/tokenizer_regex.h - the checkpoint's split regex, run by PCRE2 with the reference's meaning.
//
// The reference runs Oniguruma. What both read alike is let through, what they read differently is
// refused by name: \s is written out (PCRE2 counts U+180E as a space), and \p{L}, \p{M}, \p{N} get
// the characters that PCRE2 10.42's Unicode 14 does not know yet. Threads: any, once compiled;
// a match area by one at a time.
#ifndef SIGHT_TEXT_TOKENIZER_REGEX_H
#define SIGHT_TEXT_TOKENIZER_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

typedef struct regex regex;
typedef struct regex_match regex_match;

// SIGHT_E_UNSUPPORTED (syntax, by name), SIGHT_E_MODEL (not a regex), SIGHT_E_MEMORY.
sight_err regex_compile(regex **out, const char *pattern, size_t n, const char *what);
void regex_destroy(regex **r); // accepts NULL; leaves NULL

sight_err regex_match_create(regex_match **out, const regex *r); // SIGHT_E_MEMORY
void regex_match_destroy(regex_match **m);                       // accepts NULL; leaves NULL

// The first match at or after `from` in text (valid UTF-8): *found, and where.
// SIGHT_E_MODEL when the regex needs more steps than it may, SIGHT_E_MEMORY.
sight_err regex_find(regex_match *m, bool *found, size_t *begin, size_t *end, const char *text,
                     size_t n, size_t from);

// Appends the pattern as PCRE2 gets it. For regex_compile and tests.
sight_err regex_translate(buf *out, const char *pattern, size_t n, const char *what);

#endif
