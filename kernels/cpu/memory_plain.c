// kernels/cpu/memory_plain.c - the CPU's memory is the process's own.
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/backend.h"

#define LARGE ((size_t)4 << 20)
#define LARGE_PAGE ((size_t)2 << 20)
#define ALIGN 256

static void *plain_alloc(kernels *k, size_t bytes)
{
    void *p = NULL;
    if (posix_memalign(&p, bytes >= LARGE ? LARGE_PAGE : ALIGN, bytes + (bytes == 0))) return NULL;
#ifdef MADV_HUGEPAGE
    if (bytes >= LARGE) madvise(p, bytes, MADV_HUGEPAGE);
#endif
    return p;
}

static void plain_free(kernels *k, void *p)
{
    free(p);
}

static void plain_copy(kernels *k, void *to, const void *from, size_t bytes)
{
    if (bytes) memcpy(to, from, bytes);
}

static sight_err plain_read(kernels *k, void *host, const void *from, size_t bytes)
{
    if (bytes) memcpy(host, from, bytes);
    return SIGHT_OK;
}

static void plain_zero(kernels *k, void *p, size_t bytes)
{
    if (bytes) memset(p, 0, bytes);
}

typedef struct copy_job {
    float *to;
    const float *from;
    int64_t to_stride, from_stride, width;
} copy_job;

static void copy_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const copy_job *j = arg;
    for (int64_t i = begin; i < end; i++) {
        memcpy(j->to + i * j->to_stride, j->from + i * j->from_stride,
               (size_t)j->width * sizeof *j->to);
    }
}

static void plain_copy_rows(kernels *k, float *to, int64_t to_stride, const float *from,
                            int64_t from_stride, int64_t n, int64_t width)
{
    copy_job j = {to, from, to_stride, from_stride, width};
    threads_for(k->pool, n, 256, copy_some, &j);
}

void memory_plain_fill(backend_ops *ops)
{
    ops->alloc = plain_alloc;
    ops->free = plain_free;
    ops->write = plain_copy;
    ops->read = plain_read;
    ops->zero = plain_zero;
    ops->copy = plain_copy;
    ops->copy_rows = plain_copy_rows;
}
