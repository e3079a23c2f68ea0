// daemon/settings/check.h - whether the settings could be served, without loading anything: what `sightd --check-config` says.
//
// Threads: one.
#ifndef SIGHT_DAEMON_CHECK_H
#define SIGHT_DAEMON_CHECK_H

#include <stdio.h>

#include "daemon/settings/options.h"

// Looks at all that the settings name: endpoints, keys, folders, hosts, models. Writes what would be done; the first thing wrong
// is the error: codes of gate_check, endpoints_choose, resources.h, model_set_make, engine_find_model.
sight_err check_settings(const options *o, FILE *to);

#endif
