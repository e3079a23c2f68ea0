// text/cache_save.h - a sequence's past taken out of its pool and brought back: blocks of pages and states
// as bytes.
//
// Bytes mean something only to a pool of the same model, form of keys and values, and device; who keeps
// them remembers which. A block holds CACHE_PAGE_ROWS tokens of every layer.
// Threads: the pool's.
#ifndef SIGHT_TEXT_CACHE_SAVE_H
#define SIGHT_TEXT_CACHE_SAVE_H

#include "text/cache.h"

int64_t cache_block_bytes(const cache_pool *p);  // of one block
int64_t cache_states_bytes(const cache_pool *p); // of a sequence's states; 0: it has none
int64_t sequence_blocks(const sequence *s);

// n blocks from `first` on, or bytes of the states from `first` on, into host memory. Codes of kernels_read.
sight_err sequence_save_blocks(const sequence *s, void *host, int64_t first, int64_t n);
sight_err sequence_save_states(const sequence *s, void *host, int64_t first, int64_t bytes);

// A past is built up in a new sequence, which is of no use before sequence_restored: its first blocks are
// shared with another sequence's of the pool, the rest are added from host memory. SIGHT_E_MEMORY.
sight_err sequence_share_blocks(sequence *s, const sequence *with, int64_t n); // s: empty
sight_err sequence_add_block(sequence *s, const void *host);
void sequence_load_states(sequence *s, const void *host, int64_t first, int64_t bytes);
// It has seen so many tokens, its MTP block mtp_length of them. SIGHT_E_ARGUMENT: that needs more blocks or
// fewer than there are, or is not below 2^31.
sight_err sequence_restored(sequence *s, int64_t length, int64_t mtp_length);

// `to`, which has read nothing or less of the same prompt, goes on with what `from` holds; *from is dropped
// and left NULL. What `to` has set aside for taking back steps stays its own.
void sequence_take_past(sequence *to, sequence **from);

#endif
