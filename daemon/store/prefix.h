// daemon/store/prefix.h - pasts worth keeping: forks of sequences, found again by what they have read.
//
// A prompt that begins like an earlier one of the same identity goes on from there instead of from its
// first token, and media that lie in the shared part are neither decoded nor encoded again. What a past has
// read is its token ids and, where features stand, a hash of the medium and of how it was cut
// (task_media.hash); a keyed hash of both is its name (daemon/store/prefix_names.h).
//
// Kept pasts take memory of the cache pool, at most the store's budget and never what running
// requests were promised; the one unused for longest goes first. Pages that pasts share are counted once.
// Threads: the engine's; prefix_store_key and prefix_store_longest any.
#ifndef SIGHT_DAEMON_PREFIX_H
#define SIGHT_DAEMON_PREFIX_H

#include <stdint.h>

#include "base/err.h"
#include "base/siphash.h"
#include "daemon/store/disk.h"
#include "daemon/store/prefix_disk.h"
#include "daemon/store/prefix_names.h"
#include "text/cache.h"

typedef struct prefix_store prefix_store;

typedef struct prefix_options {
    cache_pool *pool;     // borrowed
    int64_t pool_bytes;   // all that the pool may take
    int64_t budget_bytes; // of kept pasts, at most that
    disk *disk;           // borrowed: pasts are kept there too, and its key is the store's; NULL: none
    const uint8_t *key;   // [SIPHASH_KEY_BYTES] without a disk: that of another replica's store; NULL: made up
    const uint8_t *scope; // [SIPHASH_BYTES] prefix_names_init; NULL: zeros
} prefix_options;

// SIGHT_E_MEMORY, SIGHT_E_INTERNAL (no random numbers).
sight_err prefix_store_create(prefix_store **out, const prefix_options *o);
void prefix_store_destroy(prefix_store **s); // before its pool; accepts NULL; leaves NULL

// With which media are hashed.
const uint8_t *prefix_store_key(const prefix_store *s);

// A fork of the longest kept past that the prompt begins with and that leaves at least one of its
// tokens to read; *out is NULL when there is none. SIGHT_E_MEMORY.
sight_err prefix_store_find(prefix_store *s, sequence **out, const prefix_prompt *p);
// How many tokens the past that prefix_store_find would give has, as things stand now; 0: there is none. Memory only.
int32_t prefix_store_longest(prefix_store *s, const prefix_prompt *p);
// Keeps a fork of seq, which has read the first sequence_length(seq) tokens of the prompt. Does
// nothing when it is there already or does not fit: a past is never needed, only useful.
void prefix_store_keep(prefix_store *s, const sequence *seq, const prefix_prompt *p);
// Drops every past that has read that medium.
void prefix_store_forget(prefix_store *s, const uint8_t hash[SIPHASH_BYTES]);

// What is kept on disk besides; NULL: nothing.
prefix_disk *prefix_store_disk(const prefix_store *s);
// Copies up to so many bytes of what is to be written there, 0: all. Accepts NULL.
void prefix_store_work(prefix_store *s, int64_t bytes);

// A request starts that may take so many bytes of the pool, or has ended (release). Pasts that
// stand in the way go.
void prefix_store_promise(prefix_store *s, int64_t bytes);
void prefix_store_release(prefix_store *s, int64_t bytes);

typedef struct prefix_usage {
    int32_t pasts;
    int64_t bytes, budget, promised;
    int64_t hits, misses, dropped; // dropped: for room
} prefix_usage;

prefix_usage prefix_store_usage(const prefix_store *s);

#endif
