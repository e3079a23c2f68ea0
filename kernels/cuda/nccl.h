// kernels/cuda/nccl.h - sums and gathers over several GPUs by NCCL, which is looked for at run time; where it is
// missing they go through the host's memory (kernels/cuda/relay.h).
//
// Each call is asked for on the rank's stream, like an op, and may stand in a step. Results of one machine are the
// same from run to run. Threads: each rank's calls from that rank's thread; create and destroy from any.
#ifndef SIGHT_KERNELS_CUDA_NCCL_H
#define SIGHT_KERNELS_CUDA_NCCL_H

#include <cuda_runtime_api.h>

#include "kernels/ops.h"

typedef struct cuda_group cuda_group;

// What is called of the library; results are 0 or an error. abort ends calls that wait for other ranks, and may come
// from another thread than these; the others belong to the rank's.
typedef struct nccl_comm nccl_comm;
typedef struct nccl_calls {
    int (*init_all)(nccl_comm **comms, int n, const int *devices);
    int (*destroy)(nccl_comm *comm);
    int (*abort)(nccl_comm *comm);
    int (*all_reduce)(const void *from, void *to, size_t n, int type, int op, nccl_comm *comm,
                      cudaStream_t stream);
    int (*all_gather)(const void *from, void *to, size_t n, int type, nccl_comm *comm,
                      cudaStream_t stream);
    int (*broadcast)(const void *from, void *to, size_t n, int type, int root, nccl_comm *comm,
                     cudaStream_t stream);
    const char *(*error)(int result);
} nccl_calls;

// k [ranks], each on a GPU of its own. calls: what stands in NCCL's place, for tests; NULL: NCCL itself, or the relay.
// SIGHT_E_UNSUPPORTED: an NCCL that lacks a function; SIGHT_E_MEMORY, SIGHT_E_INTERNAL.
sight_err cuda_group_create(cuda_group **out, kernels *const *k, int32_t ranks, const nccl_calls *calls);
void cuda_group_destroy(cuda_group **g); // accepts NULL; leaves NULL
// Why there is no NCCL; NULL: there is, or calls were given.
const char *cuda_group_relayed(const cuda_group *g);

// x [n] becomes the sum over the ranks.
void cuda_group_add(cuda_group *g, int32_t rank, float *x, int64_t n);
// to [ranks, n]: every rank's part [n].
void cuda_group_gather(cuda_group *g, int32_t rank, float *to, const float *part, int64_t n);
// x [n] becomes the first rank's x.
void cuda_group_share(cuda_group *g, int32_t rank, float *x, int64_t n);
// kernels_step_end of the rank's object. Nothing of the step runs once the group has ended.
sight_err cuda_group_step_end(cuda_group *g, int32_t rank);
// Of the rank's calls until now, those of a step once it has ended. SIGHT_E_INTERNAL.
sight_err cuda_group_status(const cuda_group *g, int32_t rank);

// Calls under way end with an error, on every rank, and no more are made. From any thread that is not in a call.
void cuda_group_end(cuda_group *g);

#endif
