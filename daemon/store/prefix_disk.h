// daemon/store/prefix_disk.h - pasts on disk (daemon/store/disk.h): written in the background, brought back by a later daemon.
//
// A past of n tokens is two items under its name. Its pages hold the rows from token `from` on, where the past
// that it builds on ends; so a long conversation is written once, turn by turn. Its states are as they are
// after n tokens. Bringing it back takes the pages of the whole chain and the last states. Rows of the MTP block
// are not written: they only serve guessing.
//
// What is written is copied from the cache in slices, as the engine thread finds time, and what is read comes
// back in slices too.
// Threads: the engine's.
#ifndef SIGHT_DAEMON_PREFIX_DISK_H
#define SIGHT_DAEMON_PREFIX_DISK_H

#include <stdbool.h>

#include "base/err.h"
#include "daemon/store/disk.h"
#include "daemon/store/prefix_names.h"
#include "text/cache.h"

typedef struct prefix_disk prefix_disk;

// Borrows all; scope [SIPHASH_BYTES]. SIGHT_E_MEMORY.
sight_err prefix_disk_create(prefix_disk **out, disk *d, cache_pool *pool, const uint8_t *scope);
void prefix_disk_destroy(prefix_disk **p); // accepts NULL; leaves NULL

typedef struct prefix_disk_usage {
    int64_t hits, misses; // prompts for which more was there than in memory, or not
} prefix_disk_usage;

prefix_disk_usage prefix_disk_get_usage(const prefix_disk *p);

// ---- writing ----

// Has the past written, from now on, when that is worth it. seq has read its tokens of the prompt and is not written
// to until prefix_disk_let_go.
void prefix_disk_save(prefix_disk *p, const sequence *seq, const prefix_prompt *prompt);
void prefix_disk_let_go(prefix_disk *p, const sequence *seq); // it goes: what is not copied yet is not written
// Copies up to so many bytes of what is to be written; 0: all of it.
void prefix_disk_work(prefix_disk *p, int64_t bytes);
void prefix_disk_forget(prefix_disk *p, const uint8_t name[SIPHASH_BYTES]);

// ---- reading ----

typedef struct prefix_load prefix_load;

// Asks for the longest past on disk that the prompt begins with, that leaves a token to read and has more than
// longer_than tokens. NULL: there is none, or no memory.
prefix_load *prefix_load_begin(prefix_disk *p, const prefix_prompt *prompt, int32_t longer_than);
int32_t prefix_load_tokens(const prefix_load *l);
// A slice of bringing it back. Waits up to wait_ms where only the disk can help; *waits says that it did. True when
// it is over: *out is the past, or NULL when it could not be had.
bool prefix_load_step(prefix_load *l, sequence **out, bool *waits, int wait_ms);
void prefix_load_end(prefix_load **l); // accepts NULL; leaves NULL

// ---- payloads, as untrusted bytes (for the above and for fuzzing) ----

typedef struct prefix_pages {
    int64_t first, n, block_bytes; // blocks
    const unsigned char *data;     // [n, block_bytes]
} prefix_pages;

// False when it is no such payload of a past's tokens from..to.
bool prefix_pages_read(prefix_pages *out, const void *payload, size_t size, int32_t from, int32_t to);

typedef struct prefix_states {
    int64_t bytes;
    const unsigned char *data;
} prefix_states;

bool prefix_states_read(prefix_states *out, const void *payload, size_t size, int32_t to);

#endif
