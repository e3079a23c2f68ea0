#include "daemon/replica.h"

// By what is to do there.
static int least_loaded(const replica_view *v, int n)
{
    int best = -1;
    for (int i = 0; i < n; i++) {
        if (!v[i].usable) continue;
        const bool less = best < 0 || v[i].left_s < v[best].left_s ||
                          (v[i].left_s == v[best].left_s && v[i].running < v[best].running);
        if (less) best = i;
    }
    return best;
}

// By what is kept there, of two alike the one with less to do; -1: nothing is.
static int most_kept(const replica_view *v, int n)
{
    int best = -1;
    for (int i = 0; i < n; i++) {
        if (!v[i].usable || v[i].kept <= 0) continue;
        const bool more = best < 0 || v[i].kept > v[best].kept ||
                          (v[i].kept == v[best].kept && v[i].left_s < v[best].left_s);
        if (more) best = i;
    }
    return best;
}

// Until the request has been read there, in seconds of that engine's time.
static double until_read(const replica_view *v, int32_t prompt, double token_s)
{
    return v->left_s + token_s * (double)(prompt > v->kept ? prompt - v->kept : 0);
}

static bool is_clearly_busier(const replica_view *a, const replica_view *than, int32_t prompt, double token_s)
{
    if (token_s <= 0) return a->running > than->running + 1;
    return until_read(a, prompt, token_s) > until_read(than, prompt, token_s) + REPLICA_STAY_S;
}

// Where it would be read first, of those that are not the one that has kept most.
static int soonest_read(const replica_view *v, int n, int but, int32_t prompt, double token_s)
{
    int best = -1;
    for (int i = 0; i < n; i++) {
        if (!v[i].usable || i == but) continue;
        if (best < 0 || until_read(&v[i], prompt, token_s) < until_read(&v[best], prompt, token_s)) best = i;
    }
    return best;
}

int replica_choose(const replica_view *v, int n, int32_t prompt, double token_s, bool *for_kept)
{
    const int least = least_loaded(v, n), kept = most_kept(v, n);
    *for_kept = false;
    if (kept < 0) return least;
    const int other = token_s > 0 ? soonest_read(v, n, kept, prompt, token_s) : least;
    if (other >= 0 && is_clearly_busier(&v[kept], &v[other], prompt, token_s)) return other;
    *for_kept = true;
    return kept;
}
