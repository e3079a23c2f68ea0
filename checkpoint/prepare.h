// checkpoint/prepare.h - makes every matrix of a checkpoint runnable in the form one asks for.
//
// Matrices in a published quantised form are laid out for the kernels without loss; plain ones are
// quantised where the form says so. What was made is kept as one file in a cache folder and mapped at
// the next start. Matrices that need nothing stay where the checkpoint maps them.
//
// Threads: one, before models are made of the checkpoint; the pool is the caller's.
#ifndef SIGHT_CHECKPOINT_PREPARE_H
#define SIGHT_CHECKPOINT_PREPARE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/threads.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/weights_form.h"

// Bytes of all weights in that form, before anything is made.
int64_t weights_form_bytes(const checkpoint *c, weights_form form);
// The first of stored, int8, int4 that leaves enough of room_bytes for work; int4 when none does.
// A checkpoint that is published in a quantised form stays as it is.
weights_form weights_choose(const checkpoint *c, int64_t room_bytes);

// A block that another room wants made of the weights and kept with them ("head planes").
typedef struct prepare_extra {
    const char *name; // unlike any tensor's; at most 95 characters
    uint32_t version; // of its layout: another one is made anew
    size_t bytes;
    // Fills to [bytes] (64-byte aligned, zeroed) once all matrices of c are ready.
    sight_err (*make)(void *arg, const checkpoint *c, void *to, threads *pool);
    void *arg;
} prepare_extra;

typedef struct prepare_options {
    weights_form form;
    int64_t room_bytes; // for WEIGHTS_AUTO
    const char *cache;  // folder for the prepared file, made when missing; NULL: none
    threads *pool; // NULL: the caller alone
    const prepare_extra *extras;
    size_t n_extras;
    void (*progress)(void *arg, int64_t done_bytes, int64_t total_bytes); // NULL: none
    void *progress_arg;
    const atomic_bool *stop; // NULL: never
} prepare_options;

// Once per checkpoint. SIGHT_E_MODEL (a value that cannot be), SIGHT_E_UNSUPPORTED (a format that the
// kernels do not run), SIGHT_E_MEMORY, SIGHT_E_CANCELLED. A cache that cannot be used is no failure:
// checkpoint_prepare_warning says why.
sight_err checkpoint_prepare(checkpoint *c, const prepare_options *options);

// What was chosen; WEIGHTS_STORED before checkpoint_prepare.
weights_form checkpoint_form(const checkpoint *c);
// Bytes in use of the weights whose names begin so.
int64_t checkpoint_bytes_of(const checkpoint *c, const char *start);
// The prepared file in use, or NULL.
const char *checkpoint_prepared_file(const checkpoint *c);
// Text that names the files the weights come from, with sizes and times, and their form; malloced. NULL: no memory, or a
// file is gone.
char *checkpoint_identity(const checkpoint *c);
// What the one who starts the program should be told, or NULL.
const char *checkpoint_prepare_warning(const checkpoint *c);
// An extra's block; NULL when there is none of that name.
const void *checkpoint_extra(const checkpoint *c, const char *name, size_t *bytes);

// The folder for prepared files: $CACHE_DIRECTORY (a systemd service's), $XDG_CACHE_HOME/sightd or
// ~/.cache/sightd. SIGHT_E_NOT_FOUND when none of them is set; SIGHT_E_LIMIT when it is too long.
sight_err prepare_cache_folder(char *out, size_t size);

#endif
