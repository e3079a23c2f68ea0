#include "text/cache_memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/memory.h"

#define SLAB_BYTES  (8 << 20)
#define SPARE_BYTES (64 << 20)

typedef struct cache_slab {
    struct cache_slab *next;
    void *data;
    int64_t n;
    cache_block blocks[];
} cache_slab;

static void *map_pages(int64_t bytes)
{
    void *p = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
#ifdef MADV_HUGEPAGE
    if (bytes >= 2 << 20) madvise(p, (size_t)bytes, MADV_HUGEPAGE);
#endif
    return p;
}

// ---- backend memory ----

static void *pages_create(const cache_memory *m, int64_t bytes)
{
    void *p = NULL;
    if (!m->k) return map_pages(bytes);
    return kernels_alloc(&p, m->k, (size_t)bytes, "the cache") ? NULL : p;
}

static void pages_free(const cache_memory *m, void *p, int64_t bytes)
{
    if (m->k) kernels_free(m->k, p);
    else munmap(p, (size_t)bytes);
}

void *cache_room_create(const cache_memory *m, int64_t bytes)
{
    return m->k ? pages_create(m, bytes) : malloc((size_t)bytes + (bytes == 0));
}

void cache_room_free(const cache_memory *m, void *room)
{
    if (m->k) kernels_free(m->k, room);
    else free(room);
}

void cache_copy(const cache_memory *m, void *to, const void *from, int64_t bytes)
{
    if (m->k) op_copy(m->k, to, from, (size_t)bytes);
    else memcpy(to, from, (size_t)bytes);
}

void cache_zero(const cache_memory *m, void *p, int64_t bytes)
{
    if (m->k) op_zero(m->k, p, (size_t)bytes);
    else memset(p, 0, (size_t)bytes);
}

void cache_write(const cache_memory *m, void *to, const void *host, int64_t bytes)
{
    if (m->k) kernels_write(m->k, to, host, (size_t)bytes);
    else memcpy(to, host, (size_t)bytes);
}

sight_err cache_read(const cache_memory *m, void *host, const void *from, int64_t bytes)
{
    if (m->k) return kernels_read(m->k, host, from, (size_t)bytes);
    memcpy(host, from, (size_t)bytes);
    return SIGHT_OK;
}

// ---- the budget ----

static void push(cache_block **list, cache_block *b)
{
    b->next_free = *list;
    *list = b;
}

static cache_block *pop(cache_block **list)
{
    cache_block *b = *list;
    *list = b->next_free;
    return b;
}

static void free_states(cache_memory *m)
{
    pages_free(m, m->free_states[--m->n_free], m->states_bytes);
    m->n_states--;
    m->held -= m->states_bytes;
}

// A device's block goes for good, the process's keeps its addresses.
static void cool_block(cache_memory *m)
{
    cache_block *b = pop(&m->warm);
    m->held -= m->block_bytes;
    if (m->k) {
        kernels_free(m->k, b->data);
        free(b);
        return;
    }
    madvise(b->data, (size_t)m->block_bytes, MADV_DONTNEED);
    push(&m->cold, b);
}

// Returns one piece of what nobody uses to the system; false when all is in use.
static bool give_back(cache_memory *m)
{
    if (m->n_free > 0) free_states(m);
    else if (m->warm) cool_block(m);
    else return false;
    return true;
}

// A little is kept for the next request, the rest goes back: an idle daemon is a small one.
static void trim(cache_memory *m)
{
    while (m->held - m->used > SPARE_BYTES && give_back(m)) continue;
}

static sight_err make_room(cache_memory *m, int64_t bytes)
{
    while (m->budget && m->held + bytes > m->budget) {
        if (give_back(m)) continue;
        return sight_fail(SIGHT_E_MEMORY,
                          "the cache's budget of %.1f MiB is full: %.1f MiB are in use and "
                          "%.1f more are needed",
                          (double)m->budget / 1048576, (double)m->used / 1048576,
                          (double)bytes / 1048576);
    }
    return SIGHT_OK;
}

void cache_memory_done(cache_memory *m)
{
    assert(m->used == 0);
    while (m->k && give_back(m)) continue;
    while (m->n_free > 0) free_states(m);
    free(m->free_states);
    while (m->slabs) {
        cache_slab *s = m->slabs;
        m->slabs = s->next;
        munmap(s->data, (size_t)(s->n * m->block_bytes));
        free(s);
    }
}

// ---- blocks ----

static sight_err add_slab(cache_memory *m)
{
    int64_t n = SLAB_BYTES / m->block_bytes;
    if (n < 1) n = 1;
    cache_slab *s = calloc(1, sizeof *s + (size_t)n * sizeof s->blocks[0]);
    void *data = s ? map_pages(n * m->block_bytes) : NULL;
    if (!data) {
        free(s);
        return sight_fail(SIGHT_E_MEMORY, "no memory for the cache to grow");
    }
    s->data = data;
    s->n = n;
    s->next = m->slabs;
    m->slabs = s;
    for (int64_t i = n - 1; i >= 0; i--) { // so that the lowest address is taken first
        s->blocks[i].data = (char *)data + i * m->block_bytes;
        push(&m->cold, &s->blocks[i]);
    }
    return SIGHT_OK;
}

// On a device, where what nobody uses may lie in the way.
static sight_err add_block(cache_memory *m)
{
    cache_block *b = calloc(1, sizeof *b);
    while (b && !(b->data = pages_create(m, m->block_bytes)) && give_back(m)) continue;
    if (!b || !b->data) {
        free(b);
        return sight_fail(SIGHT_E_MEMORY, "no memory for the cache to grow");
    }
    push(&m->cold, b);
    return SIGHT_OK;
}

static sight_err warm_block(cache_memory *m)
{
    sight_err err = make_room(m, m->block_bytes);
    if (!err && !m->cold) err = m->k ? add_block(m) : add_slab(m);
    if (err) return err;
    push(&m->warm, pop(&m->cold));
    m->held += m->block_bytes;
    return SIGHT_OK;
}

sight_err cache_block_create(cache_block **out, cache_memory *m)
{
    if (!m->warm) {
        sight_err err = warm_block(m);
        if (err) return err;
    }
    cache_block *b = pop(&m->warm);
    b->refs = 1;
    b->kept = 0;
    m->used += m->block_bytes;
    *out = b;
    return SIGHT_OK;
}

void cache_block_unref(cache_memory *m, cache_block *b)
{
    assert(b->refs > 0);
    if (--b->refs > 0) return;
    push(&m->warm, b);
    m->used -= m->block_bytes;
    trim(m);
}

// ---- states ----

// A new set, and room for it in the list of free ones: giving it back cannot fail.
static sight_err new_states(void **out, cache_memory *m)
{
    const int64_t n = m->n_states + 1;
    void **list = realloc(m->free_states, (size_t)n * sizeof *list);
    if (list) m->free_states = list;
    void *states = list ? pages_create(m, m->states_bytes) : NULL;
    while (list && !states && give_back(m)) states = pages_create(m, m->states_bytes);
    if (!states) return sight_fail(SIGHT_E_MEMORY, "no memory for a sequence's states");
    m->n_states++;
    m->held += m->states_bytes;
    *out = states;
    return SIGHT_OK;
}

sight_err cache_states_create(void **out, bool *zeroed, cache_memory *m)
{
    void *states = NULL;
    const bool fresh = m->n_free == 0;
    if (!fresh) {
        states = m->free_states[--m->n_free];
    } else if (m->states_bytes > 0) {
        sight_err err = make_room(m, m->states_bytes);
        if (!err) err = new_states(&states, m);
        if (err) return err;
    }
    m->used += m->states_bytes;
    *zeroed = fresh && (!m->k || !states);
    *out = states;
    return SIGHT_OK;
}

void cache_states_free(cache_memory *m, void *states)
{
    m->used -= m->states_bytes;
    if (!states) return;
    m->free_states[m->n_free++] = states;
    trim(m);
}
