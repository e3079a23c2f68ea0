#include "kernels/cuda/pool.h"

#include <assert.h>
#include <stdlib.h>

#define NONE UINT32_MAX
#define BINS 64

// An extent, taken or a hole. Neighbours by address are linked, holes also within the bin of their size,
// taken ones in the chain of their offset's bucket; spare nodes by `next`.
typedef struct node {
    uint64_t at, units; // in units
    uint32_t before, after;
    uint32_t previous, next;
    bool taken;
} node;

struct pool {
    node *nodes;
    uint32_t n, room, spare;
    uint32_t *buckets; // [room], a power of two
    uint32_t bins[BINS]; // holes of 2^i .. 2^(i+1) - 1 units
    uint64_t free_units;
};

// ---- lists ----

static int bin_of(uint64_t units)
{
    return 63 - __builtin_clzll(units);
}

static uint32_t *bucket_of(const pool *p, uint64_t at)
{
    return &p->buckets[(at * 0x9e3779b97f4a7c15u >> 32) & (p->room - 1)];
}

static void push(pool *p, uint32_t *list, uint32_t i)
{
    p->nodes[i].previous = NONE;
    p->nodes[i].next = *list;
    if (*list != NONE) p->nodes[*list].previous = i;
    *list = i;
}

static void unlink_node(pool *p, uint32_t *list, uint32_t i)
{
    const node *x = &p->nodes[i];
    if (x->previous != NONE) p->nodes[x->previous].next = x->next;
    else *list = x->next;
    if (x->next != NONE) p->nodes[x->next].previous = x->previous;
}

static void push_hole(pool *p, uint32_t i)
{
    p->nodes[i].taken = false;
    push(p, &p->bins[bin_of(p->nodes[i].units)], i);
}

static void unlink_hole(pool *p, uint32_t i)
{
    unlink_node(p, &p->bins[bin_of(p->nodes[i].units)], i);
}

// ---- nodes ----

static void fill_buckets(pool *p)
{
    for (uint32_t i = 0; i < p->room; i++) p->buckets[i] = NONE;
    for (uint32_t i = 0; i < p->n; i++) {
        if (p->nodes[i].taken) push(p, bucket_of(p, p->nodes[i].at), i);
    }
}

static bool grow(pool *p)
{
    const uint32_t room = p->room ? p->room * 2 : 64;
    if (room < p->room) return false;
    node *nodes = realloc(p->nodes, room * sizeof *nodes);
    if (!nodes) return false;
    p->nodes = nodes;
    uint32_t *buckets = malloc(room * sizeof *buckets);
    if (!buckets) return false;
    free(p->buckets);
    p->buckets = buckets;
    p->room = room;
    fill_buckets(p);
    return true;
}

static uint32_t take_node(pool *p)
{
    uint32_t i = p->spare;
    if (i != NONE) {
        p->spare = p->nodes[i].next;
        return i;
    }
    if (p->n == p->room && !grow(p)) return NONE;
    p->nodes[p->n].taken = false;
    return p->n++;
}

static void give_node(pool *p, uint32_t i)
{
    p->nodes[i].taken = false;
    p->nodes[i].next = p->spare;
    p->spare = i;
}

sight_err pool_create(pool **out, uint64_t bytes)
{
    assert(bytes >= POOL_UNIT);
    pool *p = calloc(1, sizeof *p);
    if (!p) return sight_fail(SIGHT_E_MEMORY, "no memory for a pool's books");
    p->spare = NONE;
    for (int i = 0; i < BINS; i++) p->bins[i] = NONE;
    const uint32_t all = take_node(p);
    if (all == NONE) {
        pool_destroy(&p);
        return sight_fail(SIGHT_E_MEMORY, "no memory for a pool's books");
    }
    p->free_units = bytes / POOL_UNIT;
    p->nodes[all] = (node){.units = p->free_units, .before = NONE, .after = NONE};
    push_hole(p, all);
    *out = p;
    return SIGHT_OK;
}

void pool_destroy(pool **pp)
{
    pool *p = *pp;
    if (!p) return;
    free(p->nodes);
    free(p->buckets);
    free(p);
    *pp = NULL;
}

// ---- taking and giving ----

// The smallest hole of a bin that has as many units.
static uint32_t best_in(const pool *p, int bin, uint64_t units)
{
    uint32_t best = NONE;
    for (uint32_t i = p->bins[bin]; i != NONE; i = p->nodes[i].next) {
        const uint64_t has = p->nodes[i].units;
        if (has < units || (best != NONE && has >= p->nodes[best].units)) continue;
        best = i;
        if (has == units) break;
    }
    return best;
}

static uint32_t best_hole(const pool *p, uint64_t units)
{
    for (int bin = bin_of(units); bin < BINS; bin++) {
        const uint32_t i = best_in(p, bin, units);
        if (i != NONE) return i;
    }
    return NONE;
}

// What is left of hole i, which is in no bin, becomes a hole of its own.
static bool cut(pool *p, uint32_t i, uint64_t units)
{
    const uint64_t left = p->nodes[i].units - units;
    if (left == 0) return true;
    const uint32_t rest = take_node(p); // may move the nodes
    if (rest == NONE) return false;
    node *x = &p->nodes[i];
    p->nodes[rest] = (node){.at = x->at + units, .units = left, .before = i, .after = x->after};
    if (x->after != NONE) p->nodes[x->after].before = rest;
    x->after = rest;
    x->units = units;
    push_hole(p, rest);
    return true;
}

bool pool_take(pool *p, uint64_t *offset, uint64_t bytes)
{
    if (bytes > p->free_units * POOL_UNIT) return false;
    const uint64_t units = bytes ? (bytes + POOL_UNIT - 1) / POOL_UNIT : 1;
    const uint32_t i = best_hole(p, units);
    if (i == NONE) return false;
    unlink_hole(p, i);
    if (!cut(p, i, units)) {
        push_hole(p, i);
        return false;
    }
    p->nodes[i].taken = true;
    push(p, bucket_of(p, p->nodes[i].at), i);
    p->free_units -= units;
    *offset = p->nodes[i].at * POOL_UNIT;
    return true;
}

static bool is_hole(const pool *p, uint32_t i)
{
    return i != NONE && !p->nodes[i].taken;
}

// b, which is in no bin, becomes part of the extent a before it.
static void join(pool *p, uint32_t a, uint32_t b)
{
    p->nodes[a].units += p->nodes[b].units;
    p->nodes[a].after = p->nodes[b].after;
    if (p->nodes[b].after != NONE) p->nodes[p->nodes[b].after].before = a;
    give_node(p, b);
}

void pool_give(pool *p, uint64_t offset)
{
    const uint64_t at = offset / POOL_UNIT;
    uint32_t *bucket = bucket_of(p, at), i = *bucket;
    while (i != NONE && p->nodes[i].at != at) i = p->nodes[i].next;
    assert(i != NONE && offset % POOL_UNIT == 0);
    unlink_node(p, bucket, i);
    p->nodes[i].taken = false;
    p->free_units += p->nodes[i].units;
    const uint32_t after = p->nodes[i].after, before = p->nodes[i].before;
    if (is_hole(p, after)) {
        unlink_hole(p, after);
        join(p, i, after);
    }
    if (is_hole(p, before)) {
        unlink_hole(p, before);
        join(p, before, i);
        i = before;
    }
    push_hole(p, i);
}

uint64_t pool_free_bytes(const pool *p)
{
    return p->free_units * POOL_UNIT;
}

uint64_t pool_largest_bytes(const pool *p)
{
    for (int bin = BINS - 1; bin >= 0; bin--) {
        uint64_t most = 0;
        for (uint32_t i = p->bins[bin]; i != NONE; i = p->nodes[i].next) {
            if (p->nodes[i].units > most) most = p->nodes[i].units;
        }
        if (most) return most * POOL_UNIT;
    }
    return 0;
}
