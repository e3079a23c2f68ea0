// ipc/zpl.h - sections of names and values, as ZeroMQ's tools write key files (RFC 4, ZPL).
//
//   curve
//       public-key = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"   # a comment
//
// Of the format what key files have: sections and, four spaces deeper, names with values. Bytes from outside are checked here alone.
// Threads: any.
#ifndef SIGHT_IPC_ZPL_H
#define SIGHT_IPC_ZPL_H

#include <stddef.h>

#include "base/err.h"

typedef struct zpl_item {
    const char *section; // "" for a name that stands outside
    const char *name, *value;
} zpl_item;

typedef struct zpl {
    char *text; // the file's, cut into strings
    zpl_item *items;
    size_t n;
} zpl;

// what: the file, for the sentence, which also names the line. *out untouched on failure.
// SIGHT_E_ARGUMENT, SIGHT_E_LIMIT, SIGHT_E_MEMORY.
sight_err zpl_read(zpl *out, const char *text, size_t size, const char *what);
void zpl_done(zpl *z); // accepts a zeroed one

// The value, of several the first; NULL: not there.
const char *zpl_get(const zpl *z, const char *section, const char *name);

// Whether a value can be written: it has no quotation mark, line's end or other control character.
int zpl_can_write(const char *value);

#endif
