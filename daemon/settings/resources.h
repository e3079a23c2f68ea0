// daemon/settings/resources.h - what settings name and the daemon opens: at the start, and again when they are reloaded.
//
// Threads: one at a time.
#ifndef SIGHT_DAEMON_RESOURCES_H
#define SIGHT_DAEMON_RESOURCES_H

#include "daemon/media/fetcher.h"
#include "daemon/settings/options.h"
#include "daemon/media/roots.h"

// The folders that media may be named in; without any: see ticket_set_who. Codes of roots_create.
sight_err resources_roots(roots **out, const options *o);
// *out is NULL where nothing is to be fetched. Codes of fetcher_create, but SIGHT_E_ARGUMENT where a library is missing.
sight_err resources_fetcher(fetcher **out, const options *o);

#endif
