#include "daemon/watch/pulse.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

#define STATUS_S 5.0 // systemd is told of the queue at most so often
#define FILES_S  10  // seconds between two counts of open files

typedef struct sample {
    double at_s, generated, read, ended, steps, rows;
} sample;

struct pulse {
    pulse_options o;
    double second_s, fed_s, told_s; // when each was last done
    int seconds;
    int64_t read; // prompt tokens so far
    sample samples[PULSE_RATE_S + 1]; // a ring, one a second
    int n_samples, newest;
    bool was_stuck;
    char status[160]; // as systemd was told
};

sight_err pulse_create(pulse **out, const pulse_options *o, double now_s)
{
    pulse *p = calloc(1, sizeof *p);
    if (!p) return sight_fail(SIGHT_E_MEMORY, "no memory for rates");
    p->o = *o;
    p->second_s = now_s - 1;
    p->told_s = now_s - STATUS_S;
    *out = p;
    return SIGHT_OK;
}

void pulse_destroy(pulse **p)
{
    free(*p);
    *p = NULL;
}

void pulse_read(pulse *p, int64_t tokens)
{
    if (tokens > 0) p->read += tokens;
}

// ---- gauges of the process ----

static double seconds_of(struct timeval t)
{
    return (double)t.tv_sec + 1e-6 * (double)t.tv_usec;
}

static int count_files(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = -1; // the folder's own
    if (!d) return 0;
    while (readdir(d)) n++;
    closedir(d);
    return n - 2; // . and ..
}

static void measure_memory(metrics *m)
{
    long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) return;
    if (fscanf(f, "%*d %lld", &pages) == 1) {
        metrics_set(m, METRIC_RESIDENT_BYTES, (double)pages * (double)sysconf(_SC_PAGESIZE));
    }
    fclose(f);
}

static void measure_process(pulse *p)
{
    metrics *m = p->o.metrics;
    struct rusage use;
    struct rlimit files;
    if (!getrusage(RUSAGE_SELF, &use)) {
        metrics_take(m, METRIC_CPU_SECONDS, 0, 0, seconds_of(use.ru_utime) + seconds_of(use.ru_stime));
    }
    measure_memory(m);
    if (p->seconds % FILES_S) return;
    metrics_set(m, METRIC_OPEN_FILES, count_files());
    if (!getrlimit(RLIMIT_NOFILE, &files)) metrics_set(m, METRIC_MAX_FILES, (double)files.rlim_cur);
}

// ---- the queue ----

static void count_queue(int counts[BY_STATE_COUNT][BY_PRIORITY_COUNT], const scheduler *queue)
{
    memset(counts, 0, sizeof(int) * BY_STATE_COUNT * BY_PRIORITY_COUNT);
    for (int i = 0; i < scheduler_count(queue); i++) {
        const job *j = scheduler_get(queue, i);
        counts[j->state][j->class]++;
    }
}

static void measure_queue(const pulse *p, const pulse_view *v)
{
    int counts[BY_STATE_COUNT][BY_PRIORITY_COUNT];
    count_queue(counts, v->queue);
    for (int s = 0; s < BY_STATE_COUNT; s++) {
        for (int i = 0; i < BY_PRIORITY_COUNT; i++) metrics_set_at(p->o.metrics, METRIC_QUEUED, s, i, counts[s][i]);
    }
    int running[METRICS_REPLICAS] = {0};
    for (int i = 0; i < scheduler_count(v->queue); i++) {
        const job *j = scheduler_get(v->queue, i);
        running[j->replica] += j->state == JOB_RUNNING;
    }
    for (int i = 0; i < METRICS_REPLICAS; i++) metrics_set_at(p->o.metrics, METRIC_REPLICA_REQUESTS, i, 0, running[i]);
    metrics_set(p->o.metrics, METRIC_QUEUE_BYTES, (double)scheduler_bytes(v->queue));
    metrics_set(p->o.metrics, METRIC_CONNECTIONS, v->connections);
}

// ---- rates ----

static double sum_of(const metrics *m, metric_id id, int second, int firsts)
{
    double sum = 0;
    for (int i = 0; i < firsts; i++) sum += metrics_get(m, id, i, second);
    return sum;
}

static void take_sample(pulse *p, double now_s)
{
    const metrics *m = p->o.metrics;
    sample s = {.at_s = now_s, .read = (double)p->read};
    s.generated = sum_of(m, METRIC_TOKENS, BY_TOKENS_GENERATED, METRICS_MODELS);
    for (int i = 0; i < BY_OUTCOME_COUNT; i++) s.ended += metrics_get(m, METRIC_REQUESTS, SIGHT_ASK, i);
    s.steps = metrics_get(m, METRIC_STEP_SEQUENCES, 0, 0);
    s.rows = metrics_sum(m, METRIC_STEP_SEQUENCES, 0, 0);
    p->newest = (p->newest + 1) % (PULSE_RATE_S + 1);
    p->samples[p->newest] = s;
    if (p->n_samples < PULSE_RATE_S + 1) p->n_samples++;
}

pulse_rates pulse_get_rates(const pulse *p)
{
    if (p->n_samples < 2) return (pulse_rates){0};
    const int ring = PULSE_RATE_S + 1;
    const sample *b = &p->samples[p->newest], *a = &p->samples[(p->newest + ring - p->n_samples + 1) % ring];
    const double s = b->at_s - a->at_s;
    if (s <= 0) return (pulse_rates){0};
    const double steps = b->steps - a->steps;
    return (pulse_rates){.generated_per_s = (b->generated - a->generated) / s,
                         .read_per_s = (b->read - a->read) / s,
                         .ended_per_s = (b->ended - a->ended) / s,
                         .batch = steps > 0 ? (b->rows - a->rows) / steps : 0};
}

// ---- systemd ----

// Gives whether the engine loop makes progress, and says once when it does not.
static bool check_engine(pulse *p, double now_s)
{
    const bool good = health_engine(p->o.health, now_s);
    if (!good && !p->was_stuck) {
        log_line(LOG_ERROR, "the engine loop has been in one turn for %.0f s%s",
                 health_turn_s(p->o.health, now_s),
                 p->o.watchdog_s > 0 ? "; systemd's watchdog is not fed any more" : "");
    }
    if (good && p->was_stuck) log_line(LOG_WARNING, "the engine loop turns again");
    p->was_stuck = !good;
    return good;
}

static void feed_watchdog(pulse *p, double now_s)
{
    const bool good = check_engine(p, now_s);
    if (!good || p->o.watchdog_s <= 0 || (p->fed_s && now_s - p->fed_s < p->o.watchdog_s)) return;
    p->o.notify("WATCHDOG=1");
    p->fed_s = now_s;
}

static void tell_status(pulse *p, const pulse_view *v, double now_s)
{
    int running = 0;
    char text[sizeof p->status];
    if (now_s - p->told_s < STATUS_S && !v->stopping) return;
    for (int i = 0; i < scheduler_count(v->queue); i++) running += scheduler_get(v->queue, i)->state == JOB_RUNNING;
    const int waiting = scheduler_count(v->queue) - running;
    if (v->stopping) {
        snprintf(text, sizeof text, "STATUS=Stopping: %d requests have %.0f s to end", running + waiting, v->stop_left_s);
    } else {
        snprintf(text, sizeof text, "STATUS=%d running, %d waiting, %.0f tokens/s, %d clients", running, waiting,
                 pulse_get_rates(p).generated_per_s, v->connections);
    }
    p->told_s = now_s;
    if (!strcmp(text, p->status)) return;
    strcpy(p->status, text);
    p->o.notify(text);
}

bool pulse_turn(pulse *p, const pulse_view *v, double now_s)
{
    health_turn(p->o.health, now_s);
    feed_watchdog(p, now_s);
    if (now_s - p->second_s < 1) return false;
    p->second_s = now_s;
    measure_queue(p, v);
    measure_process(p);
    take_sample(p, now_s);
    p->seconds++;
    tell_status(p, v, now_s);
    return true;
}
