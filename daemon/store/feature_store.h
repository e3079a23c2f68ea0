// daemon/store/feature_store.h - what the tower made of pictures and frames, kept for the next prompt that shows
// them to it: at another place, after other words, in a clip cut otherwise.
//
// An entry is a piece (feed_piece): frame pairs that were encoded together. Its name is a keyed hash of who
// asks, of the medium's content, and of the frames and their size, so the rows are the very bits that
// encoding would give. Rows are host memory, also beside a GPU, within a budget; the one unused for longest
// goes first.
// Replicas of a model that compute the same bits share one store. Threads: any, but create and destroy.
#ifndef SIGHT_DAEMON_FEATURE_STORE_H
#define SIGHT_DAEMON_FEATURE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/siphash.h"
#include "daemon/store/blob.h"
#include "daemon/store/disk.h"
#include "daemon/access/identity.h"

typedef struct feature_store feature_store;

typedef struct feature_options {
    int64_t budget_bytes;
    const uint8_t *key;   // [SIPHASH_KEY_BYTES] of names
    const uint8_t *scope; // [SIPHASH_BYTES] of the model and what its numbers depend on
    disk *disk;           // borrowed: entries are kept there too; NULL: none
} feature_options;

// What a piece shows.
typedef struct feature_piece {
    const identity *who;
    const uint8_t *content; // [SIPHASH_BYTES] the medium's
    bool is_video;
    int32_t width, height;  // px, as encoded
    int32_t n_pairs;
    const int64_t *frames;  // [n_frames] of the clip; of a picture none
    int32_t n_frames;
} feature_piece;

// SIGHT_E_MEMORY.
sight_err feature_store_create(feature_store **out, const feature_options *o);
void feature_store_destroy(feature_store **s); // accepts NULL; leaves NULL

void feature_store_name(const feature_store *s, uint8_t out[SIPHASH_BYTES], const feature_piece *p);
// In memory or on disk.
bool feature_store_has(feature_store *s, const uint8_t name[SIPHASH_BYTES]);
// Its rows, the caller's reference; NULL: not in memory.
blob *feature_store_find(feature_store *s, const uint8_t name[SIPHASH_BYTES]);
// Asks for it from the disk, of which `bytes` are expected. NULL: it is not there.
disk_load *feature_store_load(feature_store *s, const uint8_t name[SIPHASH_BYTES], int64_t bytes);
// Keeps a reference when it fits, and has it written.
void feature_store_keep(feature_store *s, const uint8_t name[SIPHASH_BYTES],
                        const uint8_t content[SIPHASH_BYTES], blob *rows);
bool feature_store_fits(const feature_store *s, int64_t bytes); // feature_store_keep would keep it
// Drops one, on disk too; every piece of that medium in memory.
void feature_store_drop(feature_store *s, const uint8_t name[SIPHASH_BYTES]);
void feature_store_forget(feature_store *s, const uint8_t content[SIPHASH_BYTES]);

typedef struct feature_usage {
    int32_t pieces;
    int64_t bytes, budget;
    int64_t hits, misses, dropped; // dropped: for room
    int64_t disk_hits, disk_misses; // of those missed
} feature_usage;

feature_usage feature_store_usage(feature_store *s);

#endif
