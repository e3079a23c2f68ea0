// checkpoint/prepare_parts.h - what prepare.c, prepare_plan.c, prepare_pack.c and prepare_file.c share.
// Room-private.
//
// The prepared file: a header (prepare_file.c), then the blocks, each at 256 bytes. The header follows
// from the plan alone and holds no pointer and no size that the plan does not know, so a file is
// right exactly when its header equals, byte for byte, the one that would be written now.
#ifndef SIGHT_CHECKPOINT_PREPARE_PARTS_H
#define SIGHT_CHECKPOINT_PREPARE_PARTS_H

#include "checkpoint/checkpoint_parts.h"
#include "checkpoint/prepare.h"

#define PREPARE_ALIGN 256
#define PREPARE_NAME  96

typedef enum block_kind { BLOCK_PACKED, BLOCK_BF16, BLOCK_EXTRA } block_kind;

typedef struct prepare_block {
    char name[PREPARE_NAME];
    block_kind kind;
    packed_format format; // BLOCK_PACKED
    int64_t M, K;         // of matrices
    uint32_t version;     // BLOCK_EXTRA
    size_t offset, bytes; // in the file
    weight *of;           // NULL: an extra
    packed packed;        // BLOCK_PACKED, once there is memory
} prepare_block;

struct prepared {
    weights_form form;
    prepare_block *blocks; // sorted by name, extras behind
    size_t n;
    char *header; // as in the file
    size_t header_bytes, file_bytes;
    void *memory; // the whole file, mapped; or as much anonymous memory
    size_t memory_bytes;
    char *file; // path of the file in use; NULL: none
    char warning[512];
};

void *prepared_block_data(const prepared *p, const prepare_block *b);

// ---- prepare_plan.c ----

// A matrix as products see it: the first dimension by all others. False: not one of a product.
bool plan_matrix(const weight *w, int64_t *M, int64_t *K);
// What becomes of a weight in a form; false: it stays as it is.
bool plan_block(const weight *w, weights_form form, prepare_block *out);
// Bytes of a weight where the files keep it.
size_t plan_stored_bytes(const weight *w);

// ---- prepare_pack.c ----

// Fills one matrix block from its weight; *done counts source bytes.
sight_err pack_block(checkpoint *c, const prepare_block *b, void *to, const prepare_options *o,
                     int64_t *done, int64_t total);

// ---- prepare_file.c ----

// Gives the blocks their places and p its header. identity: text that names the sources.
sight_err prepare_file_lay_out(prepared *p, const char *identity);
// Text that changes whenever the sources do (malloc); NULL: no memory, or a source is gone.
char *prepare_file_identity(const checkpoint *c, weights_form form);
// folder/name of the file (malloc).
char *prepare_file_path(const char *folder, const checkpoint *c, weights_form form);

// Whether bytes are a prepared file with exactly that header; *why says what is not.
bool prepare_file_matches(const prepared *p, const void *data, size_t size, const char **why);
// The identity that a prepared file's header holds, malloced; NULL when data is no such file.
char *prepare_file_read_identity(const void *data, size_t size);

// Maps an existing file when it is right. False: there is none, or *p->warning says why not.
bool prepare_file_map(prepared *p, const char *path);

// A file under way: a temporary name, locked, mapped for writing at p->memory.
typedef struct prepare_writer {
    int fd;
    char *temporary;
    const char *path;
} prepare_writer;

// SIGHT_E_IO with a sentence when it cannot be (no space, no folder).
sight_err prepare_file_create(prepare_writer *w, prepared *p, const char *folder, const char *path);
// Writes everything out and gives the file its name; removes what is out of date beside it.
sight_err prepare_file_commit(prepare_writer *w, prepared *p, const char *folder);
void prepare_file_abandon(prepare_writer *w); // accepts a finished one

#endif
