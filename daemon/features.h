// daemon/features.h - what the tower made of a task's media, until the model has read it.
//
// A window over the feature rows of all media, in order of appearance: rows are added at its end and
// dropped at its front, so that memory does not grow with the length of a clip.
// Threads: the engine's.
#ifndef SIGHT_DAEMON_FEATURES_H
#define SIGHT_DAEMON_FEATURES_H

#include <stdint.h>

#include "base/err.h"
#include "checkpoint/config.h"

typedef struct features {
    float *rows;                            // [n, width], in a larger allocation
    float *deepstack[CONFIG_MAX_DEEPSTACK]; // [levels] of [n, width]
    int32_t levels;
    int64_t width;
    int64_t first; // of the task's feature rows: which one rows[0] is
    int64_t n, capacity;
} features;

void features_init(features *f, const vision_config *v, int64_t first);
// Makes room for n more rows at the end: *rows and deepstack[i] are where they go. They count once
// features_added is called. Moves what is held. SIGHT_E_MEMORY.
sight_err features_reserve(features *f, float **rows, float **deepstack, int64_t n);
void features_added(features *f, int64_t n);
// Forgets rows before that number.
void features_drop_before(features *f, int64_t row);
void features_done(features *f); // accepts a zeroed one

#endif
