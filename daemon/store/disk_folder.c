#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "daemon/store/disk_parts.h"

#define PASSING "new-" // names of files that are being written begin so

// ---- reading and writing whole ----

static int write_all(int fd, const void *data, size_t size)
{
    for (const char *p = data; size;) {
        const ssize_t n = write(fd, p, size < 1 << 20 ? size : 1 << 20);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 ? errno : EIO;
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

static bool read_all(int fd, void *data, size_t size)
{
    for (char *p = data; size;) {
        const ssize_t n = read(fd, p, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        p += n;
        size -= (size_t)n;
    }
    return true;
}

// ---- opening ----

static sight_err open_folder(disk_folder *f, const char *path)
{
    struct stat st;
    if (mkdir(path, 0700) && errno != EEXIST) return file_fail("make the folder", path, errno);
    f->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->fd < 0 || fstat(f->fd, &st)) return file_fail("open the folder", path, errno);
    if (st.st_uid != geteuid() || st.st_mode & 022) {
        return sight_fail(SIGHT_E_PERMISSION, "the store '%s' must belong to uid %d and be writable by nobody else "
                          "(it belongs to uid %d, mode %04o)", path, (int)geteuid(), (int)st.st_uid,
                          (unsigned)(st.st_mode & 07777));
    }
    return SIGHT_OK;
}

static sight_err lock_folder(disk_folder *f, const char *path)
{
    f->lock_fd = openat(f->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (f->lock_fd < 0) return file_fail("make a lock in", path, errno);
    if (!flock(f->lock_fd, LOCK_EX | LOCK_NB)) return SIGHT_OK;
    if (errno != EWOULDBLOCK) return file_fail("lock", path, errno);
    return sight_fail(SIGHT_E_BUSY, "the store '%s' is in use by another sightd", path);
}

static sight_err make_key(disk_folder *f, const char *path)
{
    if (getrandom(f->key, sizeof f->key, 0) != sizeof f->key) {
        return sight_fail(SIGHT_E_INTERNAL, "the system gives no random numbers");
    }
    const int fd = openat(f->fd, PASSING "key", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return file_fail("make a key in", path, errno);
    int failed = write_all(fd, f->key, sizeof f->key);
    if (close(fd) && !failed) failed = errno;
    if (!failed && renameat(f->fd, PASSING "key", f->fd, "key")) failed = errno;
    return failed ? file_fail("write a key in", path, failed) : SIGHT_OK;
}

// A key that is no key is replaced: what was kept under it is lost, as if it were damaged.
static sight_err read_key(disk_folder *f, const char *path)
{
    struct stat st;
    const int fd = openat(f->fd, "key", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno != ENOENT) return file_fail("read the key of", path, errno);
    const bool good = fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size == sizeof f->key &&
                      read_all(fd, f->key, sizeof f->key);
    const bool open_to_others = good && (st.st_uid != geteuid() || st.st_mode & 077);
    if (fd >= 0) close(fd);
    if (open_to_others) {
        return sight_fail(SIGHT_E_PERMISSION, "the key of the store '%s' may be read by others (mode %04o, must be "
                          "0600)", path, (unsigned)(st.st_mode & 07777));
    }
    return good ? SIGHT_OK : make_key(f, path);
}

sight_err disk_folder_open(disk_folder *out, const char *path)
{
    disk_folder f = {.fd = -1, .lock_fd = -1};
    sight_err err = open_folder(&f, path);
    if (!err) err = lock_folder(&f, path);
    if (!err) err = read_key(&f, path);
    if (err) disk_folder_close(&f);
    else *out = f;
    return err;
}

void disk_folder_close(disk_folder *f)
{
    if (f->lock_fd >= 0) close(f->lock_fd);
    if (f->fd >= 0) close(f->fd);
    f->fd = f->lock_fd = -1;
}

// ---- what is there ----

static int compare_used(const void *a, const void *b)
{
    const disk_found *x = a, *y = b;
    if (x->used_s != y->used_s) return x->used_s < y->used_s ? -1 : 1;
    if (x->used_ns != y->used_ns) return x->used_ns < y->used_ns ? -1 : 1;
    return y->item.to - x->item.to; // what builds on the other goes first
}

static sight_err add_found(disk_found **list, int32_t *n, int32_t *capacity, const disk_found *one)
{
    if (*n == *capacity) {
        const int32_t more = *capacity ? 2 * *capacity : 64;
        disk_found *grown = realloc(*list, (size_t)more * sizeof *grown);
        if (!grown) return sight_fail(SIGHT_E_MEMORY, "no memory for the list of a store's files");
        *list = grown;
        *capacity = more;
    }
    (*list)[(*n)++] = *one;
    return SIGHT_OK;
}

static bool is_own(const char *name)
{
    return !strcmp(name, ".") || !strcmp(name, "..") || !strcmp(name, "key") || !strcmp(name, "lock");
}

sight_err disk_folder_list(const disk_folder *f, disk_found **out, int32_t *n, int32_t *strangers)
{
    const int fd = openat(f->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        if (fd >= 0) close(fd);
        return sight_fail(SIGHT_E_IO, "cannot list the store's folder");
    }
    disk_found *list = NULL;
    int32_t count = 0, capacity = 0, others = 0;
    sight_err err = SIGHT_OK;
    for (struct dirent *d; !err && (d = readdir(dir));) {
        struct stat st;
        disk_found one = {0};
        if (is_own(d->d_name)) continue;
        if (!strncmp(d->d_name, PASSING, strlen(PASSING))) {
            unlinkat(f->fd, d->d_name, 0);
        } else if (!disk_file_read_name(&one.item, d->d_name) ||
                   fstatat(f->fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode)) {
            others++;
        } else {
            one.bytes = (int64_t)st.st_size;
            one.used_s = (int64_t)st.st_mtim.tv_sec;
            one.used_ns = (int64_t)st.st_mtim.tv_nsec;
            err = add_found(&list, &count, &capacity, &one);
        }
    }
    closedir(dir);
    if (err) {
        free(list);
        return err;
    }
    if (count) qsort(list, (size_t)count, sizeof *list, compare_used);
    *out = list;
    *n = count;
    *strangers = others;
    return SIGHT_OK;
}

// ---- items ----

int disk_folder_write(const disk_folder *f, const disk_item *item, const blob *payload)
{
    char name[DISK_NAME_SIZE], passing[DISK_NAME_SIZE + sizeof PASSING];
    uint8_t head[DISK_HEAD_BYTES];
    disk_file_name(name, item);
    snprintf(passing, sizeof passing, PASSING "%s", name);
    disk_file_head(head, item, payload->data, payload->size, f->key);
    const int fd = openat(f->fd, passing, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return errno;
    int failed = write_all(fd, head, sizeof head);
    if (!failed) failed = write_all(fd, payload->data, payload->size);
    if (close(fd) && !failed) failed = errno;
    if (!failed && renameat(f->fd, passing, f->fd, name)) failed = errno;
    if (failed) unlinkat(f->fd, passing, 0);
    return failed;
}

static disk_outcome read_open(const disk_folder *f, blob **out, int fd, const disk_item *item, int64_t most_bytes)
{
    uint8_t head[DISK_HEAD_BYTES];
    struct stat st;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode) || !read_all(fd, head, sizeof head)) return DISK_DAMAGED;
    const int64_t size = disk_file_size(head, item);
    if (size < 0 || size > most_bytes || size + DISK_HEAD_BYTES != (int64_t)st.st_size) return DISK_DAMAGED;
    blob *b = blob_create((size_t)size);
    if (!b) return DISK_NO_MEMORY;
    if (!read_all(fd, b->data, b->size) || !disk_file_is_sealed(head, b->data, b->size, f->key)) {
        blob_unref(&b);
        return DISK_DAMAGED;
    }
    *out = b;
    return DISK_READ;
}

disk_outcome disk_folder_read(const disk_folder *f, blob **out, const disk_item *item, int64_t most_bytes)
{
    char name[DISK_NAME_SIZE];
    disk_file_name(name, item);
    const int fd = openat(f->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return errno == ENOENT ? DISK_GONE : DISK_DAMAGED;
    const disk_outcome outcome = read_open(f, out, fd, item, most_bytes);
    close(fd);
    return outcome;
}

void disk_folder_remove(const disk_folder *f, const disk_item *item)
{
    char name[DISK_NAME_SIZE];
    disk_file_name(name, item);
    unlinkat(f->fd, name, 0);
}

void disk_folder_touch(const disk_folder *f, const disk_item *item)
{
    char name[DISK_NAME_SIZE];
    disk_file_name(name, item);
    utimensat(f->fd, name, NULL, AT_SYMLINK_NOFOLLOW);
}
