// decoder/child.h - a decoder child's life: one job, from its socket.
//
// The calling process is confined by then and ends afterwards. Threads: one.
#ifndef SIGHT_DECODER_CHILD_H
#define SIGHT_DECODER_CHILD_H

#include <stdint.h>

// Says that it is ready, with the layers that hold it, receives a job, does it.
void child_serve(int socket, uint32_t layers);

#endif
