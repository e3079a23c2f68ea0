// text/cache_parts.h - what cache.c, cache_rewind.c, cache_save.c and cache_peers.c share.
#ifndef SIGHT_TEXT_CACHE_PARTS_H
#define SIGHT_TEXT_CACHE_PARTS_H

#include "text/cache.h"
#include "text/cache_memory.h"

// Zeroed: the sequence cannot be rewound.
typedef struct cache_rewind {
    int32_t max_rows; // of a step that can be taken back
    bool marked;      // the last step was such a one, and `other` holds the states before it
    int64_t length;   // of the sequence before it
    float *other;     // as states; what it holds is of use only when marked
    float *records;   // [linear layers][max_rows][channels + 2 value_heads], backend memory
} cache_rewind;

struct cache_pool {
    cache_memory memory;
    tensor_type kv_type;
    int32_t kv_layers; // full-attention layers, and that of the MTP block
    bool mtp;
    int64_t page_bytes;         // one layer's part of a block: [2][G][rows][C]
    int64_t layer_state_floats; // one layer's part of the states: its tail, then its delta state
    int64_t delta_offset;       // of the delta state in it
    int32_t linear_layers;
    int64_t channels, value_heads; // of a linear layer
    int64_t sequences;
    int32_t n_peers; // the other ranks' pools, of a split model's first rank
    struct cache_pool *peers[CACHE_MAX_PEERS];
};

struct sequence {
    cache_pool *pool;
    int64_t length, mtp_length;
    int64_t n_blocks, capacity;
    cache_block **blocks; // [capacity]
    void **data;          // [capacity], theirs
    void **table;         // [capacity], the same in a device's memory; NULL: data itself is read
    int64_t in_table;     // entries of it that are right
    float *states;        // [linear layers][layer_state_floats], backend memory; NULL without any
    cache_rewind rewind;
    struct sequence **peers; // [pool->n_peers], each in its pool; NULL without any
};

// ---- a sequence's table of blocks (cache.c) ----

// Room for n blocks; the device's table is written when all is known (cache_tables_show). SIGHT_E_MEMORY.
sight_err cache_tables_grow(sequence *s, int64_t n);
void cache_tables_put(sequence *s, int64_t at, cache_block *b); // at < capacity
// Ops on a device read the table there.
void cache_tables_show(sequence *s);

// ---- the other ranks' sequences (cache_peers.c): nothing to do without any ----

// For a new s: empty ones, or forks of those of `of`. SIGHT_E_MEMORY; sequence_drop copes with what was made.
sight_err cache_peers_create(sequence *s);
sight_err cache_peers_fork(sequence *s, const sequence *of);
void cache_peers_drop(sequence *s);

#endif
