// daemon/store/disk.h - a folder in which what was read and encoded outlives the daemon.
//
// Items (daemon/store/disk_file.h) are written and read by a thread of the store's own; whoever has or wants one
// only hands over or polls. Within the folder's budget the one unused for longest goes first, over restarts
// too: a file's time of change says when it was last used. Nothing here is ever needed: a file that is
// damaged, a full disk, an item that does not come are only work to be done again, and one line of warning.
//
// The folder holds `key` (of all names and seals, and of media's hashes), `lock` (one daemon at a time) and
// the items, all of mode 0600.
// Threads: any.
#ifndef SIGHT_DAEMON_DISK_H
#define SIGHT_DAEMON_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "daemon/store/blob.h"
#include "daemon/store/disk_file.h"

typedef struct disk disk;

// Makes the folder where it is missing (not those above it). SIGHT_E_PERMISSION (not this user's, or others may
// write there), SIGHT_E_BUSY (another daemon uses it), SIGHT_E_IO, SIGHT_E_NOT_FOUND, SIGHT_E_MEMORY,
// SIGHT_E_INTERNAL (no random numbers).
sight_err disk_open(disk **out, const char *folder, int64_t budget_bytes);
// Writes what is still to be written. After its last load; accepts NULL; leaves NULL.
void disk_close(disk **d);

const uint8_t *disk_key(const disk *d); // [SIPHASH_KEY_BYTES]

// Whether it is there, or about to be written; *from is that of the item (NULL: not wanted). name is all that is
// looked at beside the kind.
bool disk_has(disk *d, disk_kind kind, const uint8_t name[SIPHASH_BYTES], int32_t *from);
// Every `to` of items of that kind there are, in any order, with repeats; *out is malloced. SIGHT_E_MEMORY.
sight_err disk_lengths(disk *d, disk_kind kind, int32_t **out, int32_t *n);

// How many items were put since it was opened: while it is the same, so is disk_lengths, but for what is gone.
int64_t disk_added(disk *d);

// Keeps a reference until it is written. Does nothing when it is there, over the budget, or when too much waits.
void disk_put(disk *d, const disk_item *item, blob *payload);
void disk_forget(disk *d, disk_kind kind, const uint8_t name[SIPHASH_BYTES]);

typedef struct disk_load disk_load;

// Asks for the item's payload, of at most so many bytes. NULL: it is not there, or no memory.
disk_load *disk_load_begin(disk *d, const disk_item *item, int64_t most_bytes);
// Waits up to wait_ms. True when it is over: *out is the payload, the caller's reference, or NULL when it is
// damaged or gone.
bool disk_load_poll(disk_load *l, int wait_ms, blob **out);
void disk_load_end(disk_load **l); // at any time; accepts NULL; leaves NULL

// What the one who runs the daemon should be told, once for each kind of trouble (malloc); NULL: nothing new.
char *disk_warning(disk *d);

// Waits until nothing is to be written or read (tests).
void disk_settle(disk *d);

typedef struct disk_usage {
    int32_t items;
    int64_t bytes, budget;
    int32_t kind_items[DISK_KINDS];
    int64_t kind_bytes[DISK_KINDS];
    int64_t evicted, damaged, failed; // files, since it was opened
} disk_usage;

disk_usage disk_get_usage(disk *d);

#endif
