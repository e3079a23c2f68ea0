// checkpoint/gguf_find.h - which GGUF files of a folder are meant. Room-private. Threads: any.
#ifndef SIGHT_CHECKPOINT_GGUF_FIND_H
#define SIGHT_CHECKPOINT_GGUF_FIND_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

typedef struct gguf_list { // zeroed is empty
    char **paths;          // malloced, sorted
    size_t n;
} gguf_list;

void gguf_list_done(gguf_list *l);

// Text models in dir, and, so many levels deep, in its folders: no mmproj, imatrix or draft
// model, of split models the first part. prefix: names must start so (NULL: any). tag: "Q4_K_M"
// must stand before a '.' or '-' of the path (NULL: any), in any case. A folder that cannot be
// read has none.
// SIGHT_E_MEMORY.
sight_err gguf_list_models(gguf_list *out, const char *dir, int depth, const char *prefix,
                           const char *tag);

// mmproj files in the folder of a model file; where it has none and is one within a snapshot of
// Hugging Face's cache, those of the snapshot. Where such a name begins like the model's
// ("owner_repo_" in llama.cpp's flat cache), only those. SIGHT_E_MEMORY.
sight_err gguf_list_mmproj(gguf_list *out, const char *model);

// SIGHT_E_ARGUMENT: "what: 'a', 'b'; advice", of the first n.
sight_err gguf_list_fail(const gguf_list *l, size_t n, const char *what, const char *advice);

// Whether a file's name ends in ".gguf".
bool gguf_named(const char *name);

#endif
