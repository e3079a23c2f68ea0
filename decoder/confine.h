// decoder/confine.h - what a decoder child may still do: compute, read the files it was handed, answer over its socket.
//
// Layers, each enough to keep a taken-over child from files and network; what the kernel lacks is left out and told:
// Landlock (no file, no TCP), seccomp (a list of system calls, everything else ends the process), namespaces of its own
// for users, network and IPC. Beside them always: no_new_privs, no capabilities, limits on memory, processor time and
// open files, no core dumps, first to go when memory is short.
// docs/SECURITY.md says what is allowed and why. Threads: the calling process must have one.
#ifndef SIGHT_DECODER_CONFINE_H
#define SIGHT_DECODER_CONFINE_H

#include <stdint.h>

#include "base/err.h"

enum {
    CONFINE_SECCOMP = 1,
    CONFINE_LANDLOCK = 2,
    CONFINE_NAMESPACES = 4,
};

// What every child needs, made once by the process that forks them.
typedef struct confine {
    uint32_t layers;              // so far
    int64_t address_space, data;  // bytes that the program takes itself, for limits
    struct sock_filter *filter;   // NULL: seccomp cannot be had
    uint16_t filter_size;
} confine;

typedef struct confine_limits {
    int64_t memory_bytes; // beside what the program takes itself
    double cpu_s;
} confine_limits;

// The layers that children inherit, and the filter for confine_child. Nothing of it fails: layers say what was had.
void confine_begin(confine *c);
void confine_done(confine *c);
// The rest, for a forked child. Gives all its layers.
uint32_t confine_child(const confine *c, const confine_limits *limits);

#endif
