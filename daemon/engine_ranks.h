// daemon/engine_ranks.h - the devices of an engine whose model is split over several: kernels of each, and what each
// has room for.
//
// The first one's kernels are the engine's, who closes them. Threads: the engine's.
#ifndef SIGHT_DAEMON_ENGINE_RANKS_H
#define SIGHT_DAEMON_ENGINE_RANKS_H

#include "daemon/engine.h"

typedef struct engine_ranks {
    kernels *k[DEVICE_LIST_MAX]; // k[0] borrowed
    int64_t budget[DEVICE_LIST_MAX]; // bytes that each could give when it was opened; 0 with the CPU
    int32_t n; // 1: not split
} engine_ranks;

// Kernels on one device. Codes of kernels_create, device_describe.
sight_err engine_ranks_kernels(kernels **out, const engine_options *o, device_id device, bool first);
// Zeroed before. Opens the devices after the first. As above; SIGHT_E_UNSUPPORTED: the model cannot be split over so
// many (split_check), before anything is opened.
sight_err engine_ranks_open(engine_ranks *r, kernels *first, const text_config *c, const engine_options *o);
void engine_ranks_close(engine_ranks *r); // after the model; accepts a zeroed one
// What the fullest device can still give.
int64_t engine_ranks_left(const engine_ranks *r);
// About how many of a model's bytes the device with the most of them gets: a part, and the whole of the embedding.
int64_t engine_ranks_share(const engine_ranks *r, const text_config *c, int64_t bytes);

#endif
