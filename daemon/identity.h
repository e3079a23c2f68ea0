// daemon/identity.h - who asks.
//
// An identity is made when somebody is first heard of and lives as long as the daemon: equal pointers are the same one. Its name
// is the same after a restart, so what is kept on disk can be told apart by it.
// Threads: any, after it was made.
#ifndef SIGHT_DAEMON_IDENTITY_H
#define SIGHT_DAEMON_IDENTITY_H

typedef struct identity identity;

// A key's name, or "uid 1000". NULL, the process itself (trace, bench): "".
const char *identity_name(const identity *who);

#endif
