// daemon/settings/reload.h - the settings read again while the daemon runs (SIGHUP).
//
// All or nothing: the file and the command line are read and checked as at the start, what may fail is done first, and only
// then is anything changed. Settings that can change are; a difference in any other is named, and waits for a restart.
// Requests under way keep the ceilings that they came in with.
// Threads: the server's.
#ifndef SIGHT_DAEMON_RELOAD_H
#define SIGHT_DAEMON_RELOAD_H

#include "daemon/access/gate.h"
#include "daemon/models/models.h"
#include "daemon/watch/monitor.h"
#include "daemon/settings/options.h"
#include "daemon/scheduler.h"

typedef struct reload reload;

// What takes part; all borrowed. gate, server and models may be NULL (tests).
typedef struct reload_parts {
    options *options; // those in force
    int argc;         // the command line, as options_read takes it
    char **argv;
    scheduler *queue;
    monitor *monitor;
    gate *gate;
    server *server;
    models *models;
} reload_parts;

// SIGHT_E_MEMORY.
sight_err reload_create(reload **out, const reload_parts *parts);
void reload_destroy(reload **r); // accepts NULL; leaves NULL

// Reads and applies. After a failure nothing has changed: codes of options_read, resources.h, gate_check, scrape_open,
// models_apply.
// *changed and *waiting (size bytes each) get the names of what has changed, and of what needs a restart.
sight_err reload_apply(reload *r, char *changed, char *waiting, size_t size);
// The same with all that is told of it: to systemd, to the log, to the metrics.
void reload_run(reload *r, metrics *m);
// Ends what replaced parts still fetch; their requests' cancel flags are set.
void reload_drain(reload *r);
// Frees what was replaced. Only while no request is under way.
void reload_sweep(reload *r);

// Whether a setting can change while the daemon runs.
bool reload_is_live(const char *name);

#endif
