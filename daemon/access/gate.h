// daemon/access/gate.h - who may connect, and as whom they ask.
//
// Local users come over an ipc socket, and the system says who they are; over tcp come those with keys, or, where there are none, whoever
// is on this machine. Threads: the server's.
#ifndef SIGHT_DAEMON_GATE_H
#define SIGHT_DAEMON_GATE_H

#include "base/err.h"
#include "daemon/access/identity.h"
#include "daemon/watch/metrics.h"
#include "daemon/settings/settings.h"
#include "ipc/server.h"

// As in the settings; NULL: not given.
typedef struct gate_options {
    char *keys;            // folder
    char *server_key;      // file
    char *socket_mode;     // octal
    char *socket_group;    // a name or number
    option_list allow_uid; // names or numbers; none: whom the socket's mode lets in
    char *uid_rights;      // of local users other than the daemon's own and root
    char *tcp_rights;      // of those who come without a key
} gate_options;

// Whether they can be used, without using them: the same codes as gate_open.
sight_err gate_check(const gate_options *o);
// Bits of the sockets' mode that let others than the owner in.
unsigned gate_open_to(const gate_options *o);

typedef struct gate gate;

// Borrows table and metrics (NULL: nothing is counted). SIGHT_E_ARGUMENT (a setting), and those of keys_open.
sight_err gate_open(gate **out, const gate_options *o, identity_table *table, metrics *m);
void gate_close(gate **g); // accepts NULL; leaves NULL

// Fills what the sockets need to know; g must outlive the server.
void gate_configure(gate *g, server_options *o);

// Who sent a message. SIGHT_E_PERMISSION, SIGHT_E_LIMIT, SIGHT_E_MEMORY.
sight_err gate_identify(gate *g, identity **who, const server_message *m);

// Once a turn: takes in what became of the folder of keys, at most once a second, and ends the connections of keys that are gone.
void gate_tend(gate *g, server *s, double now_s);
// Between two of its looks, for the loop: -1 where there is nothing to look at.
int gate_step_ms(const gate *g);
// The same at once, whether or not the folder looks changed (SIGHUP).
void gate_reload(gate *g, server *s);

#endif
