// checkpoint/expect.h - the tensors that a config implies, each with its exact shape. Room-private.
//
// Names are the published ones (docs/MODEL.md); shapes are row-major. Threads: any.
#ifndef SIGHT_CHECKPOINT_EXPECT_H
#define SIGHT_CHECKPOINT_EXPECT_H

#include "base/err.h"
#include "checkpoint/config.h"
#include "kernels/tensor.h"

#define EXPECT_MAX_NAME 96

typedef struct expected {
    char name[EXPECT_MAX_NAME];
    int32_t n_dims;
    int64_t shape[TENSOR_MAX_DIMS];
} expected;

typedef struct expect_list {
    expected *items; // sorted by name
    size_t n, capacity;
    bool failed; // an allocation failed; sticky
} expect_list;

// SIGHT_E_MEMORY. *out untouched on failure.
sight_err expect_init(expect_list *out, const model_config *c);
void expect_done(expect_list *l); // accepts a zeroed list

// "[64, 160]" for error lines.
#define EXPECT_SHAPE_TEXT 128
void expect_shape_text(char out[EXPECT_SHAPE_TEXT], const int64_t *shape, int32_t n_dims);

#endif
