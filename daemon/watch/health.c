#include "daemon/watch/health.h"

#include <stdio.h>

void health_init(health *h, const heartbeat *engines, int n_engines, double stuck_s, double now_s)
{
    h->engines = engines;
    h->n_engines = n_engines;
    atomic_store(&h->ending, false);
    health_set_stuck(h, stuck_s);
    health_turn(h, now_s);
}

void health_turn(health *h, double now_s)
{
    atomic_store(&h->server_us, (int64_t)(now_s * 1e6));
}

void health_set_stuck(health *h, double stuck_s)
{
    atomic_store(&h->stuck_us, (int64_t)(stuck_s * 1e6));
}

double health_turn_s(const health *h, double now_s)
{
    double longest = 0;
    for (int i = 0; i < h->n_engines; i++) {
        const double s = heartbeat_turn_s(&h->engines[i], now_s);
        if (s > longest) longest = s;
    }
    return longest;
}

bool health_engine(const health *h, double now_s)
{
    return health_turn_s(h, now_s) <= 1e-6 * (double)atomic_load(&h->stuck_us);
}

bool health_good(const health *h, double now_s, char *line, size_t size)
{
    const double silent_s = now_s - 1e-6 * (double)atomic_load(&h->server_us);
    snprintf(line, size, "ok");
    if (!health_engine(h, now_s)) {
        snprintf(line, size, "the engine loop has been in one turn for %.0f s", health_turn_s(h, now_s));
    } else if (silent_s > HEALTH_SERVER_S) {
        snprintf(line, size, "the server loop has been in one turn for %.0f s", silent_s);
    } else if (atomic_load(&h->ending)) {
        snprintf(line, size, "stopping");
    } else {
        return true;
    }
    return false;
}
