// daemon/stages.h - the stages before the first token: media to features, prompt to a sequence.
//
// Threads: the engine's.
#ifndef SIGHT_DAEMON_STAGES_H
#define SIGHT_DAEMON_STAGES_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"
#include "daemon/feed.h"
#include "daemon/task.h"

// Whom to tell, and when to stop. Any function may be NULL.
typedef struct stage_watch {
    const atomic_bool *cancel; // looked at between slices of work
    void (*progress)(void *arg, const char *stage, int64_t done, int64_t total);
    void (*warning)(void *arg, const char *line);
    // Each piece before it is encoded (trace).
    void (*piece)(void *arg, const feed_piece *piece);
    void *arg;
} stage_watch;

// What the tower made of a task's media, in order of appearance.
typedef struct features {
    float *rows;                            // [n, width]
    float *deepstack[CONFIG_MAX_DEEPSTACK]; // [levels] of [n, width]
    int32_t levels;
    int64_t n, width;
} features;

// Decodes (on a thread of its own) and encodes all media. *out zeroed before; features_done also
// after a failure. SIGHT_E_CANCELLED, the decoder's codes, SIGHT_E_MEMORY.
sight_err stages_encode(features *out, const task *t, const stage_watch *watch);
void features_done(features *f);

// Where reading leaves numbers.
typedef struct read_outputs {
    float *last_logits; // [vocab], of the last row
    float *logits;      // [L, vocab] of all rows; NULL: not wanted (then last_logits is)
    float *hidden;      // [L, D] after the final norm; NULL: not wanted
} read_outputs;

// Reads the prompt into an empty sequence, in pieces. f may be empty when the prompt has no media.
sight_err stages_read(sequence *seq, const read_outputs *out, const task *t, const features *f,
                      const stage_watch *watch);

#endif
