// daemon/watch/pulse.h - what the server loop does by the clock: gauges and rates once a second, word to systemd.
//
// The watchdog is fed only while the engine loop makes progress: one stuck in a kernel or a GPU lets systemd start the
// daemon again. Threads: the server's.
#ifndef SIGHT_DAEMON_PULSE_H
#define SIGHT_DAEMON_PULSE_H

#include "daemon/watch/health.h"
#include "daemon/watch/metrics.h"
#include "daemon/scheduler.h"

#define PULSE_RATE_S 10 // rates are of the last so many seconds

typedef struct pulse pulse;

typedef struct pulse_options {
    metrics *metrics; // NULL: nothing is counted, rates are 0
    health *health;
    double watchdog_s;               // between two words to systemd; 0: none (notify_watchdog_s)
    void (*notify)(const char *text); // notify_send
} pulse_options;

typedef struct pulse_view {
    const scheduler *queue;
    int connections;
    bool stopping;
    double stop_left_s; // until what runs is ended
} pulse_view;

typedef struct pulse_rates {
    double generated_per_s, read_per_s; // tokens
    double ended_per_s;                 // requests
    double batch;                       // answers in a decode step, in the mean; 0: there was none
} pulse_rates;

// SIGHT_E_MEMORY.
sight_err pulse_create(pulse **out, const pulse_options *o, double now_s);
void pulse_destroy(pulse **p); // accepts NULL; leaves NULL
// Every turn of the server loop; true once a second.
bool pulse_turn(pulse *p, const pulse_view *v, double now_s);
// Prompt tokens were read.
void pulse_read(pulse *p, int64_t tokens);
pulse_rates pulse_get_rates(const pulse *p);

#endif
