// tests/cuda_on_cpu/region.h - memory between pages that fault, full of NaN: of devices, and of blocks.
#ifndef SIGHT_TESTS_REGION_H
#define SIGHT_TESTS_REGION_H

#include <stdbool.h>
#include <stddef.h>

typedef struct region {
    void *data;   // 256-byte aligned; the page behind it faults, and so does, with ASan, every byte
    size_t bytes; // asked for
    void *map;
    size_t map_bytes;
} region;

// Numbers that were never written: NaN as float, double, half, bf16; far outside as an index.
#define REGION_POISON 0x7ff7
// Larger ones are filled this far only, so that pages of big, hardly used ones are not touched.
#define REGION_MAX_POISON ((size_t)16 << 20)

bool region_create(region *r, size_t bytes); // false: no memory
void region_destroy(region *r);
void region_allow(const region *r, bool allowed); // reading and writing, by anybody
void region_poison(void *p, size_t bytes);        // p 2-byte aligned; not seen by ASan

#endif
