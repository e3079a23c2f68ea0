// kernels/cuda/attention.h - attention: what attention.c hands to the launchers of attention_*.cu.
//
// A unit is some rows of one sequence. Units change from step to step and come through cuda_args;
// the structs hold what like steps share, with lengths as coarse bounds. Pointers are device
// memory. Numbers are as wide as pointers, so that no struct has padding.
#ifndef SIGHT_KERNELS_CUDA_ATTENTION_H
#define SIGHT_KERNELS_CUDA_ATTENTION_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#include "kernels/tensor.h"

#ifdef __cplusplus
#define ATTENTION_BOTH static __host__ __device__ __forceinline__
extern "C" {
#else
#define ATTENTION_BOTH static inline
#endif

#define ATTENTION_KV_GROUP 64 // KV_GROUP of kernels/ops.h, which is no C++

typedef struct attention_unit {
    const float *q; // [n, H, C]
    float *out;     // [n, H, C]
    void *const *blocks;
    int64_t offset;
    int64_t n, past;
    const float *gate; // few alone: of the first row's first head; NULL: none
} attention_unit;

typedef struct attention_args {
    const attention_unit *units; // [U]
    // few: [U][chunks][G][rows, all n H / G][C], not yet divided by sums
    float *parts;
    float *sums;                 // few: [U][chunks][G][rows][2]: largest score (of exp2), sum
    int64_t U, most_n;           // most_n: the largest n
    int64_t H, G, C;
    int64_t type, page_rows; // of every unit's pages
    int64_t chunks;          // few: as many as the longest unit has, or more
    int64_t tile_rows;       // of blocks of tiles at C 256: 64 or 128
    int64_t gate_row, gate_head; // floats from row to row, and head to head, of the units' gates
    double scale;            // a float's value
} attention_args;

// Where rows are written to.
typedef struct kv_write_place {
    void *const *blocks;
    int64_t offset, past;
    int64_t first, n; // rows of k and v
} kv_write_place;

typedef struct kv_write_args {
    const float *k, *v; // [., G, C]
    const kv_write_place *places; // [S]
    int64_t S, most;              // most: the largest n
    int64_t G, C, type, page_rows;
} kv_write_args;

typedef struct spans_args {
    float *out;       // [N, H, C]
    const float *qkv; // [N, 3, H, C]
    uint16_t *packed; // tiles: bf16 [2: keys, values][pairs][span][padded C]; zeros behind C
    int64_t first;    // pair span * H + head to begin with
    int64_t pairs, span, H, C;
    double scale; // a float's value
} spans_args;

void launch_kv_write(cudaStream_t stream, const void *kv_write_args);         // attention_plain.cu
void launch_attention_plain(cudaStream_t stream, const void *attention_args); // attention_plain.cu
void launch_spans_plain(cudaStream_t stream, const void *spans_args);         // attention_plain.cu
void launch_attention_few(cudaStream_t stream, const void *attention_args);   // attention_few.cu
void launch_attention_tile(cudaStream_t stream, const void *attention_args);  // attention_tile.cu
void launch_spans_tile(cudaStream_t stream, const void *spans_args);          // attention_tile.cu

#ifdef __cplusplus
}
#endif

// ---- chunks of keys ----

// Few rows: keys are cut at fixed places into chunks, whose sums are added in a fixed order, so a
// row gives the same bits alone, with others and with any bound on lengths. Narrow ones first:
// short pasts need many blocks too.
#define ATTENTION_CHUNK_KEYS 32 // of the narrowest; all are multiples of it

ATTENTION_BOTH int64_t attention_chunk_first(int64_t chunk)
{
    if (chunk < 32) return chunk * 32;
    if (chunk < 144) return 1024 + (chunk - 32) * 64;
    if (chunk < 336) return 8192 + (chunk - 144) * 128;
    if (chunk < 720) return 32768 + (chunk - 336) * 256;
    return 131072 + (chunk - 720) * 512;
}

ATTENTION_BOTH int64_t attention_chunk_of(int64_t key)
{
    if (key < 1024) return key / 32;
    if (key < 8192) return 32 + (key - 1024) / 64;
    if (key < 32768) return 144 + (key - 8192) / 128;
    if (key < 131072) return 336 + (key - 32768) / 256;
    return 720 + (key - 131072) / 512;
}

// Width to which tiles pad heads of spans.
ATTENTION_BOTH int64_t spans_padded(int64_t C)
{
    return C <= 64 ? 64 : (C + 15) / 16 * 16;
}

#undef ATTENTION_BOTH

#endif
