// kernels/cuda/state.h - what a kernels object on a GPU consists of. For device.c, graph.c and memory.c.
//
// Objects beside each other share the heap, and have streams, rings and graphs of their own. All of
// them belong to one thread.
#ifndef SIGHT_KERNELS_CUDA_STATE_H
#define SIGHT_KERNELS_CUDA_STATE_H

#include "kernels/cuda/device.h"
#include "kernels/cuda/pool.h"

#define CUDA_MAX_BESIDE 4
// Steps of 1 to 64 rows are lists of their own each, and of a length two where lengths pass a bound (coarse_chunks of
// attention.c): as many as come and go with a batch, so that none is made twice. A graph of some 200 kernels is a few hundred KiB.
#define CUDA_MAX_GRAPHS 160
#define CUDA_RING_PARTS 3
#define CUDA_LANDING_BYTES ((size_t)1 << 20)
#define CUDA_WRITE_BYTES ((size_t)2 << 20) // pieces in which large writes go

// One cudaMalloc, and who has which part of it.
typedef struct cuda_heap {
    unsigned char *base;
    size_t bytes, high; // high: the end of what was ever taken, where it is guarded
    size_t spare; // kept for scratch: kernels_alloc does not give it
    pool *pool;
    struct cuda_device *users[CUDA_MAX_BESIDE]; // NULL: a free place
} cuda_heap;

// Pinned memory that the host fills while the device works on what it held before, and its twin on the device.
// Parts are reused in turns, each after its event.
typedef struct cuda_ring {
    unsigned char *host, *device; // [CUDA_RING_PARTS][CUDA_MAX_STEP_ARGS]
    cudaEvent_t done[CUDA_RING_PARTS];
    bool waits[CUDA_RING_PARTS]; // done was recorded and not waited for
    int part;
    size_t used; // bytes of that part
} cuda_ring;

// A step seen before. list: its launches as noted, malloced. exec NULL: seen once, or no graph can be made of it.
typedef struct cuda_graph {
    uint64_t hash, last_used;
    unsigned char *list;
    size_t bytes;
    cudaGraphExec_t exec;
    bool refused;
} cuda_graph;

// Launches as noted: { noted, its args, padding to 16 bytes } one after the other.
typedef struct cuda_step {
    bool on;
    unsigned char *list; // malloced
    size_t bytes, room;
    unsigned char *args; // on the device, [CUDA_MAX_STEP_ARGS]; their source is the ring's part
    void **freed;        // scratch that was outgrown, to be given back when the step was launched
    size_t n_freed, freed_room;
    cuda_graph graphs[CUDA_MAX_GRAPHS];
    uint64_t steps;        // counted from 1
    int64_t graphs_made;   // for tests and profiles
} cuda_step;

struct cuda_device {
    int index;
    cuda_chip chip;
    cuda_heap *heap;
    int place; // in heap->users
    uint64_t frees, frees_seen[CUDA_MAX_BESIDE];
    cudaStream_t stream;
    cudaEvent_t mark; // for those that wait for this stream
    cuda_ring ring;
    cuda_step step;
    unsigned char *landing; // pinned [CUDA_LANDING_BYTES], for reads
    void *scratch[CUDA_SCRATCH_SLOTS];
    size_t scratch_bytes[CUDA_SCRATCH_SLOTS];
    cuda_kept kept[CUDA_KEPT];
    sight_err err;
    char error[256];
};

// ---- device.c ----

// Makes the object's GPU that of the calling thread. false: something has failed, now or before.
bool cuda_enter(kernels *k);
// Room in the ring: its host side, and with `device` the twin. NULL: failed.
unsigned char *cuda_ring_take(kernels *k, size_t bytes, unsigned char **device);
// A part that nothing was put into yet.
bool cuda_ring_turn(kernels *k);

// ---- memory.c ----

void *cuda_take(kernels *k, size_t bytes); // NULL: none
void cuda_give(kernels *k, void *p);       // accepts NULL
// Before the heap goes, where memory is guarded (tests).
void cuda_unguard(cuda_heap *heap);

// ---- graph.c ----

void cuda_note(kernels *k, cuda_launcher *launcher, const void *args, size_t bytes);
void cuda_step_done(kernels *k); // frees what steps kept

void cuda_step_begin(kernels *k);
sight_err cuda_step_end(kernels *k);

#endif
