#include "daemon/watch/metrics.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_BUCKETS 20

// Upper ends of a histogram's buckets, ascending; 0 ends them. The last bucket, without end, comes after.
typedef const double bounds[MAX_BUCKETS + 1];

static bounds short_s = {.001, .0025, .005, .01, .02, .03, .05, .1, .25, .5, 1, 2.5, 5, 10};
static bounds long_s = {.0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 3600};
static bounds few = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64};
static bounds many = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048};

typedef struct line {
    metric_info info;
    const double *buckets; // of histograms
} line;

#define COUNTER(id, name, unit, a, b, help) [id] = {{"sightd_" name, METRIC_COUNTER, unit, {a, b}, help}, NULL}
#define GAUGE(id, name, unit, a, b, help)   [id] = {{"sightd_" name, METRIC_GAUGE, unit, {a, b}, help}, NULL}
#define HISTOGRAM(id, name, unit, buckets, a, help) \
    [id] = {{"sightd_" name, METRIC_HISTOGRAM, unit, {a, LABEL_NONE}, help}, buckets}
#define PROCESS(id, name, kind, unit, help) [id] = {{"process_" name, kind, unit, {LABEL_NONE, LABEL_NONE}, help}, NULL}
#define NONE LABEL_NONE

// docs/OPERATIONS.md repeats it for people (tests/daemon/test_metrics.c compares).
static const line table[METRIC_COUNT] = {
    COUNTER(METRIC_REQUESTS, "requests_total", "requests", LABEL_VERB, LABEL_OUTCOME, "Requests that have ended"),
    COUNTER(METRIC_ANSWERS, "answers_total", "requests", LABEL_MODEL, LABEL_REASON, "Answers by why they ended"),
    COUNTER(METRIC_REFUSALS, "refusals_total", "messages", LABEL_CODE, NONE, "Messages that were not taken in"),
    COUNTER(METRIC_ERRORS, "errors_total", "requests", LABEL_CODE, NONE, "Requests that ended with an error"),
    GAUGE(METRIC_QUEUED, "requests", "requests", LABEL_STATE, LABEL_PRIORITY, "Requests now waiting and running"),
    GAUGE(METRIC_QUEUE_BYTES, "queue_bytes", "bytes", NONE, NONE, "Messages held for waiting and running requests"),
    HISTOGRAM(METRIC_WAIT_SECONDS, "wait_seconds", "seconds", long_s, LABEL_PRIORITY,
              "From a request's arrival to the first work on it"),
    HISTOGRAM(METRIC_FIRST_TOKEN_SECONDS, "first_token_seconds", "seconds", long_s, LABEL_PRIORITY,
              "From a request's arrival to its answer's first token"),
    HISTOGRAM(METRIC_TOKEN_GAP_SECONDS, "token_gap_seconds", "seconds", short_s, LABEL_PRIORITY,
              "Between two tokens of an answer"),
    HISTOGRAM(METRIC_REQUEST_SECONDS, "request_seconds", "seconds", long_s, LABEL_VERB, "From arrival to end"),
    HISTOGRAM(METRIC_STAGE_SECONDS, "stage_seconds", "seconds", long_s, LABEL_STAGE, "Spent on one request in one stage"),
    COUNTER(METRIC_TOKENS, "tokens_total", "tokens", LABEL_MODEL, LABEL_TOKENS, "Tokens by what became of them"),
    HISTOGRAM(METRIC_TURN_SECONDS, "turn_seconds", "seconds", short_s, NONE, "One turn of the engine loop"),
    GAUGE(METRIC_TURN_LONGEST_SECONDS, "turn_longest_seconds", "seconds", NONE, NONE,
          "The longest turn of the engine loop so far"),
    HISTOGRAM(METRIC_STEP_SEQUENCES, "step_sequences", "sequences", few, NONE, "Answers in one decode step"),
    HISTOGRAM(METRIC_STEP_ROWS, "step_rows", "rows", many, NONE, "Rows in one step of the text model"),
    GAUGE(METRIC_REPLICA_REQUESTS, "replica_requests", "requests", LABEL_REPLICA, NONE, "Requests now running on a replica"),
    COUNTER(METRIC_REPLICA_BEGUN, "replica_begun_total", "requests", LABEL_REPLICA, LABEL_CHOICE,
            "Requests begun on a replica, by why there"),
    COUNTER(METRIC_REPLICA_BUSY, "replica_busy_seconds_total", "seconds", LABEL_REPLICA, NONE,
            "Time that a replica's engine loop spent on requests"),
    COUNTER(METRIC_CACHE_HITS, "cache_hits_total", "lookups", LABEL_MODEL, LABEL_CACHE, "Lookups that found something"),
    COUNTER(METRIC_CACHE_MISSES, "cache_misses_total", "lookups", LABEL_MODEL, LABEL_CACHE, "Lookups that found nothing"),
    COUNTER(METRIC_CACHE_EVICTIONS, "cache_evictions_total", "entries", LABEL_MODEL, LABEL_CACHE, "Entries dropped for room"),
    GAUGE(METRIC_CACHE_ENTRIES, "cache_entries", "entries", LABEL_MODEL, LABEL_CACHE, "Entries now kept"),
    GAUGE(METRIC_CACHE_BYTES, "cache_bytes", "bytes", LABEL_MODEL, LABEL_CACHE, "What they take"),
    GAUGE(METRIC_MEMORY_BYTES, "memory_bytes", "bytes", LABEL_MODEL, LABEL_MEMORY, "Memory of a model, on its device"),
    GAUGE(METRIC_MODEL_LOADED, "model_loaded", "models", LABEL_MODEL, NONE, "1 where the model is loaded"),
    COUNTER(METRIC_MODEL_LOADS, "model_loads_total", "loads", LABEL_MODEL, NONE, "Times that the model was loaded"),
    COUNTER(METRIC_MODEL_UNLOADS, "model_unloads_total", "unloads", LABEL_MODEL, NONE,
            "Times that it was unloaded to make room or unused"),
    HISTOGRAM(METRIC_MODEL_LOAD_SECONDS, "model_load_seconds", "seconds", long_s, NONE, "Loading a model"),
    COUNTER(METRIC_ROUTED, "routed_total", "requests", LABEL_MODEL, NONE, "Requests handed on to that model by the router"),
    GAUGE(METRIC_CONNECTIONS, "connections", "connections", NONE, NONE, "Clients now connected"),
    COUNTER(METRIC_MESSAGES, "messages_total", "messages", LABEL_VERB, NONE, "Messages from clients that could be read"),
    COUNTER(METRIC_EVENTS, "events_total", "events", NONE, NONE, "Events sent to clients"),
    COUNTER(METRIC_RECEIVED_BYTES, "received_bytes_total", "bytes", NONE, NONE, "Bytes of messages from clients"),
    COUNTER(METRIC_SENT_BYTES, "sent_bytes_total", "bytes", NONE, NONE, "Bytes of events to clients"),
    COUNTER(METRIC_SLOW_READERS, "slow_readers_total", "clients", NONE, NONE,
            "Clients dropped because they did not read their events"),
    COUNTER(METRIC_AUTHENTICATED, "authenticated_total", "connections", LABEL_CLASS, NONE, "Connections that were let in"),
    COUNTER(METRIC_TURNED_AWAY, "turned_away_total", "connections", LABEL_CLASS, NONE, "Connections that were not"),
    GAUGE(METRIC_DECODER_CHILDREN, "decoder_children", "processes", NONE, NONE, "Decoder processes now alive"),
    COUNTER(METRIC_DECODER_STARTS, "decoder_starts_total", "processes", NONE, NONE, "Decoder processes started"),
    COUNTER(METRIC_DECODER_ENDS, "decoder_ends_total", "processes", LABEL_ENDING, NONE, "How decoder processes ended"),
    COUNTER(METRIC_FETCHES, "fetches_total", "transfers", LABEL_ENDING, NONE, "Media fetched from URLs, by how that ended"),
    COUNTER(METRIC_FETCHED_BYTES, "fetched_bytes_total", "bytes", NONE, NONE, "Bytes fetched from URLs"),
    GAUGE(METRIC_DEVICE_BYTES, "device_memory_bytes", "bytes", LABEL_MODEL, NONE, "Memory taken of a GPU for the model"),
    COUNTER(METRIC_DEVICE_FAULTS, "device_faults_total", "faults", NONE, NONE, "Times that a GPU has failed"),
    COUNTER(METRIC_RELOADS, "reloads_total", "reloads", LABEL_RESULT, NONE, "Times that the settings were read again"),
    PROCESS(METRIC_START_TIME, "start_time_seconds", METRIC_GAUGE, "seconds", "When the process started, Unix time"),
    PROCESS(METRIC_CPU_SECONDS, "cpu_seconds_total", METRIC_COUNTER, "seconds", "Processor time, user and system"),
    PROCESS(METRIC_RESIDENT_BYTES, "resident_memory_bytes", METRIC_GAUGE, "bytes", "Memory of the process that is in RAM"),
    PROCESS(METRIC_OPEN_FILES, "open_fds", METRIC_GAUGE, "files", "Open file descriptors"),
    PROCESS(METRIC_MAX_FILES, "max_fds", METRIC_GAUGE, "files", "As many may be open"),
    GAUGE(METRIC_BUILD_INFO, "build_info", "constant", NONE, NONE, "1; the version is a label"),
};

static const char *const outcomes[] = {"done", "error", "cancelled", "timeout", "gone", "stopped"};
static const char *const reasons[] = {"stop", "length", "repetition", "tool_calls", "cancelled", "other"};
static const char *const states[] = {"arrived", "loading", "planning", "fetching", "waiting", "running"};
static const char *const priorities[] = {"interactive", "camera", "batch"};
static const char *const stage_names[] = {"fetch", "decode", "encode", "read", "generate"};
static const char *const token_names[] = {"prompt", "reused", "visual", "generated", "drafted", "accepted"};
static const char *const cache_names[] = {"prefix", "features", "prefix_disk", "features_disk"};
static const char *const memories[] = {"weights", "workspace", "vision", "caches", "cache_budget", "promised", "budget"};
static const char *const classes[] = {"none", "uid", "key"};
static const char *const endings[] = {"done", "failed", "crashed", "time", "memory", "refused"};
static const char *const choices[] = {"kept", "load"};
static const char *const numbers[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"};
static const char *const results[] = {"good", "bad"};

static const struct {
    const char *name;
    int n;
    const char *const *values; // NULL: verbs, codes and models have their own
} labels[LABEL_COUNT] = {
    [LABEL_NONE] = {NULL, 1, NULL},
    [LABEL_VERB] = {"verb", SIGHT_VERB_COUNT, NULL},
    [LABEL_CODE] = {"code", SIGHT_E_COUNT, NULL},
    [LABEL_OUTCOME] = {"outcome", BY_OUTCOME_COUNT, outcomes},
    [LABEL_REASON] = {"reason", BY_REASON_COUNT, reasons},
    [LABEL_STATE] = {"state", BY_STATE_COUNT, states},
    [LABEL_PRIORITY] = {"priority", BY_PRIORITY_COUNT, priorities},
    [LABEL_STAGE] = {"stage", BY_STAGE_COUNT, stage_names},
    [LABEL_TOKENS] = {"kind", BY_TOKENS_COUNT, token_names},
    [LABEL_CACHE] = {"cache", BY_CACHE_COUNT, cache_names},
    [LABEL_MEMORY] = {"what", BY_MEMORY_COUNT, memories},
    [LABEL_CLASS] = {"class", BY_CLASS_COUNT, classes},
    [LABEL_ENDING] = {"ending", BY_ENDING_COUNT, endings},
    [LABEL_RESULT] = {"result", BY_RESULT_COUNT, results},
    [LABEL_REPLICA] = {"replica", METRICS_REPLICAS, numbers},
    [LABEL_CHOICE] = {"choice", BY_CHOICE_COUNT, choices},
    [LABEL_MODEL] = {"model", METRICS_MODELS, NULL},
};

// A series is one cell with a double's bits; a histogram's is a cell per bucket, one for what is above them,
// and the sum's.
typedef _Atomic uint64_t cell;

struct metrics {
    size_t first[METRIC_COUNT]; // cell where the metric's series begin
    cell *cells;
    atomic_int replicas; // of which series are written out
    pthread_mutex_t mutex; // guards the names, which are read to write them out only
    char models[METRICS_MODELS][METRICS_NAME_SIZE];
};

// ---- the table ----

const metric_info *metrics_info(metric_id id)
{
    return (unsigned)id < METRIC_COUNT ? &table[id].info : NULL;
}

const char *metrics_label_name(metric_label label)
{
    return (unsigned)label < LABEL_COUNT ? labels[label].name : NULL;
}

const char *metrics_label_value(metric_label label, int value)
{
    if ((unsigned)label >= LABEL_COUNT || value < 0 || value >= labels[label].n) return NULL;
    if (label == LABEL_VERB) return sight_verb_name((sight_verb)value);
    if (label == LABEL_CODE) return sight_err_name((sight_err)value);
    return labels[label].values ? labels[label].values[value] : NULL;
}

static size_t count_buckets(metric_id id)
{
    size_t n = 0;
    while (table[id].buckets && table[id].buckets[n]) n++;
    return n;
}

// Cells of one series.
static size_t cells_of(metric_id id)
{
    return table[id].info.kind == METRIC_HISTOGRAM ? count_buckets(id) + 2 : 1;
}

static size_t count_series(metric_id id)
{
    const metric_label *l = table[id].info.labels;
    return (size_t)labels[l[0]].n * (size_t)labels[l[1]].n;
}

sight_err metrics_create(metrics **out)
{
    metrics *m = calloc(1, sizeof *m);
    if (!m) return sight_fail(SIGHT_E_MEMORY, "no memory for counters");
    size_t n = 0;
    for (int id = 0; id < METRIC_COUNT; id++) {
        m->first[id] = n;
        n += count_series((metric_id)id) * cells_of((metric_id)id);
    }
    m->cells = calloc(n, sizeof *m->cells); // the bits of 0 and of 0.0 are alike
    if (!m->cells) {
        free(m);
        return sight_fail(SIGHT_E_MEMORY, "no memory for %zu counters", n);
    }
    pthread_mutex_init(&m->mutex, NULL);
    atomic_init(&m->replicas, 1);
    metrics_set(m, METRIC_START_TIME, (double)time(NULL));
    *out = m;
    return SIGHT_OK;
}

void metrics_destroy(metrics **p)
{
    metrics *m = *p;
    if (!m) return;
    pthread_mutex_destroy(&m->mutex);
    free(m->cells);
    free(m);
    *p = NULL;
}

void metrics_name_model(metrics *m, int index, const char *name)
{
    if (!m || index < 0 || index >= METRICS_MODELS) return;
    pthread_mutex_lock(&m->mutex);
    snprintf(m->models[index], METRICS_NAME_SIZE, "%s", name);
    pthread_mutex_unlock(&m->mutex);
}

void metrics_count_replicas(metrics *m, int n)
{
    if (!m || n > METRICS_REPLICAS) return;
    int most = atomic_load(&m->replicas);
    while (n > most && !atomic_compare_exchange_weak(&m->replicas, &most, n)) {
    }
}

int metrics_replicas(const metrics *m)
{
    return m ? atomic_load(&m->replicas) : 1;
}

bool metrics_model_name(const metrics *cm, int index, char out[METRICS_NAME_SIZE])
{
    metrics *m = (metrics *)cm; // the names' lock
    if (!m || index < 0 || index >= METRICS_MODELS) return false;
    pthread_mutex_lock(&m->mutex);
    memcpy(out, m->models[index], METRICS_NAME_SIZE);
    pthread_mutex_unlock(&m->mutex);
    return *out != 0;
}

// ---- cells ----

static uint64_t bits_of(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static double value_of(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static double read_cell(const cell *c)
{
    return value_of(atomic_load_explicit(c, memory_order_relaxed));
}

static void add_cell(cell *c, double value)
{
    uint64_t seen = atomic_load_explicit(c, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(c, &seen, bits_of(value_of(seen) + value), memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
}

static int clip_model(metric_label label, int value)
{
    return label == LABEL_MODEL && value >= METRICS_MODELS ? METRICS_MODELS - 1 : value;
}

// The series of these labels; NULL: there is none, or the metric is of another kind.
static cell *find_cell(const metrics *m, metric_id id, metric_kind kind, int first, int second)
{
    if (!m || (unsigned)id >= METRIC_COUNT || table[id].info.kind != kind) return NULL;
    const metric_label *l = table[id].info.labels;
    first = l[0] ? clip_model(l[0], first) : 0;
    second = l[1] ? clip_model(l[1], second) : 0;
    if (first < 0 || first >= labels[l[0]].n || second < 0 || second >= labels[l[1]].n) return NULL;
    const size_t series = (size_t)first * (size_t)labels[l[1]].n + (size_t)second;
    return m->cells + m->first[id] + series * cells_of(id);
}

// ---- adding ----

void metrics_add_to(metrics *m, metric_id id, int first, int second, double value)
{
    cell *c = find_cell(m, id, METRIC_COUNTER, first, second);
    if (c && value > 0 && isfinite(value)) add_cell(c, value);
}

void metrics_set_at(metrics *m, metric_id id, int first, int second, double value)
{
    cell *c = find_cell(m, id, METRIC_GAUGE, first, second);
    if (c) atomic_store_explicit(c, bits_of(value), memory_order_relaxed);
}

void metrics_shift(metrics *m, metric_id id, int first, int second, double by)
{
    cell *c = find_cell(m, id, METRIC_GAUGE, first, second);
    if (c && by != 0) add_cell(c, by);
}

void metrics_observe_at(metrics *m, metric_id id, int first, int second, double value)
{
    cell *c = find_cell(m, id, METRIC_HISTOGRAM, first, second);
    if (!c || !isfinite(value)) return;
    const double *b = table[id].buckets;
    size_t i = 0;
    while (b[i] && value > b[i]) i++;
    atomic_fetch_add_explicit(&c[i], 1, memory_order_relaxed);
    add_cell(&c[count_buckets(id) + 1], value);
}

void metrics_add(metrics *m, metric_id id, double value)
{
    metrics_add_to(m, id, 0, 0, value);
}

void metrics_set(metrics *m, metric_id id, double value)
{
    metrics_set_at(m, id, 0, 0, value);
}

void metrics_observe(metrics *m, metric_id id, double value)
{
    metrics_observe_at(m, id, 0, 0, value);
}

void metrics_raise(metrics *m, metric_id id, double value)
{
    cell *c = find_cell(m, id, METRIC_GAUGE, 0, 0);
    if (!c) return;
    uint64_t seen = atomic_load_explicit(c, memory_order_relaxed);
    while (value > value_of(seen) &&
           !atomic_compare_exchange_weak_explicit(c, &seen, bits_of(value), memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
}

void metrics_take(metrics *m, metric_id id, int first, int second, double value)
{
    cell *c = find_cell(m, id, METRIC_COUNTER, first, second);
    if (c) atomic_store_explicit(c, bits_of(value), memory_order_relaxed);
}

// ---- reading ----

// A histogram's buckets as they are, not summed up, the endless one last; gives their sum.
static uint64_t read_buckets(uint64_t out[MAX_BUCKETS + 1], const cell *c, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i <= n; i++) sum += out[i] = atomic_load_explicit(&c[i], memory_order_relaxed);
    return sum;
}

double metrics_get(const metrics *m, metric_id id, int first, int second)
{
    if ((unsigned)id >= METRIC_COUNT) return 0;
    const cell *c = find_cell(m, id, table[id].info.kind, first, second);
    if (!c) return 0;
    if (table[id].info.kind != METRIC_HISTOGRAM) return read_cell(c);
    uint64_t counts[MAX_BUCKETS + 1];
    return (double)read_buckets(counts, c, count_buckets(id));
}

double metrics_quantile(const metrics *m, metric_id id, int first, int second, double q)
{
    const cell *c = find_cell(m, id, METRIC_HISTOGRAM, first, second);
    if (!c) return NAN;
    uint64_t counts[MAX_BUCKETS + 1];
    const size_t n = count_buckets(id);
    const double *b = table[id].buckets, wanted = q * (double)read_buckets(counts, c, n);
    double below = 0;
    for (size_t i = 0; i < n; i++) {
        const double here = (double)counts[i], from = i ? b[i - 1] : 0;
        if (here && below + here >= wanted) return from + (b[i] - from) * (wanted - below) / here;
        below += here;
    }
    return counts[n] ? b[n - 1] : NAN; // above the last bound nobody knows
}

double metrics_sum(const metrics *m, metric_id id, int first, int second)
{
    const cell *c = find_cell(m, id, METRIC_HISTOGRAM, first, second);
    return c ? read_cell(&c[count_buckets(id) + 1]) : 0;
}

// ---- the text ----

static void write_number(buf *out, double v)
{
    if (isnan(v)) buf_puts(out, "NaN");
    else if (isinf(v)) buf_puts(out, v > 0 ? "+Inf" : "-Inf");
    else if (v == floor(v) && fabs(v) < 1e15) buf_printf(out, "%.0f", v);
    else buf_printf(out, "%.15g", v);
}

// quotes: of a label's value, where they are escaped too.
static void write_escaped(buf *out, const char *text, bool quotes)
{
    for (; *text; text++) {
        if (*text == '\\') buf_puts(out, "\\\\");
        else if (*text == '\n') buf_puts(out, "\\n");
        else if (*text == '"' && quotes) buf_puts(out, "\\\"");
        else buf_putc(out, *text);
    }
}

typedef struct pair {
    const char *name, *value;
} pair;

static void write_pairs(buf *out, const pair *pairs, int n)
{
    char before = '{';
    for (int i = 0; i < n; i++) {
        if (!pairs[i].name) continue;
        buf_printf(out, "%c%s=\"", before, pairs[i].name);
        write_escaped(out, pairs[i].value, true);
        buf_putc(out, '"');
        before = ',';
    }
    if (before == ',') buf_putc(out, '}');
}

static void write_sample(buf *out, const char *name, const char *suffix, const pair *pairs, int n, double v)
{
    buf_puts(out, name);
    buf_puts(out, suffix);
    write_pairs(out, pairs, n);
    buf_putc(out, ' ');
    write_number(out, v);
    buf_putc(out, '\n');
}

// pairs has room for one more, the bucket's.
static void write_histogram(buf *out, metric_id id, const cell *c, pair pairs[METRICS_LABELS_MAX + 1])
{
    const char *name = table[id].info.name;
    const size_t n = count_buckets(id);
    uint64_t counts[MAX_BUCKETS + 1], sum = 0;
    read_buckets(counts, c, n);
    for (size_t i = 0; i <= n; i++) {
        char le[32] = "+Inf";
        if (i < n) snprintf(le, sizeof le, "%g", table[id].buckets[i]);
        sum += counts[i];
        pairs[METRICS_LABELS_MAX] = (pair){"le", le};
        write_sample(out, name, "_bucket", pairs, METRICS_LABELS_MAX + 1, (double)sum);
    }
    write_sample(out, name, "_sum", pairs, METRICS_LABELS_MAX, read_cell(&c[n + 1]));
    write_sample(out, name, "_count", pairs, METRICS_LABELS_MAX, (double)sum);
}

// Fills in a label; false: it has no such value (a model without a name).
static bool fill_pair(pair *out, const metrics *m, metric_label label, int value)
{
    *out = (pair){labels[label].name, NULL};
    if (label == LABEL_NONE) return true;
    if (label == LABEL_REPLICA && value >= atomic_load(&m->replicas)) return false;
    out->value = label == LABEL_MODEL ? m->models[value] : metrics_label_value(label, value);
    return out->value && *out->value;
}

static void write_series(buf *out, const metrics *m, metric_id id, int first, int second)
{
    const metric_info *info = &table[id].info;
    pair pairs[METRICS_LABELS_MAX + 1];
    if (!fill_pair(&pairs[0], m, info->labels[0], first) || !fill_pair(&pairs[1], m, info->labels[1], second)) return;
    const cell *c = find_cell(m, id, info->kind, first, second);
    if (id == METRIC_BUILD_INFO) {
        pairs[0] = (pair){"version", SIGHT_VERSION};
        pairs[1] = (pair){"protocol", SIGHT_PROTOCOL};
        write_sample(out, info->name, "", pairs, 2, 1);
    } else if (info->kind == METRIC_HISTOGRAM) {
        write_histogram(out, id, c, pairs);
    } else {
        write_sample(out, info->name, "", pairs, METRICS_LABELS_MAX, read_cell(c));
    }
}

static void write_metric(buf *out, const metrics *m, metric_id id)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    const metric_info *info = &table[id].info;
    buf_printf(out, "# HELP %s ", info->name);
    write_escaped(out, info->help, false);
    buf_printf(out, "\n# TYPE %s %s\n", info->name, kinds[info->kind]);
    for (int i = 0; i < labels[info->labels[0]].n; i++) {
        for (int j = 0; j < labels[info->labels[1]].n; j++) write_series(out, m, id, i, j);
    }
}

void metrics_write(const metrics *cm, buf *out)
{
    metrics *m = (metrics *)cm; // the names' lock
    if (!m) return;
    pthread_mutex_lock(&m->mutex);
    for (int id = 0; id < METRIC_COUNT; id++) write_metric(out, m, (metric_id)id);
    pthread_mutex_unlock(&m->mutex);
}
