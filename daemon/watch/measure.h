// daemon/watch/measure.h - a model's memory and stores, into the metrics.
//
// What several replicas of a model have each is told as their sum: every one adds by how much its own part has changed.
// Threads: the engine's, which owns what is measured.
#ifndef SIGHT_DAEMON_MEASURE_H
#define SIGHT_DAEMON_MEASURE_H

#include "daemon/engine.h"

// What was told of an engine so far. Zeroed: nothing.
typedef struct measured {
    double memory[BY_MEMORY_COUNT], device;
    double entries[BY_CACHE_COUNT], bytes[BY_CACHE_COUNT];
    double hits[BY_CACHE_COUNT], misses[BY_CACHE_COUNT], dropped[BY_CACHE_COUNT];
} measured;

void measure_engine(engine *e);
// It is about to be closed: what it had is nobody's any more.
void measure_closing(engine *e);
// None of its replicas is loaded any more.
void measure_unloaded(metrics *m, int index);

#endif
