// daemon/store/borders.h - where the pieces end in which a prompt is read, and which of these ends are worth a past.
//
// A border depends on what the prompt holds up to there, and on where a medium ends that began before it; on
// nothing else. So it is the same in every prompt that is alike up to there, and a prompt that goes on from a past
// that was kept at a border is read with the very steps that it would be read with from its start.
// Threads: any.
#ifndef SIGHT_DAEMON_BORDERS_H
#define SIGHT_DAEMON_BORDERS_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/task.h"

// Where the piece that begins at token `at` ends, when steps have at most `most` rows.
int32_t borders_next(const task *t, int32_t at, int32_t most);
// Of a border at token `at`: a turn ends there, or so near that the next piece goes on past its end.
bool borders_at_turn(const task *t, int32_t at, int32_t most);
// The last piece follows, or the last turn and only an answer's beginning after it: where another question about
// the same goes on.
bool borders_at_last(const task *t, int32_t at, int32_t most);

#endif
