// ipc/lock.h - one daemon per socket.
//
// A lock file beside an ipc socket ("<socket>.lock") is held by flock(2) for as long as the daemon
// lives, so that a crash leaves nothing behind that needs cleaning. Threads: any.
#ifndef SIGHT_IPC_LOCK_H
#define SIGHT_IPC_LOCK_H

#include "base/err.h"

typedef struct endpoint_lock {
    int fd; // -1: not held
} endpoint_lock;

// Makes the socket's folder when it is missing (0700; 0711 with open_to, the bits of the socket's mode that let others in) and takes the lock. For other endpoints than
// ipc there is nothing to do: binding itself refuses a second daemon.
// SIGHT_E_BUSY names the process that holds it; SIGHT_E_PERMISSION when the folder belongs to
// another user or others may write into it; SIGHT_E_IO, SIGHT_E_NOT_FOUND.
sight_err endpoint_lock_take(endpoint_lock *out, const char *endpoint, unsigned open_to);
void endpoint_lock_release(endpoint_lock *l);

#endif
