// text/tokenizer_bpe.h - one piece of text to token ids, by the merges' ranks.
//
// The pair of lowest rank is merged first, the leftmost of equals, until no neighbours merge.
// Short pieces are scanned; long ones go through a heap, so that time stays near linear.
// Threads: a work area by one at a time.
#ifndef SIGHT_TEXT_TOKENIZER_BPE_H
#define SIGHT_TEXT_TOKENIZER_BPE_H

#include "text/tokenizer.h"
#include "text/tokenizer_vocab.h"

typedef struct bpe_symbol bpe_symbol;

// Memory that is kept from one piece to the next. Zeroed is empty.
typedef struct bpe {
    bpe_symbol *symbols;
    uint64_t *heap; // rank << 32 | position
    size_t capacity;
} bpe;

void bpe_done(bpe *b);

// Appends the ids of bytes[n], n up to 2^30. whole: a piece that is a token as it stands is taken
// so (ignore_merges). SIGHT_E_MEMORY.
sight_err bpe_encode(bpe *b, token_list *out, const vocab *v, bool whole, const char *bytes,
                     size_t n);

#endif
