// daemon/watch/metrics.h - what the daemon counts and measures, and its text for Prometheus.
//
// One object for the whole daemon (engine_options.metrics). Every metric is a line of the table in metrics.c: its name, kind,
// unit, meaning and the labels it is told apart by. Labels take a few known values each, never what a client wrote, so
// the number of series is fixed. Adding is an atomic operation or two and never waits.
//
// Every function accepts NULL for the object, and a label's value out of its range: nothing is counted then.
// Threads: any.
#ifndef SIGHT_DAEMON_METRICS_H
#define SIGHT_DAEMON_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "sight/protocol.h"

typedef struct metrics metrics;

typedef enum metric_id {
    // Requests.
    METRIC_REQUESTS,          // ended: verb, outcome
    METRIC_ANSWERS,           // ended asks: model, finish reason
    METRIC_REFUSALS,          // messages not taken in: error code
    METRIC_ERRORS,            // requests that ended with an error: error code
    METRIC_QUEUED,            // now: state, priority
    METRIC_QUEUE_BYTES,
    METRIC_WAIT_SECONDS,      // from arrival to the first work on it: priority
    METRIC_FIRST_TOKEN_SECONDS, // from arrival: priority
    METRIC_TOKEN_GAP_SECONDS, // between two tokens of an answer: priority
    METRIC_REQUEST_SECONDS,   // from arrival to end: verb
    METRIC_STAGE_SECONDS,     // of one request: stage
    METRIC_TOKENS,            // model, sort of token
    // The engine loop.
    METRIC_TURN_SECONDS,
    METRIC_TURN_LONGEST_SECONDS,
    METRIC_STEP_SEQUENCES,    // answers in one decode step
    METRIC_STEP_ROWS,         // rows in one step, prompt and answers
    // Replicas of models, each with an engine loop of its own; without any, of the one loop.
    METRIC_REPLICA_REQUESTS,  // now running: replica
    METRIC_REPLICA_BEGUN,     // requests begun: replica, why there
    METRIC_REPLICA_BUSY,      // seconds that requests took: replica
    // Stores and caches.
    METRIC_CACHE_HITS,        // model, cache
    METRIC_CACHE_MISSES,      // model, cache
    METRIC_CACHE_EVICTIONS,   // model, cache
    METRIC_CACHE_ENTRIES,     // model, cache
    METRIC_CACHE_BYTES,       // model, cache
    METRIC_MEMORY_BYTES,      // model, what for
    // Models.
    METRIC_MODEL_LOADED,      // model: 1 or 0
    METRIC_MODEL_LOADS,       // model
    METRIC_MODEL_UNLOADS,     // model
    METRIC_MODEL_LOAD_SECONDS,
    METRIC_ROUTED,            // answers begun again by a larger model: model (the larger)
    // Connections.
    METRIC_CONNECTIONS,
    METRIC_MESSAGES,          // verb
    METRIC_EVENTS,
    METRIC_RECEIVED_BYTES,
    METRIC_SENT_BYTES,
    METRIC_SLOW_READERS,      // clients dropped because they did not read
    METRIC_AUTHENTICATED,     // connections let in: class of identity
    METRIC_TURNED_AWAY,       // connections that were not: class of identity
    // Media.
    METRIC_DECODER_CHILDREN,
    METRIC_DECODER_STARTS,
    METRIC_DECODER_ENDS,      // how it ended
    METRIC_FETCHES,           // how it ended
    METRIC_FETCHED_BYTES,
    // The device.
    METRIC_DEVICE_BYTES,      // model
    METRIC_DEVICE_FAULTS,
    // The process.
    METRIC_RELOADS,           // good, bad
    METRIC_START_TIME,
    METRIC_CPU_SECONDS,
    METRIC_RESIDENT_BYTES,
    METRIC_OPEN_FILES,
    METRIC_MAX_FILES,
    METRIC_BUILD_INFO,
    METRIC_COUNT
} metric_id;

typedef enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM } metric_kind;

// Labels and their values. Verbs are sight_verb, codes sight_err.
typedef enum metric_label {
    LABEL_NONE,
    LABEL_VERB,
    LABEL_CODE,
    LABEL_OUTCOME,
    LABEL_REASON,
    LABEL_STATE,
    LABEL_PRIORITY,
    LABEL_STAGE,
    LABEL_TOKENS,
    LABEL_CACHE,
    LABEL_MEMORY,
    LABEL_CLASS,
    LABEL_ENDING,
    LABEL_RESULT,
    LABEL_REPLICA, // as many as metrics_count_replicas says
    LABEL_CHOICE,
    LABEL_MODEL, // metrics_name_model gives an index its name
    LABEL_COUNT
} metric_label;

typedef enum metric_outcome {
    BY_OUTCOME_DONE, BY_OUTCOME_ERROR, BY_OUTCOME_CANCELLED, BY_OUTCOME_TIMEOUT, BY_OUTCOME_GONE,
    BY_OUTCOME_STOPPED, BY_OUTCOME_COUNT
} metric_outcome;

typedef enum metric_reason {
    BY_REASON_STOP, BY_REASON_LENGTH, BY_REASON_REPETITION, BY_REASON_TOOL_CALLS, BY_REASON_CANCELLED,
    BY_REASON_OTHER, BY_REASON_COUNT
} metric_reason;

// As job_state.
typedef enum metric_state {
    BY_STATE_ARRIVED, BY_STATE_LOADING, BY_STATE_PLANNING, BY_STATE_FETCHING, BY_STATE_WAITING, BY_STATE_RUNNING,
    BY_STATE_COUNT
} metric_state;

typedef enum metric_priority {
    BY_PRIORITY_INTERACTIVE, BY_PRIORITY_CAMERA, BY_PRIORITY_BATCH, BY_PRIORITY_COUNT
} metric_priority;

typedef enum metric_stage {
    BY_STAGE_FETCH, BY_STAGE_DECODE, BY_STAGE_ENCODE, BY_STAGE_READ, BY_STAGE_GENERATE, BY_STAGE_COUNT
} metric_stage;

typedef enum metric_tokens {
    BY_TOKENS_PROMPT,    // read now
    BY_TOKENS_REUSED,    // read for an earlier request
    BY_TOKENS_VISUAL,    // of both, those that stand for pictures
    BY_TOKENS_GENERATED,
    BY_TOKENS_DRAFTED,
    BY_TOKENS_ACCEPTED,
    BY_TOKENS_COUNT
} metric_tokens;

typedef enum metric_cache {
    BY_CACHE_PREFIX, BY_CACHE_FEATURES, BY_CACHE_PREFIX_DISK, BY_CACHE_FEATURES_DISK, BY_CACHE_COUNT
} metric_cache;

typedef enum metric_memory {
    BY_MEMORY_WEIGHTS, BY_MEMORY_WORKSPACE, BY_MEMORY_VISION, BY_MEMORY_CACHES, BY_MEMORY_CACHE_BUDGET,
    BY_MEMORY_PROMISED, BY_MEMORY_BUDGET, BY_MEMORY_COUNT
} metric_memory;

typedef enum metric_class { BY_CLASS_NONE, BY_CLASS_UID, BY_CLASS_KEY, BY_CLASS_COUNT } metric_class;

// Of a child process or a transfer.
typedef enum metric_ending {
    BY_ENDING_DONE, BY_ENDING_FAILED, BY_ENDING_CRASHED, BY_ENDING_TIME, BY_ENDING_MEMORY, BY_ENDING_REFUSED,
    BY_ENDING_COUNT
} metric_ending;

typedef enum metric_result { BY_RESULT_GOOD, BY_RESULT_BAD, BY_RESULT_COUNT } metric_result;

// Why a request is worked on by this replica: it has read more of its prompt than others, or has less to do.
typedef enum metric_choice { BY_CHOICE_KEPT, BY_CHOICE_LOAD, BY_CHOICE_COUNT } metric_choice;

#define METRICS_REPLICAS   16
#define METRICS_MODELS     16 // the models of a daemon; those beyond are counted under the last
#define METRICS_LABELS_MAX 2  // of one metric
#define METRICS_NAME_SIZE  64

// One line of the table.
typedef struct metric_info {
    const char *name; // with Prometheus' suffixes
    metric_kind kind;
    const char *unit; // "seconds", "bytes", "tokens", ...
    metric_label labels[METRICS_LABELS_MAX];
    const char *help;
} metric_info;

const metric_info *metrics_info(metric_id id); // NULL outside the list
const char *metrics_label_name(metric_label label); // "verb"; NULL for LABEL_NONE
// "ask"; NULL outside the list, and for models.
const char *metrics_label_value(metric_label label, int value);

// SIGHT_E_MEMORY.
sight_err metrics_create(metrics **out);
void metrics_destroy(metrics **m); // accepts NULL; leaves NULL

// The model of that index in labels; cut at METRICS_NAME_SIZE - 1 bytes.
void metrics_name_model(metrics *m, int index, const char *name);

// There are so many replicas, at least; those beyond the most so far are not told.
void metrics_count_replicas(metrics *m, int n);
int metrics_replicas(const metrics *m);

// That name; false: it has none.
bool metrics_model_name(const metrics *m, int index, char out[METRICS_NAME_SIZE]);

// Of a metric without labels. Counters only grow: what is not over 0 is dropped.
void metrics_add(metrics *m, metric_id id, double value);
void metrics_set(metrics *m, metric_id id, double value);
void metrics_observe(metrics *m, metric_id id, double value);
// With the values of its labels, in the table's order; second is not looked at where there is one only.
void metrics_add_to(metrics *m, metric_id id, int first, int second, double value);
void metrics_set_at(metrics *m, metric_id id, int first, int second, double value);
void metrics_shift(metrics *m, metric_id id, int first, int second, double by); // a gauge, up or down
void metrics_observe_at(metrics *m, metric_id id, int first, int second, double value);
// A counter that is kept elsewhere (processor time): its value now.
void metrics_take(metrics *m, metric_id id, int first, int second, double value);
// A gauge that only rises.
void metrics_raise(metrics *m, metric_id id, double value);

// A counter's or gauge's value, a histogram's number of observations.
double metrics_get(const metrics *m, metric_id id, int first, int second);
double metrics_sum(const metrics *m, metric_id id, int first, int second); // of a histogram's observations
// A histogram's q-quantile (0..1), interpolated in its bucket; NAN: nothing observed.
double metrics_quantile(const metrics *m, metric_id id, int first, int second, double q);

// Everything, in the text exposition format 0.0.4.
void metrics_write(const metrics *m, buf *out);
#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

#endif
