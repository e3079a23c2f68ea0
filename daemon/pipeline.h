// daemon/pipeline.h - a task carried out: decode, encode, read, answer.
//
// Decoding runs on a thread of its own and hands patch rows over through a short queue; the calling
// thread, the engine's, encodes them, reads the prompt and draws tokens. Only features are kept,
// never a clip's patches.
#ifndef SIGHT_DAEMON_PIPELINE_H
#define SIGHT_DAEMON_PIPELINE_H

#include <jansson.h>
#include <stdatomic.h>

#include "base/err.h"
#include "daemon/models/confidence.h"
#include "daemon/task.h"
#include "sight/protocol.h"
#include "text/draft.h"

// Called on the engine thread for every event of a task, in order; body is borrowed.
typedef void pipeline_sink(void *arg, sight_event_kind kind, const json_t *body);

// A task under way.
typedef struct pipeline pipeline;

typedef enum pipeline_state {
    PIPELINE_READING,   // more of its media and prompt is to do
    PIPELINE_WAITING,   // alike, but nothing is decoded yet
    PIPELINE_ANSWERING, // draws tokens
    PIPELINE_OVER,      // done or error has been reported
} pipeline_state;

// Borrows t. *cancel may be set by any thread: the task then ends with done (finish_reason
// "cancelled"), mostly within a step. SIGHT_E_MEMORY, of which nothing is reported.
sight_err pipeline_create(pipeline **out, task *t, const atomic_bool *cancel, pipeline_sink *sink,
                          void *arg);
void pipeline_destroy(pipeline **p); // accepts NULL; leaves NULL

// A slice of work: some tens of milliseconds of reading or of a picture, or a step of the answer (batch_answer with
// this one alone). Reports what comes of it; before PIPELINE_OVER it has given back what it held of the caches. Waits
// up to wait_ms where only the decoder can help. Slices of several tasks may take turns.
pipeline_state pipeline_step(pipeline *p, int wait_ms);
// An answer's step in its parts, for daemon/batch.h. Draws as many tokens as there are logits for; then the step of the
// draft that is given back has to be run (text/draft_batch.h), of which `together` answers of the engine have a part, and
// pipeline_hear told how it went. NULL: nothing is to be read, pipeline_state_of says what is next.
draft *pipeline_draw(pipeline *p, int32_t together);
pipeline_state pipeline_hear(pipeline *p, sight_err err, output_row *next);
pipeline_state pipeline_state_of(const pipeline *p);
const atomic_bool *pipeline_cancel(const pipeline *p); // borrowed
engine *pipeline_engine(const pipeline *p);            // borrowed

// Of the answer so far, where the request asks for it.
confidence pipeline_confidence(const pipeline *p);
// Tokens of the answer so far.
int32_t pipeline_drawn(const pipeline *p);
// The error that was reported, if any.
sight_err pipeline_error(const pipeline *p);

// All of it. Returns the error that was reported, if any. Threads: the engine's.
sight_err pipeline_run(task *t, const atomic_bool *cancel, pipeline_sink *sink, void *arg);

#endif
