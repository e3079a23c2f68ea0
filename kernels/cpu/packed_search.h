// kernels/cpu/packed_search.h - which scales lose least: the loops of quantise.c.
//
// Sixteen groups side by side, element by element, so that any compiler's vectors hold one lane
// per group and every level gives the same bits: no sum runs across lanes. Compiled by
// packed_search_<level>.c, around packed_search_loops.h.
//
// Threads: any.
#ifndef SIGHT_KERNELS_CPU_PACKED_SEARCH_H
#define SIGHT_KERNELS_CPU_PACKED_SEARCH_H

#include <stdint.h>

#define SEARCH_LANES 16
#define SEARCH_MAX_GROUP 32

typedef struct search_groups {
    int size;                                // elements of a group
    float x[SEARCH_MAX_GROUP][SEARCH_LANES]; // weights, zero where there are none
    float w[SEARCH_MAX_GROUP][SEARCH_LANES]; // how much an error counts
} search_groups;

// The numbers that a 4-bit code stands for, ascending, and where one gives way to the next.
typedef struct search_table {
    float first, last;
    float mid[15], step[15];
} search_table;

typedef struct search_loops {
    // d[i]: the scale of group i that loses least, before it is rounded. Its sign decides which end
    // of the table takes the largest weight.
    void (*table_scales)(float *d, const search_groups *g, const search_table *t);
    // error[i] of group i at scale d[i], and the codes [size][16] there.
    void (*table_errors)(float *error, const float *d, const search_groups *g,
                         const search_table *t);
    void (*table_codes)(uint8_t *codes, const float *d, const search_groups *g,
                        const search_table *t);
    // The same for evenly spaced codes 0 to 255, 128 standing for zero.
    void (*even_errors)(float *error, const float *d, const search_groups *g);
    void (*even_codes)(uint8_t *codes, const float *d, const search_groups *g);
} search_loops;

extern const search_loops search_loops_plain;
#if defined(__x86_64__)
extern const search_loops search_loops_avx2, search_loops_avx512;
#endif

#endif
