// checkpoint/gguf.h - one GGUF file: metadata and tensor list parsed and bounds-checked, data
// mapped.
//
// Format: ggml's docs/gguf.md, versions 2 and 3, little-endian. Nothing of the file is trusted:
// each count, length, offset and type is checked when it is opened. Threads: any, once open.
#ifndef SIGHT_CHECKPOINT_GGUF_H
#define SIGHT_CHECKPOINT_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define GGUF_MAX_DIMS 4

typedef struct gguf gguf;

// SIGHT_E_NOT_FOUND, SIGHT_E_PERMISSION, SIGHT_E_IO, SIGHT_E_MODEL (not of the format, truncated,
// names twice, tensors overlapping or out of bounds), SIGHT_E_UNSUPPORTED (a version, a byte order
// or a tensor type that is not known here), SIGHT_E_MEMORY.
sight_err gguf_open(gguf **out, const char *path);
// Parses bytes that outlive *out; `what` names them in errors. For fuzzing and tests.
sight_err gguf_parse(gguf **out, const void *bytes, size_t size, const char *what);
void gguf_close(gguf **g); // accepts NULL; leaves NULL

const char *gguf_path(const gguf *g);

// ---- metadata ----

// Text of the file: not NUL-terminated, any bytes. Borrowed.
typedef struct gguf_text {
    const char *data;
    size_t n;
} gguf_text;

bool gguf_text_is(gguf_text t, const char *s);

typedef struct gguf_array {
    size_t n;
    int type;                  // of its elements, for gguf_array_* only
    const unsigned char *data; // where the next element is read
} gguf_array;

bool gguf_has(const gguf *g, const char *key);

// Getters leave *out untouched when the key is missing and return SIGHT_OK, so that a default set
// before stays. SIGHT_E_MODEL: a value of another kind, or out of [min, max].
sight_err gguf_get_int(const gguf *g, int64_t *out, const char *key, int64_t min, int64_t max);
sight_err gguf_get_double(const gguf *g, double *out, const char *key, double min, double max);
sight_err gguf_get_bool(const gguf *g, bool *out, const char *key);
sight_err gguf_get_text(const gguf *g, gguf_text *out, const char *key);
// Arrays of that kind; n is what the file has.
sight_err gguf_get_ints(const gguf *g, gguf_array *out, const char *key);    // also booleans
sight_err gguf_get_doubles(const gguf *g, gguf_array *out, const char *key);
sight_err gguf_get_texts(const gguf *g, gguf_array *out, const char *key);
// As the getters, but the key must be there.
sight_err gguf_need(const gguf *g, const char *key);

// The next element; at most n calls.
int64_t gguf_array_int(gguf_array *a);
double gguf_array_double(gguf_array *a);
gguf_text gguf_array_text(gguf_array *a);

// ---- tensors ----

// ggml's numbers of element types.
enum {
    GGUF_F32 = 0,
    GGUF_F16 = 1,
    GGUF_Q4_0 = 2,
    GGUF_Q8_0 = 8,
    GGUF_Q4_K = 12,
    GGUF_Q5_K = 13,
    GGUF_Q6_K = 14,
    GGUF_IQ4_XS = 23,
    GGUF_BF16 = 30,
};

typedef struct gguf_tensor {
    const char *name;  // NUL-terminated, proper UTF-8 is not promised
    const char *type;  // "Q4_K"
    int type_id;       // ggml's number
    int32_t block;     // elements of a block; rows are whole blocks
    int32_t n_dims;
    int64_t shape[GGUF_MAX_DIMS]; // outermost first, as elsewhere here (files say innermost first)
    const unsigned char *data;    // mapped
    size_t bytes;
} gguf_tensor;

size_t gguf_count(const gguf *g);
const gguf_tensor *gguf_at(const gguf *g, size_t i);             // sorted by name
const gguf_tensor *gguf_find(const gguf *g, const char *name);   // NULL: none

#endif
