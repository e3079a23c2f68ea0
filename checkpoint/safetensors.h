// checkpoint/safetensors.h - one .safetensors file: header parsed and bounds-checked, data mapped.
//
// Format: 8-byte little-endian header length, JSON header, data
// (https://github.com/huggingface/safetensors). Threads: any, once open.
#ifndef SIGHT_CHECKPOINT_SAFETENSORS_H
#define SIGHT_CHECKPOINT_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/tensor.h"

typedef struct safetensors safetensors;

// SIGHT_E_NOT_FOUND, SIGHT_E_PERMISSION, SIGHT_E_IO, SIGHT_E_MODEL (not of the format, truncated,
// overlapping or out of bounds), SIGHT_E_MEMORY.
sight_err safetensors_open(safetensors **out, const char *path);
// Parses bytes that outlive *out; `what` names them in errors. For fuzzing and tests.
sight_err safetensors_parse(safetensors **out, const void *bytes, size_t size, const char *what);
void safetensors_close(safetensors **s); // accepts NULL; leaves NULL

size_t safetensors_count(const safetensors *s);
const char *safetensors_name(const safetensors *s, size_t i); // sorted by name
// The dtype as written in the file ("BF16", "F8_E4M3"): other forms than those of tensor_type are
// listed but have no view.
const char *safetensors_dtype(const safetensors *s, size_t i);
// false when the dtype is none of tensor_type. The bytes of F8_E4M3 and F8_E8M0 are seen as U8.
int safetensors_view(const safetensors *s, tensor_view *out, size_t i);
// The index of a name, or -1.
int64_t safetensors_find(const safetensors *s, const char *name);

// ---- writing (traces, tests) ----

typedef struct safetensors_entry {
    const char *name;
    tensor_view view;
} safetensors_entry;

// Writes a new file, or replaces one whole: through a temporary file beside it, renamed at the end.
// A device or pipe (/dev/stdout) is written in place. On failure the old file is as it was and no
// temporary is left.
// SIGHT_E_IO (disk full, ...), SIGHT_E_PERMISSION, SIGHT_E_NOT_FOUND (the folder), SIGHT_E_MEMORY.
sight_err safetensors_write(const char *path, const safetensors_entry *entries, size_t n);

#endif
