// daemon/watch/measure.h - a model's memory and stores, into the metrics.
//
// Threads: the engine's, which owns what is measured.
#ifndef SIGHT_DAEMON_MEASURE_H
#define SIGHT_DAEMON_MEASURE_H

#include "daemon/engine.h"

void measure_engine(engine *e);
// It is not loaded any more.
void measure_unloaded(metrics *m, int index);

#endif
