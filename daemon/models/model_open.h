// daemon/models/model_open.h - how a daemon's registry opens models: engines, with what is said about them in the log.
//
// Threads: as daemon/models/models.h calls them.
#ifndef SIGHT_DAEMON_MODEL_OPEN_H
#define SIGHT_DAEMON_MODEL_OPEN_H

#include "daemon/models/models.h"

#define MODEL_RETRY_S 30.0 // after a load that failed

// Needs nothing but the process. With device auto a GPU that is too small, or that fails at once, is no reason not to open.
models_options model_open_options(metrics *m);

#endif
