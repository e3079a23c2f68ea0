// daemon/store/scope.h - what an engine's numbers depend on, as a short name: what was kept on disk under another one is
// of no use to it.
//
// That is the files that the weights come from and the form they are in, adapters, the checkpoint's settings, the
// form of keys and values, how far positions are stretched, how many rows a step has, and where and with which
// instructions sums are made: an answer that goes on from a kept past is the same to the last bit, so all that
// changes bits is in it.
// Threads: the one that opens the engine.
#ifndef SIGHT_DAEMON_SCOPE_H
#define SIGHT_DAEMON_SCOPE_H

#include <stdint.h>

#include "base/siphash.h"
#include "daemon/engine.h"

// e has its weights, kernels and text model; o is what it was opened with. SIGHT_E_MEMORY; SIGHT_E_IO: the files of the
// weights cannot be told.
sight_err scope_of(uint8_t out[SIPHASH_BYTES], engine *e, const engine_options *o,
                   const uint8_t key[SIPHASH_KEY_BYTES]);

#endif
