// daemon/watch/monitor.h - all by which the daemon is seen from outside: health, rates and gauges, systemd, the metrics endpoint.
//
// Threads: the server's.
#ifndef SIGHT_DAEMON_MONITOR_H
#define SIGHT_DAEMON_MONITOR_H

#include "daemon/settings/options.h"
#include "daemon/watch/pulse.h"

typedef struct monitor monitor;

// Opens the endpoint where o->metrics names one. beats [REPLICAS_MAX] are borrowed. Codes of scrape_open.
sight_err monitor_create(monitor **out, const options *o, const heartbeat *beats, double now_s);
void monitor_destroy(monitor **m); // accepts NULL; leaves NULL
// Every turn of the server loop; true once a second.
bool monitor_turn(monitor *m, const pulse_view *v, double now_s);
// As pulse_read.
void monitor_read(monitor *m, int64_t tokens);
// Whether all engine loops make progress, and how long the longest turn has lasted; 0: they rest.
bool monitor_engine(const monitor *m, double *turn_s, double now_s);
pulse_rates monitor_rates(const monitor *m);
// Other settings, in two steps: opens the endpoint that they name, if it is another, beside the one in use (codes of
// scrape_open); then takes that and all else over, or, with NULL, forgets about it.
sight_err monitor_prepare(monitor *m, const options *o);
void monitor_commit(monitor *m, const options *o);
// How long the loop may wait: at most so long, less where systemd wants to hear more often.
int monitor_wait_ms(const monitor *m, int most_ms);
const char *monitor_address(const monitor *m); // NULL: no endpoint

#endif
