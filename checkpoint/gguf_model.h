// checkpoint/gguf_model.h - the GGUF files of one model: the text model's, in one or more parts,
// and its mmproj file with the vision tower. Room-private.
//
// Threads: any, once open.
#ifndef SIGHT_CHECKPOINT_GGUF_MODEL_H
#define SIGHT_CHECKPOINT_GGUF_MODEL_H

#include "checkpoint/config.h"
#include "checkpoint/gguf.h"

#define GGUF_MAX_PARTS 999

typedef struct gguf_model {
    gguf **parts; // [n]; metadata stands in the first
    size_t n;
    gguf *mmproj; // NULL: none
    void **owned; // [n_owned] tensors that had to be put together, malloced
    size_t n_owned;
} gguf_model;

// path: the file, or the first of a split model's ("...-00001-of-00003.gguf"). mmproj: the vision
// tower's file; NULL: the one beside it, if there is one that fits; "none": none.
// SIGHT_E_MODEL (parts missing, not a model's file), SIGHT_E_ARGUMENT (several mmproj files fit:
// they are listed), SIGHT_E_UNSUPPORTED, and what gguf_open says.
sight_err gguf_model_open(gguf_model *out, const char *path, const char *mmproj);
void gguf_model_close(gguf_model *m); // accepts a zeroed one

// The config that the metadata implies. What GGUF does not keep (video, pictures' areas unless the
// mmproj file has them) is as published. SIGHT_E_MODEL, SIGHT_E_UNSUPPORTED, SIGHT_E_MEMORY.
sight_err gguf_config(model_config *out, const gguf_model *m);

struct checkpoint;
// The tensors, by their published names, as weights of c (whose config is set): unsorted,
// unchecked.
sight_err gguf_weights(struct checkpoint *c, gguf_model *m);

#endif
