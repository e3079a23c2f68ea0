// daemon/store/disk_file.h - one file of a store on disk: its name, its head and its seal.
//
// A file is a head of DISK_HEAD_BYTES and a payload. The head names what the payload is, and for which model;
// the seal is a keyed hash of both. Who has no key can make no file that is taken for one, so whatever is
// damaged, cut, moved or foreign is recognised as a whole. Numbers are in the machine's own order: a folder
// belongs to one machine.
// Threads: any.
#ifndef SIGHT_DAEMON_DISK_FILE_H
#define SIGHT_DAEMON_DISK_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/siphash.h"

#define DISK_VERSION    1
#define DISK_HEAD_BYTES 96
#define DISK_NAME_SIZE  80 // of a file's name, with its NUL

typedef enum disk_kind { DISK_STATES, DISK_PAGES, DISK_ROWS, DISK_KINDS } disk_kind;

// What a payload is.
typedef struct disk_item {
    disk_kind kind;
    uint8_t name[SIPHASH_BYTES];  // what it is kept under
    uint8_t scope[SIPHASH_BYTES]; // of the model and what its numbers depend on
    int32_t from, to;             // of a past: its tokens; 0 of rows
} disk_item;

// "0123...ef-128-4096.pages"
void disk_file_name(char out[DISK_NAME_SIZE], const disk_item *item);
// False when it is no such name. scope stays zeros: a name does not say it.
bool disk_file_read_name(disk_item *out, const char *file);

// payload [size].
void disk_file_head(uint8_t out[DISK_HEAD_BYTES], const disk_item *item, const void *payload, size_t size,
                    const uint8_t key[SIPHASH_KEY_BYTES]);
// How many bytes of payload a head announces for that item; -1: it is none, or of something else. The seal
// is not looked at.
int64_t disk_file_size(const uint8_t head[DISK_HEAD_BYTES], const disk_item *item);
bool disk_file_is_sealed(const uint8_t head[DISK_HEAD_BYTES], const void *payload, size_t size,
                         const uint8_t key[SIPHASH_KEY_BYTES]);

#endif
