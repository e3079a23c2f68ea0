// kernels/cpu/linear.h - products: the driver that cuts the work, and the inner loops it calls.
//
// One order of summation serves every form, so that a row's result is the same, bit for bit, alone
// or in a batch, in any piece, with any number of threads. With 16 lanes and J = ceil(K / 16):
// lane p is a chain of fused multiply-adds over k = p, 16 + p, 32 + p, ... from 0 (k >= K counts as
// zero), and the lanes are added as a tree: i with i + 8, then i + 4, i + 2, i + 1.
//   - dot form, few rows: a vector register holds the lanes of one output; the weights stream by
//     once, converted on the way.
//   - tile form, many rows: registers hold 16 outputs side by side; weights and rows are packed
//     lane by lane, [16][J], and the lanes' sums meet in the same tree.
// The driver picks the form by speed alone. All levels with fused multiply-add give equal bits;
// plain C rounds each product.
//
// bf16 products are the same with pairs of k for k: a unit of 4 bytes holds two bf16 numbers.
#ifndef SIGHT_KERNELS_CPU_LINEAR_H
#define SIGHT_KERNELS_CPU_LINEAR_H

#include "kernels/backend.h"

#define LINEAR_LANES 16
#define LINEAR_MAX_TILE_ROWS 16
#define LINEAR_MAX_PANEL 48

typedef struct linear_kernels {
    tensor_type weights; // what a level converts itself; other types go to `other`
} linear_kernels;

#endif
