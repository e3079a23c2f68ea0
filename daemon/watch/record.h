// daemon/watch/record.h - what is known of one request: for `status` while it runs, for the log and the metrics when it has ended.
//
// Made of the events that go to its client, on the worker's thread that makes them (record_of), and kept by the server's
// (record_merge). Numbers only: nothing of what was asked or answered is in it.
// Threads: any, one at a time.
#ifndef SIGHT_DAEMON_RECORD_H
#define SIGHT_DAEMON_RECORD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"
#include "daemon/watch/metrics.h"
#include "sight/protocol.h"

// Zeroed: nothing known.
typedef struct record {
    bool staged;         // the four below are known
    metric_stage stage;  // what was last worked on
    int64_t done, total; // of it; total 0: nobody knows
    double per_s, left_s; // while reading; 0: unknown
    bool ended;          // by done or error, and then:
    sight_err code;      // of the error
    metric_reason reason;
    bool asked;          // it was the done of an ask, with the numbers below
    int32_t prompt, reused, visual, generated, drafted, accepted; // tokens
    double media_s, encode_s, read_s, first_s, generate_s, work_s; // from the start of work; 0: not reached
} record;

// What an event says.
record record_of(sight_event_kind kind, const json_t *body);
// Adds it to what was known.
void record_merge(record *r, const record *news);

// The rest that is told of a request's end.
typedef struct record_end {
    const char *id, *identity, *model; // model NULL: none was chosen
    int64_t serial; // of the daemon's requests: ids are the clients' own
    sight_verb verb;
    int priority;        // metric_priority
    int model_index;
    metric_outcome outcome;
    sight_err code;      // of outcome error
    const char *line;    // its sentence; NULL: none that may be logged
    double wait_s, total_s; // from arrival to the start of work and to the end; wait_s < 0: never worked on
    size_t bytes;        // of its message
} record_end;

// Counts an ended request; tokens drawn, decoding and fetching were counted as they came.
void record_count(const record *r, const record_end *end, metrics *m);
// The one line about it.
void record_log(const record *r, const record_end *end);

// Whether an error's sentence speaks of the server, not of what a client has written: only such are logged.
bool record_may_log(sight_err code);

#endif
