#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

sight_err file_fail(const char *doing, const char *path, int error_number)
{
    sight_err code = SIGHT_E_IO;
    if (error_number == ENOENT || error_number == ENOTDIR) code = SIGHT_E_NOT_FOUND;
    if (error_number == EACCES || error_number == EPERM) code = SIGHT_E_PERMISSION;
    if (error_number == ENOMEM) code = SIGHT_E_MEMORY;
    return sight_fail(code, "cannot %s '%s': %s", doing, path, strerror(error_number));
}

// Opens a regular file; a FIFO or device must not hang or surprise the caller.
static sight_err open_regular(int *fd, size_t *size, const char *path)
{
    int f = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (f < 0) return file_fail("open", path, errno);
    struct stat st;
    if (fstat(f, &st)) {
        int e = errno;
        close(f);
        return file_fail("read", path, e);
    }
    if (!S_ISREG(st.st_mode)) {
        close(f);
        return sight_fail(SIGHT_E_IO, "'%s' is %s, not a file", path,
                          S_ISDIR(st.st_mode) ? "a folder" : "a device or pipe");
    }
    *fd = f;
    *size = (size_t)st.st_size;
    return SIGHT_OK;
}

sight_err file_open(int *fd, const char *path)
{
    size_t size;
    return open_regular(fd, &size, path);
}

static sight_err read_all(char *to, size_t *got, int fd, size_t n, const char *name)
{
    while (*got < n) {
        const ssize_t r = pread(fd, to + *got, n - *got, (off_t)*got);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return file_fail("read", name, errno);
        if (r == 0) break; // became shorter while being read
        *got += (size_t)r;
    }
    return SIGHT_OK;
}

sight_err file_read_fd(char **out, size_t *size, int fd, const char *name, size_t max_bytes)
{
    struct stat st;
    if (fstat(fd, &st)) return file_fail("read", name, errno);
    const size_t n = (size_t)st.st_size;
    if (n > max_bytes) {
        return sight_fail(SIGHT_E_LIMIT, "'%s' has %zu bytes, the limit is %zu", name, n,
                          max_bytes);
    }
    char *data = malloc(n + 1);
    if (!data) return sight_fail(SIGHT_E_MEMORY, "no memory for %zu bytes of '%s'", n, name);
    size_t got = 0;
    sight_err err = read_all(data, &got, fd, n, name);
    if (err) {
        free(data);
        return err;
    }
    data[got] = 0;
    *out = data;
    *size = got;
    return SIGHT_OK;
}

sight_err file_read(char **out, size_t *size, const char *path, size_t max_bytes)
{
    int fd = -1;
    sight_err err = file_open(&fd, path);
    if (err) return err;
    err = file_read_fd(out, size, fd, path, max_bytes);
    close(fd);
    return err;
}

sight_err file_map_open(file_map *out, const char *path)
{
    int fd = -1;
    size_t n = 0;
    sight_err err = open_regular(&fd, &n, path);
    if (err) return err;
    void *data = NULL;
    if (n) {
        data = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED) {
            int e = errno;
            close(fd);
            return file_fail("map", path, e);
        }
    }
    close(fd);
    *out = (file_map){data, n};
    return SIGHT_OK;
}

void file_map_close(file_map *m)
{
    if (m->data) munmap((void *)m->data, m->size);
    *m = (file_map){0};
}
