// daemon/media/roots.h - the folders below which clients may name media by path.
//
// Each is opened once, when it is set; a client's path is looked up from there by the kernel (openat2), which refuses every
// step that would leave it: "..", a symbolic link that leads out, one of those in /proc. What was opened is what is read:
// nobody looks at the path again. Nothing is said of what lies outside, not even whether it is there.
// Threads: any, after it was made.
#ifndef SIGHT_DAEMON_ROOTS_H
#define SIGHT_DAEMON_ROOTS_H

#include <stddef.h>

#include "base/err.h"

typedef struct roots roots;

// paths: n absolute folders; 0: nothing may be named by path. SIGHT_E_ARGUMENT (not absolute, not a folder, not there, not
// allowed; setting names them in the sentence), SIGHT_E_MEMORY.
sight_err roots_create(roots **out, const char *const *paths, size_t n, const char *setting);
void roots_destroy(roots **r); // accepts NULL; leaves NULL
size_t roots_count(const roots *r);

// Opens the regular file at an absolute path for reading. r NULL: anywhere that this process may read. Folders, devices and
// pipes are refused without being opened, and so are files that the kernel makes up (/proc, /sys).
// Symbolic links are followed while they stay below the folder; where the kernel has no openat2, none is.
// SIGHT_E_PERMISSION (outside, or not readable), SIGHT_E_NOT_FOUND, SIGHT_E_IO, SIGHT_E_BUSY (too many files are open),
// SIGHT_E_MEMORY.
sight_err roots_open(const roots *r, int *fd, const char *path);

// What roots_open does for a kernel without openat2, for tests.
sight_err roots_open_by_steps(const roots *r, int *fd, const char *path);

#endif
