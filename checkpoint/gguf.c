#include "checkpoint/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoint/gguf_parts.h"

#define MAX_NAME      127 // of a tensor; ggml's own limit is 63
#define MAX_ALIGNMENT (1 << 20)

// What is known of ggml's element types (ggml.h, ggml-common.h): elements and bytes of a block.
typedef struct form {
    const char *name;
    int id, block, bytes;
} form;

static const form forms[] = {
    {"F32", 0, 1, 4},         {"F16", 1, 1, 2},         {"Q4_0", 2, 32, 18},
    {"Q4_1", 3, 32, 20},      {"Q5_0", 6, 32, 22},      {"Q5_1", 7, 32, 24},
    {"Q8_0", 8, 32, 34},      {"Q8_1", 9, 32, 36},      {"Q2_K", 10, 256, 84},
    {"Q3_K", 11, 256, 110},   {"Q4_K", 12, 256, 144},   {"Q5_K", 13, 256, 176},
    {"Q6_K", 14, 256, 210},   {"Q8_K", 15, 256, 292},   {"IQ2_XXS", 16, 256, 66},
    {"IQ2_XS", 17, 256, 74},  {"IQ3_XXS", 18, 256, 98}, {"IQ1_S", 19, 256, 50},
    {"IQ4_NL", 20, 32, 18},   {"IQ3_S", 21, 256, 110},  {"IQ2_S", 22, 256, 82},
    {"IQ4_XS", 23, 256, 136}, {"I8", 24, 1, 1},         {"I16", 25, 1, 2},
    {"I32", 26, 1, 4},        {"I64", 27, 1, 8},        {"F64", 28, 1, 8},
    {"IQ1_M", 29, 256, 56},   {"BF16", 30, 1, 2},       {"TQ1_0", 34, 256, 54},
    {"TQ2_0", 35, 256, 66},   {"MXFP4", 39, 32, 17},    {"NVFP4", 40, 64, 36},
    {"Q1_0", 41, 128, 18},    {"Q2_0", 42, 64, 18},
};

static const form *form_of(uint32_t id)
{
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if ((uint32_t)forms[i].id == id) return &forms[i];
    }
    return NULL;
}

// ---- reading forward ----

sight_err gguf_read_bytes(gguf_cursor *c, const unsigned char **out, uint64_t n)
{
    if (n > (uint64_t)(c->end - c->at)) {
        return sight_fail(SIGHT_E_MODEL,
                          "'%s' is truncated or damaged: %llu bytes are wanted at byte %zu, the "
                          "file has %zu",
                          c->what, (unsigned long long)n, (size_t)(c->at - c->begin),
                          (size_t)(c->end - c->begin));
    }
    *out = c->at;
    c->at += n;
    return SIGHT_OK;
}

sight_err gguf_read_u32(gguf_cursor *c, uint32_t *out)
{
    const unsigned char *b;
    sight_err err = gguf_read_bytes(c, &b, 4);
    if (!err) *out = b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
    return err;
}

sight_err gguf_read_u64(gguf_cursor *c, uint64_t *out)
{
    uint32_t low, high;
    sight_err err = gguf_read_u32(c, &low);
    if (!err) err = gguf_read_u32(c, &high);
    if (!err) *out = (uint64_t)high << 32 | low;
    return err;
}

sight_err gguf_read_text(gguf_cursor *c, gguf_text *out)
{
    uint64_t n;
    const unsigned char *b;
    sight_err err = gguf_read_u64(c, &n);
    if (!err) err = gguf_read_bytes(c, &b, n);
    if (!err) *out = (gguf_text){(const char *)b, (size_t)n};
    return err;
}

// ---- tensors ----

// One tensor of the list as read: its name still in the file, its data an offset.
typedef struct listed {
    gguf_text name;
    uint64_t offset;
} listed;

static sight_err read_shape(gguf_tensor *t, gguf_cursor *c, uint64_t *count)
{
    uint32_t n;
    sight_err err = gguf_read_u32(c, &n);
    if (err) return err;
    if (n < 1 || n > GGUF_MAX_DIMS) {
        return sight_fail(SIGHT_E_MODEL,
                          "'%s': tensor '%s' has %u dimensions, 1 to %d are possible",
                          c->what, t->name, n, GGUF_MAX_DIMS);
    }
    t->n_dims = (int32_t)n;
    *count = 1;
    for (int32_t i = t->n_dims - 1; i >= 0; i--) {
        uint64_t side;
        err = gguf_read_u64(c, &side);
        if (err) return err;
        if (side < 1 || side > ((uint64_t)1 << 56) / *count) {
            return sight_fail(SIGHT_E_MODEL, "'%s': tensor '%s' has an impossible shape", c->what,
                              t->name);
        }
        t->shape[i] = (int64_t)side;
        *count *= side;
    }
    return SIGHT_OK;
}

static sight_err read_form(gguf_tensor *t, gguf_cursor *c, uint64_t count)
{
    uint32_t id;
    sight_err err = gguf_read_u32(c, &id);
    if (err) return err;
    const form *f = form_of(id);
    if (!f) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "'%s': tensor '%s' has ggml type %u, not known here",
                          c->what, t->name, id);
    }
    if (t->shape[t->n_dims - 1] % f->block) {
        return sight_fail(SIGHT_E_MODEL,
                          "'%s': tensor '%s': rows of %lld elements are not whole blocks of %d "
                          "(%s)",
                          c->what, t->name, (long long)t->shape[t->n_dims - 1], f->block, f->name);
    }
    t->type = f->name;
    t->type_id = f->id;
    t->block = f->block;
    t->bytes = (size_t)(count / (uint64_t)f->block * (uint64_t)f->bytes); // under 2^60
    return SIGHT_OK;
}

// *room: where the next name is kept.
static sight_err read_tensor(gguf_tensor *t, uint64_t *offset, char **room, gguf_cursor *c)
{
    gguf_text name;
    uint64_t count;
    sight_err err = gguf_read_text(c, &name);
    if (err) return err;
    if (name.n < 1 || name.n > MAX_NAME || memchr(name.data, 0, name.n)) {
        return sight_fail(SIGHT_E_MODEL,
                          "'%s': a tensor's name at byte %zu has %zu bytes, 1 to %d without a zero "
                          "are possible",
                          c->what, (size_t)(c->at - c->begin) - name.n, name.n, MAX_NAME);
    }
    memcpy(*room, name.data, name.n);
    (*room)[name.n] = 0;
    t->name = *room;
    *room += name.n + 1;
    err = read_shape(t, c, &count);
    if (!err) err = read_form(t, c, count);
    return err ? err : gguf_read_u64(c, offset);
}

// Data pointers, once the list has ended. Offsets count from the next multiple of the alignment.
static sight_err place(gguf *g, const uint64_t *offsets, const gguf_cursor *c, uint64_t alignment)
{
    const uint64_t size = (uint64_t)(c->end - c->begin);
    uint64_t start = ((uint64_t)(c->at - c->begin) + alignment - 1) / alignment * alignment;
    for (size_t i = 0; i < g->n_tensors; i++) {
        gguf_tensor *t = &g->tensors[i];
        if (offsets[i] % alignment) {
            return sight_fail(SIGHT_E_MODEL,
                              "'%s': tensor '%s' stands at offset %llu, not a multiple of the "
                              "alignment %llu",
                              c->what, t->name, (unsigned long long)offsets[i],
                              (unsigned long long)alignment);
        }
        if (start > size || offsets[i] > size - start || t->bytes > size - start - offsets[i]) {
            return sight_fail(SIGHT_E_MODEL,
                              "'%s' is truncated: tensor '%s' wants %zu bytes at offset %llu of "
                              "its data, the file has %llu",
                              c->what, t->name, t->bytes, (unsigned long long)offsets[i],
                              (unsigned long long)(start > size ? 0 : size - start));
        }
        t->data = c->begin + start + offsets[i];
    }
    return SIGHT_OK;
}

static int by_place(const void *a, const void *b)
{
    const gguf_tensor *x = a, *y = b;
    return x->data < y->data ? -1 : x->data > y->data;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const gguf_tensor *)a)->name, ((const gguf_tensor *)b)->name);
}

// Leaves them sorted by name.
static sight_err check_places(gguf *g, const char *what)
{
    if (g->n_tensors) qsort(g->tensors, g->n_tensors, sizeof *g->tensors, by_place);
    for (size_t i = 1; i < g->n_tensors; i++) {
        const gguf_tensor *a = &g->tensors[i - 1], *b = &g->tensors[i];
        if (a->data + a->bytes <= b->data) continue;
        return sight_fail(SIGHT_E_MODEL, "'%s': tensors '%s' and '%s' overlap", what, a->name,
                          b->name);
    }
    if (g->n_tensors) qsort(g->tensors, g->n_tensors, sizeof *g->tensors, by_name);
    for (size_t i = 1; i < g->n_tensors; i++) {
        if (strcmp(g->tensors[i - 1].name, g->tensors[i].name)) continue;
        return sight_fail(SIGHT_E_MODEL, "'%s': tensor '%s' stands twice", what,
                          g->tensors[i].name);
    }
    return SIGHT_OK;
}

static sight_err read_tensors(gguf *g, gguf_cursor *c, uint64_t count, uint64_t alignment)
{
    const uint64_t least = 8 + 1 + 4 + 8 + 4 + 8; // bytes that the shortest one takes
    if (count > (uint64_t)(c->end - c->at) / least) {
        return sight_fail(SIGHT_E_MODEL, "'%s' is truncated or damaged: %llu tensors do not fit",
                          c->what, (unsigned long long)count);
    }
    uint64_t *offsets = calloc((size_t)count + 1, sizeof *offsets);
    g->tensors = calloc((size_t)count + 1, sizeof *g->tensors);
    g->names = malloc((size_t)count * (MAX_NAME + 1) + 1);
    char *room = g->names;
    sight_err err = SIGHT_OK;
    if (!offsets || !g->tensors || !g->names) {
        err = sight_fail(SIGHT_E_MEMORY, "no memory for the tensors of '%s'", c->what);
    }
    for (uint64_t i = 0; i < count && !err; i++) {
        err = read_tensor(&g->tensors[i], &offsets[i], &room, c);
        g->n_tensors = (size_t)i + 1;
    }
    if (!err) err = place(g, offsets, c, alignment);
    if (!err) err = check_places(g, c->what);
    free(offsets);
    return err;
}

// ---- the whole ----

static sight_err check_start(gguf_cursor *c)
{
    static const char lfs[] = "version https://git-lfs";
    const size_t size = (size_t)(c->end - c->begin);
    uint32_t version;
    if (size == 0) {
        return sight_fail(SIGHT_E_MODEL, "'%s' is empty (unfinished download?)", c->what);
    }
    if (size >= sizeof lfs - 1 && memcmp(c->begin, lfs, sizeof lfs - 1) == 0) {
        return sight_fail(SIGHT_E_MODEL, "'%s' is a git-lfs pointer, the weights are not here",
                          c->what);
    }
    if (size < 4 || memcmp(c->begin, "GGUF", 4)) {
        return sight_fail(SIGHT_E_MODEL, "'%s' is not a GGUF file", c->what);
    }
    c->at += 4;
    sight_err err = gguf_read_u32(c, &version);
    if (err || version == 2 || version == 3) return err;
    if (version && (version & 0xffff) == 0) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "'%s' is a big-endian GGUF file, not supported",
                          c->what);
    }
    return sight_fail(SIGHT_E_UNSUPPORTED, "'%s': GGUF version %u is not supported, only 2 and 3",
                      c->what, version);
}

static sight_err parse(gguf *g, const unsigned char *bytes, size_t size, const char *what)
{
    static const unsigned char nothing;
    if (!bytes) bytes = &nothing; // an empty file has no mapping
    gguf_cursor c = {bytes, bytes, bytes + size, what};
    uint64_t n_tensors, n_entries;
    int64_t alignment = 32;
    g->path = strdup(what);
    if (!g->path) return sight_fail(SIGHT_E_MEMORY, "no memory to open '%s'", what);
    sight_err err = check_start(&c);
    if (!err) err = gguf_read_u64(&c, &n_tensors);
    if (!err) err = gguf_read_u64(&c, &n_entries);
    if (!err) err = gguf_read_metadata(g, &c, n_entries);
    if (!err) err = gguf_get_int(g, &alignment, "general.alignment", 1, MAX_ALIGNMENT);
    if (!err && (alignment < 8 || (alignment & (alignment - 1)))) {
        err = sight_fail(SIGHT_E_MODEL,
                         "'%s': general.alignment is %lld, a power of two from 8 is needed", what,
                         (long long)alignment);
    }
    return err ? err : read_tensors(g, &c, n_tensors, (uint64_t)alignment);
}

sight_err gguf_parse(gguf **out, const void *bytes, size_t size, const char *what)
{
    gguf *g = calloc(1, sizeof *g);
    if (!g) return sight_fail(SIGHT_E_MEMORY, "no memory to open '%s'", what);
    sight_err err = parse(g, bytes, size, what);
    if (err) gguf_close(&g);
    else *out = g;
    return err;
}

sight_err gguf_open(gguf **out, const char *path)
{
    gguf *g = calloc(1, sizeof *g);
    if (!g) return sight_fail(SIGHT_E_MEMORY, "no memory to open '%s'", path);
    sight_err err = file_map_open(&g->map, path);
    if (!err) err = parse(g, g->map.data, g->map.size, path);
    if (err) gguf_close(&g);
    else *out = g;
    return err;
}

void gguf_close(gguf **p)
{
    if (!p || !*p) return;
    gguf *g = *p;
    free(g->entries);
    free(g->tensors);
    free(g->names);
    free(g->path);
    file_map_close(&g->map);
    free(g);
    *p = NULL;
}

const char *gguf_path(const gguf *g)
{
    return g->path;
}

size_t gguf_count(const gguf *g)
{
    return g->n_tensors;
}

const gguf_tensor *gguf_at(const gguf *g, size_t i)
{
    return &g->tensors[i];
}

const gguf_tensor *gguf_find(const gguf *g, const char *name)
{
    const gguf_tensor key = {.name = name};
    if (!g->n_tensors) return NULL;
    return bsearch(&key, g->tensors, g->n_tensors, sizeof key, by_name);
}
