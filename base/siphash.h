// base/siphash.h - SipHash-2-4 with 128 bits of result: a short name for bytes.
//
// Keyed: who does not know the key cannot make two inputs with one name, so names may stand for
// bytes that strangers send. Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF".
// Threads: any, an object by one at a time.
#ifndef SIGHT_BASE_SIPHASH_H
#define SIGHT_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

#define SIPHASH_BYTES     16
#define SIPHASH_KEY_BYTES 16

typedef struct siphash {
    uint64_t v[4];
    uint8_t tail[8]; // bytes that do not fill a word yet
    uint64_t size;   // of all bytes so far
} siphash;

void siphash_init(siphash *h, const uint8_t key[SIPHASH_KEY_BYTES]);
void siphash_add(siphash *h, const void *data, size_t size);
void siphash_finish(siphash *h, uint8_t out[SIPHASH_BYTES]);

#endif
