// text/cache.h - what a sequence has seen: KV pages and delta-rule states.
//
// A pool owns all memory of one model's sequences, within a byte budget fixed at creation. Pages are
// shared between forks and snapshots by count and copied when written. Threads: the engine's only.
#ifndef SIGHT_TEXT_CACHE_H
#define SIGHT_TEXT_CACHE_H

#include <stdint.h>

#include "base/err.h"
#include "checkpoint/config.h"
#include "kernels/ops.h"

typedef struct cache_pool cache_pool;
typedef struct sequence sequence;

#define CACHE_PAGE_ROWS 64

typedef struct cache_options {
    tensor_type kv_type;  // TENSOR_BF16, or TENSOR_F32 (trace)
    int64_t budget_bytes; // pages and states together; 0: no limit
} cache_options;

// mtp: also keep KV for the MTP block's layers. SIGHT_E_MEMORY.
sight_err cache_pool_create(cache_pool **out, const text_config *config,
                            const cache_options *options);
void cache_pool_destroy(cache_pool **p); // after its sequences

// What a sequence of n tokens takes, and what is in use now.
int64_t cache_bytes(const cache_pool *p, int64_t n_tokens);
int64_t cache_bytes_used(const cache_pool *p);

// An empty sequence. SIGHT_E_MEMORY.
sight_err sequence_create(sequence **out, cache_pool *p);
void sequence_drop(sequence **s); // accepts NULL; leaves NULL
// A second sequence with the same past: pages shared, states copied. A snapshot is a fork that is
// kept and forked again. SIGHT_E_MEMORY.
sight_err sequence_fork(sequence **out, const sequence *s);
int64_t sequence_length(const sequence *s); // tokens seen

#endif
