// checkpoint/stored.h - a matrix in a published quantised form, as its file keeps it. Room-private.
//
// The readers of the forms (GGUF blocks, compressed-tensors, AWQ, GPTQ...) make one per matrix; preparing
// asks for its rows and lays them out as kernels want them, without loss. Threads: any.
#ifndef SIGHT_CHECKPOINT_STORED_H
#define SIGHT_CHECKPOINT_STORED_H

#include "base/err.h"
#include "kernels/packed.h"

typedef struct stored stored;

struct stored {
    packed_format format;
    int64_t M, K;
    const char *name; // the published one, for errors; borrowed from the checkpoint's list
    const char *path; // of the file, as name
    const char *form; // "Q4_K", "awq int4 128": what the file calls it; static or as name
    // Fills rows first .. first + n - 1 of the arrays that format has. Reads only what was
    // bounds-checked when the matrix was listed. SIGHT_E_MODEL: a value that cannot be (a scale
    // that is not finite).
    sight_err (*read)(const stored *s, packed_rows *rows, int64_t first, int64_t n);
    size_t bytes;          // of all its parts in the file
    const void *parts[6];  // the reader's: where codes, scales, zero points... lie
    int64_t numbers[4];    // the reader's
    float factor;          // the reader's
};

#endif
