// kernels/low_rank.h - what low-rank additions (weight.lora) do beside a product. For ops.c only.
#ifndef SIGHT_KERNELS_LOW_RANK_H
#define SIGHT_KERNELS_LOW_RANK_H

#include "kernels/backend.h"

// y[N, M] += scale (x[N, K] a^T) b^T of every addition to w; nothing where it has none.
void low_rank_add(kernels *k, float *y, const float *x, const weight *w, int64_t N);

// y[N, M] = silu(gate) * up, products of x with their additions. product: y = x w^T + bias without them.
typedef void (*low_rank_product)(kernels *k, float *y, const float *x, const weight *w, int64_t N);
void low_rank_silu_mul(kernels *k, float *y, const float *x, const weight *gate, const weight *up,
                       int64_t N, low_rank_product product);

#endif
