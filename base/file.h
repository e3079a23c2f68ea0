// base/file.h - whole-file reading and read-only mapping, with errors that name the path.
// Threads: any.
#ifndef SIGHT_BASE_FILE_H
#define SIGHT_BASE_FILE_H

#include <stddef.h>

#include "base/err.h"

// Reads a regular file whole; *out is malloced, *size bytes and a NUL not counted.
// SIGHT_E_NOT_FOUND, SIGHT_E_PERMISSION, SIGHT_E_IO (a folder, a read error), SIGHT_E_LIMIT,
// SIGHT_E_MEMORY. Outputs untouched on failure.
sight_err file_read(char **out, size_t *size, const char *path, size_t max_bytes);

// Opens a regular file read-only; a folder, FIFO or device is refused and does not hang the caller.
// SIGHT_E_NOT_FOUND, SIGHT_E_PERMISSION, SIGHT_E_IO.
sight_err file_open(int *fd, const char *path);
// The same as file_read for an open file, from its beginning wherever its offset is; it stays open. name: in errors.
sight_err file_read_fd(char **out, size_t *size, int fd, const char *name, size_t max_bytes);

typedef struct file_map {
    const unsigned char *data; // NULL when size is 0
    size_t size;
} file_map;

// Maps a regular file read-only. Same errors as file_read.
sight_err file_map_open(file_map *out, const char *path);
void file_map_close(file_map *m); // accepts a zeroed map

// The code and line for errno after `doing` ("open", "read") on path.
sight_err file_fail(const char *doing, const char *path, int error_number);

#endif
