// daemon/stages.h - the stages before the first token: media to features, prompt to a sequence.
//
// Decoding runs on a thread of its own. The engine thread does the rest in slices: it encodes what is
// decoded, and reads the prompt's rows as soon as their features are there, so that decoding,
// encoding and reading of successive frame pairs overlap and features are kept only until they are
// read. Between two slices anything else may run.
//
// The prompt is read in pieces whose borders depend on what it holds up to there and on nothing
// else (daemon/store/borders.h). So a prompt that goes on from a kept past (daemon/store/prefix.h) is read with the very steps that
// it would be read with from its start, and its answer is the same to the last bit.
// Threads: the engine's.
#ifndef SIGHT_DAEMON_STAGES_H
#define SIGHT_DAEMON_STAGES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "daemon/features.h"
#include "daemon/media/feed.h"
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

typedef struct stages_options {
    stage_watch watch;
    // Goes on from what engine_prefix keeps, and keeps what is read.
    bool reuse;
    bool keep_features; // all of them, for stages_features
    // Where reading leaves numbers.
    output_row *last; // of the last row
    float *logits;    // [L, vocab] of all rows; NULL: not wanted (then last is)
    float *hidden;    // [L, D] after the final norm, backend memory; NULL: not wanted
    // Reads a piece of the prompt, after which `left` of its rows remain: begin takes it in, run does about so many arithmetic
    // operations of it. NULL: text_model_step, at once.
    sight_err (*begin)(void *arg, const segment *s, int64_t left);
    sight_err (*run)(void *arg, double most_ops, bool *done);
    void *read_arg;
} stages_options;

typedef enum stages_state {
    STAGES_WORKED,  // a slice was done, more is to do
    STAGES_WAITING, // nothing is decoded yet
    STAGES_READ,    // the sequence holds the prompt
} stages_state;

// What earlier requests have spared this one.
typedef struct stages_reuse {
    int32_t tokens;   // of the prompt's beginning, that a kept past had read
    int32_t media;    // pictures and clips of which nothing was decoded
    int64_t features; // rows behind that past which the tower had made before
} stages_reuse;

typedef struct stages stages;

// Borrows t. The sequence is there from now on. SIGHT_E_MEMORY.
sight_err stages_create(stages **out, const task *t, const stages_options *o);
void stages_destroy(stages **s); // accepts NULL; leaves NULL

// Some tens of milliseconds of work, or on a GPU some milliseconds (without `begin`, a whole piece). Waits up to wait_ms where only the decoder can help.
// SIGHT_E_CANCELLED, the decoder's codes, SIGHT_E_MEMORY.
sight_err stages_step(stages *s, stages_state *state, int wait_ms);
// All of it.
sight_err stages_run(stages *s);

sequence *stages_sequence(stages *s);        // borrowed
sequence *stages_take_sequence(stages *s);   // the caller's from now on
const features *stages_features(const stages *s);
stages_reuse stages_reused(const stages *s); // so far
double stages_read_s(const stages *s);       // seconds spent reading so far
double stages_encode_s(const stages *s);     // seconds spent encoding so far
double stages_rate(const stages *s);         // tokens a second of them; 0: none yet
double stages_left_s(const stages *s);       // that reading the rest will take; 0: nobody knows

#endif
