// The keys and values at the start of a GGUF file.
#include <stdlib.h>
#include <string.h>

#include "checkpoint/gguf_parts.h"

#define MAX_KEY 65535 // the format's own limit

// Bytes of a value of fixed size; 0: text or array.
static const uint8_t kind_bytes[GGUF_KINDS] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

// ---- parsing ----

static sight_err fail_kind(const gguf_cursor *c, gguf_text key, const char *part, uint32_t kind)
{
    return sight_fail(SIGHT_E_MODEL, "'%s': '%.*s' %s %u, which the format does not have", c->what,
                      (int)(key.n < 100 ? key.n : 100), key.data, part, kind);
}

static sight_err read_array(gguf_entry *e, gguf_cursor *c)
{
    uint32_t element;
    sight_err err = gguf_read_u32(c, &element);
    if (!err) err = gguf_read_u64(c, &e->n);
    if (err) return err;
    if (element >= GGUF_KINDS) return fail_kind(c, e->key, "is an array of kind", element);
    if (element == GGUF_KIND_ARRAY) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "'%s': '%.*s' is an array of arrays, not supported",
                          c->what, (int)(e->key.n < 100 ? e->key.n : 100), e->key.data);
    }
    e->element = (int)element;
    e->data = c->at;
    const uint64_t left = (uint64_t)(c->end - c->at);
    const uint64_t least = element == GGUF_KIND_TEXT ? 8 : kind_bytes[element];
    if (e->n > left / least) {
        return sight_fail(SIGHT_E_MODEL,
                          "'%s' is truncated or damaged: the %llu elements of '%.*s' do not fit",
                          c->what, (unsigned long long)e->n,
                          (int)(e->key.n < 100 ? e->key.n : 100), e->key.data);
    }
    gguf_text text;
    if (element != GGUF_KIND_TEXT) return gguf_read_bytes(c, &e->data, e->n * least);
    for (uint64_t i = 0; i < e->n && !err; i++) err = gguf_read_text(c, &text);
    return err;
}

static sight_err read_entry(gguf_entry *e, gguf_cursor *c)
{
    uint32_t kind;
    gguf_text text;
    sight_err err = gguf_read_text(c, &e->key);
    if (err) return err;
    if (e->key.n < 1 || e->key.n > MAX_KEY) {
        return sight_fail(SIGHT_E_MODEL, "'%s': a key before byte %zu has %zu bytes, 1 to %d are "
                          "possible", c->what, (size_t)(c->at - c->begin), e->key.n, MAX_KEY);
    }
    err = gguf_read_u32(c, &kind);
    if (err) return err;
    if (kind >= GGUF_KINDS) return fail_kind(c, e->key, "is of kind", kind);
    e->kind = (int)kind;
    if (kind == GGUF_KIND_ARRAY) return read_array(e, c);
    if (kind != GGUF_KIND_TEXT) return gguf_read_bytes(c, &e->data, kind_bytes[kind]);
    err = gguf_read_text(c, &text);
    if (err) return err;
    e->data = (const unsigned char *)text.data;
    e->n = text.n;
    return SIGHT_OK;
}

static int compare_text(gguf_text a, gguf_text b)
{
    int order = memcmp(a.data, b.data, a.n < b.n ? a.n : b.n);
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

static int by_key(const void *a, const void *b)
{
    return compare_text(((const gguf_entry *)a)->key, ((const gguf_entry *)b)->key);
}

sight_err gguf_read_metadata(gguf *g, gguf_cursor *c, uint64_t count)
{
    const uint64_t least = 8 + 1 + 4 + 1; // bytes that the shortest one takes
    if (count > (uint64_t)(c->end - c->at) / least) {
        return sight_fail(SIGHT_E_MODEL, "'%s' is truncated or damaged: %llu keys do not fit",
                          c->what, (unsigned long long)count);
    }
    g->entries = calloc((size_t)count + 1, sizeof *g->entries);
    if (!g->entries) return sight_fail(SIGHT_E_MEMORY, "no memory for the keys of '%s'", c->what);
    for (uint64_t i = 0; i < count; i++) {
        sight_err err = read_entry(&g->entries[i], c);
        if (err) return err;
        g->n_entries++;
    }
    if (g->n_entries) qsort(g->entries, g->n_entries, sizeof *g->entries, by_key);
    for (size_t i = 1; i < g->n_entries; i++) {
        const gguf_text key = g->entries[i].key;
        if (compare_text(g->entries[i - 1].key, key)) continue;
        return sight_fail(SIGHT_E_MODEL, "'%s': the key '%.*s' stands twice", c->what,
                          (int)(key.n < 100 ? key.n : 100), key.data);
    }
    return SIGHT_OK;
}

// ---- asking ----

bool gguf_text_is(gguf_text t, const char *s)
{
    return t.n == strlen(s) && memcmp(t.data, s, t.n) == 0;
}

static const gguf_entry *entry(const gguf *g, const char *key)
{
    const gguf_entry wanted = {.key = {key, strlen(key)}};
    if (!g->n_entries) return NULL;
    return bsearch(&wanted, g->entries, g->n_entries, sizeof wanted, by_key);
}

bool gguf_has(const gguf *g, const char *key)
{
    return entry(g, key) != NULL;
}

sight_err gguf_need(const gguf *g, const char *key)
{
    if (gguf_has(g, key)) return SIGHT_OK;
    return sight_fail(SIGHT_E_MODEL, "'%s' has no '%s'", g->path, key);
}

static uint64_t bits_at(const unsigned char *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

static bool is_whole(int kind)
{
    return kind <= GGUF_KIND_I32 || kind == GGUF_KIND_U64 || kind == GGUF_KIND_I64;
}

static bool is_number(int kind)
{
    return kind == GGUF_KIND_F32 || kind == GGUF_KIND_F64 || is_whole(kind);
}

// A u64 past the largest int64 becomes that.
static int64_t whole_at(const unsigned char *p, int kind)
{
    const uint64_t v = bits_at(p, kind_bytes[kind]);
    switch (kind) {
    case GGUF_KIND_I8: return (int8_t)v;
    case GGUF_KIND_I16: return (int16_t)v;
    case GGUF_KIND_I32: return (int32_t)v;
    case GGUF_KIND_I64: return (int64_t)v;
    case GGUF_KIND_BOOL: return v != 0;
    default: return v > INT64_MAX ? INT64_MAX : (int64_t)v;
    }
}

static double number_at(const unsigned char *p, int kind)
{
    if (kind == GGUF_KIND_F32) {
        const uint32_t bits = (uint32_t)bits_at(p, 4);
        float f;
        memcpy(&f, &bits, 4);
        return f;
    }
    if (kind == GGUF_KIND_F64) {
        const uint64_t bits = bits_at(p, 8);
        double d;
        memcpy(&d, &bits, 8);
        return d;
    }
    return (double)whole_at(p, kind);
}

sight_err gguf_get_int(const gguf *g, int64_t *out, const char *key, int64_t min, int64_t max)
{
    const gguf_entry *e = entry(g, key);
    if (!e) return SIGHT_OK;
    if (!is_whole(e->kind)) {
        return sight_fail(SIGHT_E_MODEL, "'%s': '%s' must be a whole number", g->path, key);
    }
    const int64_t v = whole_at(e->data, e->kind);
    if (v < min || v > max) {
        return sight_fail(SIGHT_E_MODEL, "'%s': '%s' is %lld, must be %lld to %lld", g->path, key,
                          (long long)v, (long long)min, (long long)max);
    }
    *out = v;
    return SIGHT_OK;
}

sight_err gguf_get_double(const gguf *g, double *out, const char *key, double min, double max)
{
    const gguf_entry *e = entry(g, key);
    if (!e) return SIGHT_OK;
    if (!is_number(e->kind)) {
        return sight_fail(SIGHT_E_MODEL, "'%s': '%s' must be a number", g->path, key);
    }
    const double v = number_at(e->data, e->kind);
    if (!(v >= min && v <= max)) {
        return sight_fail(SIGHT_E_MODEL, "'%s': '%s' is %g, must be %g to %g", g->path, key, v, min,
                          max);
    }
    *out = v;
    return SIGHT_OK;
}

sight_err gguf_get_bool(const gguf *g, bool *out, const char *key)
{
    const gguf_entry *e = entry(g, key);
    if (!e) return SIGHT_OK;
    if (e->kind != GGUF_KIND_BOOL) {
        return sight_fail(SIGHT_E_MODEL, "'%s': '%s' must be true or false", g->path, key);
    }
    *out = e->data[0] != 0;
    return SIGHT_OK;
}

sight_err gguf_get_text(const gguf *g, gguf_text *out, const char *key)
{
    const gguf_entry *e = entry(g, key);
    if (!e) return SIGHT_OK;
    if (e->kind != GGUF_KIND_TEXT) {
        return sight_fail(SIGHT_E_MODEL, "'%s': '%s' must be a text", g->path, key);
    }
    *out = (gguf_text){(const char *)e->data, (size_t)e->n};
    return SIGHT_OK;
}

static sight_err get_array(const gguf *g, gguf_array *out, const char *key, bool (*fits)(int),
                           const char *of)
{
    const gguf_entry *e = entry(g, key);
    if (!e) return SIGHT_OK;
    if (e->kind != GGUF_KIND_ARRAY || !fits(e->element)) {
        return sight_fail(SIGHT_E_MODEL, "'%s': '%s' must be an array of %s", g->path, key, of);
    }
    *out = (gguf_array){(size_t)e->n, e->element, e->data};
    return SIGHT_OK;
}

static bool whole_or_bool(int kind)
{
    return is_whole(kind) || kind == GGUF_KIND_BOOL;
}

static bool is_text(int kind)
{
    return kind == GGUF_KIND_TEXT;
}

sight_err gguf_get_ints(const gguf *g, gguf_array *out, const char *key)
{
    return get_array(g, out, key, whole_or_bool, "whole numbers");
}

sight_err gguf_get_doubles(const gguf *g, gguf_array *out, const char *key)
{
    return get_array(g, out, key, is_number, "numbers");
}

sight_err gguf_get_texts(const gguf *g, gguf_array *out, const char *key)
{
    return get_array(g, out, key, is_text, "texts");
}

int64_t gguf_array_int(gguf_array *a)
{
    const int64_t v = whole_at(a->data, a->type);
    a->data += kind_bytes[a->type];
    return v;
}

double gguf_array_double(gguf_array *a)
{
    const double v = number_at(a->data, a->type);
    a->data += kind_bytes[a->type];
    return v;
}

gguf_text gguf_array_text(gguf_array *a)
{
    const size_t n = (size_t)bits_at(a->data, 8);
    const gguf_text t = {(const char *)a->data + 8, n};
    a->data += 8 + n;
    return t;
}
