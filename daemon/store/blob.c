#include "daemon/store/blob.h"

#include <stdint.h>
#include <stdlib.h>

blob *blob_create(size_t size)
{
    if (size > SIZE_MAX / 2) return NULL;
    const size_t all = (sizeof(blob) + size + 63) / 64 * 64;
    blob *b = aligned_alloc(64, all);
    if (!b) return NULL;
    atomic_init(&b->refs, 1);
    b->size = size;
    return b;
}

blob *blob_ref(blob *b)
{
    atomic_fetch_add(&b->refs, 1);
    return b;
}

void blob_unref(blob **pb)
{
    blob *b = *pb;
    *pb = NULL;
    if (b && atomic_fetch_sub(&b->refs, 1) == 1) free(b);
}
