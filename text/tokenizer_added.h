// text/tokenizer_added.h - finds added tokens in text: leftmost, then longest.
//
// A trie of bytes. Built by one thread, then read by any.
#ifndef SIGHT_TEXT_TOKENIZER_ADDED_H
#define SIGHT_TEXT_TOKENIZER_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct added_node {
    int32_t child, next; // first child, next sibling; 0: none
    int32_t id;          // of the token that ends here; -1: none
    uint8_t byte;
    bool special;       // that token is special
    bool special_below; // some token that ends here or further down is special
} added_node;

typedef struct added_trie { // zeroed is empty
    added_node *nodes;      // nodes[0] is the root
    size_t n, capacity;
} added_trie;

void added_done(added_trie *t);
// SIGHT_E_MEMORY. content is not empty.
sight_err added_insert(added_trie *t, const char *content, size_t n, int32_t id, bool special);

typedef struct added_match {
    size_t begin, end;
    int32_t id;
} added_match;

// The first match at or after `from`. With marks, one that directly follows an odd run of marks
// does not count (text/marks.h).
bool added_find(const added_trie *t, added_match *m, const char *text, size_t n, size_t from,
                bool marks);
enum {
    ADDED_ONE_CHARACTER = 1,
    ADDED_LONGER = 2,
};
// Which tokens stand at text[0], or begin with the whole of text: flags, by the characters of text
// that take part.
int added_touches(const added_trie *t, const char *text, size_t n, bool special_only);

#endif
