// text/tokenizer_parts.h - what a tokenizer is made of, for the tokenizer_*.c files and marks.c.
#ifndef SIGHT_TEXT_TOKENIZER_PARTS_H
#define SIGHT_TEXT_TOKENIZER_PARTS_H

#include <stdbool.h>

#include "text/tokenizer.h"
#include "text/tokenizer_added.h"
#include "text/tokenizer_regex.h"
#include "text/tokenizer_vocab.h"

typedef struct added_token {
    char *content; // NUL-terminated
    size_t n;
    char *normal; // content as the normaliser makes it; NULL: not a token of that kind
    size_t n_normal;
    int32_t id;
    bool special, normalized;
} added_token;

struct tokenizer {
    vocab vocab;
    added_token *added;
    size_t n_added;
    added_trie raw;        // normalized: false; matched on the raw text
    added_trie normalized; // matched on normalised text, by their normalised content
    added_trie all;        // both, for marks
    regex *split;
    bool nfc;
    bool ignore_merges;
};

#endif
