// checkpoint/gguf_blocks.h - ggml's block types as packed rows, without loss. Room-private.
//
// Q8_0, Q4_0, IQ4_XS, Q4_K, Q5_K and Q6_K; layouts from ggml-common.h. Threads: any.
#ifndef SIGHT_CHECKPOINT_GGUF_BLOCKS_H
#define SIGHT_CHECKPOINT_GGUF_BLOCKS_H

#include "checkpoint/gguf.h"
#include "checkpoint/stored.h"

// Whether that type is one of these.
bool gguf_blocks_known(int type_id);

// A matrix (n_dims 2) of such a type. name is the published one, path the file's; both borrowed.
// SIGHT_E_UNSUPPORTED names the type.
sight_err gguf_blocks_stored(stored *out, const gguf_tensor *t, const char *name, const char *path);

#endif
