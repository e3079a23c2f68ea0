// checkpoint/gguf_parts.h - inside of an open GGUF file. Room-private.
#ifndef SIGHT_CHECKPOINT_GGUF_PARTS_H
#define SIGHT_CHECKPOINT_GGUF_PARTS_H

#include "base/file.h"
#include "checkpoint/gguf.h"

typedef enum gguf_kind { // of a metadata value; the format's numbers
    GGUF_KIND_U8,
    GGUF_KIND_I8,
    GGUF_KIND_U16,
    GGUF_KIND_I16,
    GGUF_KIND_U32,
    GGUF_KIND_I32,
    GGUF_KIND_F32,
    GGUF_KIND_BOOL,
    GGUF_KIND_TEXT,
    GGUF_KIND_ARRAY,
    GGUF_KIND_U64,
    GGUF_KIND_I64,
    GGUF_KIND_F64,
    GGUF_KINDS
} gguf_kind;

typedef struct gguf_entry {
    gguf_text key;
    int kind;
    int element;               // of an array
    uint64_t n;                // elements of an array, bytes of a text
    const unsigned char *data; // of the value, the first element, or the text
} gguf_entry;

struct gguf {
    file_map map; // empty when the bytes belong to the caller
    char *path;
    gguf_entry *entries; // sorted by key
    size_t n_entries;
    gguf_tensor *tensors; // sorted by name
    char *names;          // what they point into
    size_t n_tensors;
};

// Reads bytes forward; a read past the end says so, names the file and stays failed.
typedef struct gguf_cursor {
    const unsigned char *begin, *at, *end;
    const char *what;
} gguf_cursor;

sight_err gguf_read_bytes(gguf_cursor *c, const unsigned char **out, uint64_t n);
sight_err gguf_read_u32(gguf_cursor *c, uint32_t *out);
sight_err gguf_read_u64(gguf_cursor *c, uint64_t *out);
sight_err gguf_read_text(gguf_cursor *c, gguf_text *out);

// The count entries at c, checked and sorted, into g. SIGHT_E_MODEL, SIGHT_E_MEMORY.
sight_err gguf_read_metadata(gguf *g, gguf_cursor *c, uint64_t count);

#endif
