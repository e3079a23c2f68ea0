#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "checkpoint/safetensors.h"

static size_t entry_bytes(const safetensors_entry *e)
{
    return (size_t)tensor_count(&e->view) * tensor_type_bytes(e->view.type);
}

static json_t *shape_json(const tensor_view *v)
{
    json_t *shape = json_array();
    for (int32_t i = 0; i < v->n_dims; i++) {
        json_array_append_new(shape, json_integer(v->shape[i]));
    }
    return shape;
}

// Adds one tensor to the header; *offset moves behind it.
static sight_err add_entry(json_t *header, const safetensors_entry *e, size_t *offset)
{
    static const char *const dtypes[] = {"F32", "BF16", "F16", "I32", "I64", "U8"};
    size_t end = *offset + entry_bytes(e);
    if (json_object_get(header, e->name)) {
        return sight_fail(SIGHT_E_INTERNAL, "tensor '%s' is to be written twice", e->name);
    }
    json_t *v = json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtypes[e->view.type], "shape",
                          shape_json(&e->view), "data_offsets", (json_int_t)*offset,
                          (json_int_t)end);
    if (!v || json_object_set_new(header, e->name, v)) {
        return sight_fail(SIGHT_E_MEMORY, "no memory for the entry of tensor '%s'", e->name);
    }
    *offset = end;
    return SIGHT_OK;
}

// The order of the data: wider elements first, so that each tensor stays aligned.
static const safetensors_entry **data_order(const safetensors_entry *entries, size_t n)
{
    const safetensors_entry **order = malloc((n + 1) * sizeof(*order));
    if (!order) return NULL;
    size_t filled = 0;
    for (size_t width = 8; width; width /= 2) {
        for (size_t i = 0; i < n; i++) {
            if (tensor_type_bytes(entries[i].view.type) == width) order[filled++] = &entries[i];
        }
    }
    return order;
}

// Length and JSON, padded with spaces so that the data starts at a multiple of 8.
static sight_err build_header(buf *out, const safetensors_entry *const *order, size_t n)
{
    json_t *header = json_object();
    size_t offset = 0;
    sight_err err = SIGHT_OK;
    for (size_t i = 0; i < n && !err; i++) err = add_entry(header, order[i], &offset);
    char *text = err ? NULL : json_dumps(header, JSON_COMPACT);
    json_decref(header);
    if (err) return err;
    if (text) {
        size_t size = strlen(text), padded = (size + 7) / 8 * 8;
        for (int i = 0; i < 8; i++) buf_putc(out, (char)((uint64_t)padded >> 8 * i));
        buf_add(out, text, size);
        for (; size < padded; size++) buf_putc(out, ' ');
    }
    bool failed = !text || buf_failed(out);
    free(text);
    return failed ? sight_fail(SIGHT_E_MEMORY, "no memory for a safetensors header") : SIGHT_OK;
}

static bool write_all(int fd, const void *data, size_t n)
{
    const char *p = data;
    while (n) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0) return false;
        p += w;
        n -= (size_t)w;
    }
    return true;
}

// Writes and closes fd; 0 or errno.
static int write_file(int fd, const buf *header, const safetensors_entry *const *order, size_t n)
{
    bool ok = write_all(fd, header->data, header->size);
    for (size_t i = 0; i < n && ok; i++) {
        ok = write_all(fd, order[i]->view.data, entry_bytes(order[i]));
    }
    int e = ok ? 0 : errno;
    if (close(fd) && !e) e = errno; // some file systems say only here that the disk is full
    return e;
}

// A new file beside path; its name (malloc) and descriptor. The name differs by process and try.
static sight_err open_temporary(char **name, int *fd, const char *path)
{
    for (int i = 0; i < 1000; i++) {
        buf b;
        buf_init(&b);
        buf_printf(&b, "%s.%ld.%d.tmp", path, (long)getpid(), i);
        char *text = buf_take(&b);
        if (!text) return sight_fail(SIGHT_E_MEMORY, "no memory to write '%s'", path);
        *fd = open(text, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (*fd >= 0) {
            *name = text;
            return SIGHT_OK;
        }
        int e = errno;
        free(text);
        if (e != EEXIST) return file_fail("write", path, e);
    }
    return file_fail("write", path, EEXIST);
}

// A device or pipe (/dev/null, /dev/stdout) is written as it is: it must not be replaced.
static sight_err write_in_place(const char *path, const buf *header,
                                const safetensors_entry *const *order, size_t n)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return file_fail("write", path, errno);
    int e = write_file(fd, header, order, n);
    return e ? file_fail("write", path, e) : SIGHT_OK;
}

static sight_err write_whole(const char *path, const buf *header,
                             const safetensors_entry *const *order, size_t n)
{
    struct stat st;
    bool exists = stat(path, &st) == 0;
    if (exists && S_ISDIR(st.st_mode)) {
        return sight_fail(SIGHT_E_IO, "cannot write '%s': it is a folder", path);
    }
    if (exists && !S_ISREG(st.st_mode)) return write_in_place(path, header, order, n);
    char *temporary = NULL;
    int fd = -1;
    sight_err err = open_temporary(&temporary, &fd, path);
    if (err) return err;
    int e = write_file(fd, header, order, n);
    if (!e && rename(temporary, path)) e = errno;
    if (e) unlink(temporary);
    free(temporary);
    return e ? file_fail("write", path, e) : SIGHT_OK;
}

sight_err safetensors_write(const char *path, const safetensors_entry *entries, size_t n)
{
    buf header;
    buf_init(&header);
    const safetensors_entry **order = data_order(entries, n);
    sight_err err = order ? build_header(&header, order, n)
                          : sight_fail(SIGHT_E_MEMORY, "no memory to write '%s'", path);
    if (!err) err = write_whole(path, &header, order, n);
    free(order);
    buf_done(&header);
    return err;
}
