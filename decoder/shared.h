// decoder/shared.h - memory that two processes see (memfd), of a size that neither can change.
// Threads: any; the contents are the users' affair.
#ifndef SIGHT_DECODER_SHARED_H
#define SIGHT_DECODER_SHARED_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct shared {
    uint8_t *at;
    size_t size;
    int fd;
    int refs; // atomic
} shared;

// Zeroed; pages are had when they are first written. SIGHT_E_MEMORY.
sight_err shared_create(shared **out, size_t size);
// The other side's view; takes over fd, also on failure. SIGHT_E_MEMORY.
sight_err shared_open(shared **out, int fd, size_t size);
shared *shared_ref(shared *s);
void shared_unref(shared **s); // accepts NULL; leaves NULL

// A file in memory with a copy of the bytes, which nobody can change any more. The caller closes it. SIGHT_E_MEMORY.
sight_err shared_copy(int *fd, const void *bytes, size_t size);

#endif
