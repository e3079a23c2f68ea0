// daemon/features.h - what the tower made of a task's media, until the model has read it.
//
// A window over the feature rows of all media, in order of appearance: rows are added at its end and
// dropped at its front, so that memory does not grow with the length of a clip. Rows are backend memory
// (kernels/memory.h). Threads: the engine's.
#ifndef SIGHT_DAEMON_FEATURES_H
#define SIGHT_DAEMON_FEATURES_H

#include <stdint.h>

#include "base/err.h"
#include "checkpoint/config.h"
#include "kernels/ops.h"

typedef struct features {
    float *rows;                            // [n, width], within memory
    float *deepstack[CONFIG_MAX_DEEPSTACK]; // [levels] of [n, width], alike
    int32_t levels;
    int64_t width;
    int64_t first; // of the task's feature rows: which one rows[0] is
    int64_t n;
    kernels *k;       // whose memory it is
    float *memory;    // [1 + levels, capacity, width]
    int64_t capacity;
    int64_t skipped;  // rows before the first one held
} features;

// Borrows k.
void features_init(features *f, kernels *k, const vision_config *v, int64_t first);
// Makes room for n more rows at the end: *rows and deepstack[i] are where they go. They count once
// features_added is called. May move what is held. SIGHT_E_MEMORY.
sight_err features_reserve(features *f, float **rows, float **deepstack, int64_t n);
void features_added(features *f, int64_t n);
// Forgets rows before that number.
void features_drop_before(features *f, int64_t row);
void features_done(features *f); // accepts a zeroed one

#endif
