#define _GNU_SOURCE
#include "checkpoint/prepare.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "checkpoint/prepare_parts.h"

void prepared_free(prepared **p)
{
    if (!p || !*p) return;
    prepared *d = *p;
    if (d->memory) munmap(d->memory, d->memory_bytes);
    free(d->blocks);
    free(d->header);
    free(d->file);
    free(d);
    *p = NULL;
}

void *prepared_block_data(const prepared *p, const prepare_block *b)
{
    return (char *)p->memory + b->offset;
}

// ---- the plan ----

static sight_err check_format(const prepare_block *b)
{
    const char *why;
    if (b->kind != BLOCK_PACKED || packed_format_check(&b->format, &why)) return SIGHT_OK;
    const stored *s = b->of->stored;
    return sight_fail(SIGHT_E_UNSUPPORTED, "'%s': tensor '%s' is %s, which kernels do not run (%s)",
                      b->of->path, b->of->name, s ? s->form : weights_form_name(WEIGHTS_INT8), why);
}

static sight_err add_extras(prepared *p, const prepare_options *o)
{
    for (size_t i = 0; i < o->n_extras; i++) {
        const prepare_extra *e = &o->extras[i];
        prepare_block *b = &p->blocks[p->n++];
        *b = (prepare_block){.kind = BLOCK_EXTRA, .version = e->version, .bytes = e->bytes};
        if (!e->bytes || strlen(e->name) >= sizeof b->name) {
            return sight_fail(SIGHT_E_INTERNAL, "the extra block '%.40s' has no size or a long name",
                              e->name);
        }
        strcpy(b->name, e->name);
    }
    return SIGHT_OK;
}

static sight_err plan(prepared *p, const checkpoint *c, const prepare_options *o)
{
    p->blocks = calloc(c->n + o->n_extras + 1, sizeof *p->blocks);
    if (!p->blocks) return sight_fail(SIGHT_E_MEMORY, "no memory to prepare the weights");
    for (size_t i = 0; i < c->n; i++) {
        prepare_block *b = &p->blocks[p->n];
        if (!plan_block(&c->weights[i], p->form, b)) continue;
        snprintf(b->name, sizeof b->name, "%s", c->weights[i].name);
        sight_err err = check_format(b);
        if (err) return err;
        p->n++;
    }
    return add_extras(p, o);
}

// ---- memory ----

static sight_err take_memory(prepared *p)
{
    void *m = mmap(NULL, p->file_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED) {
        return sight_fail(SIGHT_E_MEMORY, "no memory for %zu MiB of prepared weights",
                          p->file_bytes >> 20);
    }
    madvise(m, p->file_bytes, MADV_HUGEPAGE); // only a wish
    p->memory = m;
    p->memory_bytes = p->file_bytes;
    return SIGHT_OK;
}

static void place_planes(prepared *p, prepare_block *b)
{
    if (b->kind != BLOCK_PACKED) return;
    packed_init(&b->packed, &b->format, b->M, b->K, prepared_block_data(p, b));
}

// From here on the checkpoint hands out what was prepared.
static size_t bytes_in_use(const weight *w)
{
    const packed *p = w->packed;
    return p ? packed_bytes(&p->format, p->M, p->K) : plan_stored_bytes(w);
}

static void hand_out(checkpoint *c, prepared *p)
{
    for (size_t i = 0; i < p->n; i++) {
        prepare_block *b = &p->blocks[i];
        if (b->kind == BLOCK_EXTRA) continue;
        weight *w = b->of;
        if (b->kind == BLOCK_PACKED) {
            w->packed = &b->packed;
            continue;
        }
        w->view.data = prepared_block_data(p, b);
        w->view.type = TENSOR_BF16;
        w->stored = NULL;
    }
    c->prepared = p;
    c->bytes = 0;
    for (size_t i = 0; i < c->n; i++) c->bytes += bytes_in_use(&c->weights[i]);
    for (size_t i = 0; i < p->n; i++) {
        if (p->blocks[i].kind == BLOCK_EXTRA) c->bytes += p->blocks[i].bytes;
    }
}

// ---- the work ----

static sight_err make_matrices(checkpoint *c, prepared *p, const prepare_options *o)
{
    int64_t done = 0, total = 0;
    for (size_t i = 0; i < p->n; i++) {
        if (p->blocks[i].of) total += (int64_t)plan_stored_bytes(p->blocks[i].of);
    }
    for (size_t i = 0; i < p->n; i++) {
        prepare_block *b = &p->blocks[i];
        if (b->kind == BLOCK_EXTRA) continue;
        place_planes(p, b);
        sight_err err = pack_block(c, b, prepared_block_data(p, b), o, &done, total);
        if (err) return err;
    }
    return SIGHT_OK;
}

static sight_err make_extras(checkpoint *c, prepared *p, const prepare_options *o)
{
    const size_t first = p->n - o->n_extras;
    for (size_t i = 0; i < o->n_extras; i++) {
        const prepare_extra *e = &o->extras[i];
        sight_err err = e->make(e->arg, c, prepared_block_data(p, &p->blocks[first + i]), o->pool);
        if (err) return err;
    }
    return SIGHT_OK;
}

// Made-up matrices that nothing packs have no numbers yet.
static void fill_plain(checkpoint *c, const prepare_options *o)
{
    for (size_t i = 0; i < c->n && c->lazy; i++) {
        const weight *w = &c->weights[i];
        if (w->packed || w->view.n_dims == 1) continue;
        made_up_fill(c, w, 0, tensor_count(&w->view), o->pool);
    }
}

static sight_err make_all(checkpoint *c, prepared *p, const prepare_options *o)
{
    sight_err err = make_matrices(c, p, o);
    if (err) return err;
    hand_out(c, p);
    fill_plain(c, o); // extras read them
    return make_extras(c, p, o);
}

// Made in a new file of the cache; false with a warning when there cannot be one.
static bool start_file(prepare_writer *w, prepared *p, const prepare_options *o, const char *path)
{
    if (!prepare_file_create(w, p, o->cache, path)) return true;
    snprintf(p->warning, sizeof p->warning, "%s: prepared weights are kept in memory only",
             sight_error());
    return false;
}

static sight_err make(checkpoint *c, prepared *p, const prepare_options *o, const char *path)
{
    prepare_writer w = {.fd = -1};
    const bool in_file = path && start_file(&w, p, o, path);
    sight_err err = in_file ? SIGHT_OK : take_memory(p);
    if (!err) err = make_all(c, p, o);
    if (err || !in_file) {
        prepare_file_abandon(&w);
        if (!err) mprotect(p->memory, p->memory_bytes, PROT_READ);
        return err;
    }
    if (prepare_file_commit(&w, p, o->cache)) {
        snprintf(p->warning, sizeof p->warning, "%s", sight_error());
        return SIGHT_OK;
    }
    p->file = strdup(path); // without memory for its name it is used all the same
    return SIGHT_OK;
}

static sight_err load_or_make(checkpoint *c, prepared *p, const prepare_options *o)
{
    char *identity = o->cache && *c->dir ? prepare_file_identity(c, p->form) : NULL;
    char *path = identity ? prepare_file_path(o->cache, c, p->form) : NULL;
    sight_err err = prepare_file_lay_out(p, identity ? identity : "");
    if (!err && path && prepare_file_map(p, path)) {
        for (size_t i = 0; i < p->n; i++) place_planes(p, &p->blocks[i]);
        hand_out(c, p);
        p->file = path;
        path = NULL;
    } else if (!err) {
        err = make(c, p, o, path);
    }
    free(identity);
    free(path);
    return err;
}

sight_err checkpoint_prepare(checkpoint *c, const prepare_options *o)
{
    if (c->prepared) return sight_fail(SIGHT_E_INTERNAL, "weights are prepared once");
    prepared *p = calloc(1, sizeof *p);
    if (!p) return sight_fail(SIGHT_E_MEMORY, "no memory to prepare the weights");
    p->form = o->form == WEIGHTS_AUTO ? weights_choose(c, o->room_bytes) : o->form;
    sight_err err = plan(p, c, o);
    if (!err && p->n) err = load_or_make(c, p, o);
    if (err) {
        // Nothing of c may point into p's memory; a checkpoint that failed is closed, not used.
        if (c->prepared) return err;
        prepared_free(&p);
        return err;
    }
    c->prepared = p;
    if (!p->n) fill_plain(c, o);
    return SIGHT_OK;
}

// ---- asking ----

weights_form checkpoint_form(const checkpoint *c)
{
    return c->prepared ? c->prepared->form : WEIGHTS_STORED;
}

int64_t checkpoint_bytes_of(const checkpoint *c, const char *start)
{
    size_t bytes = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (!strncmp(c->weights[i].name, start, strlen(start))) bytes += bytes_in_use(&c->weights[i]);
    }
    return (int64_t)bytes;
}

const char *checkpoint_prepared_file(const checkpoint *c)
{
    return c->prepared ? c->prepared->file : NULL;
}

const char *checkpoint_prepare_warning(const checkpoint *c)
{
    return c->prepared && *c->prepared->warning ? c->prepared->warning : NULL;
}

const void *checkpoint_extra(const checkpoint *c, const char *name, size_t *bytes)
{
    for (size_t i = 0; c->prepared && i < c->prepared->n; i++) {
        const prepare_block *b = &c->prepared->blocks[i];
        if (b->kind != BLOCK_EXTRA || strcmp(b->name, name)) continue;
        *bytes = b->bytes;
        return prepared_block_data(c->prepared, b);
    }
    return NULL;
}

sight_err prepare_cache_folder(char *out, size_t size)
{
    const char *service = getenv("CACHE_DIRECTORY"), *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    int n;
    if (service && *service == '/') n = snprintf(out, size, "%s", service);
    else if (cache && *cache == '/') n = snprintf(out, size, "%s/sightd", cache);
    else if (home && *home == '/') n = snprintf(out, size, "%s/.cache/sightd", home);
    else return sight_fail(SIGHT_E_NOT_FOUND, "neither XDG_CACHE_HOME nor HOME is set");
    return n < 0 || (size_t)n >= size ? sight_fail(SIGHT_E_LIMIT, "the cache folder's name is too long")
                                      : SIGHT_OK;
}
