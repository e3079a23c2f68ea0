// kernels/cuda/pool.h - which part of one large block of memory belongs to whom.
//
// Pure arithmetic on offsets: the block itself may be a device's. Extents are whole units of 256 bytes; the
// smallest hole that is large enough is cut, and neighbouring holes become one. What is asked for in the same
// order lands in the same places. Threads: one at a time.
#ifndef SIGHT_KERNELS_CUDA_POOL_H
#define SIGHT_KERNELS_CUDA_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define POOL_UNIT ((uint64_t)256)

typedef struct pool pool;

// bytes is rounded down to units and at least one. SIGHT_E_MEMORY.
sight_err pool_create(pool **out, uint64_t bytes);
void pool_destroy(pool **p); // accepts NULL; leaves NULL

// false: no hole is as large, or no memory for the books. bytes may be 0, the extent is not.
bool pool_take(pool *p, uint64_t *offset, uint64_t bytes);
void pool_give(pool *p, uint64_t offset); // one that pool_take gave

uint64_t pool_free_bytes(const pool *p);    // of all holes
uint64_t pool_largest_bytes(const pool *p); // of the largest one

#endif
