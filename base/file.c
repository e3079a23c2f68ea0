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

sight_err file_read(char **out, size_t *size, const char *path, size_t max_bytes)
{
    int fd = -1;
    size_t n = 0;
    sight_err err = open_regular(&fd, &n, path);
    if (err) return err;
    if (n > max_bytes) {
        close(fd);
        return sight_fail(SIGHT_E_LIMIT, "'%s' has %zu bytes, the limit is %zu", path, n,
                          max_bytes);
    }
    char *data = malloc(n + 1);
    if (!data) {
        close(fd);
        return sight_fail(SIGHT_E_MEMORY, "no memory for %zu bytes of '%s'", n, path);
    }
    size_t got = 0;
    while (got < n) {
        ssize_t r = read(fd, data + got, n - got);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) {
            int e = errno;
            free(data);
            close(fd);
            return file_fail("read", path, e);
        }
        if (r == 0) break; // became shorter while being read
        got += (size_t)r;
    }
    close(fd);
    data[got] = 0;
    *out = data;
    *size = got;
    return SIGHT_OK;
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
