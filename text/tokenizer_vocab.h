// text/tokenizer_vocab.h - the tokens' bytes by id, ids by bytes, and the merges.
//
// tokenizer.json writes bytes as printable characters (GPT-2's table); here everything is bytes.
// Built by one thread, then read by any.
#ifndef SIGHT_TEXT_TOKENIZER_VOCAB_H
#define SIGHT_TEXT_TOKENIZER_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "text/tokenizer_json.h"

#define VOCAB_MAX_ID 4194303

enum {
    VOCAB_HAS = 1,     // the id has a token
    VOCAB_LITERAL = 2, // its text is not made of byte characters; stands for itself
    VOCAB_ADDED = 4,
    VOCAB_SPECIAL = 8,
};

typedef struct vocab_entry {
    uint32_t offset, length; // in bytes
    int32_t id;
    uint32_t flags;
} vocab_entry;

typedef struct vocab_slot {
    uint32_t hash;
    uint32_t entry; // index + 1; 0: free
} vocab_slot;

typedef struct vocab_merge {
    uint32_t left, right; // ids; left UINT32_MAX: free
    uint32_t rank;
    int32_t id; // of both together
} vocab_merge;

typedef struct vocab {
    buf bytes;
    vocab_entry *entries; // in the file's order
    size_t n, capacity;
    vocab_slot *slots; // [slot_mask + 1]
    size_t slot_mask;
    int32_t size;        // the largest id + 1
    uint32_t *by_id;     // [size]: index of the entry + 1; 0: none
    vocab_merge *merges; // [merge_mask + 1]
    size_t merge_mask;
    int32_t byte_ids[256]; // ids of single bytes
    const char *what;      // the file's name in errors, while it is built; borrowed
} vocab;

void vocab_done(vocab *v);

// SIGHT_E_MODEL (damaged: two entries alike, a merge of unknown tokens, a byte without a token),
// SIGHT_E_MEMORY. In this order: the "vocab" object, added tokens, index, the "merges" array.
sight_err vocab_read(vocab *v, tokenizer_json *j);
// An added token; one that the vocabulary has must have the same id there.
sight_err vocab_add(vocab *v, const char *content, size_t n, int32_t id, bool special);
// The id that bytes so written have until now, or -1. SIGHT_E_MEMORY.
sight_err vocab_known(vocab *v, int32_t *id, const char *content, size_t n);
sight_err vocab_index(vocab *v);
sight_err vocab_read_merges(vocab *v, tokenizer_json *j);

// The entry of an id, or NULL.
const vocab_entry *vocab_by_id(const vocab *v, int32_t id);
// The entry of bytes, or NULL. literal: among those that stand for themselves.
const vocab_entry *vocab_find(const vocab *v, const char *bytes, size_t n, bool literal);

static inline uint64_t vocab_pair_hash(uint32_t left, uint32_t right)
{
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 32;
}

// The merge of two neighbours, or NULL.
static inline const vocab_merge *vocab_merge_of(const vocab *v, uint32_t left, uint32_t right)
{
    size_t i = vocab_pair_hash(left, right) & v->merge_mask;
    for (;; i = (i + 1) & v->merge_mask) {
        const vocab_merge *m = &v->merges[i];
        if (m->left == left && m->right == right) return m;
        if (m->left == UINT32_MAX) return NULL;
    }
}

#endif
