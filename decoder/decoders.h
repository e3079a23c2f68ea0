// decoder/decoders.h - confined child processes that open media for this one, each for one medium only.
//
// The daemon makes one of these and names it in its limits (decoder/video.h, decoder/image.h). A few children wait
// ready, so that opening a picture does not pay for the start of a process. docs/SECURITY.md says what a child can do.
// Threads: any, but for create and destroy.
#ifndef SIGHT_DECODER_DECODERS_H
#define SIGHT_DECODER_DECODERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

typedef struct decoders decoders;

// What becomes of a child.
typedef enum decoder_event {
    DECODER_STARTED,
    DECODER_TAKEN, // it has a medium now
    DECODER_DONE,   // it did its job
    DECODER_FAILED, // it said why it could not, or was no longer wanted
    DECODER_CRASHED,
    DECODER_TIMED_OUT,
    DECODER_NO_MEMORY,
} decoder_event;

// Zero means the default.
typedef struct decoders_options {
    const char *program;  // of the keeper; NULL: sight-decoder beside this program, else where it is installed
    bool require;         // no less than seccomp and Landlock
    int64_t memory_bytes; // of a child, beside what it shares; 4 GiB
    double seconds;       // of the processor that a child may take, and that it may be waited for; 900
    double silence_s;     // without a word from a child that is to work; 30
    int32_t most;         // children at work at once; further ones are waited for; 16
    int32_t ready;        // children that wait; 2
    // Told of each, with how many are at work then; must not block. Any thread. NULL: nobody is.
    void (*tell)(void *arg, decoder_event what, int32_t working);
    void *tell_arg;
} decoders_options;

// Starts the keeper and a first child. SIGHT_E_NOT_FOUND (no program), SIGHT_E_UNSUPPORTED (require, and the kernel lacks
// a layer, by name), SIGHT_E_TIMEOUT, SIGHT_E_INTERNAL (the program does not do its work), SIGHT_E_MEMORY.
sight_err decoders_create(decoders **out, const decoders_options *options);
// No child is at work any more. Accepts NULL; leaves NULL.
void decoders_destroy(decoders **d);

typedef struct decoders_status {
    bool seccomp, landlock, namespaces;
    int64_t started, crashed, timed_out; // children
    int32_t working, waiting;            // now
    int64_t keeper_pid;
} decoders_status;

decoders_status decoders_get_status(decoders *d);
// What the kernel lacks, in a sentence; NULL: nothing of what counts.
const char *decoders_warning(const decoders *d);

#endif
