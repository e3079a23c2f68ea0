#include "base/siphash.h"

#include <string.h>

static uint64_t rotl(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

// Little-endian, whatever the machine.
static uint64_t load64(const uint8_t *p)
{
    uint64_t x = 0;
    for (int i = 0; i < 8; i++) x |= (uint64_t)p[i] << 8 * i;
    return x;
}

static void store64(uint8_t *p, uint64_t x)
{
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(x >> 8 * i);
}

static void rounds(uint64_t v[4], int n)
{
    while (n-- > 0) {
        v[0] += v[1];
        v[1] = rotl(v[1], 13) ^ v[0];
        v[0] = rotl(v[0], 32);
        v[2] += v[3];
        v[3] = rotl(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotl(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotl(v[1], 17) ^ v[2];
        v[2] = rotl(v[2], 32);
    }
}

static void add_word(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    rounds(v, 2);
    v[0] ^= word;
}

void siphash_init(siphash *h, const uint8_t key[SIPHASH_KEY_BYTES])
{
    const uint64_t k0 = load64(key), k1 = load64(key + 8);
    *h = (siphash){.v = {k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d ^ 0xee,
                         k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}};
}

void siphash_add(siphash *h, const void *data, size_t size)
{
    const uint8_t *p = data;
    size_t held = h->size % 8;
    h->size += size;
    while (held && size) {
        h->tail[held++] = *p++;
        size--;
        if (held < 8) continue;
        add_word(h->v, load64(h->tail));
        held = 0;
    }
    for (; size >= 8; p += 8, size -= 8) add_word(h->v, load64(p));
    if (size) memcpy(h->tail + held, p, size);
}

void siphash_finish(siphash *h, uint8_t out[SIPHASH_BYTES])
{
    const size_t held = h->size % 8;
    memset(h->tail + held, 0, 8 - held);
    add_word(h->v, load64(h->tail) | h->size << 56);
    h->v[2] ^= 0xee;
    rounds(h->v, 4);
    store64(out, h->v[0] ^ h->v[1] ^ h->v[2] ^ h->v[3]);
    h->v[1] ^= 0xdd;
    rounds(h->v, 4);
    store64(out + 8, h->v[0] ^ h->v[1] ^ h->v[2] ^ h->v[3]);
}
