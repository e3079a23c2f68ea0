// decoder/keeper.h - the process that makes decoder children, what the program sight-decoder is.
//
// The daemon starts it once. It has loaded the libraries, has put on what children inherit of their confinement, reads
// no medium ever, and forks a fresh child for each: so a child costs a fork, and no two media meet in one process. It
// ends when the daemon does, and its children with it.
// The daemon asks over a SOCK_SEQPACKET socket: a keeper_spawn with two files, the child's socket and a leash. The
// leash is how a child is ended (the daemon closes its end) and how its end is told (its wait status, an int).
// Threads: one.
#ifndef SIGHT_DECODER_KEEPER_H
#define SIGHT_DECODER_KEEPER_H

#include <stdint.h>

// The descriptor at which the keeper finds its socket.
#define KEEPER_SOCKET 3
// Children at once; more are ended at once.
#define KEEPER_CHILDREN 64

typedef struct keeper_spawn {
    uint32_t size; // of this struct
    int64_t memory_bytes;
    double cpu_s;
} keeper_spawn;

// What a child does: child_serve, in tests something worse.
typedef void keeper_child(int socket, uint32_t layers);

// Returns the program's exit code when the daemon is gone.
int keeper_run(keeper_child *child);

#endif
