// daemon/store/prefix_names.h - names of what a prompt has read up to a token: a keyed hash of who asks, of the
// token ids and of the media.
//
// Who does not know the key cannot make two beginnings with one name (base/siphash.h), so a name stands for
// all that it was made of. Threads: any; one object by one at a time.
#ifndef SIGHT_DAEMON_PREFIX_NAMES_H
#define SIGHT_DAEMON_PREFIX_NAMES_H

#include <stdint.h>

#include "base/siphash.h"
#include "daemon/access/identity.h"

// A medium's place among a prompt's tokens: from its first feature row to after its last.
typedef struct prefix_medium {
    int32_t first, end;
    uint8_t hash[SIPHASH_BYTES];
} prefix_medium;

// What a prompt will have read, from its first token on. Borrowed for the calls.
typedef struct prefix_prompt {
    const int32_t *ids; // [n]
    int32_t n;
    const prefix_medium *media; // [n_media], in order
    int32_t n_media;
    const identity *who; // asks; what they have read nobody else finds
} prefix_prompt;

typedef struct prefix_names {
    siphash so_far;
    const prefix_prompt *prompt;
    int32_t at, medium; // tokens and media that are in it
} prefix_names;

// scope: of the model and what its numbers depend on; names of two scopes never meet. Borrows p.
void prefix_names_init(prefix_names *s, const uint8_t key[SIPHASH_KEY_BYTES],
                       const uint8_t scope[SIPHASH_BYTES], const prefix_prompt *p);
// Of the first n tokens, and the media that begin among them; n at least that of the call before.
void prefix_names_at(prefix_names *s, uint8_t out[SIPHASH_BYTES], int32_t n);

#endif
