#include "ipc/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "ipc/endpoint.h"

// A folder that somebody else can write into could hold somebody else's socket.
static sight_err check_folder(const char *folder)
{
    struct stat st;
    if (stat(folder, &st)) return file_fail("look at", folder, errno);
    if (!S_ISDIR(st.st_mode)) return sight_fail(SIGHT_E_IO, "'%s' is not a folder", folder);
    const bool sticky = st.st_mode & S_ISVTX; // as /tmp: others cannot take files away
    if ((st.st_mode & (S_IWGRP | S_IWOTH)) && !sticky) {
        return sight_fail(SIGHT_E_PERMISSION, "others may write into '%s'; chmod go-w it first",
                          folder);
    }
    if (st.st_uid != geteuid() && st.st_uid != 0) {
        return sight_fail(SIGHT_E_PERMISSION, "the folder '%s' belongs to another user", folder);
    }
    return SIGHT_OK;
}

static sight_err prepare_folder(const char *path, unsigned open_to)
{
    char folder[ENDPOINT_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (!slash || slash == folder) return SIGHT_OK;
    *slash = 0;
    const mode_t mode = open_to ? 0711 : 0700;
    if (mkdir(folder, 0700) == 0) {
        if (chmod(folder, mode)) return file_fail("set the mode of", folder, errno); // whatever the umask is
    } else if (errno != EEXIST) {
        return file_fail("make", folder, errno);
    }
    return check_folder(folder);
}

static sight_err lock_file(int fd, const char *path)
{
    if (!flock(fd, LOCK_EX | LOCK_NB)) {
        char pid[32];
        int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
        if (ftruncate(fd, 0) || pwrite(fd, pid, (size_t)n, 0) != n) {
            return file_fail("write", path, errno);
        }
        return SIGHT_OK;
    }
    if (errno != EWOULDBLOCK) return file_fail("lock", path, errno);
    char pid[32] = {0};
    ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
    return sight_fail(SIGHT_E_BUSY, "another sightd (process %ld) serves this socket, says '%s'",
                      n > 0 ? strtol(pid, NULL, 10) : 0L, path);
}

sight_err endpoint_lock_take(endpoint_lock *out, const char *endpoint, unsigned open_to)
{
    out->fd = -1;
    const char *path = endpoint_path(endpoint);
    if (!path) return SIGHT_OK;
    sight_err err = prepare_folder(path, open_to);
    if (err) return err;
    char name[ENDPOINT_MAX + 8];
    snprintf(name, sizeof name, "%s.lock", path);
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return file_fail("open", name, errno);
    err = lock_file(fd, name);
    if (err) close(fd);
    else out->fd = fd;
    return err;
}

void endpoint_lock_release(endpoint_lock *l)
{
    // The file stays: taking it away could let two daemons lock two files of one name.
    if (l->fd >= 0) close(l->fd);
    l->fd = -1;
}
