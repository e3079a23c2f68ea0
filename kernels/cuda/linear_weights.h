// kernels/cuda/linear_weights.h - weights on the device: how they lie there, and how they get
// there.
#ifndef SIGHT_KERNELS_CUDA_LINEAR_WEIGHTS_H
#define SIGHT_KERNELS_CUDA_LINEAR_WEIGHTS_H

#include "kernels/backend.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/packed.h"

// What weight.packed of a taken weight points to.
typedef struct taken_packed {
    packed p; // first; its planes are device memory
    packed_matrix matrix;
    void *block; // device memory
} taken_packed;

// Elements from row to row of a plain matrix.
static inline int64_t linear_stride(tensor_type type, int64_t K)
{
    const int64_t unit = 16 / (int64_t)tensor_type_bytes(type);
    return (K + unit - 1) / unit * unit;
}

static inline const packed_matrix *linear_packed(const weight *w)
{
    return &((const taken_packed *)(const void *)w->packed)->matrix;
}

// Scratch that products use (cuda_scratch). Rows in the form they are multiplied in, and weights made into another
// form, are cut into pieces of so many bytes; the second sums of a gated product take twice that at most.
enum {
    LINEAR_SLOT_ROWS,
    LINEAR_SLOT_WEIGHTS,
    LINEAR_SLOT_WEIGHTS_UP,
    LINEAR_SLOT_UP,
    LINEAR_SLOT_RANK,
    LINEAR_SLOT_SCALES
};

static inline int64_t linear_piece_bytes(const kernels *k)
{
    const int64_t small = (int64_t)48 << 10; // so that tests have several
    return cuda_get_chip(k)->emulated ? small : cuda_piece_bytes(k);
}

sight_err linear_take_weight(kernels *k, weight *w);
void linear_drop_weight(kernels *k, weight *w);

#endif
