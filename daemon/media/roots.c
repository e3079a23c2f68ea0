#define _GNU_SOURCE // O_PATH
#include "daemon/media/roots.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/file.h"

#define TRIES      16 // of a look-up that a rename elsewhere has disturbed
#define READ_FLAGS (O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

typedef struct root {
    char *path; // as it was set, without . and .. and doubled slashes
    char *real; // without symbolic links
    int fd;
} root;

struct roots {
    root *all; // [n]
    size_t n;
    char *setting;
    char *list; // of paths, for sentences
};

// How a file below a folder is opened: openat2, or step by step.
typedef int opener(int folder, const char *rest, int flags);

// ---- paths ----

// Drops empty and "." steps, and with `dots` every ".." together with the step before it, in place. path begins with '/'.
static void simplify(char *path, bool dots)
{
    char *to = path;
    for (const char *at = path; *at;) {
        while (*at == '/') at++;
        const size_t n = strcspn(at, "/");
        if (dots && n == 2 && !memcmp(at, "..", 2)) {
            while (to > path && *--to != '/') {}
        } else if (n && !(n == 1 && *at == '.')) {
            *to++ = '/';
            memmove(to, at, n);
            to += n;
        }
        at += n;
    }
    if (to == path) *to++ = '/';
    *to = 0;
}

// What of path lies behind the folder; NULL: it is not below it.
static const char *below(const char *path, const char *folder)
{
    const size_t n = strlen(folder);
    if (!strcmp(folder, "/")) return path[1] ? path + 1 : NULL;
    return !strncmp(path, folder, n) && path[n] == '/' && path[n + 1] ? path + n + 1 : NULL;
}

static char *copy_simplified(const char *path, bool dots)
{
    char *copy = strdup(path);
    if (copy) simplify(copy, dots);
    return copy;
}

// ---- the folders ----

static sight_err open_root(root *r, const char *path, const char *setting)
{
    if (path[0] != '/') {
        return sight_fail(SIGHT_E_ARGUMENT, "%s '%.500s' must be an absolute path", setting, path);
    }
    r->fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (r->fd < 0) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s '%.500s' cannot be opened: %s", setting, path, strerror(errno));
    }
    r->path = copy_simplified(path, true);
    r->real = realpath(path, NULL);
    if (!r->real && errno != ENOMEM) r->real = strdup(r->path ? r->path : ""); // a folder above may not be listed
    return r->path && r->real ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for %s", setting);
}

static sight_err list_paths(roots *r)
{
    size_t size = 1;
    for (size_t i = 0; i < r->n; i++) size += strlen(r->all[i].path) + 2;
    r->list = calloc(1, size);
    if (!r->list) return sight_fail(SIGHT_E_MEMORY, "no memory for %s", r->setting);
    for (size_t i = 0, at = 0; i < r->n; i++) {
        at += (size_t)snprintf(r->list + at, size - at, "%s%s", i ? ", " : "", r->all[i].path);
    }
    return SIGHT_OK;
}

sight_err roots_create(roots **out, const char *const *paths, size_t n, const char *setting)
{
    roots *r = calloc(1, sizeof *r);
    if (r) r->all = calloc(n + 1, sizeof *r->all);
    if (r) r->setting = strdup(setting);
    sight_err err = r && r->all && r->setting ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for %s", setting);
    for (size_t i = 0; i < n && !err; i++) {
        r->all[i].fd = -1;
        r->n++;
        err = open_root(&r->all[i], paths[i], setting);
    }
    if (!err) err = list_paths(r);
    if (err) roots_destroy(&r);
    else *out = r;
    return err;
}

void roots_destroy(roots **p)
{
    roots *r = *p;
    if (!r) return;
    for (size_t i = 0; i < r->n; i++) {
        if (r->all[i].fd >= 0) close(r->all[i].fd);
        free(r->all[i].path);
        free(r->all[i].real);
    }
    free(r->all);
    free(r->setting);
    free(r->list);
    free(r);
    *p = NULL;
}

size_t roots_count(const roots *r)
{
    return r->n;
}

// ---- opening below one ----

// As open does, errno and all. EXDEV: the way leads out.
static int open_beneath(int folder, const char *rest, int flags)
{
    struct open_how how = {.flags = (uint64_t)flags, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    int fd = -1;
    for (int i = 0; i < TRIES; i++) {
        fd = (int)syscall(SYS_openat2, folder, rest, &how, sizeof how);
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) break;
    }
    return fd;
}

static bool is_link(int folder, const char *name)
{
    struct stat st;
    return !fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) && S_ISLNK(st.st_mode);
}

// One step down, that must not be a symbolic link. Closes *folder where `own` says so, and replaces it.
static bool step_down(int *folder, bool *own, const char *name)
{
    const int next = openat(*folder, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int error = errno;
    if (next < 0 && is_link(*folder, name)) error = EXDEV;
    if (*own) close(*folder);
    *folder = next;
    *own = true;
    errno = error;
    return next >= 0;
}

// The same step by step, without symbolic links and "..".
static int open_steps(int folder, const char *rest, int flags)
{
    bool own = false;
    char name[NAME_MAX + 1];
    for (;;) {
        const size_t n = strcspn(rest, "/");
        if (n > NAME_MAX || (n == 2 && !memcmp(rest, "..", 2))) {
            if (own) close(folder);
            errno = n > NAME_MAX ? ENAMETOOLONG : EXDEV;
            return -1;
        }
        memcpy(name, rest, n);
        name[n] = 0;
        rest += n;
        if (!*rest) break;
        rest++;
        if (!step_down(&folder, &own, name)) return -1;
    }
    int fd = openat(folder, name, flags | O_NOFOLLOW);
    int error = errno;
    struct stat st;
    const bool link = fd >= 0 ? fstat(fd, &st) || S_ISLNK(st.st_mode) // with O_PATH the link itself is opened
                              : is_link(folder, name);
    if (own) close(folder);
    if (link && fd >= 0) close(fd);
    errno = link ? EXDEV : error;
    return link ? -1 : fd;
}

static int open_anywhere(int folder, const char *path, int flags)
{
    return open(path, flags);
}

// ---- what may be read ----

// Files that the kernel makes up as they are read: among them the memory and the environment of processes.
static bool is_made_up(int fd)
{
    static const unsigned long kinds[] = {PROC_SUPER_MAGIC, SYSFS_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC,
                                          DEBUGFS_MAGIC, TRACEFS_MAGIC, SECURITYFS_MAGIC, SELINUX_MAGIC,
                                          DEVPTS_SUPER_MAGIC, BPF_FS_MAGIC, EFIVARFS_MAGIC, PSTOREFS_MAGIC,
                                          BINFMTFS_MAGIC};
    struct statfs fs;
    if (fstatfs(fd, &fs)) return true;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if ((unsigned long)fs.f_type == kinds[i]) return true;
    }
    return false;
}

static sight_err check_kind(int fd, const char *path)
{
    struct stat st;
    if (fstat(fd, &st)) return file_fail("read", path, errno);
    if (!S_ISREG(st.st_mode)) {
        return sight_fail(SIGHT_E_IO, "'%s' is %s, not a file", path,
                          S_ISDIR(st.st_mode) ? "a folder" : "a device or pipe");
    }
    return is_made_up(fd) ? sight_fail(SIGHT_E_PERMISSION, "'%s' is made up by the kernel, not a file on a disk", path)
                          : SIGHT_OK;
}

// Looked at before it is opened: opening a device can do something already. And after: it may have been replaced.
// *error: errno of the opening, 0 where that went well.
static sight_err open_checked(int *out, int *error, opener *by, int folder, const char *rest, const char *path)
{
    for (int flags = O_PATH | O_CLOEXEC;; flags = READ_FLAGS) {
        const int fd = by(folder, rest, flags);
        *error = fd < 0 ? errno : 0;
        if (fd < 0) return file_fail("open", path, *error);
        sight_err err = check_kind(fd, path);
        if (!err && flags == READ_FLAGS) *out = fd;
        else close(fd);
        if (err || flags == READ_FLAGS) return err;
    }
}

static sight_err refuse(const roots *r, const char *path)
{
    if (r->n == 0) {
        return sight_fail(SIGHT_E_PERMISSION, "'%.300s' is not read: this server reads no media by path (%s names no "
                          "folder); send the bytes as an attachment", path, r->setting);
    }
    return sight_fail(SIGHT_E_PERMISSION, "'%.300s' is not below a folder that this server reads media from (%s: %.500s); "
                      "send the bytes as an attachment", path, r->setting, r->list);
}

static sight_err name_error(sight_err err, int error, const char *path)
{
    switch (error) {
    case ELOOP:
        return sight_fail(SIGHT_E_PERMISSION, "'%s' leads through too many symbolic links, or one of /proc", path);
    case EMFILE:
    case ENFILE: return sight_fail(SIGHT_E_BUSY, "'%s' cannot be opened now: too many files are open", path);
    default: return err;
    }
}

// Tries each folder that the path is below of, under its own name or its real one: a way that leads out of one may stay
// within another. False: it is below none, or leads out.
static bool open_in(sight_err *err, const roots *r, int *fd, const char *simple, const char *path, opener *by)
{
    for (size_t i = 0; i < r->n; i++) {
        const char *rest = below(simple, r->all[i].path);
        if (!rest) rest = below(simple, r->all[i].real);
        if (!rest) continue;
        int error;
        *err = open_checked(fd, &error, by, r->all[i].fd, rest, path);
        if (error == EXDEV) continue;
        if (*err) *err = name_error(*err, error, path);
        return true;
    }
    return false;
}

static sight_err open_below(const roots *r, int *fd, const char *path, opener *by)
{
    // First as the kernel walks it; else with ".." taken away, for a path that only begins elsewhere.
    for (int dots = 0; dots < 2 && path[0] == '/'; dots++) {
        char *simple = copy_simplified(path, dots);
        if (!simple) return sight_fail(SIGHT_E_MEMORY, "no memory for a path");
        sight_err err = SIGHT_OK;
        const bool found = open_in(&err, r, fd, simple, path, by);
        free(simple);
        if (found) return err;
    }
    return refuse(r, path);
}

sight_err roots_open_by_steps(const roots *r, int *fd, const char *path)
{
    return open_below(r, fd, path, open_steps);
}

// Sandboxes of before 2020 answer a call that they do not know with EPERM.
static bool have_openat2(void)
{
    struct open_how how = {.flags = O_PATH | O_CLOEXEC};
    const int fd = (int)syscall(SYS_openat2, AT_FDCWD, "/", &how, sizeof how);
    if (fd >= 0) close(fd);
    return fd >= 0 || (errno != ENOSYS && errno != EPERM);
}

sight_err roots_open(const roots *r, int *fd, const char *path)
{
    int error;
    if (r) return open_below(r, fd, path, have_openat2() ? open_beneath : open_steps);
    sight_err err = open_checked(fd, &error, open_anywhere, -1, path, path);
    return err ? name_error(err, error, path) : err;
}
