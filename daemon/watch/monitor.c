#include "daemon/watch/monitor.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "daemon/replica.h"
#include "daemon/watch/notify.h"
#include "daemon/watch/scrape.h"

struct monitor {
    metrics *metrics;
    health health;
    pulse *pulse;
    scrape *scrape; // NULL: no endpoint
    char *address;  // as the settings have it
    scrape *fresh;  // between monitor_prepare and _commit
    char *fresh_address;
    double watchdog_s;
};

// ---- for the endpoint, on its thread ----

static void write_metrics(void *arg, buf *out)
{
    metrics_write(((monitor *)arg)->metrics, out);
}

static bool write_health(void *arg, buf *out)
{
    char line[128];
    const bool good = health_good(&((monitor *)arg)->health, clock_now_s(), line, sizeof line);
    buf_printf(out, "%s\n", line);
    return good;
}

// ---- the server's ----

static sight_err open_endpoint(monitor *m, scrape **out, char **address, const char *wanted)
{
    const scrape_source source = {write_metrics, write_health, m};
    char *copy = strdup(wanted);
    if (!copy) return sight_fail(SIGHT_E_MEMORY, "no memory for the metrics endpoint");
    sight_err err = scrape_open(out, wanted, &source);
    if (err) {
        free(copy);
        return err;
    }
    *address = copy;
    log_line(LOG_INFO, "metrics at http://%s/metrics", scrape_address(*out));
    if (!scrape_is_local(wanted)) {
        log_line(LOG_WARNING, "metrics are served to whoever reaches %s, without encryption or password",
                 scrape_address(*out));
    }
    return SIGHT_OK;
}

sight_err monitor_create(monitor **out, const options *o, const heartbeat *beats, double now_s)
{
    monitor *m = calloc(1, sizeof *m);
    if (!m) return sight_fail(SIGHT_E_MEMORY, "no memory for monitoring");
    m->metrics = o->engine.metrics;
    health_init(&m->health, beats, REPLICAS_MAX, o->stuck_s, now_s);
    m->watchdog_s = notify_watchdog_s();
    const pulse_options po = {.metrics = m->metrics, .health = &m->health, .watchdog_s = m->watchdog_s,
                              .notify = notify_send};
    sight_err err = pulse_create(&m->pulse, &po, now_s);
    if (!err && o->metrics) err = open_endpoint(m, &m->scrape, &m->address, o->metrics);
    if (err) monitor_destroy(&m);
    else *out = m;
    return err;
}

void monitor_destroy(monitor **p)
{
    monitor *m = *p;
    if (!m) return;
    scrape_close(&m->scrape); // before what it asks
    pulse_destroy(&m->pulse);
    free(m->address);
    free(m);
    *p = NULL;
}

sight_err monitor_prepare(monitor *m, const options *o)
{
    if (!o->metrics || scrape_same(m->address, o->metrics)) return SIGHT_OK;
    return open_endpoint(m, &m->fresh, &m->fresh_address, o->metrics);
}

void monitor_commit(monitor *m, const options *o)
{
    if (o) health_set_stuck(&m->health, o->stuck_s);
    if (o && !scrape_same(m->address, o->metrics)) {
        scrape_close(&m->scrape);
        free(m->address);
        m->scrape = m->fresh;
        m->address = m->fresh_address;
        m->fresh = NULL;
        m->fresh_address = NULL;
    }
    scrape_close(&m->fresh);
    free(m->fresh_address);
    m->fresh_address = NULL;
}

bool monitor_turn(monitor *m, const pulse_view *v, double now_s)
{
    atomic_store(&m->health.ending, v->stopping);
    return pulse_turn(m->pulse, v, now_s);
}

bool monitor_engine(const monitor *m, double *turn_s, double now_s)
{
    *turn_s = health_turn_s(&m->health, now_s);
    return health_engine(&m->health, now_s);
}

void monitor_read(monitor *m, int64_t tokens)
{
    pulse_read(m->pulse, tokens);
}

pulse_rates monitor_rates(const monitor *m)
{
    return pulse_get_rates(m->pulse);
}

int monitor_wait_ms(const monitor *m, int most_ms)
{
    const double ms = m->watchdog_s > 0 ? m->watchdog_s * 500 : most_ms;
    return ms < most_ms ? (int)ms : most_ms;
}

const char *monitor_address(const monitor *m)
{
    return m->scrape ? scrape_address(m->scrape) : NULL;
}
