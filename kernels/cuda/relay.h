// kernels/cuda/relay.h - what stands in NCCL's place where it is missing: sums by way of the host's memory.
//
// Every rank copies its part to the host and waits for it and for the others, so nothing of it can be in a graph, and a
// sum takes some tens of microseconds and the bus. Sums are in the order of ranks: the bits of kernels/collective.c's
// with CPUs. Numbers are float32. Threads: as nccl_calls has it.
#ifndef SIGHT_KERNELS_CUDA_RELAY_H
#define SIGHT_KERNELS_CUDA_RELAY_H

#include "kernels/cuda/nccl.h"

const nccl_calls *relay_calls(void);

#endif
