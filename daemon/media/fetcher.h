// daemon/media/fetcher.h - fetching what requests name by URL, a few media at a time, before they are priced.
//
// Threads of its own fetch; each takes the next medium of whoever has the fewest under way, so one who asks for many slow ones does
// not hold up others, and no identity has more than half of the threads. What is fetched lies in memory until its request is over,
// and all of it together is bounded.
// Threads: fetcher_add, _drop and _forget any; the rest by its owner.
#ifndef SIGHT_DAEMON_FETCHER_H
#define SIGHT_DAEMON_FETCHER_H

#include <stdatomic.h>

#include "daemon/media/fetch.h"
#include "daemon/watch/metrics.h"
#include "daemon/request.h"

typedef struct fetcher fetcher;

typedef struct fetcher_options {
    const char *const *hosts; // as url_hosts_create takes them
    size_t n_hosts;
    fetch_rules rules; // its hosts are set from these
    int32_t threads;
    int64_t max_bytes; // of all that lies fetched
    metrics *metrics;  // borrowed; NULL: none
} fetcher_options;

// The media of one request. The caller's, zeroed first; it must stay where it is from fetcher_add until `over` was called or
// fetcher_drop took it back, and be forgotten after that.
typedef struct fetch_work {
    request *asked;            // its media with a url get their fd
    const identity *who;
    const atomic_bool *cancel;
    int64_t max_bytes;         // of one medium, beside the rules'
    // By a fetching thread: bytes so far, of total (0: not known), at most ten times a second; and as the last thing that is done with it.
    void (*told)(void *arg, int64_t done, int64_t total);
    void (*over)(void *arg);
    void *arg;
    // How it ended.
    sight_err err;
    char line[1024];
    int64_t bytes; // counted until it is forgotten
    // The fetcher's own.
    struct fetch_work *next;
    int32_t at, running; // the first medium that nobody has taken
    int32_t n_unknown;   // media whose length is not known (yet)
    int64_t total;       // of those where it is
    double told_s;
    atomic_bool failed; // one medium: the others are given up
} fetch_work;

// SIGHT_E_UNSUPPORTED (no libcurl), SIGHT_E_ARGUMENT (hosts), SIGHT_E_MEMORY.
sight_err fetcher_create(fetcher **out, const fetcher_options *o);
// Nothing may be under way. Accepts NULL; leaves NULL.
void fetcher_destroy(fetcher **f);
// Lets go of all that was added, once what is being fetched has ended: set the cancel flags first.
void fetcher_drain(fetcher *f);
// For request_limits: whether and what may be fetched.
const fetch_rules *fetcher_rules(const fetcher *f);

void fetcher_add(fetcher *f, fetch_work *w);
// Takes it back if nothing of it is being fetched: `over` is not called then. False: it will be, or has been.
bool fetcher_drop(fetcher *f, fetch_work *w);
// What it fetched is given up, or never came: it counts no more.
void fetcher_forget(fetcher *f, fetch_work *w);

#endif
