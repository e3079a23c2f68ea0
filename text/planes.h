// text/planes.h - the output layer's planes among a checkpoint's prepared weights, so that the next
// start maps them.
//
// Threads: while a checkpoint is prepared one; what was prepared is read by any.
#ifndef SIGHT_TEXT_PLANES_H
#define SIGHT_TEXT_PLANES_H

#include <stdbool.h>

#include "checkpoint/prepare.h"
#include "kernels/ops.h"

// What text_planes_extra keeps while checkpoint_prepare runs.
typedef struct text_planes {
    kernels *k;
} text_planes;

// The block to prepare beside the weights of c, for text models on k; keep outlives it. false: planes
// would not pay.
bool text_planes_extra(prepare_extra *out, text_planes *keep, const checkpoint *c, kernels *k);
// The block that was prepared, or NULL.
const void *text_planes_block(const checkpoint *c);
// Whether the head is so much of what a token reads that planes are worth their memory.
bool text_planes_wanted(const text_config *config);

#endif
