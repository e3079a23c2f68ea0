// daemon/store/blob.h - counted bytes in host memory, filled once and then only read.
// Threads: any; who makes one fills it before others hear of it.
#ifndef SIGHT_DAEMON_BLOB_H
#define SIGHT_DAEMON_BLOB_H

#include <stdatomic.h>
#include <stddef.h>

typedef struct blob {
    atomic_int refs;
    size_t size;
    _Alignas(64) unsigned char data[];
} blob;

blob *blob_create(size_t size); // one reference, any content; NULL: no memory
blob *blob_ref(blob *b);
void blob_unref(blob **b); // accepts NULL; leaves NULL

#endif
