// The prepared file: little-endian, as the processors that it is made for.
//
//   head     fixed, below; the checksum is over the rest of the header
//   identity text that names the sources: paths, sizes, times
//   entries  one per block: name, what it is, where it lies
//   blocks   as kernels read them, each at 256 bytes
//
// A file is used only when all of its header is what would be written now (prepare_parts.h), so
// nothing in it is ever followed. It is written under a temporary name that its writer holds locked,
// brought to disk and then renamed: several programs may prepare at once, the last one's stays.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "checkpoint/prepare_parts.h"

#define MAGIC   "SIGHTPW\n"
#define VERSION 1 // also of what quantising gives: another one makes every file anew
#define SUFFIX  ".weights"
#define HUGE_PAGE ((size_t)2 << 20)
#define MAX_IDENTITY (1 << 20)

typedef struct file_head {
    char magic[8];
    uint32_t version, form;
    uint64_t header_bytes, file_bytes; // header_bytes: head, identity and entries
    uint64_t checksum;                 // FNV-1a of the header with this field 0
    uint32_t identity_bytes, n_entries;
} file_head;

typedef struct file_entry {
    char name[PREPARE_NAME];
    uint32_t kind, version;
    int64_t M, K;
    uint64_t offset, bytes;
    uint8_t bits, f8, has_table, offset_code, scales, signed_sub, has_min, zero;
    uint8_t table[16];
    int32_t group, per_super;
    float factor;
    uint32_t zero2;
} file_entry;

static uint64_t fnv(uint64_t h, const void *data, size_t n)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 1099511628211ULL;
    return h;
}

#define FNV_START 14695981039346656037ULL

static size_t up_to(size_t n, size_t align)
{
    return (n + align - 1) / align * align;
}

// ---- what the sources are ----

static bool add_source(buf *b, const char *path)
{
    struct stat st;
    char real[PATH_MAX];
    if (!realpath(path, real) || stat(real, &st)) return false;
    buf_printf(b, "%s %lld %lld.%09ld\n", real, (long long)st.st_size, (long long)st.st_mtim.tv_sec,
               st.st_mtim.tv_nsec);
    return true;
}

// Weights are sorted by name, so the order in which files appear is the same every time.
char *prepare_file_identity(const checkpoint *c, weights_form form)
{
    buf b;
    buf_init(&b);
    buf_printf(&b, "%s %016llx\n", weights_form_name(form), (unsigned long long)c->salt);
    const char **seen = calloc(c->n + 1, sizeof *seen);
    size_t n = 0;
    bool good = seen != NULL;
    for (size_t i = 0; i < c->n && good; i++) {
        const char *path = c->weights[i].path;
        bool known = false;
        for (size_t j = n; j > 0 && !known; j--) known = !strcmp(seen[j - 1], path);
        if (known) continue;
        seen[n++] = path;
        good = add_source(&b, path);
    }
    free(seen);
    char *text = buf_take(&b);
    if (good && text) return text;
    free(text);
    return NULL;
}

char *checkpoint_identity(const checkpoint *c)
{
    return prepare_file_identity(c, checkpoint_form(c));
}

char *prepare_file_path(const char *folder, const checkpoint *c, weights_form form)
{
    char real[PATH_MAX];
    if (!realpath(c->dir, real)) return NULL;
    buf b;
    buf_init(&b);
    buf_printf(&b, "%s/%016llx-%s" SUFFIX, folder,
               (unsigned long long)fnv(FNV_START, real, strlen(real)), weights_form_name(form));
    return buf_take(&b);
}

// ---- header ----

static file_entry entry_of(const prepare_block *b)
{
    const packed_format *f = &b->format;
    file_entry e;
    memset(&e, 0, sizeof e);
    memcpy(e.name, b->name, sizeof e.name);
    e.kind = (uint32_t)b->kind;
    e.version = b->version;
    e.M = b->M;
    e.K = b->K;
    e.offset = b->offset;
    e.bytes = b->bytes;
    e.bits = f->bits;
    e.f8 = f->f8;
    e.has_table = f->has_table;
    e.offset_code = f->offset;
    e.scales = (uint8_t)f->scales;
    e.signed_sub = f->signed_sub;
    e.has_min = f->has_min;
    memcpy(e.table, f->table, sizeof e.table);
    e.group = f->group;
    e.per_super = f->per_super;
    e.factor = f->factor;
    return e;
}

static uint64_t checksum_of(const char *header, size_t bytes)
{
    file_head h;
    memcpy(&h, header, sizeof h);
    h.checksum = 0;
    return fnv(fnv(FNV_START, &h, sizeof h), header + sizeof h, bytes - sizeof h);
}

sight_err prepare_file_lay_out(prepared *p, const char *identity)
{
    const size_t text = up_to(strlen(identity), 8);
    p->header_bytes = sizeof(file_head) + text + p->n * sizeof(file_entry);
    size_t at = up_to(p->header_bytes, PREPARE_ALIGN);
    for (size_t i = 0; i < p->n; i++) {
        p->blocks[i].offset = at;
        at = up_to(at + p->blocks[i].bytes, PREPARE_ALIGN);
    }
    p->file_bytes = at;
    p->header = calloc(1, p->header_bytes);
    if (!p->header) return sight_fail(SIGHT_E_MEMORY, "no memory to prepare the weights");
    file_head h = {.version = VERSION, .form = (uint32_t)p->form, .header_bytes = p->header_bytes,
                   .file_bytes = p->file_bytes, .identity_bytes = (uint32_t)text,
                   .n_entries = (uint32_t)p->n};
    memcpy(h.magic, MAGIC, sizeof h.magic);
    memcpy(p->header + sizeof h, identity, strlen(identity));
    for (size_t i = 0; i < p->n; i++) {
        const file_entry e = entry_of(&p->blocks[i]);
        memcpy(p->header + sizeof h + text + i * sizeof e, &e, sizeof e);
    }
    memcpy(p->header, &h, sizeof h);
    h.checksum = checksum_of(p->header, p->header_bytes);
    memcpy(p->header, &h, sizeof h);
    return SIGHT_OK;
}

// The head of a whole, undamaged header of this version.
static bool read_head(file_head *h, const void *data, size_t size, const char **why)
{
    *why = "is no file of prepared weights";
    if (size < sizeof *h) return false;
    memcpy(h, data, sizeof *h);
    if (memcmp(h->magic, MAGIC, sizeof h->magic)) return false;
    *why = "was made by another version";
    if (h->version != VERSION) return false;
    *why = "is damaged";
    if (h->file_bytes != size || h->header_bytes > size || h->header_bytes < sizeof *h) return false;
    if (h->identity_bytes > MAX_IDENTITY || h->identity_bytes > h->header_bytes - sizeof *h) return false;
    if (checksum_of(data, (size_t)h->header_bytes) != h->checksum) return false;
    *why = NULL;
    return true;
}

bool prepare_file_matches(const prepared *p, const void *data, size_t size, const char **why)
{
    file_head h;
    if (!read_head(&h, data, size, why)) return false;
    *why = NULL;
    if (h.header_bytes == p->header_bytes && !memcmp(data, p->header, p->header_bytes)) return true;
    *why = "was made of other weights";
    return false;
}

char *prepare_file_read_identity(const void *data, size_t size)
{
    file_head h;
    const char *why;
    if (!read_head(&h, data, size, &why)) return NULL;
    return strndup((const char *)data + sizeof h, h.identity_bytes);
}

// ---- mapping ----

// At an address where 2 MiB of the file can be one page, should the file system have such.
static void *map_file(int fd, size_t size, int protection)
{
    const size_t whole = up_to(size, (size_t)sysconf(_SC_PAGESIZE)), total = whole + HUGE_PAGE;
    char *room = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) return NULL;
    char *at = room + (up_to((uintptr_t)room, HUGE_PAGE) - (uintptr_t)room);
    char *end = at + whole, *room_end = room + total;
    if (at > room) munmap(room, (size_t)(at - room));
    if (room_end > end) munmap(end, (size_t)(room_end - end));
    void *p = mmap(at, size, protection, MAP_SHARED | MAP_FIXED, fd, 0);
    if (p != MAP_FAILED) return p;
    munmap(at, whole);
    return NULL;
}

// Nobody else may have written it.
static bool is_ours(const struct stat *st)
{
    return S_ISREG(st->st_mode) && (st->st_uid == geteuid() || st->st_uid == 0) &&
           !(st->st_mode & (S_IWGRP | S_IWOTH));
}

bool prepare_file_map(prepared *p, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    const char *why = NULL;
    void *map = NULL;
    if (fd < 0) {
        if (errno != ENOENT) why = strerror(errno);
    } else if (fstat(fd, &st) || !is_ours(&st)) {
        why = "others may have written it";
    } else if (st.st_size == 0 || !(map = map_file(fd, (size_t)st.st_size, PROT_READ))) {
        why = st.st_size ? "cannot be mapped" : "is empty";
    } else if (!prepare_file_matches(p, map, (size_t)st.st_size, &why)) {
        munmap(map, (size_t)st.st_size);
        map = NULL;
    }
    if (fd >= 0) close(fd);
    if (why) snprintf(p->warning, sizeof p->warning, "'%s' %s: the weights are prepared anew", path, why);
    if (!map) return false;
    p->memory = map;
    p->memory_bytes = (size_t)st.st_size;
    return true;
}

// ---- writing ----

static sight_err make_folder(const char *folder)
{
    char path[PATH_MAX];
    if ((size_t)snprintf(path, sizeof path, "%s", folder) >= sizeof path) {
        return sight_fail(SIGHT_E_IO, "the cache folder's name is too long");
    }
    for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(path, 0755); // whether it is there shows below
        *slash = '/';
    }
    if (mkdir(path, 0700) && errno != EEXIST) {
        return sight_fail(SIGHT_E_IO, "cannot make the folder '%s': %s", path, strerror(errno));
    }
    return SIGHT_OK;
}

sight_err prepare_file_create(prepare_writer *w, prepared *p, const char *folder, const char *path)
{
    *w = (prepare_writer){.fd = -1, .path = path};
    sight_err err = make_folder(folder);
    if (err) return err;
    if (asprintf(&w->temporary, "%s.XXXXXX", path) < 0) {
        w->temporary = NULL;
        return sight_fail(SIGHT_E_MEMORY, "no memory for a name");
    }
    w->fd = mkostemp(w->temporary, O_CLOEXEC);
    if (w->fd < 0) {
        free(w->temporary);
        w->temporary = NULL;
        return sight_fail(SIGHT_E_IO, "cannot make a file in '%s': %s", folder, strerror(errno));
    }
    flock(w->fd, LOCK_EX | LOCK_NB); // tells it from one that a killed writer left
    // All space is taken before a byte is written: a full disk shows here and not as a signal.
    const int no = posix_fallocate(w->fd, 0, (off_t)p->file_bytes);
    if (no) {
        err = sight_fail(SIGHT_E_IO, "'%s' has no room for %zu MiB of prepared weights: %s", folder,
                         p->file_bytes >> 20, strerror(no));
    } else if (!(p->memory = map_file(w->fd, p->file_bytes, PROT_READ | PROT_WRITE))) {
        err = sight_fail(SIGHT_E_IO, "cannot map '%s'", w->temporary);
    }
    if (err) prepare_file_abandon(w);
    else p->memory_bytes = p->file_bytes;
    return err;
}

void prepare_file_abandon(prepare_writer *w)
{
    if (w->temporary) unlink(w->temporary);
    if (w->fd >= 0) close(w->fd);
    free(w->temporary);
    w->temporary = NULL;
    w->fd = -1;
}

// ---- what is out of date ----

// Whether every source in an identity is still as it says.
static bool sources_stand(char *identity)
{
    char *rest = NULL;
    char *line = strtok_r(identity, "\n", &rest); // the form
    while (line && (line = strtok_r(NULL, "\n", &rest))) {
        char now[PATH_MAX + 64];
        char *space = strrchr(line, ' ');
        if (space) *space = 0;
        char *size = strrchr(line, ' ');
        if (!space || !size) return false;
        *size = 0;
        struct stat st;
        if (stat(line, &st)) return false;
        snprintf(now, sizeof now, "%lld %lld.%09ld", (long long)st.st_size,
                 (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
        *space = ' ';
        if (strcmp(size + 1, now)) return false;
    }
    return true;
}

static bool is_out_of_date(int fd, bool temporary)
{
    if (temporary) return flock(fd, LOCK_EX | LOCK_NB) == 0;
    struct stat st;
    if (fstat(fd, &st) || !is_ours(&st) || st.st_size == 0) return false;
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) return false;
    char *identity = prepare_file_read_identity(map, (size_t)st.st_size);
    munmap(map, (size_t)st.st_size);
    const bool stands = identity && sources_stand(identity);
    free(identity);
    return !stands;
}

// Removes prepared files whose sources have gone or changed and what killed writers left. A
// program that still has such a file mapped keeps it until it ends.
static void clean(const char *folder)
{
    DIR *d = opendir(folder);
    if (!d) return;
    struct dirent *e;
    while ((e = readdir(d))) {
        const char *suffix = strstr(e->d_name, SUFFIX);
        if (!suffix) continue;
        const char *rest = suffix + strlen(SUFFIX);
        const bool temporary = *rest == '.' && strlen(rest) == 7;
        if (*rest && !temporary) continue;
        const int fd = openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0) continue;
        if (is_out_of_date(fd, temporary)) unlinkat(dirfd(d), e->d_name, 0);
        close(fd);
    }
    closedir(d);
}

sight_err prepare_file_commit(prepare_writer *w, prepared *p, const char *folder)
{
    memcpy(p->memory, p->header, p->header_bytes);
    sight_err err = SIGHT_OK;
    if (msync(p->memory, p->memory_bytes, MS_SYNC) || fsync(w->fd) ||
        rename(w->temporary, w->path)) {
        err = sight_fail(SIGHT_E_IO, "cannot keep the prepared weights as '%s': %s", w->path,
                         strerror(errno));
        prepare_file_abandon(w);
        return err;
    }
    mprotect(p->memory, p->memory_bytes, PROT_READ);
    free(w->temporary);
    w->temporary = NULL;
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    clean(folder);
    prepare_file_abandon(w);
    return SIGHT_OK;
}
