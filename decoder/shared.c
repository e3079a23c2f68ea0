#define _GNU_SOURCE // memfd_create
#include "decoder/shared.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FIXED_SIZE (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static sight_err no_memory(size_t size)
{
    return sight_fail(SIGHT_E_MEMORY, "no shared memory of %zu bytes: %s", size, strerror(errno));
}

static int make_file(size_t size)
{
    const int fd = memfd_create("sight", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd >= 0 && ftruncate(fd, (off_t)size)) {
        close(fd);
        return -1;
    }
    return fd;
}

sight_err shared_open(shared **out, int fd, size_t size)
{
    shared *s = malloc(sizeof *s);
    void *at = s ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (at == MAP_FAILED) {
        sight_err err = no_memory(size);
        free(s);
        close(fd);
        return err;
    }
    *s = (shared){at, size, fd, 1};
    *out = s;
    return SIGHT_OK;
}

sight_err shared_create(shared **out, size_t size)
{
    const int fd = make_file(size);
    if (fd < 0) return no_memory(size);
    if (fcntl(fd, F_ADD_SEALS, FIXED_SIZE)) {
        sight_err err = no_memory(size);
        close(fd);
        return err;
    }
    return shared_open(out, fd, size);
}

shared *shared_ref(shared *s)
{
    __atomic_fetch_add(&s->refs, 1, __ATOMIC_RELAXED);
    return s;
}

void shared_unref(shared **s)
{
    if (!*s) return;
    if (__atomic_sub_fetch(&(*s)->refs, 1, __ATOMIC_ACQ_REL) == 0) {
        munmap((*s)->at, (*s)->size);
        close((*s)->fd);
        free(*s);
    }
    *s = NULL;
}

static int write_all(int fd, const uint8_t *bytes, size_t size)
{
    for (size_t at = 0; at < size;) {
        const ssize_t n = write(fd, bytes + at, size - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        at += (size_t)n;
    }
    return 0;
}

sight_err shared_copy(int *out, const void *bytes, size_t size)
{
    const int fd = make_file(0);
    if (fd < 0) return no_memory(size);
    if (write_all(fd, bytes, size) || fcntl(fd, F_ADD_SEALS, FIXED_SIZE | F_SEAL_WRITE)) {
        sight_err err = no_memory(size);
        close(fd);
        return err;
    }
    *out = fd;
    return SIGHT_OK;
}
