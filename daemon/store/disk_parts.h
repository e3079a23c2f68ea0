// daemon/store/disk_parts.h - what disk.c and disk_folder.c share.
#ifndef SIGHT_DAEMON_DISK_PARTS_H
#define SIGHT_DAEMON_DISK_PARTS_H

#include "daemon/store/disk.h"

// A folder that was opened; files are named relative to it. fds -1: none.
typedef struct disk_folder {
    int fd, lock_fd;
    uint8_t key[SIPHASH_KEY_BYTES];
} disk_folder;

// Opens or makes the folder, locks it, reads or makes its key. Codes of disk_open.
sight_err disk_folder_open(disk_folder *out, const char *path);
void disk_folder_close(disk_folder *f);

// A file there, found when the folder is opened.
typedef struct disk_found {
    disk_item item;
    int64_t bytes, used_s, used_ns; // used: its time of change
} disk_found;

// The items, unused for longest first; *out is malloced. Removes what an interrupted daemon has left, and counts what
// is none of ours. SIGHT_E_IO, SIGHT_E_MEMORY.
sight_err disk_folder_list(const disk_folder *f, disk_found **out, int32_t *n, int32_t *strangers);

// Writes the item under a passing name, then gives it its own. 0 or errno.
int disk_folder_write(const disk_folder *f, const disk_item *item, const blob *payload);

typedef enum disk_outcome { DISK_READ, DISK_GONE, DISK_DAMAGED, DISK_NO_MEMORY } disk_outcome;

disk_outcome disk_folder_read(const disk_folder *f, blob **out, const disk_item *item, int64_t most_bytes);
void disk_folder_remove(const disk_folder *f, const disk_item *item);
void disk_folder_touch(const disk_folder *f, const disk_item *item);

#endif
