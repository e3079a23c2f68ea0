// text/stop.h - stop strings in a stream: holds back text that may become one.
//
// Threads: one stream belongs to one thread.
#ifndef SIGHT_TEXT_STOP_H
#define SIGHT_TEXT_STOP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

#define STOP_MAX_STRINGS 16
#define STOP_MAX_BYTES   256

typedef struct stop {
    char *strings[STOP_MAX_STRINGS];
    size_t n;
    buf held;
} stop;

// Copies the strings. SIGHT_E_ARGUMENT (empty, too long, too many), SIGHT_E_MEMORY.
sight_err stop_init(stop *s, const char *const *strings, size_t n);
void stop_done(stop *s);
// Appends to out what is certain; true when a stop string was met (it and what follows is dropped).
bool stop_push(stop *s, buf *out, const char *text, size_t n);
// At the end of the answer: what was held back is text after all.
void stop_flush(stop *s, buf *out);

#endif
