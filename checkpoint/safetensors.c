#include "checkpoint/safetensors.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"

#define MAX_HEADER_BYTES 100000000 // as the format's own library

// One tensor of the header. Strings are borrowed from the header's JSON.
typedef struct item {
    const char *name, *dtype;
    uint64_t begin, end; // bytes in the data part
    bool has_view;
    tensor_view view;
} item;

struct safetensors {
    file_map map; // empty when the bytes belong to the caller
    json_t *header;
    item *items; // sorted by name
    size_t n;
};

// What is known of an element form; type is -1 where tensor_type has none. 8-bit floats are seen as the
// bytes they are.
typedef struct form {
    const char *name;
    uint32_t bits;
    int type;
} form;

static const form forms[] = {
    {"F32", 32, TENSOR_F32}, {"BF16", 16, TENSOR_BF16}, {"F16", 16, TENSOR_F16},
    {"I32", 32, TENSOR_I32}, {"I64", 64, TENSOR_I64},   {"U8", 8, TENSOR_U8},
    {"BOOL", 8, -1},         {"I8", 8, TENSOR_I8},      {"F8_E5M2", 8, -1},
    {"F8_E4M3", 8, TENSOR_U8}, {"F8_E8M0", 8, TENSOR_U8}, {"I16", 16, -1},
    {"U16", 16, -1},         {"U32", 32, -1},           {"U64", 64, -1},
    {"F64", 64, -1},         {"C64", 64, -1},           {"F4", 4, -1},
    {"F6_E2M3", 6, -1},      {"F6_E3M2", 6, -1},
};

static const form *form_named(const char *name)
{
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (strcmp(forms[i].name, name) == 0) return &forms[i];
    }
    return NULL;
}

static bool whole(const json_t *v, uint64_t *out)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0) return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

// Elements of the shape; false when a side is not a whole number or the product is past 2^60.
static bool read_shape(item *t, const json_t *shape, uint64_t *count)
{
    size_t n = json_array_size(shape);
    uint64_t product = 1;
    bool empty = false;
    for (size_t i = 0; i < n; i++) {
        uint64_t side;
        if (!whole(json_array_get(shape, i), &side)) return false;
        if (i < TENSOR_MAX_DIMS) t->view.shape[i] = (int64_t)side;
        if (side == 0) empty = true;
        else if (side > ((uint64_t)1 << 60) / product) return false;
        else product *= side;
    }
    t->view.n_dims = (int32_t)(n < TENSOR_MAX_DIMS ? n : TENSOR_MAX_DIMS);
    t->has_view = n <= TENSOR_MAX_DIMS;
    *count = empty ? 0 : product;
    return true;
}

static sight_err check_form(item *t, uint64_t count, const char *what)
{
    const form *f = form_named(t->dtype);
    if (!f) { // newer than this table: listed, never read
        t->has_view = false;
        return SIGHT_OK;
    }
    uint64_t bytes = count / 8 * f->bits + (count % 8 * f->bits + 7) / 8;
    if (t->end - t->begin != bytes) {
        return sight_fail(SIGHT_E_MODEL,
                          "'%s': tensor '%s' spans %llu bytes, its shape and dtype %s need %llu",
                          what, t->name, (unsigned long long)(t->end - t->begin), t->dtype,
                          (unsigned long long)bytes);
    }
    if (f->type < 0) t->has_view = false;
    else t->view.type = (tensor_type)f->type;
    return SIGHT_OK;
}

static sight_err read_item(item *t, const char *name, const json_t *v, const char *what)
{
    const json_t *dtype = json_object_get(v, "dtype"), *shape = json_object_get(v, "shape");
    const json_t *offsets = json_object_get(v, "data_offsets");
    uint64_t count;
    t->name = name;
    if (!json_is_string(dtype) || !json_is_array(shape) || json_array_size(offsets) != 2 ||
        !whole(json_array_get(offsets, 0), &t->begin) ||
        !whole(json_array_get(offsets, 1), &t->end) || t->begin > t->end) {
        return sight_fail(SIGHT_E_MODEL,
                          "'%s': tensor '%s' has no proper dtype, shape and data_offsets", what,
                          name);
    }
    t->dtype = json_string_value(dtype);
    if (!read_shape(t, shape, &count)) {
        return sight_fail(SIGHT_E_MODEL, "'%s': tensor '%s' has an impossible shape", what, name);
    }
    return check_form(t, count, what);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const item *)a)->name, ((const item *)b)->name);
}

static int by_place(const void *a, const void *b)
{
    const item *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

// Tensors must tile the data: no overlap, no hole, nothing behind the last one.
static sight_err check_places(item *items, size_t n, uint64_t start, uint64_t size,
                              const char *what)
{
    qsort(items, n, sizeof *items, by_place);
    uint64_t end = 0;
    for (size_t i = 0; i < n; i++) {
        if (items[i].begin < end) {
            return sight_fail(SIGHT_E_MODEL, "'%s': tensors '%s' and '%s' overlap", what,
                              items[i - 1].name, items[i].name);
        }
        if (items[i].begin > end) {
            return sight_fail(SIGHT_E_MODEL,
                              "'%s': %llu bytes in front of tensor '%s' belong to no tensor", what,
                              (unsigned long long)(items[i].begin - end), items[i].name);
        }
        end = items[i].end;
    }
    if (end > size - start) {
        return sight_fail(SIGHT_E_MODEL,
                          "'%s' is truncated: tensor '%s' ends at byte %llu, the file has %llu",
                          what, items[n - 1].name, (unsigned long long)(start + end),
                          (unsigned long long)size);
    }
    if (end < size - start) {
        return sight_fail(SIGHT_E_MODEL, "'%s': %llu bytes at the end belong to no tensor", what,
                          (unsigned long long)(size - start - end));
    }
    return SIGHT_OK;
}

static sight_err set_data(item *items, size_t n, const unsigned char *data, const char *what)
{
    for (size_t i = 0; i < n; i++) {
        item *t = &items[i];
        if (!t->has_view) continue;
        t->view.data = data + t->begin;
        size_t bytes = tensor_type_bytes(t->view.type);
        if ((uintptr_t)t->view.data % bytes) {
            return sight_fail(SIGHT_E_MODEL,
                              "'%s': tensor '%s' does not start at a multiple of its %zu-byte "
                              "elements",
                              what, t->name, bytes);
        }
    }
    return SIGHT_OK;
}

static sight_err read_items(safetensors *s, const char *what)
{
    size_t n = json_object_size(s->header);
    s->items = calloc(n + 1, sizeof *s->items);
    if (!s->items) return sight_fail(SIGHT_E_MEMORY, "no memory for the header of '%s'", what);
    for (void *it = json_object_iter(s->header); it; it = json_object_iter_next(s->header, it)) {
        const char *name = json_object_iter_key(it);
        if (strcmp(name, "__metadata__") == 0) continue;
        sight_err err = read_item(&s->items[s->n], name, json_object_iter_value(it), what);
        if (err) return err;
        s->n++;
    }
    return SIGHT_OK;
}

// The header's length, after the checks that tell a foreign or cut file from a damaged one.
static sight_err header_size(uint64_t *out, const unsigned char *bytes, size_t size,
                             const char *what)
{
    static const char lfs[] = "version https://git-lfs";
    if (size == 0) return sight_fail(SIGHT_E_MODEL, "'%s' is empty (unfinished download?)", what);
    if (size >= sizeof lfs - 1 && memcmp(bytes, lfs, sizeof lfs - 1) == 0) {
        return sight_fail(SIGHT_E_MODEL, "'%s' is a git-lfs pointer, the weights are not here",
                          what);
    }
    if (size < 8) {
        return sight_fail(SIGHT_E_MODEL, "'%s' is truncated: %zu bytes, the header needs 8", what,
                          size);
    }
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--) n = n << 8 | bytes[i];
    if (n < 2 || n > MAX_HEADER_BYTES || (size > 8 && bytes[8] != '{')) {
        return sight_fail(SIGHT_E_MODEL, "'%s' is not a safetensors file", what);
    }
    if (n > size - 8) {
        return sight_fail(SIGHT_E_MODEL,
                          "'%s' is truncated: the header ends at byte %llu, the file has %zu", what,
                          (unsigned long long)(n + 8), size);
    }
    *out = n;
    return SIGHT_OK;
}

static sight_err parse(safetensors *s, const unsigned char *bytes, size_t size, const char *what)
{
    uint64_t n;
    sight_err err = header_size(&n, bytes, size, what);
    if (err) return err;
    err = json_parse(&s->header, (const char *)bytes + 8, n, MAX_HEADER_BYTES, what,
                     SIGHT_E_MODEL);
    if (err) return err;
    if (!json_is_object(s->header)) {
        return sight_fail(SIGHT_E_MODEL, "'%s' is not a safetensors file", what);
    }
    err = read_items(s, what);
    if (!err) err = check_places(s->items, s->n, n + 8, size, what);
    if (!err) err = set_data(s->items, s->n, bytes + 8 + n, what);
    if (!err) qsort(s->items, s->n, sizeof *s->items, by_name);
    return err;
}

sight_err safetensors_parse(safetensors **out, const void *bytes, size_t size, const char *what)
{
    safetensors *s = calloc(1, sizeof *s);
    if (!s) return sight_fail(SIGHT_E_MEMORY, "no memory to open '%s'", what);
    sight_err err = parse(s, bytes, size, what);
    if (err) safetensors_close(&s);
    else *out = s;
    return err;
}

sight_err safetensors_open(safetensors **out, const char *path)
{
    safetensors *s = calloc(1, sizeof *s);
    if (!s) return sight_fail(SIGHT_E_MEMORY, "no memory to open '%s'", path);
    sight_err err = file_map_open(&s->map, path);
    if (!err) err = parse(s, s->map.data, s->map.size, path);
    if (err) safetensors_close(&s);
    else *out = s;
    return err;
}

void safetensors_close(safetensors **s)
{
    if (!s || !*s) return;
    free((*s)->items);
    json_decref((*s)->header);
    file_map_close(&(*s)->map);
    free(*s);
    *s = NULL;
}

size_t safetensors_count(const safetensors *s)
{
    return s->n;
}

const char *safetensors_name(const safetensors *s, size_t i)
{
    return s->items[i].name;
}

const char *safetensors_dtype(const safetensors *s, size_t i)
{
    return s->items[i].dtype;
}

int safetensors_view(const safetensors *s, tensor_view *out, size_t i)
{
    if (!s->items[i].has_view) return 0;
    *out = s->items[i].view;
    return 1;
}

int64_t safetensors_find(const safetensors *s, const char *name)
{
    item key = {.name = name};
    const item *t = s->n ? bsearch(&key, s->items, s->n, sizeof key, by_name) : NULL;
    return t ? t - s->items : -1;
}
