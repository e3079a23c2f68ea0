// base/err.h - one error line per thread.
//
// A function that fails calls `return sight_fail(SIGHT_E_MEDIA, "'%s' has no picture track", path)`:
// the line is kept for the calling thread and the code is returned. Callers pass the code up
// untouched; the stage boundary reads sight_error() once. Libraries neither log nor exit.
// Threads: any; each has its own line.
#ifndef SIGHT_BASE_ERR_H
#define SIGHT_BASE_ERR_H

#include "sight/err.h"

// Stores the line (cut at 1,023 bytes, control characters replaced) and returns code.
sight_err sight_fail(sight_err code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// Puts "what: " in front of the stored line, for context that only the caller knows; returns code.
sight_err sight_fail_in(sight_err code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// The calling thread's last line, never NULL, valid until its next sight_fail.
const char *sight_error(void);

#endif
