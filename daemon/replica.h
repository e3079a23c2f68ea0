// daemon/replica.h - replicas of a model, for many requests: one model, open several times, and which of them gets a request.
//
// `device = cuda:0/cuda:1` (kernels/device.h: device_sets) opens a model once on each. A replica is a whole engine: its own
// device or devices, kernels, weights, tower, cache pool and store of pasts, and a runner of its own (daemon/runners.h), so
// replicas work at the same time and know nothing of each other. Of several models the i-th replicas are worked on by the i-th
// runner, in turns, as all models are where there are none.
//
// What is shared: the folder on disk and the store of features (rows in host memory), which any thread may use; the keys by which
// both and the stores of pasts name things, so that a request may be planned before it is known where it runs; on the
// CPU the mapped files of weights, by the page cache. What is not: pasts, whose pages lie in one pool.
//
// Life: the registry (daemon/models) opens, closes and counts the memory of all replicas of a model together, the later ones
// bound to what the first has chosen (form of weights, rows of a step), so each computes the same bits. A request is planned
// with the first one's numbers, which promise no more than any can keep. When it is its turn the scheduler asks this file
// where it runs, and it stays there. Memory, running requests and forecasts count by replica; priorities, limits of an identity
// and the time that it has used over all of them.
//
// A replica whose device fails ends the requests that run on it with the device's sentence and gets none any more; the others
// go on. With the last one the daemon ends, as it does without replicas.
//
// Pure arithmetic. Threads: any.
#ifndef SIGHT_DAEMON_REPLICA_H
#define SIGHT_DAEMON_REPLICA_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/device.h"

#define REPLICAS_MAX DEVICE_LIST_MAX

// A request goes to where its past is though it would be over so much sooner elsewhere: estimates are no better than that.
#define REPLICA_STAY_S 0.5

// One replica, as a request sees it.
typedef struct replica_view {
    bool usable;    // its device works, and the request fits beside those that run there
    int running;    // requests
    double left_s;  // of the engine's time, that these still take
    int32_t kept;   // tokens of the prompt's beginning that it has read for an earlier request
} replica_view;

// Which of n (1 to REPLICAS_MAX) a request of so many tokens of prompt goes to; -1: none can have it now. token_s: what reading one
// takes, 0 where nobody knows. Where nothing is kept that with the least to do, then with the fewest requests, then the
// first; else the one that has kept most, unless it is clearly busier: what the others have less to do is more than what it
// spares by not reading again, and REPLICA_STAY_S (with token_s 0, it runs two requests more). *for_kept: it was chosen for
// what it has kept.
int replica_choose(const replica_view *v, int n, int32_t prompt, double token_s, bool *for_kept);

#endif
