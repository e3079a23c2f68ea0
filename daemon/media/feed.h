// daemon/media/feed.h - a thread that decodes a task's media and hands over patch rows, piece by piece.
//
// With a GPU, frames of clips become patch rows there (kernels/frames.h), and are decoded there where the chip
// can; whatever it refuses goes the CPU's way, without a word, for the numbers are nearly the same.
//
// The queue is short: the decoder waits when the encoder is behind, so that a clip's patches are
// never all in memory. Threads: one consumer, the engine thread.
#ifndef SIGHT_DAEMON_FEED_H
#define SIGHT_DAEMON_FEED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "daemon/task.h"
#include "vision/preprocess.h"

// Pieces alive at once: one being filled, one waiting, one being encoded.
#define FEED_PIECES 3

typedef struct feed feed;

// Some frame pairs of one medium. A piece's grid is that of the medium's plan with t = n_pairs.
typedef struct feed_piece {
    int32_t media;      // index in the task
    int32_t first_pair; // of that medium
    int32_t n_pairs;    // 0: the whole range has been handed over
    float *patches;     // [n_pairs * grid.h * grid.w, row]; the consumer's (feed_piece_done)
    struct frames *owner; // set: patches are the GPU's memory, its; else host memory
} feed_piece;

// Frame pairs that go into one piece of this medium.
int32_t feed_pairs(const task *t, const task_media *m);
// Gives the patches back; k is what was asked to read them. Before feed_close; accepts a zeroed one.
void feed_piece_done(feed_piece *p, kernels *k);

// What is to be decoded: from frame pair `pair` of medium `media`, the first of a piece, to before pair
// `end_pair` of medium `end_media`, where a piece ends; end_pair 0: to the end of the medium before that.
typedef struct feed_range {
    int32_t media, pair;
    int32_t end_media, end_pair;
} feed_range;

// Nothing outside the range is read or decoded. Borrows t and cancel. SIGHT_E_MEMORY.
sight_err feed_open(feed **out, const task *t, const feed_range *range, const atomic_bool *cancel);
// Stops decoding, within a frame or so. Accepts NULL; leaves NULL.
void feed_close(feed **f);

// Waits up to timeout_ms for the next piece, in order. SIGHT_E_TIMEOUT: none yet. Else the
// decoder's error, with its sentence; SIGHT_E_CANCELLED.
sight_err feed_next(feed *f, feed_piece *out, int timeout_ms);
// Frames decoded so far, and those of all media before the range.
int32_t feed_frames(const feed *f);
// Whether a medium turned out damaged, or changed while it was read: its features are not what its
// hash stands for.
bool feed_tainted(const feed *f);
// What the decoder had to say about damaged media since the last call (malloc); NULL: nothing.
char *feed_warning(feed *f);

#endif
