// checkpoint/gguf_names.h - llama.cpp's tensor names as the published ones. Room-private.
//
// Source: llama.cpp, conversion/qwen.py, conversion/qwen3vl.py, gguf-py's tensor_mapping.py.
// Threads: any.
#ifndef SIGHT_CHECKPOINT_GGUF_NAMES_H
#define SIGHT_CHECKPOINT_GGUF_NAMES_H

#include <stdbool.h>

#include "checkpoint/config.h"
#include "checkpoint/expect.h"

// What the converter did to a tensor beside renaming it. Not here, as the config says it: 1 added
// to zero-centred norms, and value heads in tiled order.
typedef enum gguf_change {
    GGUF_AS_IS,
    GGUF_NEGATED_EXP, // ssm_a = -exp(A_log)
    GGUF_SQUEEZED,    // conv1d [channels, width], published [channels, 1, width]
    GGUF_FRAME_0,     // the patch embedding's weights for the first frame of a pair,
    GGUF_FRAME_1,     // and for the second
} gguf_change;

// false: none of the model's; out is then the name as it is.
bool gguf_published_name(char out[EXPECT_MAX_NAME], gguf_change *change, const char *name,
                         const model_config *c);

#endif
