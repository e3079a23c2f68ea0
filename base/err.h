// base/err.h - one error line per thread.
//
// A function that fails calls `return sight_fail(SIGHT_E_MEDIA, "'%s' has no picture track", path)`:
// the line is kept for the calling thread and the code is returned. Callers pass the code up
// untouched; the stage boundary reads sight_error() once. Libraries neither log nor exit.
// Threads: any; each has its own line.
#ifndef SIGHT_BASE_ERR_H
#define SIGHT_BASE_ERR_H

#include "sight/err.h"

// Stores the line (cut at 1,023 bytes, control characters replaced) and gives code. A macro, so
// that the compiler sees which code is returned and knows when outputs are set.
#define sight_fail(code, ...) (err_set(__VA_ARGS__), err_same(code))

// Puts "what: " in front of the stored line, for context that only the caller knows; gives code.
#define sight_fail_in(code, ...) (err_set_in(__VA_ARGS__), err_same(code))

void err_set(const char *format, ...) __attribute__((format(printf, 1, 2)));
void err_set_in(const char *format, ...) __attribute__((format(printf, 1, 2)));

static inline sight_err err_same(sight_err code)
{
    return code;
}

// The calling thread's last line, never NULL, valid until its next sight_fail.
const char *sight_error(void);

#endif
