#define _GNU_SOURCE
#include "region.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#define ALIGNMENT 256

static size_t up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

bool region_create(region *r, size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (bytes > SIZE_MAX / 2) return false;
    const size_t room = up(bytes, ALIGNMENT), inner = up(room, page);
    char *map = mmap(NULL, inner + 2 * page, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) return false;
    if (inner && mprotect(map + page, inner, PROT_READ | PROT_WRITE)) {
        munmap(map, inner + 2 * page);
        return false;
    }
    char *data = map + page + inner - room;
    *r = (region){data, bytes, map, inner + 2 * page};
    region_poison(data, bytes < REGION_MAX_POISON ? bytes : REGION_MAX_POISON);
#if defined(__SANITIZE_ADDRESS__)
    __asan_poison_memory_region(map, (size_t)(data - map));
    __asan_poison_memory_region(data + bytes, room - bytes + page);
#endif
    return true;
}

void region_destroy(region *r)
{
    if (!r->map) return;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(r->map, r->map_bytes);
#endif
    munmap(r->map, r->map_bytes);
    *r = (region){0};
}

void region_allow(const region *r, bool allowed)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (r->map_bytes <= 2 * page) return;
    mprotect((char *)r->map + page, r->map_bytes - 2 * page, allowed ? PROT_READ | PROT_WRITE : PROT_NONE);
}

// Variables in shared memory have ASan's red zones in between: they may be overwritten, but not by a memset that
// ASan watches, which is what the compiler makes of simpler loops.
__attribute__((no_sanitize("address", "thread", "undefined"))) void region_poison(void *p, size_t bytes)
{
    volatile uint16_t *at = p;
    size_t n = bytes / 2;
    for (; n && (uintptr_t)at % 8; n--) *at++ = REGION_POISON;
    volatile uint64_t *wide = (volatile uint64_t *)at;
    for (; n >= 4; n -= 4) *wide++ = REGION_POISON * 0x0001000100010001u;
    for (at = (volatile uint16_t *)wide; n; n--) *at++ = REGION_POISON;
    if (bytes % 2) ((volatile uint8_t *)p)[bytes - 1] = 0x7f;
}
