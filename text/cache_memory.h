// text/cache_memory.h - the memory under a cache pool: KV blocks and state sets, within a budget.
//
// A block holds CACHE_PAGE_ROWS tokens of every layer's keys and values; a state set holds one
// sequence's convolution tails and delta-rule states. In the process's memory blocks lie in slabs of
// a few MiB so that the system can back them with huge pages; a device's are had one by one. What
// is freed is kept for the next sequence, and goes back only when the budget needs it for the other
// kind. Threads: the pool's.
#ifndef SIGHT_TEXT_CACHE_MEMORY_H
#define SIGHT_TEXT_CACHE_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/ops.h"

typedef struct cache_block {
    void *data; // backend memory
    int32_t refs; // sequences that hold it
    int32_t kept; // of these, those that are kept (sequence_keep)
    struct cache_block *next_free;
} cache_block;

typedef struct cache_memory {
    int64_t block_bytes;  // of one, a multiple of CACHE_MEMORY_ALIGN
    int64_t states_bytes; // of one set; may be 0
    int64_t budget;       // 0: no limit
    kernels *k;           // a device's, in whose memory all of it lies; NULL: the process's
    int64_t used;         // blocks and state sets in use
    int64_t held;         // these, and what is kept for reuse
    struct cache_slab *slabs;
    cache_block *warm; // free blocks with memory behind them
    cache_block *cold; // free blocks that are only addresses; none on a device
    void **free_states; // [n_states] of which n_free are there
    int64_t n_states, n_free;
} cache_memory;

#define CACHE_MEMORY_ALIGN 4096

// A zeroed struct with the first four fields set is ready for use.
void cache_memory_done(cache_memory *m); // everything must have been given back

// A block with refs 1 and any content. SIGHT_E_MEMORY.
sight_err cache_block_create(cache_block **out, cache_memory *m);
void cache_block_unref(cache_memory *m, cache_block *b);

// A set of states, NULL when they have no bytes; *zeroed says whether it is all zeros.
// SIGHT_E_MEMORY.
sight_err cache_states_create(void **out, bool *zeroed, cache_memory *m);
void cache_states_free(cache_memory *m, void *states);

// Backend memory beside the budget; NULL: none.
void *cache_room_create(const cache_memory *m, int64_t bytes);
void cache_room_free(const cache_memory *m, void *room); // accepts NULL

// On backend memory; write takes host memory, and read gives it (codes of kernels_read).
void cache_copy(const cache_memory *m, void *to, const void *from, int64_t bytes);
void cache_zero(const cache_memory *m, void *p, int64_t bytes);
void cache_write(const cache_memory *m, void *to, const void *host, int64_t bytes);
sight_err cache_read(const cache_memory *m, void *host, const void *from, int64_t bytes);

#endif
