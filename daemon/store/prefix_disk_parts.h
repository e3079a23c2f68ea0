// daemon/store/prefix_disk_parts.h - what prefix_disk.c (writing) and prefix_load.c (reading) share.
#ifndef SIGHT_DAEMON_PREFIX_DISK_PARTS_H
#define SIGHT_DAEMON_PREFIX_DISK_PARTS_H

#include "daemon/store/prefix_disk.h"

// A slice of copying: a few milliseconds.
#define PREFIX_SLICE_BYTES ((int64_t)8 << 20)

// Payloads begin so; the rest is blocks or states.
typedef struct pages_head {
    int64_t first, n, block_bytes;
    int64_t unused[5];
} pages_head;

typedef struct states_head {
    int64_t tokens, bytes;
    int64_t unused[6];
} states_head;

// A link of a chain: the pages of tokens from..to.
typedef struct prefix_link {
    int32_t from, to;
    uint8_t name[SIPHASH_BYTES];
} prefix_link;

// The links that lead to the longest past of the prompt with over `over` and at most `most` tokens whose pages are all on disk,
// and whose states are when `states` is set; in order, *out malloced. 0: there is none, and nothing to free.
int32_t prefix_disk_chain(const prefix_disk *p, prefix_link **out, const prefix_prompt *prompt, int32_t over,
                          int32_t most, bool states);

// Learns of pasts that others have put on the disk.
void prefix_disk_refresh(prefix_disk *p);
void prefix_disk_count(prefix_disk *p, bool hit);
disk_item prefix_disk_item(const prefix_disk *p, disk_kind kind, const prefix_link *link);
disk *prefix_disk_of(const prefix_disk *p);
cache_pool *prefix_disk_pool(const prefix_disk *p);

#endif
