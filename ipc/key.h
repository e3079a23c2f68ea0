// ipc/key.h - CURVE keys in files, as czmq's zcert and other ZeroMQ tools read and write them.
//
// A pair is two files: "door.key" with the public key, to be handed out, and "door.key_secret" with both, which never leaves its
// owner (mode 0600). Keys are written in Z85, 40 characters. The section `metadata` of the public file holds what the server lets
// this key do. Threads: any.
#ifndef SIGHT_IPC_KEY_H
#define SIGHT_IPC_KEY_H

#include <stdbool.h>
#include <stddef.h>

#include "ipc/zpl.h"

#define KEY_SIZE      41 // of a key as text
#define KEY_NAME_SIZE 49
#define KEY_SUFFIX    ".key"
#define KEY_SECRET    ".key_secret"

typedef struct key_file {
    char public_key[KEY_SIZE];
    char secret_key[KEY_SIZE]; // "" in a public file
    zpl text;                  // its metadata
} key_file;

// what: the file, for sentences. SIGHT_E_ARGUMENT (no key file, a damaged key), SIGHT_E_LIMIT, SIGHT_E_MEMORY.
sight_err key_parse(key_file *out, const char *text, size_t size, const char *what);
// Also SIGHT_E_NOT_FOUND, SIGHT_E_PERMISSION (a secret one that every user may read), SIGHT_E_IO.
sight_err key_read(key_file *out, const char *path);
// The same, of a file that must hold a secret key.
sight_err key_read_secret(key_file *out, const char *path);
void key_done(key_file *k); // forgets the secret; accepts a zeroed one

// The public key in a file, or the 40 characters themselves.
sight_err key_read_public(char out[KEY_SIZE], const char *file_or_key);

// A new pair. SIGHT_E_UNSUPPORTED: this libzmq has no CURVE.
sight_err key_generate(char public_key[KEY_SIZE], char secret_key[KEY_SIZE]);

// One more line of metadata.
typedef struct key_meta {
    const char *name, *value;
} key_meta;

// Writes a file whole or not at all: public where secret_key is NULL (0644), else secret (0600). replace: one of that name may be
// there. SIGHT_E_BUSY: it is there. SIGHT_E_ARGUMENT: a value that cannot be written. SIGHT_E_IO, ...
sight_err key_write(const char *path, const char *public_key, const char *secret_key, const key_meta *meta, size_t n_meta,
                    bool replace);

bool key_text_is_good(const char *text);   // 40 characters of Z85 that stand for 32 bytes
bool key_name_is_good(const char *name);   // 1 to 48 letters, digits, '-', '_', '.', not beginning with '.'

#endif
