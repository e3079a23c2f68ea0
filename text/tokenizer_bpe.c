#include "text/tokenizer_bpe.h"

#include <stdlib.h>
#include <string.h>

#define SHORT 32

struct bpe_symbol {
    int32_t id;         // -1: merged into the one before
    int32_t merged;     // id of this one and the next together
    uint32_t rank;      // of that merge; UINT32_MAX: none
    int32_t prev, next; // -1: none
};

void bpe_done(bpe *b)
{
    free(b->symbols);
    free(b->heap);
    *b = (bpe){0};
}

// ---- short pieces: scan for the lowest rank ----

typedef struct short_piece {
    int32_t ids[SHORT], merged[SHORT];
    uint32_t ranks[SHORT]; // of merging i and i + 1
    size_t n;
} short_piece;

static void rank_pair(short_piece *p, const vocab *v, size_t i)
{
    p->ranks[i] = UINT32_MAX;
    if (i + 1 >= p->n) return;
    const vocab_merge *m = vocab_merge_of(v, (uint32_t)p->ids[i], (uint32_t)p->ids[i + 1]);
    if (!m) return;
    p->ranks[i] = m->rank;
    p->merged[i] = m->id;
}

static void merge_short(short_piece *p, const vocab *v)
{
    for (size_t i = 0; i < p->n; i++) rank_pair(p, v, i);
    while (p->n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < p->n; i++)
            if (p->ranks[i] < p->ranks[best]) best = i;
        if (p->ranks[best] == UINT32_MAX) return;
        size_t after = p->n - best - 2;
        p->ids[best] = p->merged[best];
        memmove(p->ids + best + 1, p->ids + best + 2, after * sizeof *p->ids);
        memmove(p->merged + best + 1, p->merged + best + 2, after * sizeof *p->merged);
        memmove(p->ranks + best + 1, p->ranks + best + 2, after * sizeof *p->ranks);
        p->n--;
        rank_pair(p, v, best);
        if (best > 0) rank_pair(p, v, best - 1);
    }
}

// ---- long pieces: a heap of merges, some of them stale ----

static void sift_down(uint64_t *heap, size_t n, size_t i)
{
    uint64_t moved = heap[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= moved) break;
        heap[i] = heap[child];
    }
    heap[i] = moved;
}

static void heap_push(uint64_t *heap, size_t *n, uint64_t key)
{
    size_t i = (*n)++;
    for (; i > 0 && heap[(i - 1) / 2] > key; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = key;
}

static uint64_t heap_pop(uint64_t *heap, size_t *n)
{
    uint64_t top = heap[0];
    heap[0] = heap[--*n];
    if (*n) sift_down(heap, *n, 0);
    return top;
}

// Looks up the merge of symbol i with its next; true when there is one.
static bool rank_symbol(bpe_symbol *symbols, const vocab *v, int32_t i)
{
    bpe_symbol *s = &symbols[i];
    s->rank = UINT32_MAX;
    if (s->next < 0) return false;
    const vocab_merge *m = vocab_merge_of(v, (uint32_t)s->id, (uint32_t)symbols[s->next].id);
    if (!m) return false;
    s->rank = m->rank;
    s->merged = m->id;
    return true;
}

// Each merge takes one symbol away and pushes at most two keys: 3 n keys are enough.
static bool reserve(bpe *b, size_t n)
{
    if (n <= b->capacity) return true;
    size_t capacity = n + n / 2;
    bpe_symbol *symbols = realloc(b->symbols, capacity * sizeof *symbols);
    if (symbols) b->symbols = symbols;
    uint64_t *heap = symbols ? realloc(b->heap, 3 * capacity * sizeof *heap) : NULL;
    if (!heap) return false;
    b->heap = heap;
    b->capacity = capacity;
    return true;
}

static void merge_long(bpe *b, const vocab *v, const char *bytes, size_t n)
{
    bpe_symbol *symbols = b->symbols;
    size_t keys = 0;
    for (size_t i = 0; i < n; i++) {
        symbols[i].id = v->byte_ids[(uint8_t)bytes[i]];
        symbols[i].prev = (int32_t)i - 1;
        symbols[i].next = i + 1 < n ? (int32_t)i + 1 : -1;
    }
    for (size_t i = 0; i < n; i++)
        if (rank_symbol(symbols, v, (int32_t)i))
            b->heap[keys++] = (uint64_t)symbols[i].rank << 32 | i;
    for (size_t i = keys / 2; i-- > 0;) sift_down(b->heap, keys, i);
    while (keys > 0) {
        uint64_t key = heap_pop(b->heap, &keys);
        int32_t i = (int32_t)(key & UINT32_MAX);
        bpe_symbol *s = &symbols[i];
        if (s->id < 0 || s->rank != key >> 32) continue; // stale
        bpe_symbol *gone = &symbols[s->next];
        s->id = s->merged;
        s->next = gone->next;
        gone->id = -1;
        if (s->next >= 0) symbols[s->next].prev = i;
        if (rank_symbol(symbols, v, i))
            heap_push(b->heap, &keys, (uint64_t)s->rank << 32 | (uint32_t)i);
        if (s->prev >= 0 && rank_symbol(symbols, v, s->prev))
            heap_push(b->heap, &keys,
                      (uint64_t)symbols[s->prev].rank << 32 | (uint32_t)s->prev);
    }
}

static sight_err encode_long(bpe *b, token_list *out, const vocab *v, const char *bytes, size_t n)
{
    if (!reserve(b, n)) {
        return sight_fail(SIGHT_E_MEMORY, "no memory to tokenize a word of %zu bytes", n);
    }
    merge_long(b, v, bytes, n);
    sight_err err = SIGHT_OK;
    for (int32_t i = 0; i >= 0 && !err; i = b->symbols[i].next)
        err = token_list_add(out, b->symbols[i].id);
    return err;
}

sight_err bpe_encode(bpe *b, token_list *out, const vocab *v, bool whole, const char *bytes,
                     size_t n)
{
    if (n == 0) return SIGHT_OK;
    if (whole) {
        const vocab_entry *e = vocab_find(v, bytes, n, false);
        if (e && !(e->flags & VOCAB_ADDED)) return token_list_add(out, e->id);
    }
    if (n > SHORT) return encode_long(b, out, v, bytes, n);
    short_piece p = {.n = n};
    for (size_t i = 0; i < n; i++) p.ids[i] = v->byte_ids[(uint8_t)bytes[i]];
    merge_short(&p, v);
    sight_err err = SIGHT_OK;
    for (size_t i = 0; i < p.n && !err; i++) err = token_list_add(out, p.ids[i]);
    return err;
}
