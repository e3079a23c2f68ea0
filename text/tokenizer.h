// text/tokenizer.h - byte-level BPE from a checkpoint's tokenizer.json or GGUF metadata.
//
// NFC (utf8proc), the file's own split regex (PCRE2, UCP), merges by rank, added tokens matched
// first, leftmost and longest, on the raw text. Threads: any, once open.
#ifndef SIGHT_TEXT_TOKENIZER_H
#define SIGHT_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct tokenizer tokenizer;

// dir: the checkpoint folder, or a GGUF file. SIGHT_E_NOT_FOUND, SIGHT_E_MODEL (damaged), SIGHT_E_UNSUPPORTED (a
// normaliser, pre-tokenizer or model this build does not run, by name), SIGHT_E_MEMORY.
sight_err tokenizer_open(tokenizer **out, const char *dir);
// The same from tokenizer.json's bytes. For fuzzing and tests.
sight_err tokenizer_parse(tokenizer **out, const char *json, size_t size, const char *what);
void tokenizer_close(tokenizer **t); // accepts NULL; leaves NULL

typedef struct token_list { // grows; zeroed is empty
    int32_t *ids;
    size_t n, capacity;
} token_list;

void token_list_done(token_list *l); // frees; l is empty again
sight_err token_list_add(token_list *l, int32_t id); // SIGHT_E_MEMORY

typedef enum tokenizer_mode {
    TOKENIZER_PLAIN,  // text from users: nothing in it becomes an added token
    TOKENIZER_TOKENS, // added tokens are matched (a rendered prompt, the reference's behaviour)
    TOKENIZER_PROMPT  // as TOKENS, for text with marks (text/marks.h), which are taken out
} tokenizer_mode;

// Appends the ids of text (n bytes of UTF-8) to *out. SIGHT_E_ARGUMENT (not UTF-8, with the
// position), SIGHT_E_MEMORY.
sight_err tokenizer_encode(const tokenizer *t, token_list *out, const char *text, size_t n,
                           tokenizer_mode mode);

// The id of an added token's or vocabulary entry's exact text, or -1.
int32_t tokenizer_find(const tokenizer *t, const char *text);
// Ids from 0 to this minus 1 may have text; those without are false for tokenizer_has.
int32_t tokenizer_size(const tokenizer *t);
bool tokenizer_has(const tokenizer *t, int32_t id);
bool tokenizer_is_added(const tokenizer *t, int32_t id);   // in added_tokens
bool tokenizer_is_special(const tokenizer *t, int32_t id); // added, with "special": true
// The token's bytes (borrowed; may be part of a character). n 0 for an id without text.
const char *tokenizer_bytes(const tokenizer *t, int32_t id, size_t *n);
// The i-th added token, for marks; NULL past the end.
const char *tokenizer_added(const tokenizer *t, size_t i, bool *special);

// ---- streaming decode ----

// Bytes of a character that is not complete yet. Zeroed at the start.
typedef struct token_stream {
    uint8_t held[4];
    int32_t n_held;
} token_stream;

struct buf;
// Appends what became whole characters. skip_special leaves out special tokens' text. Bytes that
// can never become a character turn into U+FFFD, as the reference's decoder does.
void token_stream_push(token_stream *s, const tokenizer *t, struct buf *out, int32_t id,
                       bool skip_special);
// At the end: an unfinished character becomes one U+FFFD.
void token_stream_finish(token_stream *s, struct buf *out);

#endif
