// kernels/cuda/parts.c - op_copy_parts on a GPU: one launch, whose addresses come with the step's
// arguments.
#include "kernels/cuda/parts.h"

#include <stddef.h>

#include "kernels/cuda/device.h"
#include "kernels/memory.h"

_Static_assert(sizeof(parts_part) == sizeof(copy_part) &&
                   offsetof(parts_part, from) == offsetof(copy_part, from) &&
                   offsetof(parts_part, bytes) == offsetof(copy_part, bytes),
               "parts are handed over as they are");
_Static_assert(sizeof(parts_args) == 24, "no padding");

#define PARTS_AT_ONCE 32768 // the grid's height has an end

static void cuda_copy_parts(kernels *k, const copy_part *parts, int64_t n)
{
    for (int64_t i = 0; i < n; i += PARTS_AT_ONCE) {
        parts_args a = {.n = n - i < PARTS_AT_ONCE ? n - i : PARTS_AT_ONCE};
        for (int64_t j = i; j < i + a.n; j++) {
            if (parts[j].bytes > a.most) a.most = parts[j].bytes;
        }
        a.parts = cuda_args(k, parts + i, (size_t)a.n * sizeof *parts);
        if (!a.parts) return;
        cuda_launch(k, launch_copy_parts, &a, sizeof a);
    }
}

void parts_cuda_fill(backend_ops *ops)
{
    ops->copy_parts = cuda_copy_parts;
}
