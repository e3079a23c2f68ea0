// kernels/cuda/nccl.h - sums and gathers over several GPUs by NCCL, which is looked for at run time.
//
// Each call is asked for on the rank's stream, like an op, and may stand in a step. Results of one machine are the
// same from run to run. Threads: each rank's calls from that rank's thread; create and destroy from any.
#ifndef SIGHT_KERNELS_CUDA_NCCL_H
#define SIGHT_KERNELS_CUDA_NCCL_H

#include "kernels/ops.h"

typedef struct cuda_group cuda_group;

// k [ranks], each on a GPU of its own. SIGHT_E_UNSUPPORTED: there is no NCCL; SIGHT_E_MEMORY, SIGHT_E_INTERNAL.
sight_err cuda_group_create(cuda_group **out, kernels *const *k, int32_t ranks);
void cuda_group_destroy(cuda_group **g); // accepts NULL; leaves NULL

// x [n] becomes the sum over the ranks.
void cuda_group_add(cuda_group *g, int32_t rank, float *x, int64_t n);
// to [ranks, n]: every rank's part [n].
void cuda_group_gather(cuda_group *g, int32_t rank, float *to, const float *part, int64_t n);
// Of the rank's calls until now, those of a step once it has ended. SIGHT_E_INTERNAL.
sight_err cuda_group_status(const cuda_group *g, int32_t rank);

// Calls under way end with an error, on every rank. From any thread.
void cuda_group_end(cuda_group *g);

#endif
