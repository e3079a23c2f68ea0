// daemon/access/keys.h - the folder of keys: the server's own pair, and whose are welcome, with what they may.
//
// "server.key_secret" is the server's; every other "NAME.key" is the public key of somebody who may ask, whose name is the file's and
// whose rights and ceilings are its metadata (daemon/access/identity.h, "terms as text"). Where these say no rights, they are ask and plan.
// Threads: the server's.
#ifndef SIGHT_DAEMON_KEYS_H
#define SIGHT_DAEMON_KEYS_H

#include "base/err.h"
#include "daemon/access/identity.h"
#include "ipc/key.h"

#define KEYS_SERVER         "server" // a name that no client has
#define KEYS_DEFAULT_RIGHTS (1u << RIGHT_ASK | 1u << RIGHT_PLAN)

typedef struct keys_entry {
    char name[KEY_NAME_SIZE];
    char key[KEY_SIZE]; // public
    identity_terms terms;
} keys_entry;

typedef struct keys keys;

// Reads all; whatever is wrong with one file fails. server_key: file of the server's secret key; NULL: server.key_secret among the
// credentials that systemd hands over, else in the folder. SIGHT_E_ARGUMENT, SIGHT_E_NOT_FOUND, SIGHT_E_PERMISSION, SIGHT_E_LIMIT,
// SIGHT_E_IO, SIGHT_E_MEMORY.
sight_err keys_open(keys **out, const char *folder, const char *server_key);
void keys_close(keys **k); // accepts NULL; leaves NULL

const char *keys_server_secret(const keys *k);

size_t keys_count(const keys *k);
const keys_entry *keys_get(const keys *k, size_t i);
const keys_entry *keys_find(const keys *k, const char *public_key); // NULL: unknown

// Whether the folder's files are others, or newer, than those that were read.
bool keys_changed(const keys *k);
// Reads the clients' keys again. A file that is wrong does not count, as if it were not there: tell hears why. Also what is odd but
// does no harm. The server's own key is read at start only.
typedef void keys_tell(void *arg, const char *sentence);
sight_err keys_reload(keys *k, keys_tell *tell, void *arg);

// SIGHT_E_ARGUMENT: no client's key can have that name.
sight_err keys_check_name(const char *name);

// Reads what a key file lets its owner do; odd gets a sentence about metadata that means nothing here, "" where there is none.
// SIGHT_E_ARGUMENT, SIGHT_E_MEMORY.
sight_err keys_read_terms(identity_terms *out, char *odd, size_t odd_size, const key_file *file, const char *what);

#endif
