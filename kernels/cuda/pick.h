// kernels/cuda/pick.h - the greatest logits of a row: what pick.c hands to the launchers of pick.cu.
//
// A logit's key is an unsigned number of the same order; -0 and 0 have one key. Logits that are not finite, ids
// that are not allowed, and those wanted anyway have none (0): they are not among the k greatest. The key
// of the k-th is found in digits of 11, 11 and 10 bits from the top, one per level, by counting. What
// reaches the digit found so far is gathered; mostly that is little enough after the first level, and one
// block finishes the row: sorted, the k-th is exact. Else the next level narrows it.
//
// Pointers are device memory.
#ifndef SIGHT_KERNELS_CUDA_PICK_H
#define SIGHT_KERNELS_CUDA_PICK_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PICK_LEVELS 3
#define PICK_DIGITS 2048
#define PICK_MAX_K 1024
#define PICK_MAX_EQUAL 4096  // to the k-th
#define PICK_MAX_ALWAYS 3072 // ids wanted besides
#define PICK_GATHERED (PICK_MAX_K + PICK_MAX_EQUAL + PICK_MAX_ALWAYS) // a power of two
#define PICK_TILE 2048 // logits of a block
#define PICK_OVER (-1) // pick_found.id of a row's head: no result

typedef struct pick_row {
    const float *logits;     // [M]
    const uint32_t *allowed; // [M] bits, NULL: all
    int64_t always;          // where its list begins in pick_args.always
    int32_t n_always, k;
} pick_row;

// What the levels before left open.
typedef struct pick_border {
    uint32_t key;  // the digits found, the others 0
    uint32_t left; // of k, among those whose digits are these
} pick_border;

typedef struct pick_best {
    uint32_t key, n; // the greatest of a tile and how many have it
    int64_t id;      // the first of them
} pick_best;

// Entry i of row r is at i * N + r, so that a part of every row is one piece of memory. Entry 0: how many follow.
typedef struct pick_found {
    int32_t id;
    float logit;
} pick_found;

typedef struct pick_args {
    const pick_row *rows;  // [N]
    const int32_t *always; // the rows' lists
    uint32_t *wanted;      // [N][words]: bits of the lists
    uint32_t *counts;      // [N][PICK_DIGITS], zeroed
    uint32_t *gathered;    // [N], zeroed: how many there are, also above PICK_GATHERED
    uint64_t *entries;     // [N][PICK_GATHERED]: key << 32 | id; the key of those wanted anyway is the greatest
    pick_border *borders;  // [PICK_LEVELS + 1][N]: before each level
    pick_best *best;       // [N][tiles]
    pick_found *found;     // [1 + PICK_GATHERED][N]
    int64_t N, M, words, level;
} pick_args;

static inline int64_t pick_tiles(int64_t M)
{
    return (M + PICK_TILE - 1) / PICK_TILE;
}

void launch_pick_want(cudaStream_t stream, const void *pick_args);   // lists to bits
void launch_pick_count(cudaStream_t stream, const void *pick_args);  // counts, of this level
void launch_pick_gather(cudaStream_t stream, const void *pick_args); // counts to entries
void launch_pick_finish(cudaStream_t stream, const void *pick_args); // entries to found
// For rows of k = 1 without lists. found has PICK_OVER where several are the greatest.
void launch_pick_best(cudaStream_t stream, const void *pick_args);
void launch_pick_best_finish(cudaStream_t stream, const void *pick_args);

#ifdef __cplusplus
}
#endif

#endif
