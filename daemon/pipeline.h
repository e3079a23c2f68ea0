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
#include "daemon/task.h"
#include "sight/protocol.h"

// Called on the engine thread for every event of a task, in order; body is borrowed.
typedef void pipeline_sink(void *arg, sight_event_kind kind, const json_t *body);

// Runs the task and reports warnings, progress, deltas and, last, done or error. *cancel may be set
// by any thread: the task then ends with done (finish_reason "cancelled"), mostly within a step.
// Returns the error that was reported, if any. Threads: the engine's.
sight_err pipeline_run(task *t, const atomic_bool *cancel, pipeline_sink *sink, void *arg);

#endif
