// kernels/collective.h - sums and gathers over several kernels objects: the ranks of a split model.
//
// Every rank has a thread of its own, and all ranks make the same calls in the same order. With CPUs a call returns
// when its result is there, with GPUs it is asked for like an op (and may stand in a step). Sums
// are in the order of ranks with CPUs, in NCCL's with GPUs; either way every rank gets the same bits.
//
// A rank that gives up says so (collective_end): the others wait for it no longer, and what they get from then
// on is unfinished.
#ifndef SIGHT_KERNELS_COLLECTIVE_H
#define SIGHT_KERNELS_COLLECTIVE_H

#include "kernels/ops.h"

typedef struct collective collective;

#define COLLECTIVE_MAX_RANKS 16

// One rank per kernels object, all of them on the CPU, or each on another GPU; they outlive it. GPUs without NCCL add by
// way of the host's memory. SIGHT_E_ARGUMENT, SIGHT_E_UNSUPPORTED (an NCCL that is too old), SIGHT_E_MEMORY,
// SIGHT_E_INTERNAL.
sight_err collective_create(collective **out, kernels *const *k, int32_t ranks);
// With GPUs, for tests: calls stands in NCCL's place (kernels/cuda/nccl.h).
struct nccl_calls;
sight_err collective_create_with(collective **out, kernels *const *k, int32_t ranks,
                                 const struct nccl_calls *calls);
// When no rank is in a call. Accepts NULL; leaves NULL.
void collective_destroy(collective **c);

int32_t collective_ranks(const collective *c);
// Why sums of GPUs go by way of the host, in a sentence's words; NULL: they do not.
const char *collective_relayed(const collective *c);

// x [n] becomes the sum of all ranks' x. Backend memory, as below.
void collective_add(collective *c, int32_t rank, float *x, int64_t n);
// to [n, ranks * width]: row i holds row i of every rank's part [n, width], side by side. room has
// n * ranks * width floats; nothing overlaps.
void collective_gather(collective *c, int32_t rank, float *to, float *room, const float *part, int64_t n,
                       int64_t width);

// x [n] becomes the first rank's x.
void collective_share(collective *c, int32_t rank, float *x, int64_t n);
// kernels_step_end of the rank's object, in whose step there may be any of the above.
sight_err collective_step_end(collective *c, int32_t rank);

// Waits for all ranks, with GPUs too (not for what was asked of them). Whether all of them are fine; false
// also where one has given up.
bool collective_agree(collective *c, int32_t rank, bool fine);
// After a step's end: whether what the rank got in it is whole. SIGHT_E_INTERNAL.
sight_err collective_status(collective *c, int32_t rank);
void collective_end(collective *c); // from any thread

#endif
