// daemon/store/kept_pieces.h - a task's way to and from the store of features (daemon/store/feature_store.h), piece by piece.
//
// A task's media are encoded in pieces of feed_pairs frame pairs. Those that the store has are copied into the
// task's features, those that were encoded go to the store: with the CPU at once, with a GPU when the model
// has read them, so that nothing is waited for on their account.
// Threads: the engine's.
#ifndef SIGHT_DAEMON_KEPT_PIECES_H
#define SIGHT_DAEMON_KEPT_PIECES_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/store/feature_store.h"
#include "daemon/features.h"
#include "daemon/media/feed.h"
#include "daemon/task.h"

typedef struct made_piece {
    int32_t media, pair, n_pairs;
    int64_t row, n; // of the task's feature rows
} made_piece;

typedef struct kept_pieces {
    const task *task;
    feature_store *store; // NULL: nothing is taken or kept
    made_piece *made;     // [n_made] that are still to go to the store
    int32_t n_made, capacity;
    int64_t rows_taken;   // feature rows that came from the store
    disk_load *asked;     // the piece that comes next, on its way from disk; NULL: none is
} kept_pieces;

// Borrows both.
void kept_pieces_init(kept_pieces *k, const task *t, feature_store *store);
void kept_pieces_done(kept_pieces *k); // accepts a zeroed one

// Frame pairs of the piece that begins with that one.
int32_t kept_pieces_pairs(const kept_pieces *k, int32_t media, int32_t pair);
bool kept_pieces_has(const kept_pieces *k, int32_t media, int32_t pair);
// Adds the rows of that piece to the features and returns how many pairs it has; 0: the store does not have
// it, or there is no memory. Waits up to wait_ms where only the disk can help; *waits: it is not here yet.
int32_t kept_pieces_take(kept_pieces *k, int32_t media, int32_t pair, features *f, bool *waits, int wait_ms);
// From that piece to before the next one that the store has.
feed_range kept_pieces_missing(const kept_pieces *k, int32_t media, int32_t pair);
// That piece is encoded, to features from that row on.
void kept_pieces_made(kept_pieces *k, const made_piece *p, const features *f);
// Brings to the store what was made and begins before that row.
void kept_pieces_save(kept_pieces *k, const features *f, int64_t before);
// Of damaged media nothing is kept.
void kept_pieces_forget(kept_pieces *k);

#endif
