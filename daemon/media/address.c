#include "daemon/media/address.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

// The first `bits` bits of an address.
typedef struct range4 {
    uint8_t begin[4];
    int bits;
    const char *kind;
} range4;

typedef struct range6 {
    uint8_t begin[16];
    int bits;
    const char *kind; // NULL: public, if the IPv4 address in its last four bytes is
} range6;

// https://www.iana.org/assignments/iana-ipv4-special-registry
static const range4 ranges4[] = {
    {{0, 0, 0, 0}, 8, "of this network"},
    {{10, 0, 0, 0}, 8, "private"},
    {{100, 64, 0, 0}, 10, "shared (carrier-grade NAT)"},
    {{127, 0, 0, 0}, 8, "loopback"},
    {{168, 63, 129, 16}, 32, "of a cloud's metadata"},
    {{169, 254, 0, 0}, 16, "link-local"},
    {{172, 16, 0, 0}, 12, "private"},
    {{192, 0, 0, 0}, 24, "reserved"},
    {{192, 0, 2, 0}, 24, "for documentation"},
    {{192, 52, 193, 0}, 24, "of multicast relays"},
    {{192, 88, 99, 0}, 24, "of 6to4 relays"},
    {{192, 168, 0, 0}, 16, "private"},
    {{198, 18, 0, 0}, 15, "for benchmarks"},
    {{198, 51, 100, 0}, 24, "for documentation"},
    {{203, 0, 113, 0}, 24, "for documentation"},
    {{224, 0, 0, 0}, 4, "multicast"},
    {{255, 255, 255, 255}, 32, "broadcast"},
    {{240, 0, 0, 0}, 4, "reserved"},
};

// https://www.iana.org/assignments/iana-ipv6-special-registry; global unicast is 2000::/3 alone (RFC 4291), the rest is reserved.
static const range6 ranges6[] = {
    {{[15] = 1}, 128, "loopback"},
    {{0}, 128, "unspecified"},
    {{[10] = 0xff, [11] = 0xff}, 96, NULL}, // IPv4-mapped
    {{[1] = 0x64, [2] = 0xff, [3] = 0x9b}, 96, NULL}, // NAT64 (RFC 6052)
    {{[1] = 0x64, [2] = 0xff, [3] = 0x9b, [5] = 1}, 48, "of a local NAT64"},
    {{0x20, 0x01}, 23, "reserved (Teredo and others)"},
    {{0x20, 0x01, 0x0d, 0xb8}, 32, "for documentation"},
    {{0x20, 0x02}, 16, "of 6to4"}, // may hold any IPv4 address, and is not used any more (RFC 7526)
    {{0x3f, 0xff}, 20, "for documentation"},
    {{0xfc}, 7, "private"},
    {{0xfe, 0x80}, 10, "link-local"},
    {{0xfe, 0xc0}, 10, "site-local"},
    {{0xff}, 8, "multicast"},
};

static const uint8_t global_unicast[16] = {0x20};

static bool same_bits(const uint8_t *a, const uint8_t *b, int bits)
{
    const int bytes = bits / 8, rest = bits % 8;
    return !memcmp(a, b, (size_t)bytes) && (!rest || !((a[bytes] ^ b[bytes]) >> (8 - rest)));
}

static const char *kind4(const uint8_t *a)
{
    for (size_t i = 0; i < sizeof ranges4 / sizeof *ranges4; i++) {
        if (same_bits(a, ranges4[i].begin, ranges4[i].bits)) return ranges4[i].kind;
    }
    return NULL;
}

static const char *kind6(const uint8_t *a)
{
    for (size_t i = 0; i < sizeof ranges6 / sizeof *ranges6; i++) {
        if (!same_bits(a, ranges6[i].begin, ranges6[i].bits)) continue;
        return ranges6[i].kind ? ranges6[i].kind : kind4(a + 12);
    }
    return same_bits(a, global_unicast, 3) ? NULL : "reserved";
}

const char *address_not_public(const struct sockaddr *a, size_t size)
{
    if (a->sa_family == AF_INET && size >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in in;
        memcpy(&in, a, sizeof in);
        return kind4((const uint8_t *)&in.sin_addr);
    }
    if (a->sa_family == AF_INET6 && size >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 in;
        memcpy(&in, a, sizeof in);
        return kind6(in.sin6_addr.s6_addr);
    }
    return "not of the internet";
}
