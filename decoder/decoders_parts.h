// decoder/decoders_parts.h - what decoders.c and session.c share: taking children and giving them back.
#ifndef SIGHT_DECODER_DECODERS_PARTS_H
#define SIGHT_DECODER_DECODERS_PARTS_H

#include <stdatomic.h>

#include "decoder/decoders.h"

// A child and how it is held. Both -1: none.
typedef struct decoder_child {
    int socket; // of its job
    int leash;  // closing it ends the child; its wait status comes from there
} decoder_child;

// Waits for a place, polling stop. SIGHT_E_CANCELLED, SIGHT_E_MEMORY, SIGHT_E_INTERNAL, SIGHT_E_NOT_FOUND.
sight_err decoders_take(decoders *d, decoder_child *out, bool (*stop)(void *), void *stop_arg);
// Ends it, whatever it does, without waiting for that.
void decoders_give(decoders *d, decoder_child *c, decoder_event end);
// A child was never made, though its keeper was asked: ends that keeper, for another to be started.
void decoders_distrust(decoders *d);
// The wait status of a child whose socket has ended; -1: its keeper cannot say.
int decoders_wait_status(const decoder_child *c);

const decoders_options *decoders_get_options(const decoders *d);

#endif
