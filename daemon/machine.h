// daemon/machine.h - what this machine has. Threads: any.
#ifndef SIGHT_DAEMON_MACHINE_H
#define SIGHT_DAEMON_MACHINE_H

#include <stdint.h>

// Bytes that could be allocated now without swapping, within the control group's limit too.
// INT64_MAX when the system does not say.
int64_t machine_memory_bytes(void);
int machine_processors(void); // that this process may run on

#endif
